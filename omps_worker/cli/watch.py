# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``watch``, which follows the results on the bus."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from omps_worker.cli.common import DONE, duration_seconds, valid_names, with_broker
from omps_worker.cli.progress import ERASE
from omps_worker.common.model import CATALOG, Status
from omps_worker.common.names import catalog_name_fault, organization_name_fault
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from omps_worker.broker_site import BrokerSite
    from omps_worker.cli.watch_view import ReceivedResult, Tally

ENDING_SECONDS = 3.0
"""How many seconds closing the connection and printing the summary may take."""


def _place_fault(name: str) -> str | None:
    # Results and the mapping name a catalog so among organizations.
    return organization_name_fault(name.removeprefix(CATALOG))


@click.command()
@click.option(
    "--organization",
    "organizations",
    multiple=True,
    metavar="NAME",
    callback=valid_names(_place_fault),
    help="Only results for this organization. Can be repeated.",
)
@click.option(
    "--catalog",
    "catalogs",
    multiple=True,
    metavar="NAME",
    callback=valid_names(catalog_name_fault),
    help="Only results for this catalog. Can be repeated.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in Status]),
    help="Only results with this status. Can be repeated.",
)
@click.option(
    "--component",
    "components",
    multiple=True,
    metavar="GLOB",
    help="Only results whose component matches. Can be repeated.",
)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after this number of results.")
@click.option(
    "--for", "seconds", callback=duration_seconds, metavar="DURATION", help="End after this time, such as 10m."
)
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document per line.")
@with_broker
def watch(
    site: BrokerSite,
    organizations: tuple[str, ...],
    catalogs: tuple[str, ...],
    statuses: tuple[str, ...],
    components: tuple[str, ...],
    count: int | None,
    seconds: float | None,
    json_output: bool,
) -> None:
    """Print the results on the bus as they arrive.

    Shows results that arrive after it starts, and runs until interrupted. Uses its own queue, which the broker deletes
    when the command ends; workers are not affected. A result is shown if it matches every kind of filter that you give:
    one of the organizations and catalogs, one of the statuses, and one of the components. On a terminal, the last line
    counts the results shown.
    """
    from omps_worker.cli.watch_view import ResultFilter, Tally

    places = frozenset((*organizations, *(f"{CATALOG}{name}" for name in catalogs)))
    choice = ResultFilter(places, frozenset(statuses), components)
    tally = Tally()
    screen = _Screen(sys.stdout, sys.stderr, tally, json_output=json_output)
    with contextlib.suppress(KeyboardInterrupt), _EndBySignal(seconds) as ending:
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(_results(site, screen)) as results:
            shown = 0
            for seen in results:
                if choice.wants(seen):
                    tally.count(seen)
                    screen.show(seen)
                    shown += 1
                    if shown == count:
                        ending.begin()
                        break
        ending.begin()
        screen.close()


def _results(site: BrokerSite, screen: _Screen) -> Generator[ReceivedResult, None, None]:
    from omps_worker.cli.watch_view import read
    from omps_worker.common.errors import MessageError

    with contextlib.closing(site.watch(screen.note).messages()) as arrivals:
        for arrival in arrivals:
            try:
                seen = read(arrival.topic, arrival.id, arrival.headers, arrival.body)
            except MessageError as error:
                screen.note(f"ignored a message to {one_line(arrival.topic[:255])}: {error.message}")
            else:
                yield seen


class _EndBySignal:
    """A context manager in which SIGTERM, Ctrl-C and the end of ``seconds`` raise KeyboardInterrupt to end the command.

    A second signal ends the process immediately, and so does an ending that takes longer than ENDING_SECONDS: neither a
    silent broker nor a blocked terminal can delay it.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._begun = False
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> _EndBySignal:
        self._previous_handlers = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        }
        if self._seconds is not None:
            # Zero would disable the timer.
            signal.setitimer(signal.ITIMER_REAL, max(self._seconds, 0.001))
        return self

    def __exit__(self, *_: object) -> None:
        if not self._begun:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous_handlers.items():
            # The interpreter flushes the output when it exits, which a reader that does not read would delay forever.
            if not (self._begun and number == signal.SIGALRM):
                signal.signal(number, handler)

    def begin(self) -> None:
        """Begin the ending, which may take ENDING_SECONDS."""
        if not self._begun:
            self._begun = True
            signal.setitimer(signal.ITIMER_REAL, ENDING_SECONDS)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._begun:
            os._exit(DONE)  # the broker or the terminal does not respond: what is not written yet is lost
        self.begin()
        raise KeyboardInterrupt


class _Screen:
    """The output of ``watch``: lines with a summary below them on a terminal; otherwise plain lines, or JSON."""

    def __init__(self, out: TextIO, err: TextIO, tally: Tally, *, json_output: bool) -> None:
        self._out, self._err, self._tally = out, err, tally
        self._json = json_output
        self._live = out.isatty() and not json_output and os.environ.get("TERM") != "dumb"
        self._colours = self._live and not os.environ.get("NO_COLOR")
        if isinstance(out, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not raise.
            out.reconfigure(errors="replace")

    def show(self, seen: ReceivedResult) -> None:
        """Print one result."""
        from omps_worker.cli.watch_view import line

        width = self._width() if self._live else None
        text = json.dumps(seen.as_json()) if self._json else line(seen, width, colours=self._colours)
        self._out.write(f"{ERASE}{text}\n" if self._live else f"{text}\n")
        self._summarize()
        self._out.flush()

    def note(self, text: str) -> None:
        """Print a note for the user on standard error."""
        if self._live:
            self._out.write(ERASE)
            self._out.flush()
        self._err.write(f"{one_line(text)}\n")
        self._err.flush()
        self._summarize()
        self._out.flush()

    def close(self) -> None:
        """Print the summary."""
        if self._live:
            self._out.write(f"{ERASE}{self._tally.line(self._width())}\n")
            self._out.flush()
        else:
            self._err.write(f"{self._tally.line()}\n")
            self._err.flush()

    def _summarize(self) -> None:
        if self._live:
            # Leave room for the "^C" that a terminal echoes; it would wrap to a new line.
            self._out.write(ERASE + self._tally.line(max(self._width() - len("^C"), 0)))

    def _width(self) -> int:
        # Not the last column: some terminals wrap the line when it is used.
        return max(shutil.get_terminal_size((160, 24)).columns - 1, 1)
