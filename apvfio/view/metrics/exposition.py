# SPDX-License-Identifier: Apache-2.0
"""Prometheus' text format: families of samples (prometheus.io, "Exposition formats", version 0.0.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

GAUGE = "gauge"
COUNTER = "counter"


class Family(NamedTuple):
    """What is measured: all samples of one name."""

    name: str
    kind: str
    """`GAUGE` or `COUNTER`."""
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One number; the values of its labels, in the order of the family's, are anybody's text."""

    values: tuple[str, ...]
    number: int


def text(measured: Mapping[Family, Iterable[Sample]]) -> str:
    """The families as a file for the textfile collector; one without samples is told of nonetheless."""
    return "".join(f"{line}\n" for family, samples in measured.items() for line in _lines(family, samples))


def _lines(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in samples:
        pairs = [f'{name}="{_quoted(value)}"' for name, value in zip(family.labels, sample.values)]
        labels = f"{{{','.join(pairs)}}}" if pairs else ""
        yield f"{family.name}{labels} {sample.number}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    # A name may come with what no UTF-8 has.
    encodable = value.encode("utf-8", "replace").decode()
    return _escaped(encodable).replace('"', r"\"")
