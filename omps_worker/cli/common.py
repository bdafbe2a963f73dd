# SPDX-License-Identifier: GPL-3.0-or-later
"""What all commands share: exit codes, clear errors, options, and the site that ``--config`` describes."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from omps_worker.common.errors import BrokerRefused, KojiError, SettingsError, WorkerError
from omps_worker.common.files.regular import NOT_PLAIN, is_plain, keeps_waiting
from omps_worker.common.text import is_utf8, one_line, printable, printable_lines, shell_word, with_single_stops

log = logging.getLogger(__name__)

DONE, FAILED, USAGE, TRANSIENT = 0, 1, 2, 75

SHOWN = 100
"""How many characters of a name that is none are repeated."""

Command = TypeVar("Command", bound=Callable[..., Any])

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")

as_json = click.option("--json", "json_output", is_flag=True, help="Print one JSON document.")


class ErrorReportingGroup(click.Group):
    """Turns the errors of our tree into one clear text and the right exit code."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the options before the command."""
        with _printable_errors():
            _refuse_what_is_no_text(args[1] if len(args) > 1 else options["args"])
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with _printable_errors():
                return super().invoke(ctx)
        except SettingsError as error:
            for fault in error.faults:
                tell(f"error: {fault}")
            sys.exit(USAGE)
        except WorkerError as error:
            tell(f"error: {error.name}: {error.message}")
            sys.exit(exit_code_of(error))
        except OSError as error:
            # A reader that has heard enough, such as `head`, is no fault: click ends in silence then.
            if error.errno == errno.EPIPE:
                raise
            log.debug("where it happened", exc_info=True)
            tell(f"error: {error}")
            _forget_output()
            sys.exit(FAILED)


def tell(text: str) -> None:
    """Say something to the person at the terminal, on one line of standard error that moves no cursor."""
    click.echo(one_line(text), err=True)


def say(text: str, *, err: bool = False) -> None:
    """Print an answer for people: its lines, and nothing in them that moves a cursor."""
    click.echo(printable_lines(text), err=err)


def say_json(document: object) -> None:
    """Print an answer for programs."""
    click.echo(json.dumps(document))


def _refuse_what_is_no_text(arguments: Sequence[str]) -> None:
    """Only the name of a file that is there may be no UTF-8: nothing else that has a name can be called so."""
    for argument in arguments:
        if not is_utf8(argument) and not any(map(os.path.lexists, (argument, argument.partition("=")[2]))):
            raise click.UsageError(f"{shell_word(argument)} is no text in UTF-8, and no file that is there.")


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    """Arguments that click's own errors repeat reach no terminal as they are: a script may have them from elsewhere."""
    try:
        yield
    except click.ClickException as error:
        # Since click 8.2 the help of a group is such an error too.
        if not isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            error.message = one_line(with_single_stops(error.message))  # type: ignore[misc]
        raise


def _forget_output() -> None:
    """What could not be written to standard output is not tried again at the end, which would change the exit code."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def exit_code_of(error: WorkerError) -> int:
    """The exit code that tells a script what ``error`` means."""
    if isinstance(error, (SettingsError, BrokerRefused)) or (isinstance(error, KojiError) and error.misplaced):
        return USAGE
    return TRANSIENT if error.transient else FAILED


def not_empty(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A click callback for names: blanks around one, as they come with copying, are no part of it."""
    if not value.strip():
        raise click.BadParameter("is empty.")
    return value.strip()


def name_of(fault: Callable[[str], str | None]) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """A click callback for names of which ``fault`` tells why they cannot be one; None without the option."""

    def checked(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        name = value if value is None else not_empty(context, parameter, value)
        if name is not None and (why := fault(name)):
            raise click.BadParameter(f"{printable(name, SHOWN)} {why}.")
        return name

    return checked


def readable_at_once(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    """A click callback for a file that is read once, such as standard input: a named pipe is none, and may say nothing
    for ever."""
    if keeps_waiting(value):
        raise click.BadParameter(f"{value} {NOT_PLAIN}.")
    return value


def plain_files(_context: click.Context, _parameter: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    """A click callback for files that are read more than once."""
    for path in value:
        if not is_plain(path):
            raise click.BadParameter(f"{path} {NOT_PLAIN}.")
    return value


def duration_seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """A click callback for durations such as ``10s`` or a number of seconds: seconds, None without the option."""
    from omps_worker.configuration.settings.units import Duration

    try:
        return None if value is None else Duration.parse(float(value) if value.isdecimal() else value).seconds
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def with_broker(command: Command) -> Command:
    """Gives the command the BrokerSite that ``--config`` describes, with logs set up."""

    @click.pass_context
    @functools.wraps(command)
    def wrapper(context: click.Context, *args: Any, **options: Any) -> Any:
        from omps_worker.bootstrap import BrokerSite

        return command(BrokerSite.from_file(context.obj), *args, **options)

    return wrapper  # type: ignore[return-value]


def with_site(command: Command) -> Command:
    """Gives the command the Site that ``--config`` describes, with logs set up."""

    @click.pass_context
    @functools.wraps(command)
    def wrapper(context: click.Context, *args: Any, **options: Any) -> Any:
        from omps_worker.bootstrap import Site

        return command(Site.from_file(context.obj), *args, **options)

    return wrapper  # type: ignore[return-value]
