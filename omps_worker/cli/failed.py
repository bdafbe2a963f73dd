# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for failures: see them, understand them, send them again, throw them away, keep them in files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omps_worker.cli.common import (
    DONE,
    FAILED,
    TRANSIENT,
    Command,
    as_json,
    dry_run_option,
    duration_seconds,
    plain_files,
    say,
    say_json,
    tell,
    with_broker,
)
from omps_worker.cli.interrupts import InterruptibleCommand, Interrupts, counting

if TYPE_CHECKING:
    from omps_worker.bootstrap import BrokerSite
    from omps_worker.messages.dead_letter import FailureSelection, ParkedFailure


def _directory(_context: click.Context, _parameter: click.Parameter, value: str) -> Path:
    # An empty name is what an unset variable of a shell leaves; to Path it would be the current directory.
    if not value.strip():
        raise click.BadParameter("is empty.")
    return Path(value)


def filters(command: Command) -> Command:
    """Adds the options that choose among failures; the command gets them as a Selection."""

    def chosen(**options: Any) -> Any:
        from omps_worker.messages.dead_letter import FailureSelection

        selection = FailureSelection(
            frozenset(options.pop("ids", ())),
            options.pop("nvrs"),
            options.pop("errors"),
            options.pop("older_than"),
            options.pop("newer_than"),
        )
        return command(selection=selection, **options)

    chosen.__name__, chosen.__doc__ = command.__name__, command.__doc__
    chosen.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option(
            "--newer-than",
            callback=duration_seconds,
            metavar="DURATION",
            help="Those parked for a shorter time than this.",
        ),
        click.option(
            "--older-than",
            callback=duration_seconds,
            metavar="DURATION",
            help='Those parked for longer than this, such as "30m" or "2d".',
        ),
        click.option("--error", "errors", multiple=True, metavar="GLOB", help="Those with this error."),
        click.option("--nvr", "nvrs", multiple=True, metavar="GLOB", help="Those about this build."),
    ):
        chosen = option(chosen)
    return chosen  # type: ignore[return-value]


@click.group()
def failed() -> None:
    """See, understand, replay, discard and export the messages whose builds could not be published.

    They wait in <queue>.failed. An ID may name several copies of a message; then all of them are meant.
    """


@failed.command("list")
@filters
@as_json
@with_broker
def list_failures(site: BrokerSite, selection: FailureSelection, json_output: bool) -> None:
    """List failures, the longest parked first. Changes nothing."""
    with _looking() as (seen, notice):
        failures = site.failed_queue(notice)
        found = [parked for parked, _ in failures.records(selection, seen)]
    _print(found, json_output)
    sys.exit(_verdict(selection, (), failures.incomplete))


@failed.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@as_json
@with_broker
def show(site: BrokerSite, ids: tuple[str, ...], json_output: bool) -> None:
    """Show a failure: its error, attempts and history, and the message. Changes nothing."""
    from omps_worker.messages.dead_letter import FailureSelection, details_text

    selection = FailureSelection(frozenset(ids))
    with _looking() as (seen, notice):
        failures = site.failed_queue(notice)
        found = failures.details(selection, seen)
    if json_output:
        say_json(found)
    elif found:
        say("\n\n".join(map(details_text, found)))
    sys.exit(_verdict(selection, (one["id"] for one in found), failures.incomplete))


@failed.command("replay", cls=InterruptibleCommand, nothing="0 messages replayed")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are parked.")
@filters
@dry_run_option
@as_json
@with_broker
def replay_failures(
    site: BrokerSite, selection: FailureSelection, everything: bool, dry_run: bool, json_output: bool
) -> None:
    """Send failures to the queue again, as if they came for the first time.

    Each leaves the failed queue once the broker has confirmed that it is in the other. A build that is
    published already is not published twice.
    """
    _one_choice(selection, everything)
    with _reported("would be replayed" if dry_run else "replayed", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.whole)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            with site.replay() as replay:
                # One by one, so that what was done is known when it ends too early.
                for parked in failures.replay(selection, replay, work.seen):
                    work.done.append(parked)
    sys.exit(_verdict(selection, (one.id for one in work.done), failures.incomplete))


