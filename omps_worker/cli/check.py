# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``check``: check the configuration and every service it names."""

from __future__ import annotations

import sys

import click

from omps_worker.cli.common import DONE, FAILED, TRANSIENT, USAGE, as_json, exit_code_of, print_json, print_lines


@click.command()
@click.option("--offline", is_flag=True, help="Check only the files, and make no connections.")
@as_json
@click.pass_context
def check(context: click.Context, offline: bool, json_output: bool) -> None:
    """Check the configuration and every service it names. Changes nothing.

    Checks this machine, the files, the broker, its queues and their bindings, Koji and its file server, Greenwave, the
    registry, and each organization and catalog.
    """
    from omps_worker.cli import site_checks
    from omps_worker.common import logs
    from omps_worker.common.text import WIDEST, row, width_of
    from omps_worker.configuration import loading
    from omps_worker.monitoring import checks

    examined = loading.examine(context.obj)
    logs.set_up(examined.settings.worker.log_format, examined.settings.worker.log_level)
    to_run = list(site_checks.file_checks(examined, offline=offline))
    if not offline:
        to_run += site_checks.service_checks(examined)
    # The widths are fixed before any check ends, so that each row can be printed as soon as its result is known.
    heads = ("part", "state", "detail")
    widths = (min(max(width_of(each.part) for each in to_run), WIDEST), len(checks.WARNING), len(heads[2]))
    if not json_output:
        print_lines(row(heads, widths))
        print_lines(row(["-" * width for width in widths], widths))
    findings = []
    for finding in checks.answers(to_run):
        findings.append(finding)
        if not json_output:
            print_lines(row((finding.part, finding.state, finding.detail), widths))
    if json_output:
        print_json([finding.as_json() for finding in findings])
    codes = {exit_code_of(finding.error) for finding in findings if finding.error}
    sys.exit(next((code for code in (USAGE, FAILED, TRANSIENT) if code in codes), DONE))
