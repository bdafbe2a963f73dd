# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands for parked messages: the group ``failed``."""

from __future__ import annotations

import sys
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
    directory_path,
    dry_run_option,
    duration_seconds,
    print_json,
    print_lines,
    print_to_stderr,
    with_broker,
)
from omps_worker.cli.interrupts import InterruptibleCommand, Interrupts, reports_interrupts_itself
from omps_worker.cli.progress import progress_and_notes
from omps_worker.common.text import counted

if TYPE_CHECKING:
    from omps_worker.broker_site import BrokerSite
    from omps_worker.messages.dead_letter import FailureSelection, ParkedFailure


def selection_options(command: Command) -> Command:
    """Add the options that select parked messages; the command gets them as ``selection``, a FailureSelection."""

    def wrapper(**options: Any) -> Any:
        from omps_worker.messages.dead_letter import FailureSelection

        selection = FailureSelection(
            frozenset(options.pop("ids", ())),
            options.pop("nvrs"),
            options.pop("errors"),
            options.pop("older_than"),
            options.pop("newer_than"),
        )
        return command(selection=selection, **options)

    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option(
            "--newer-than",
            callback=duration_seconds,
            metavar="DURATION",
            help="Only messages that were parked less than this long ago.",
        ),
        click.option(
            "--older-than",
            callback=duration_seconds,
            metavar="DURATION",
            help='Only messages that were parked longer ago than this, such as "30m" or "2d".',
        ),
        click.option(
            "--error",
            "errors",
            multiple=True,
            metavar="GLOB",
            help="Only messages whose error name matches. Can be repeated.",
        ),
        click.option(
            "--nvr", "nvrs", multiple=True, metavar="GLOB", help="Only messages whose NVR matches. Can be repeated."
        ),
    ):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]


@click.group()
def failed() -> None:
    """List, show, replay, discard or export parked messages.

    These are the messages whose builds could not be published, those that cannot be decoded, and those that the broker
    moved to the failed queue itself. They stay in <queue>.failed until you replay or discard them. If an ID names
    several copies of a message, the command applies to all of them.
    """


@failed.command("list")
@selection_options
@as_json
@with_broker
def list_failures(site: BrokerSite, selection: FailureSelection, json_output: bool) -> None:
    """List parked messages, the longest parked first. Changes nothing."""
    with progress_and_notes() as (seen, notice):
        failures = site.failed_queue(notice)
        found = [parked for parked, _ in failures.records(selection, seen)]
    _print(found, json_output)
    sys.exit(_exit_code(selection, (), failures.incomplete))


@failed.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@as_json
@with_broker
def show(site: BrokerSite, ids: tuple[str, ...], json_output: bool) -> None:
    """Show parked messages in full. Changes nothing."""
    from omps_worker.messages.dead_letter import FailureSelection, details_text

    selection = FailureSelection(frozenset(ids))
    with progress_and_notes() as (seen, notice):
        failures = site.failed_queue(notice)
        found = failures.details(selection, seen)
    if json_output:
        print_json(found)
    elif found:
        print_lines("\n\n".join(map(details_text, found)))
    sys.exit(_exit_code(selection, (one["id"] for one in found), failures.incomplete))


@failed.command("replay", cls=InterruptibleCommand, nothing_done="0 messages replayed")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Replay all parked messages.")
@selection_options
@dry_run_option
@as_json
@with_broker
def replay_failures(
    site: BrokerSite, selection: FailureSelection, everything: bool, dry_run: bool, json_output: bool
) -> None:
    """Send parked messages to the worker's queue again.

    The worker handles them as if they arrived for the first time. Choose them by ID, by filters, or with --all. A
    message leaves the failed queue only after the broker has confirmed that it is in the worker's queue. A build that
    is already published is not published twice.
    """
    _require_one_selection(selection, everything)
    with _reporting("would be replayed" if dry_run else "replayed", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.uninterrupted)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            with site.replay() as replay:
                # One by one, so that the count is right if the command is interrupted.
                for parked in failures.replay(selection, replay, work.seen):
                    work.done.append(parked)
    sys.exit(_exit_code(selection, (one.id for one in work.done), failures.incomplete))