@failed.command(cls=InterruptibleCommand, nothing="0 messages discarded")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that are parked.")
@filters
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@as_json
@with_broker
def discard(
    site: BrokerSite, selection: FailureSelection, everything: bool, dry_run: bool, yes: bool, json_output: bool
) -> None:
    """Destroy failures for good. Asks first, and then destroys only what it has shown."""
    _one_choice(selection, everything)
    ask = not (yes or dry_run)
    if ask and not sys.stdin.isatty():
        raise click.UsageError("This destroys messages: say --yes, for there is no terminal to ask on.")
    shown: list[tuple[ParkedFailure, bytes]] = []
    not_shown: str | None = None
    if ask:
        with _looking() as (seen, notice):
            failures = site.failed_queue(notice)
            shown, not_shown = failures.records(selection, seen), failures.incomplete
        if shown:
            _print([parked for parked, _ in shown], json_output=False, to_stderr=True)
            click.confirm(f"Destroy {_count(len(shown))}?", abort=True, err=True)
    with _reported("would be discarded" if dry_run else "discarded", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.whole)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            only = frozenset(mark for _, mark in shown) if ask else None
            for parked in failures.discard(selection, work.seen, only):
                work.done.append(parked)
    sys.exit(_verdict(selection, (one.id for one in work.done), failures.incomplete or not_shown))


@failed.command(cls=InterruptibleCommand, nothing="0 messages exported")
@click.argument("directory", type=click.Path(file_okay=False), metavar="DIR", callback=_directory)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@filters
@dry_run_option
@as_json
@with_broker
def export(site: BrokerSite, selection: FailureSelection, directory: Path, dry_run: bool, json_output: bool) -> None:
    """Keep failures in files as well, one each, in fedora-messaging's dump format; without IDs or filters all.

    They stay in the failed queue. `omps-worker replay FILE...` sends such files. No file is ever replaced.
    """
    from omps_worker.messages.export import Export

    with _reported("would be exported" if dry_run else "exported", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.whole)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            target = Export(directory)
            for parked, document in failures.dumps(selection, work.seen):
                path, fresh = target.write(parked.id, document)
                work.files.append(str(path))
                work.done.append(parked)
                if not fresh:
                    work.notice(f"{path} is there already.")
    sys.exit(_verdict(selection, (one.id for one in work.done), failures.incomplete))


@click.command(cls=InterruptibleCommand, nothing="sent 0 messages")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    callback=plain_files,
    metavar="FILE...",
)
@dry_run_option
@as_json
@with_broker
def replay(site: BrokerSite, files: tuple[Path, ...], dry_run: bool, json_output: bool) -> None:
    """Send messages from files to the queue: fedora-messaging's dump format, one message per line.

    So do the files that `failed export` writes, and bare bodies. All files are read before anything is sent.
    """
    from omps_worker.common.errors import MessageError
    from omps_worker.messages.files import in_file

    sender = site.replay()

    def messages() -> Iterator[tuple[dict[str, Any], Any]]:
        for file in files:
            for stored in in_file(file):
                try:
                    message = sender.read(stored)
                except MessageError as error:
                    raise MessageError(f"{file}: {error.message}") from None
                about = message.parked
                yield {"file": str(file), "id": about.id, "topic": about.topic, "nvr": about.nvr}, message

    told = [about for about, _ in messages()]
    if not dry_run:
        of, told = len(told), []
        counting()
        try:
            with Interrupts() as interrupts, _looking() as (seen, _), sender:
                for about, message in messages():
                    with interrupts.whole():
                        sender.send(message.delivery)
                        told.append(about)
                        seen(len(told), of)
        finally:
            if len(told) < of:
                tell(f"sent {len(told)} of {of}; sending all of them again does no harm")
    if json_output:
        say_json(told)
    else:
        from omps_worker.common.text import table

        say(
            table(
                ["file", "id", "nvr", "topic"], [list(map(about.get, ("file", "id", "nvr", "topic"))) for about in told]
            )
        )
        say(f"{'would be sent' if dry_run else 'sent'}: {_count(len(told))}")


