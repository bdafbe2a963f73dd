# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers for all commands: exit codes, error output, shared options, and the site that ``--config`` describes."""

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
"""The number of characters of an invalid name that an error message repeats."""

Command = TypeVar("Command", bound=Callable[..., Any])

dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")

as_json = click.option("--json", "json_output", is_flag=True, help="Print one JSON document.")


class ErrorReportingGroup(click.Group):
    """A command group that turns the project's errors into one line of text and the right exit code."""

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the options that precede the command."""
        with _printable_errors():
            _refuse_undecodable(args[1] if len(args) > 1 else options["args"])
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and exit with the code that its error calls for."""
        try:
            with _printable_errors():
                return super().invoke(ctx)
        except SettingsError as error:
            for fault in error.faults:
                print_to_stderr(f"error: {fault}")
            sys.exit(USAGE)
        except WorkerError as error:
            print_to_stderr(f"error: {error.name}: {error.message}")
            sys.exit(exit_code_of(error))
        except OSError as error:
            # A reader that closes the pipe early, such as `head`, is not an error: click then exits silently.
            if error.errno == errno.EPIPE:
                raise
            log.debug("traceback of the error", exc_info=True)
            print_to_stderr(f"error: {_system_error(error)}")
            _discard_output()
            sys.exit(FAILED)


def print_to_stderr(text: str) -> None:
    """Print a message for the user on standard error: one line, with control characters made harmless."""
    click.echo(one_line(text), err=True)


def print_lines(text: str, *, err: bool = False) -> None:
    """Print a result for the user: its lines, with control characters made harmless."""
    click.echo(printable_lines(text), err=err)


def print_json(document: object) -> None:
    """Print a result for programs, as one JSON document."""
    click.echo(json.dumps(document))


def _refuse_undecodable(arguments: Sequence[str]) -> None:
    """Raise UsageError for an argument that is not UTF-8, unless it names an existing file: nothing else has such
    names."""
    for argument in arguments:
        if not is_utf8(argument) and not any(map(os.path.lexists, (argument, argument.partition("=")[2]))):
            raise click.UsageError(f"{shell_word(argument)} is neither UTF-8 text nor the name of an existing file.")


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    """Make click's own errors safe to print: they repeat arguments, which a script may pass from untrusted input."""
    try:
        yield
    except click.ClickException as error:
        # Since click 8.2, the help of a group is raised as such an error, and must keep its lines.
        if not isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            error.message = one_line(with_single_stops(error.message))  # type: ignore[misc]
        raise


def _system_error(error: OSError) -> str:
    """Return the file and the system's reason, without the number that only programmers read."""
    named = error.filename is not None and error.strerror
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if named else error.strerror or str(error)


def _discard_output() -> None:
    """Drop what could not be written to standard output.

    Otherwise Python would try to write it again at exit, fail, and change the exit code.
    """
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def exit_code_of(error: WorkerError) -> int:
    """Return the exit code for ``error``: USAGE, TRANSIENT or FAILED."""
    if isinstance(error, (SettingsError, BrokerRefused)) or (isinstance(error, KojiError) and error.misplaced):
        return USAGE
    return TRANSIENT if error.transient else FAILED


def not_empty(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return a name without surrounding blanks, which copying may add. A click callback; raises if it is empty."""
    if not value.strip():
        raise click.BadParameter("must not be empty.")
    return value.strip()


def valid_name(
    fault: Callable[[str], str | None],
) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a click callback that checks a name.

    ``fault`` returns why a name is invalid, or None. The callback returns None if the option is not given.
    """

    def checked(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        name = value if value is None else not_empty(context, parameter, value)
        if name is not None and (reason := fault(name)):
            # click names an optional argument in brackets, as its usage does.
            hint = parameter.human_readable_name.join("''") if isinstance(parameter, click.Argument) else None
            raise click.BadParameter(f"{printable(name, SHOWN)} {reason}.", param_hint=hint)
        return name

    return checked


def valid_names(
    fault: Callable[[str], str | None],
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[str, ...]]:
    """Return a click callback that checks each name of an option that can be repeated; see ``valid_name``."""
    check = valid_name(fault)

    def checked(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for value in values if (name := check(context, parameter, value)) is not None)

    return checked


def directory_path(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Path | None:
    """Return the path of a directory. A click callback; returns None if the option is not given.

    Raises BadParameter for an empty name, which an unset shell variable gives: Path would take it for the current
    directory.
    """
    if value is not None and not value.strip():
        raise click.BadParameter("must not be empty.")
    return None if value is None else Path(value)


def no_named_pipe(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    """Return the path of a file that is read once, such as /dev/stdin. A click callback.

    Refuses a named pipe: reading it could block forever.
    """
    if keeps_waiting(value):
        raise click.BadParameter(f"{value} {NOT_PLAIN}.")
    return value


def plain_files(_context: click.Context, _parameter: click.Parameter, value: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the paths of files that are read more than once. A click callback; refuses everything but plain files."""
    for path in value:
        if not is_plain(path):
            raise click.BadParameter(f"{path} {NOT_PLAIN}.")
    return value


def duration_seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Return a duration such as ``10s``, or a number of seconds, in seconds. A click callback.

    Returns None if the option is not given.
    """
    from omps_worker.configuration.settings.units import Duration

    try:
        return None if value is None else Duration.parse(float(value) if value.isdecimal() else value).seconds
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def with_broker(command: Command) -> Command:
    """Pass the BrokerSite that ``--config`` describes to the command as its first argument; logging is set up."""

    @click.pass_context
    @functools.wraps(command)
    def wrapper(context: click.Context, *args: Any, **options: Any) -> Any:
        from omps_worker.broker_site import BrokerSite

        return command(BrokerSite.from_file(context.obj), *args, **options)

    return wrapper  # type: ignore[return-value]


def with_site(command: Command) -> Command:
    """Pass the Site that ``--config`` describes to the command as its first argument; logging is set up."""

    @click.pass_context
    @functools.wraps(command)
    def wrapper(context: click.Context, *args: Any, **options: Any) -> Any:
        from omps_worker.bootstrap import Site

        return command(Site.from_file(context.obj), *args, **options)

    return wrapper  # type: ignore[return-value]
