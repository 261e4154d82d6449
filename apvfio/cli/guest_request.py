# SPDX-License-Identifier: Apache-2.0
"""The new request that the options of ``guest set`` make from a guest's present one."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from apvfio.domain.request import asked_in, free_by_in
from apvfio.domain.xml_reader import read_domain
from apvfio.model.criteria import USAGE, Criteria
from apvfio.model.criteria_texts import CARD_ATTRIBUTES, option_texts, parse_options
from apvfio.model.errors import RequestError, UsageError
from apvfio.model.ids import NO_IDS, IdSet, format_list
from apvfio.model.mask_grammar import parse_list
from apvfio.model.matrix import Matrix

NEITHER = "none"
"""The value of ``--free-by`` that removes the attribute."""


class Asked(NamedTuple):
    """What an annotation says."""

    asked: Matrix | Criteria
    free_by: str
    """``adapters`` or ``domains``, '' if it leaves that open."""


def requested(args: argparse.Namespace, xml: bytes) -> Asked | None:
    """Return the request that the options make from that in the domain ``xml``; None if unchanged.

    Where an option is not given, the annotation's value stays: control domains, free-by, and either list of
    ids. ``--any`` replaces the criteria if it names a mode, and otherwise changes the properties that it
    names.
    ``--cards`` replaces the kinds of adapters.
    """
    lists, by_properties = (args.adapters, args.domains), args.any is not None or bool(args.cards)
    if args.new_device and (args.any, args.cards, *lists, args.control_domains, args.free_by) == (None,) * 6:
        return None
    if by_properties and lists != (None, None):
        raise _incomplete()
    now = _now(args, xml)
    by_criteria = by_properties or (
        lists == (None, None) and now is not None and isinstance(now.asked, Criteria)
    )
    if by_criteria and args.free_by in ("adapters", "domains"):
        raise UsageError(
            "--free-by applies to a request by ids only.",
            remedy="Omit --free-by, or request adapters and domains.",
        )
    if by_criteria:
        return Asked(_criteria(args, xml, now.asked if now else None), "")
    kept = now.asked if now and isinstance(now.asked, Matrix) else None
    if None in lists and kept is None:
        raise _incomplete()
    domains = kept.domains if kept and args.domains is None else parse_list(args.domains, "--domains")
    return Asked(
        Matrix(
            kept.adapters if kept and args.adapters is None else parse_list(args.adapters, "--adapters"),
            domains,
            _control(args, now, domains),
        ),
        (now.free_by if now else "") if args.free_by is None else args.free_by.replace(NEITHER, ""),
    )


def _control(args: argparse.Namespace, now: Asked | None, domains: IdSet) -> IdSet:
    """The control domains of a request by ids, which has these usage ``domains``."""
    control = args.control_domains
    if control == USAGE:
        return domains
    if control is not None:
        return parse_list(control, "--control-domains") if control else NO_IDS
    if now is None:
        return NO_IDS
    return now.asked.control_of(domains) if isinstance(now.asked, Criteria) else now.asked.control_domains


def require_annotation(xml: bytes, guest: str) -> None:
    """RequestError if the domain ``xml`` of ``guest`` has no annotation that could stay as it is."""
    if asked_in(xml) is None:
        raise RequestError(
            "it has no annotation.",
            guest=guest,
            remedy="Name its queues: --adapters and --domains, or --any.",
        )


def _now(args: argparse.Namespace, xml: bytes) -> Asked | None:
    """Return the present request that is to be changed; None without one, or to replace an invalid one."""
    try:
        asked = asked_in(xml)
    except RequestError:
        if (args.adapters and args.domains) or args.cards or _names_mode(args.any or ""):
            return None  # an invalid annotation is replaced
        raise
    return Asked(asked, free_by_in(xml)) if asked else None


def _criteria(args: argparse.Namespace, xml: bytes, now: Matrix | Criteria | None) -> Criteria:
    control = args.control_domains
    if control is None and now:
        control = now.control if isinstance(now, Criteria) else format_list(now.control_domains)
    text, cards = args.any or "", args.cards or []
    if isinstance(now, Criteria) and not _names_mode(text):
        text, cards = _merged(now, text, cards)
    return parse_options(text, cards, control or None, secure=read_domain(xml).secure)


def _merged(now: Criteria, text: str, cards: list[str]) -> tuple[str, list[str]]:
    """Return the values of ``--any`` and ``--cards`` with those of the present criteria where omitted."""
    kept = option_texts(now.as_option())
    if cards:
        kept = {name: value for name, value in kept.items() if name not in CARD_ATTRIBUTES}
    given = option_texts(text)
    # A key in any register and keys by register exclude each other: the given option counts.
    if "mkvp" in given:
        kept = {name: value for name, value in kept.items() if not name.startswith("mkvp-")}
    elif any(name.startswith("mkvp-") for name in given):
        kept.pop("mkvp", None)
    if len(now.cards) > 1 and not cards:
        cards = [kind.as_option() for kind in now.cards]
        wrong = [name for name in given if name in CARD_ATTRIBUTES]
        if wrong:
            raise UsageError(
                f"the guest requests several kinds of adapters, but {wrong[0]} of --any does not say for "
                "which kind.",
                remedy="Name all kinds with --cards, or replace them with --any and a mode.",
            )
    return ",".join(f"{name}={value}" for name, value in {**kept, **given}.items()), cards


def _names_mode(text: str) -> bool:
    return any(item.partition("=")[0].strip() == "mode" for item in text.split(","))


def _incomplete() -> UsageError:
    return UsageError(
        "guest set takes either --adapters and --domains, or --any and --cards.",
        remedy="See 'apvfio guest set --help'.",
    )
