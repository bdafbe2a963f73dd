# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``replay``, for messages in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omps_worker.cli.common import (
    as_json,
    dry_run_option,
    plain_files,
    print_json,
    print_lines,
    print_to_stderr,
    with_broker,
)
from omps_worker.cli.interrupts import InterruptibleCommand, Interrupts, reports_interrupts_itself
from omps_worker.cli.progress import progress_and_notes
from omps_worker.common.text import counted, listed

if TYPE_CHECKING:
    from omps_worker.broker_site import BrokerSite


@click.command(cls=InterruptibleCommand, nothing_done="sent 0 messages")
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
    """Send messages from files to the worker's queue.

    FILE is in fedora-messaging's dump format, one message per line, as `failed export` and `fedora-messaging record`
    write it, or contains a bare body. All files are read before anything is sent. Of several copies of a message, as
    repeated exports make them, one is sent.
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
                parked = message.parked
                yield {"file": str(file), "id": parked.id, "topic": parked.topic, "nvr": parked.nvr}, message

    rows: list[dict[str, Any]] = []

    def noted() -> Iterator[Any]:
        for row, message in messages():
            rows.append(row)
            yield message

    copies = sender.needless(noted())
    chosen = [row for index, row in enumerate(rows) if index not in copies]
    if copies:
        spared = listed(dict.fromkeys(rows[index]["file"] for index in sorted(copies)))
        number = counted(len(copies), "copy of these messages is", "copies of these messages are")
        print_to_stderr(f"note: each message is sent once: {number} left out ({spared})")
    if not dry_run:
        total, chosen = len(chosen), []
        reports_interrupts_itself()
        try:
            with Interrupts() as interrupts, progress_and_notes() as (seen, _), sender:
                for index, (row, message) in enumerate(messages()):
                    if index in copies:
                        continue
                    with interrupts.uninterrupted():
                        sender.send(message.delivery)
                        chosen.append(row)
                        seen(len(chosen), total)
        finally:
            if len(chosen) < total:
                print_to_stderr(f"sent {len(chosen)} of {total}; it is safe to send all of them again")
    if json_output:
        print_json(chosen)
    else:
        from omps_worker.common.text import table

        columns = ("file", "id", "nvr", "topic")
        print_lines(table(list(columns), [list(map(row.get, columns)) for row in chosen]))
        print_lines(f"{'would be sent' if dry_run else 'sent'}: {counted(len(chosen), 'message')}")
