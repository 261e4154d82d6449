# SPDX-License-Identifier: Apache-2.0
"""What ``apvfio status`` tells as a page: the SVG picture, and all that is in it as text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from apvfio.model.ids import IdSet
from apvfio.model.matrix import Matrix
from apvfio.view.matrix_svg import svg
from apvfio.view.palette import DARK, LIGHT
from apvfio.view.svg_parts import style

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from apvfio.model.matrix import Apqn
    from apvfio.view.palette import Colors
    from apvfio.view.status_report import Report


def page(told: Report) -> str:
    """The page, which needs nothing from elsewhere; the same report always makes the same text."""
    return "\n".join(_page(told)) + "\n"


def _page(told: Report) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield '<head><meta charset="utf-8"><title>AP matrix</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<style>{style()}{_style()}</style></head>"
    yield "<body><main><h1>AP matrix</h1>"
    yield "<dl>"
    yield from (f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in told.facts)
    yield "</dl>"
    yield f"<figure>{svg(told, alone=False)}</figure>"
    yield "<h2>Owners</h2>"
    yield from _owners(told)
    yield from _list("Leases", told.leases)
    yield from _list("Owed to the host", [told.pending])
    yield from _list("Not as it should be", told.drift)
    yield "</main></body></html>"


def _owners(told: Report) -> Iterator[str]:
    drawn = told.picture
    yield "<table><thead><tr>"
    yield from (f'<th scope="col">{name}</th>' for name in ("Mark", "Owner", "Queues", "Which"))
    yield "</tr></thead><tbody>"
    for owner, entry in drawn.legend.items():
        queues = "; ".join(_rectangles(queue for queue, cell in drawn.cells.items() if cell.owner == owner))
        cells = (entry.mark, entry.text, entry.counted, queues)
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    yield "</tbody></table>"


def _rectangles(queues: Iterable[Apqn]) -> Iterator[str]:
    """The queues as rectangles in chzdev's notation: adapters that have the same domains stand together."""
    domains: dict[int, set[int]] = {}
    for queue in queues:
        domains.setdefault(queue.adapter, set()).add(queue.domain)
    rows: dict[IdSet, list[int]] = {}
    for adapter, ids in domains.items():
        rows.setdefault(IdSet(ids), []).append(adapter)
    return (str(Matrix(IdSet(adapters), ids)) for ids, adapters in rows.items())


def _list(title: str, sentences: Sequence[str]) -> Iterator[str]:
    if sentences:
        yield f"<h2>{title}</h2><ul>"
        yield from (f"<li>{escape(sentence)}</li>" for sentence in sentences)
        yield "</ul>"


def _style() -> str:
    return (
        "body{margin:0;font:14px system-ui,sans-serif}main{padding:8px}"
        "figure{margin:12px 0 0;overflow-x:auto}"
        "h1{font-size:22px;margin:12px 16px}h2{font-size:16px;margin:16px 16px 4px}"
        "ul{margin:0 16px;padding-left:1em}"
        "dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:0 16px}dd{margin:0}"
        "table{border-collapse:collapse;margin:0 16px}"
        "th,td{text-align:left;vertical-align:top;padding:3px 12px 3px 0;border-bottom:1px solid}"
        "@page{margin:12mm}@media print{figure{overflow:visible;break-inside:avoid}"
        "svg{max-width:100%;max-height:84vh;width:auto;height:auto}h2{break-after:avoid}tr,li{break-inside:avoid}}"
        f"{_colors(LIGHT)}@media (prefers-color-scheme:dark){{{_colors(DARK)}}}"
        f"@media print{{{_colors(LIGHT)}}}"
    )


def _colors(colors: Colors) -> str:
    return f"body{{background:{colors.paper};color:{colors.ink}}}th,td{{border-color:{colors.edge}}}"
