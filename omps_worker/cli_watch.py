# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that follows the results on the bus."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click

from omps_worker.cli_common import with_broker
from omps_worker.model import Status
from omps_worker.text import one_line

if TYPE_CHECKING:
    from omps_worker.bootstrap import BrokerSite
    from omps_worker.watching import Seen, Tally

_ERASE = "\r\x1b[K"


@click.command()
@click.option("--organization", "organizations", multiple=True, metavar="NAME", help="Only results for this one.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in Status]),
    help="Only results of this status.",
)
@click.option("--component", "components", multiple=True, metavar="GLOB", help="Only builds of these components.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many results.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document per line.")
@with_broker
def watch(
    site: BrokerSite,
    organizations: tuple[str, ...],
    statuses: tuple[str, ...],
    components: tuple[str, ...],
    count: int | None,
    json_output: bool,
) -> None:
    """Follow the results on the bus, from now on, until interrupted.

    Uses a queue of its own, which ends with it: workers notice nothing. Options of one kind widen each other, those of
    different kinds narrow. On a terminal the last line counts what was shown.
    """
    from omps_worker.watching import Choice, Tally

    choice = Choice(frozenset(organizations), frozenset(statuses), components)
    tally = Tally()
    screen = _Screen(sys.stdout, sys.stderr, tally, json_output=json_output)
    with _ending_quietly(screen):
        shown = 0
        for seen in _results(site, screen):
            if choice.wants(seen):
                tally.count(seen)
                screen.show(seen)
                shown += 1
                if shown == count:
                    break


def _results(site: BrokerSite, screen: _Screen) -> Iterator[Seen]:
    from omps_worker.errors import MessageError
    from omps_worker.watching import read

    for arrival in site.watch(screen.note).messages():
        try:
            yield read(arrival.topic, arrival.id, arrival.headers, arrival.body)
        except MessageError as error:
            screen.note(f"a message to {one_line(arrival.topic[:255])} {error.message}: passed over")


@contextlib.contextmanager
def _ending_quietly(screen: _Screen) -> Iterator[None]:
    """SIGTERM and Ctrl-C are how this ends."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
        screen.close()
    finally:
        signal.signal(signal.SIGTERM, before)


class _Screen:
    """Where results go: lines with a summary below them, plain lines, or JSON."""

    def __init__(self, out: TextIO, err: TextIO, tally: Tally, *, json_output: bool) -> None:
        self._out, self._err, self._tally = out, err, tally
        self._json = json_output
        self._live = out.isatty() and not json_output and os.environ.get("TERM") != "dumb"
        self._colours = self._live and not os.environ.get("NO_COLOR")

    def show(self, seen: Seen) -> None:
        """One result."""
        from omps_worker.watching import line

        width = self._width() if self._live else None
        text = json.dumps(seen.as_json()) if self._json else line(seen, width, colours=self._colours)
        self._out.write(f"{_ERASE}{text}\n" if self._live else f"{text}\n")
        self._summarize()
        self._out.flush()

    def note(self, text: str) -> None:
        """Something that a person should know."""
        if self._live:
            self._out.write(_ERASE)
            self._out.flush()
        self._err.write(f"{one_line(text)}\n")
        self._err.flush()
        self._summarize()
        self._out.flush()

    def close(self) -> None:
        """The last word."""
        if self._live:
            self._out.write(f"{_ERASE}{self._tally.line(self._width())}\n")
            self._out.flush()
        else:
            self._err.write(f"{self._tally.line()}\n")

    def _summarize(self) -> None:
        if self._live:
            self._out.write(_ERASE + self._tally.line(self._width()))

    def _width(self) -> int:
        # Not to the last column: some terminals then begin a new line.
        return max(shutil.get_terminal_size((160, 24)).columns - 1, 40)