@failed.command(cls=InterruptibleCommand, nothing_done="0 messages discarded")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Discard all parked messages.")
@selection_options
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation. Required without a terminal.")
@as_json
@with_broker
def discard(
    site: BrokerSite, selection: FailureSelection, everything: bool, dry_run: bool, yes: bool, json_output: bool
) -> None:
    """Delete parked messages permanently.

    Choose them by ID, by filters, or with --all. Lists them, asks for confirmation, and then deletes only the
    messages that it listed.
    """
    _require_one_selection(selection, everything)
    ask = not (yes or dry_run)
    if ask and not sys.stdin.isatty():
        raise click.UsageError("This deletes messages permanently: --yes is required without a terminal.")
    shown: list[tuple[ParkedFailure, bytes]] = []
    listing_incomplete: str | None = None
    if ask:
        with progress_and_notes() as (seen, notice):
            failures = site.failed_queue(notice)
            shown, listing_incomplete = failures.records(selection, seen), failures.incomplete
        if shown:
            _print([parked for parked, _ in shown], json_output=False, to_stderr=True)
            click.confirm(f"Delete {counted(len(shown), 'message')} permanently?", abort=True, err=True)
    with _reporting("would be discarded" if dry_run else "discarded", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.uninterrupted)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            only = frozenset(mark for _, mark in shown) if ask else None
            for parked in failures.discard(selection, work.seen, only):
                work.done.append(parked)
    sys.exit(_exit_code(selection, (one.id for one in work.done), failures.incomplete or listing_incomplete))


@failed.command(cls=InterruptibleCommand, nothing_done="0 messages exported")
@click.argument("directory", type=click.Path(file_okay=False), metavar="DIR", callback=directory_path)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@selection_options
@dry_run_option
@as_json
@with_broker
def export(site: BrokerSite, selection: FailureSelection, directory: Path, dry_run: bool, json_output: bool) -> None:
    """Copy parked messages to files, one file each.

    The files are written to DIR, in fedora-messaging's dump format; `omps-worker replay FILE...` sends them. Without
    IDs or filters, all parked messages are exported. They stay in the failed queue. No file is ever overwritten.
    """
    from omps_worker.messages.export import Export

    with _reporting("would be exported" if dry_run else "exported", json_output) as work:
        failures = site.failed_queue(work.notice, work.interrupts.uninterrupted)
        if dry_run:
            work.done += [parked for parked, _ in failures.records(selection, work.seen)]
        else:
            target = Export(directory)
            for parked, document in failures.dumps(selection, work.seen):
                path, fresh = target.write(parked.id, document)
                work.files.append(str(path))
                work.done.append(parked)
                if not fresh:
                    work.notice(f"{path} already exists, with the same content.")
    sys.exit(_exit_code(selection, (one.id for one in work.done), failures.incomplete))


@dataclass
class _FailedMessageRun:
    """A command that handles parked messages one by one, and how far it got."""

    seen: Callable[[int, int], None]
    notice: Callable[[str], None]
    interrupts: Interrupts
    done: list[ParkedFailure]
    files: list[str]


@contextmanager
def _reporting(verb: str, json_output: bool) -> Iterator[_FailedMessageRun]:
    """Yield a run that collects the messages that are done, and print them at the end.

    If the command ends early, they are printed too, with the number of messages that are left.
    """
    done: list[ParkedFailure] = []
    files: list[str] = []
    position, total = 0, 0
    reports_interrupts_itself()
    try:
        with Interrupts() as interrupts, progress_and_notes() as (show, notice):

            def seen(number: int, in_queue: int) -> None:
                nonlocal position, total
                position, total = number, in_queue
                show(number, in_queue)

            yield _FailedMessageRun(seen, notice, interrupts, done, files)
    except BaseException as error:
        if done:
            _print(done, json_output, verb, files)
        if total:
            left = total - max(position - 1, len(done))
            print_to_stderr(
                f"ended early: {counted(len(done), 'message')} {verb}, {left} of {total} in the queue not reached. "
                "Run the same command again to continue with those."
            )
        elif isinstance(error, KeyboardInterrupt):
            print_to_stderr(f"ended early: {counted(len(done), 'message')} {verb}")
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
        print_json([{**one.as_json(), **file} for one, file in zip(found, more, strict=True)])
        return
    if found:
        print_lines(as_table(found), err=to_stderr)
    if verb or not found:
        print_lines(f"{verb or 'parked'}: {counted(len(found), 'message')}", err=to_stderr)


def _require_one_selection(selection: FailureSelection, everything: bool) -> None:
    """Raise UsageError unless the messages are chosen in exactly one way: by IDs, by filters, or with --all."""
    from dataclasses import replace

    filtered = not replace(selection, ids=frozenset()).everything
    if (bool(selection.ids), filtered, everything).count(True) != 1:
        raise click.UsageError(
            "Choose the messages in one way only: by ID, by filters (--nvr, --error, --older-than, --newer-than), "
            "or with --all."
        )


def _exit_code(selection: FailureSelection, found: Iterable[str], incomplete: str | None) -> int:
    """Return the exit code, and print the IDs that no message has.

    ``incomplete``: why not all messages of the queue could be read; the others may have the missing IDs.
    """
    missing = sorted(selection.ids - frozenset(found))
    if incomplete:
        for message_id in missing:
            print_to_stderr(f"error: none of the messages that could be read has the ID {message_id}")
        return TRANSIENT
    for message_id in missing:
        print_to_stderr(f"error: no parked message has the ID {message_id}")
    return FAILED if missing else DONE
