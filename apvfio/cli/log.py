# SPDX-License-Identifier: Apache-2.0
"""``apvfio log``: what happened, and who had a queue when."""

from __future__ import annotations

import argparse
import re
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from datetime import time as time_of_day
from math import inf
from typing import TYPE_CHECKING

from apvfio.cli.host_options import add_connect, add_json, opened, print_result
from apvfio.cli.terminal import print_lines, warn
from apvfio.events import audit_log
from apvfio.events.event import Event
from apvfio.events.queue_history import Span, spans
from apvfio.libvirt.one_guest import guest_in_log
from apvfio.model.errors import Exit, UsageError, printable
from apvfio.model.matrix import Apqn
from apvfio.view.clock import local, utc
from apvfio.view.events import event_json, event_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apvfio.kernel.seam import Files
    from apvfio.model.text import WarningText

_BEAT = 0.5
_LONGEST = 200


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "log", help="show the events of the audit log, or the guests that had a queue"
    )
    parser.add_argument(
        "--guest", metavar="GUEST", help="show only the events of this guest, given by name, UUID or id"
    )
    parser.add_argument(
        "--queue", metavar="APQN", type=_queue, help="show the guests that had this queue, and when"
    )
    parser.add_argument(
        "--since", metavar="TIME", type=parse_time, default=0.0, help="omit events before TIME"
    )
    parser.add_argument(
        "--until", metavar="TIME", type=parse_time, default=inf, help="omit events after TIME"
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="then print events as they happen, until Ctrl-C"
    )
    add_connect(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    if args.follow and (args.queue or args.json):
        other = "--queue" if args.queue else "--json"
        raise UsageError(f"--follow and {other} exclude each other.", remedy="Choose one of them.")
    with opened(args) as system:
        kept, size = _kept(system.files), system.files.size(audit_log.AUDIT_LOG)
    if args.guest is not None:
        # Several guests may have had the same name.
        args.guest = guest_in_log(args.guest, kept, args.connect) or args.guest
    if args.queue:
        found = [
            span
            for span in spans(kept, args.queue)
            if _chosen(args, span, span.begin, inf if span.end is None else span.end)
        ]
        print_result(args, [_span_json(span) for span in found], _span_lines(found))
        return Exit.OK
    chosen = [event for event in kept if _chosen(args, event, event.time, event.time)]
    print_result(args, [event_json(event) for event in chosen], map(event_line, chosen))
    if args.follow:
        with suppress(KeyboardInterrupt):
            _follow(args, kept[-1:], size)
    return Exit.OK


def _kept(files: Files) -> list[Event]:
    """Return the events of the audit log; one warning stands for all damaged lines."""
    lines = list(audit_log.read(files))
    damaged = lines.count(None)
    if damaged:
        warn(_damage(damaged))
    return [event for event in lines if event]


def _damage(lines: int) -> WarningText:
    count = "1 line" if lines == 1 else f"{lines} lines"
    return f"{count} of /{audit_log.AUDIT_LOG} cannot be understood"


def _follow(args: argparse.Namespace, last: list[Event], size: int) -> None:
    """Print the events after ``last``, the last known event, until interrupted."""
    while True:
        sys.stdout.flush()  # whoever reads a pipe must not wait for a full buffer
        time.sleep(_BEAT)
        with opened(args) as system:
            if (now := system.files.size(audit_log.AUDIT_LOG)) == size:
                continue
            # A full file has meanwhile become the second one.
            recent = [event for event in audit_log.read(system.files, newest=2) if event]
        fresh, size, last = _behind(last, recent), now, recent[-1:]
        print_lines(event_line(event) for event in fresh if _chosen(args, event, event.time, event.time))


def _behind(last: list[Event], events: list[Event]) -> list[Event]:
    """Those of ``events`` that came after ``last``; all, if it is not among them."""
    for index in range(len(events) - 1, -1, -1):
        if events[index : index + 1] == last:
            return events[index + 1 :]
    return events


def _chosen(args: argparse.Namespace, found: Event | Span, begin: float, end: float) -> bool:
    return begin <= args.until and args.since <= end and args.guest in (None, found.guest, found.uuid)


def _span_lines(found: Iterable[Span]) -> Iterator[str]:
    yield f"{'FROM':<24}{'TO':<24}GUEST"
    for span in found:
        begin = ("<= " if span.begun_before else "") + local(span.begin)
        end = "still" if span.end is None else ("<= " if span.ended_before else "") + local(span.end)
        yield f"{begin:<24}{end:<24}{printable(span.guest, _LONGEST)}"


def _span_json(span: Span) -> dict[str, object]:
    end = None if span.end is None else utc(span.end)
    return {**span._asdict(), "begin": utc(span.begin), "end": end}


def _queue(text: str) -> Apqn:
    queue = Apqn.parse(text.lower())
    if queue is None:
        raise argparse.ArgumentTypeError(
            f"{printable(text)!r} is not a queue: write it as lszcrypt does, 0a.001b"
        )
    return queue


_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_OF_TODAY = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS = {"today": 0, "yesterday": 1}


def parse_time(text: str, now: datetime | None = None) -> float:
    """Seconds since 1970; ArgumentTypeError. Without a zone it is this machine's."""
    now = now or datetime.now().astimezone()
    # Without a zone: on the day that summer time ends, midnight and noon have different offsets.
    midnight = datetime.combine(now.date(), time_of_day())
    try:
        if ago := _AGO.fullmatch(text):
            return (now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
        if text in _DAYS:
            return (midnight - timedelta(days=_DAYS[text])).timestamp()
        if _OF_TODAY.fullmatch(text):
            return datetime.combine(midnight, time_of_day.fromisoformat(text)).timestamp()
        # Before Python 3.11, fromisoformat does not accept Z.
        return datetime.fromisoformat(re.sub("Z$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a time: write 2026-01-31, '2026-01-31 12:00', 12:00, today, or 2h (ago)"
        ) from None