@contextmanager
def _looking() -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
    """Two ways to tell what is going on: how far it is, on a terminal, and what a person should know."""
    from omps_worker.cli.progress import Progress

    with Progress() as progress:
        shown_at = 0.0

        def seen(number: int, of: int) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at > 0.1:
                shown_at = time.monotonic()
                progress.show(f"message {number} of {of}")

        yield seen, lambda text: tell(f"note: {text}")


@dataclass
class _FailedMessageRun:
    """What a command does with one failure after the other, and how far it got."""

    seen: Callable[[int, int], None]
    notice: Callable[[str], None]
    interrupts: Interrupts
    done: list[ParkedFailure]
    files: list[str]


@contextmanager
def _reported(verb: str, json_output: bool) -> Iterator[_FailedMessageRun]:
    """Collects what is done, and prints it, also when it ends too early; then with how much is left."""
    done: list[ParkedFailure] = []
    files: list[str] = []
    at, of = 0, 0
    counting()
    try:
        with Interrupts() as interrupts, _looking() as (show, notice):

            def seen(number: int, total: int) -> None:
                nonlocal at, of
                at, of = number, total
                show(number, total)

            yield _FailedMessageRun(seen, notice, interrupts, done, files)
    except BaseException as error:
        if done:
            _print(done, json_output, verb, files)
        if of:
            left = of - max(at - 1, len(done))
            tell(
                f"ended early: {_count(len(done))} {verb}, and {left} of {of} in the queue not come to yet. "
                "The same command goes on with them."
            )
        elif isinstance(error, KeyboardInterrupt):
            tell(f"ended early: {_count(len(done))} {verb}")
        raise
    _print(done, json_output, verb, files)


def _print(
    found: list[ParkedFailure],
    json_output: bool,
    verb: str | None = None,
    files: list[str] | None = None,
    *,
    to_stderr: bool = False,
) -> None:
    from omps_worker.messages.dead_letter import as_table, by_time

    names = {id(one): name for one, name in zip(found, files or (), strict=False)}
    found = by_time(found)
    if json_output:
        more = [{"file": names[id(one)]} if names else {} for one in found]
        say_json([{**one.as_json(), **file} for one, file in zip(found, more, strict=True)])
        return
    if found:
        say(as_table(found), err=to_stderr)
    if verb or not found:
        say(f"{verb or 'parked'}: {_count(len(found))}", err=to_stderr)


def _one_choice(selection: FailureSelection, everything: bool) -> None:
    """What changes something is told plainly what: IDs, or filters, or everything."""
    from dataclasses import replace

    filtered = not replace(selection, ids=frozenset()).everything
    if (bool(selection.ids), filtered, everything).count(True) != 1:
        raise click.UsageError("Name IDs, or use filters (--nvr, --error, --older-than, --newer-than), or say --all.")


def _verdict(selection: FailureSelection, found: Iterable[str], incomplete: str | None) -> int:
    """The exit code; names the IDs that nothing has. Where a look was ``incomplete``, what it missed may have them."""
    missing = sorted(selection.ids - frozenset(found))
    if incomplete:
        for one in missing:
            tell(f"error: none of the messages that could be seen has the ID {one}")
        return TRANSIENT
    for one in missing:
        tell(f"error: no parked message has the ID {one}")
    return FAILED if missing else DONE


def _count(number: int) -> str:
    return "1 message" if number == 1 else f"{number} messages"
