# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line. Thin: each command asks ``bootstrap`` for the parts and prints what they say.

Exit codes: 0 done; 1 failed or skipped; 2 usage or configuration; 75 transient, try later.
Imports are made inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omps_worker import __version__
from omps_worker.cli_catch_up import catch_up
from omps_worker.cli_common import DONE, FAILED, TRANSIENT, USAGE, ClearErrors, as_json, exit_code_of, with_site
from omps_worker.cli_failed import failed, replay

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site
    from omps_worker.model import Outcome


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """The worst of several: failed or skipped before transient before done."""
    from omps_worker.model import Status

    codes = {DONE}
    for outcome in outcomes:
        if outcome.status is Status.FAILED and outcome.error is not None:
            codes.add(exit_code_of(outcome.error))
        elif outcome.status is Status.SKIPPED:
            codes.add(FAILED)
    return next(code for code in (USAGE, FAILED, TRANSIENT, DONE) if code in codes)


@click.group(cls=ClearErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The configuration file; otherwise $FEDORA_MESSAGING_CONF, or /etc/fedora-messaging/config.toml.",
)
@click.version_option(__version__, prog_name="omps-worker")
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Publish the operator manifests of finished Koji builds to an app registry."""
    context.obj = config


main.add_command(catch_up)
main.add_command(failed)
main.add_command(replay)


@main.command()
@with_site
def run(site: Site) -> None:
    """Listen for finished builds and publish them, until told to stop.

    SIGTERM finishes the work in hand; a second one stops at once. SIGHUP reads the mapping again.
    """
    sys.exit(site.run())


@main.command()
@as_json
@with_site
def check(site: Site, json_output: bool) -> None:
    """Ask every part whether it would work: mapping, broker, queues, Koji, registry, credentials."""
    from omps_worker import checks
    from omps_worker.progress import Progress
    from omps_worker.text import table

    findings = []
    with Progress() as progress:
        for question in site.checks():
            progress.show(f"asking: {question.part}")
            findings.append(checks.answer(question))
    if json_output:
        click.echo(json.dumps([finding.as_json() for finding in findings]))
    else:
        click.echo(table(["part", "state", "detail"], [(f.part, f.state, f.detail) for f in findings]))
    codes = {exit_code_of(finding.error) for finding in findings if finding.error}
    sys.exit(next((code for code in (USAGE, FAILED, TRANSIENT) if code in codes), DONE))


@main.command()
@click.argument("build", metavar="NVR-or-message-file")
@as_json
@with_site
def explain(site: Site, build: str, json_output: bool) -> None:
    """Say what would become of a build, and why. Changes nothing.

    Names a build, or a file that holds a message about one.
    """
    explanation = site.explain(build)
    if json_output:
        click.echo(json.dumps(explanation.as_json()))
    else:
        from omps_worker.explain import as_text

        click.echo(as_text(explanation))
    sys.exit(exit_code_of(explanation.error) if explanation.error else DONE)


def _version(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from omps_worker import versions

    if value is None or versions.is_valid(value) or value in (versions.INCREMENT, versions.CSV):
        return value
    raise click.BadParameter(f"{value!r} is not three integers joined by dots, like 1.0.0; nor increment, nor csv.")


@main.command()
@click.argument("nvr")
@click.option("--organization", help="Push there, whatever the mapping says.")
@click.option("--repository", help="The repository that the packageName must be.")
@click.option(
    "--version", callback=_version, help="The version of the release; otherwise as the mapping says, or the next one."
)
@click.option("--new-release", is_flag=True, help="Make a release even of released or superseded content.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@as_json
@with_site
def push(
    site: Site,
    nvr: str,
    organization: str | None,
    repository: str | None,
    version: str | None,
    new_release: bool,
    dry_run: bool,
    json_output: bool,
) -> None:
    """Publish one build now; without an organization the mapping decides where."""
    from omps_worker.processor import Request
    from omps_worker.progress import Progress

    request = Request(organization, repository, version, new_release=new_release, dry_run=dry_run)
    with Progress() as progress:
        progress.show(f"publishing {nvr}")
        outcomes, bodies = site.push(nvr, request)
    if json_output:
        click.echo(json.dumps(bodies))
    else:
        from omps_worker.reporting import outcomes_table

        click.echo(outcomes_table(outcomes))
        if dry_run:
            click.echo("dry run: nothing was changed")
    sys.exit(exit_code(outcomes))


@main.command()
@click.argument("what", type=click.Choice(["mapping", "config", "results"]))
def schema(what: str) -> None:
    """Print the JSON Schema of a file or a message, for editors and validators."""
    from omps_worker.schema import schema_of

    click.echo(json.dumps(schema_of(what), indent=2))


@main.command()
@click.option("--directory", type=click.Path(path_type=Path), help="Keep its files here; otherwise a temporary place.")
def sandbox(directory: Path | None) -> None:
    """Keep a broker, a Koji and an app registry of one's own running on loopback, until interrupted."""
    from omps_worker.sandbox.command import keep_running

    sys.exit(keep_running(directory))


@main.command()
@click.option("--plain", is_flag=True, help="No colours, even on a terminal.")
def demo(plain: bool) -> None:
    """Play a story on the sandbox: builds of every kind, and what becomes of them."""
    from omps_worker.sandbox.demo import play

    sys.exit(play(colours=not plain and sys.stdout.isatty()))
