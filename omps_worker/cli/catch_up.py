# SPDX-License-Identifier: GPL-3.0-or-later
"""The command for builds whose messages never came."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from omps_worker.cli.common import DONE, TRANSIENT, as_json, say, say_json, tell, with_site
from omps_worker.cli.interrupts import InterruptibleCommand, Interrupts, counting

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site
    from omps_worker.publishing.catch_up import BuildReport


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    from omps_worker.publishing.catch_up import moment

    try:
        return None if value is None else moment(value, datetime.now(timezone.utc))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("catch-up", cls=InterruptibleCommand, nothing="0 builds looked into, 0 sent")
@click.option(
    "--since",
    required=True,
    callback=_moment,
    metavar="WHEN",
    help='A date or time (UTC unless it has an offset), or an age such as "24h" or "7d".',
)
@click.option("--until", callback=_moment, metavar="WHEN", help="The same; otherwise now.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@as_json
@with_site
def catch_up(site: Site, since: datetime, until: datetime | None, dry_run: bool, json_output: bool) -> None:
    """Find operator builds that have no release, and send them to the worker's queue.

    Asks Koji for the builds completed in a period. Those that a newer build supersedes are skipped.
    """
    from omps_worker.cli.progress import Progress
    from omps_worker.publishing.catch_up import UNDECIDED, summary

    if until is not None and until <= since:
        raise click.BadParameter("must be later than --since", param_hint="--until")
    found: list[BuildReport] = []
    of = 0

    def show() -> None:
        if json_output:
            say_json([each.as_json() for each in found])
        else:
            _show(found)
            say(summary(found))
            if dry_run:
                say("dry run: nothing was sent")

    counting()
    try:
        with Interrupts(), Progress() as progress:
            progress.show("asking Koji for builds")
            for each, of in site.catch_up(since, until, dry_run=dry_run):
                found.append(each)
                progress.show(f"{len(found)} of {of} builds: {each.build.nvr} is {each.status}")
    except BaseException as error:
        if found:
            show()
            tell(f"ended early: {len(found)} of {of} build(s) looked into; begin anew for the rest")
        elif isinstance(error, KeyboardInterrupt):
            tell("ended early: 0 builds looked into, 0 sent")
        raise
    show()
    sys.exit(TRANSIENT if any(each.status == UNDECIDED for each in found) else DONE)


def _show(found: list[BuildReport]) -> None:
    from omps_worker.common.text import table
    from omps_worker.publishing.catch_up import IGNORED

    rows = [
        (f"{each.build.completed_at:%Y-%m-%d %H:%M:%S}", each.build.nvr, each.status, each.reason)
        for each in found
        if each.status != IGNORED
    ]
    if rows:
        say(table(["completed", "build", "status", "detail"], rows))
