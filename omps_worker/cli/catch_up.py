# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``catch-up``, for builds whose messages never arrived."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from omps_worker.cli.common import DONE, TRANSIENT, as_json, print_json, print_lines, print_to_stderr, with_site
from omps_worker.cli.interrupts import InterruptibleCommand, Interrupts, reports_interrupts_itself

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site
    from omps_worker.publishing.catch_up import BuildReport


def _moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    from omps_worker.publishing.catch_up import moment

    try:
        return None if value is None else moment(value, datetime.now(timezone.utc))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("catch-up", cls=InterruptibleCommand, nothing_done="0 builds checked, 0 sent")
@click.option(
    "--since",
    required=True,
    callback=_moment,
    metavar="WHEN",
    help='Start of the period: a date or time (UTC unless it has an offset), or an age such as "24h" or "7d".',
)
@click.option("--until", callback=_moment, metavar="WHEN", help="End of the period, in the same formats. Default: now.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@as_json
@with_site
def catch_up(site: Site, since: datetime, until: datetime | None, dry_run: bool, json_output: bool) -> None:
    """Find builds without a release and send their messages.

    Queries Koji for the operator builds that were completed in a period. For each build that has no release, or is in
    no catalog that it belongs into, sends the missing message to the worker's queue. Builds that are superseded by a
    newer build are skipped; a bundle build is not if the catalog lacks its version.
    """
    from omps_worker.cli.progress import Progress
    from omps_worker.publishing.catch_up import UNDECIDED, summary

    if until is not None and until <= since:
        raise click.BadParameter("must be later than --since", param_hint="--until")
    found: list[BuildReport] = []
    total = 0

    def show() -> None:
        if json_output:
            print_json([each.as_json() for each in found])
        else:
            _show(found)
            print_lines(summary(found))
            if dry_run:
                print_lines("dry run: nothing was sent")

    reports_interrupts_itself()
    try:
        with Interrupts(), Progress() as progress:
            progress.show("querying Koji for builds")
            for each, total in site.catch_up(since, until, dry_run=dry_run):
                found.append(each)
                progress.show(f"{len(found)} of {total} builds: {each.build.nvr} is {each.status}")
    except BaseException as error:
        if found:
            show()
            print_to_stderr(
                f"ended early: {len(found)} of {total} build(s) checked; run the same command again to check the rest"
            )
        elif isinstance(error, KeyboardInterrupt):
            print_to_stderr("ended early: 0 builds checked, 0 sent")
        raise
    show()
    sys.exit(TRANSIENT if any(each.status == UNDECIDED for each in found) else DONE)


def _show(found: list[BuildReport]) -> None:
    from omps_worker.common.text import table
    from omps_worker.publishing.catch_up import IGNORED

    rows = [
        (f"{each.build.completed_at:%Y-%m-%d %H:%M:%S}", each.build.nvr, each.status, each.detail)
        for each in found
        if each.status != IGNORED
    ]
    if rows:
        print_lines(table(["completed", "build", "status", "detail"], rows))
