# SPDX-License-Identifier: GPL-3.0-or-later
"""``check``: whether all would work."""

from __future__ import annotations

import sys

import click

from omps_worker.cli.common import DONE, FAILED, TRANSIENT, USAGE, as_json, exit_code_of, say, say_json


@click.command()
@click.option("--offline", is_flag=True, help="Only read the files, and ask nobody.")
@as_json
@click.pass_context
def check(context: click.Context, offline: bool, json_output: bool) -> None:
    """Ask every part whether it would work: files, broker, queues, Koji, registry, each organization."""
    from omps_worker import configuration
    from omps_worker.cli import site_checks
    from omps_worker.common import logs
    from omps_worker.common.text import WIDEST, row, width_of
    from omps_worker.monitoring import checks

    examined = configuration.examine(context.obj)
    logs.set_up(examined.settings.worker.log_format, examined.settings.worker.log_level)
    questions = list(site_checks.about_files(examined, offline=offline))
    if not offline:
        questions += site_checks.to_parts(examined)
    # Known before the answers, so that each row can be shown as soon as it is there.
    heads = ("part", "state", "detail")
    widths = (min(max(width_of(question.part) for question in questions), WIDEST), len(checks.WARNING), len(heads[2]))
    if not json_output:
        say(row(heads, widths))
        say(row(["-" * width for width in widths], widths))
    findings = []
    for finding in checks.answers(questions):
        findings.append(finding)
        if not json_output:
            say(row((finding.part, finding.state, finding.detail), widths))
    if json_output:
        say_json([finding.as_json() for finding in findings])
    codes = {exit_code_of(finding.error) for finding in findings if finding.error}
    sys.exit(next((code for code in (USAGE, FAILED, TRANSIENT) if code in codes), DONE))
