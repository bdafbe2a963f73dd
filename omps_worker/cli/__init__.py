# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, one file for each group of commands: each asks ``bootstrap`` for parts and prints what they say.

May know: every room. Exit codes: 0 done; 1 failed or skipped; 2 usage or configuration; 75 transient, try later.
Imports are made inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omps_worker import __version__
from omps_worker.cli.api import api
from omps_worker.cli.catch_up import catch_up
from omps_worker.cli.check import check
from omps_worker.cli.common import (
    DONE,
    ErrorReportingGroup,
    as_json,
    exit_code_of,
    not_empty,
    readable_at_once,
    say,
    say_json,
    with_site,
)
from omps_worker.cli.config import config_from_omps
from omps_worker.cli.failed import failed, replay
from omps_worker.cli.push import delete, push, push_zip
from omps_worker.cli.unbind import unbind
from omps_worker.cli.watch import watch

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site


@click.group(cls=ErrorReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
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


main.add_command(api)
main.add_command(catch_up)
main.add_command(check)
main.add_command(config_from_omps)
main.add_command(delete)
main.add_command(failed)
main.add_command(push)
main.add_command(push_zip)
main.add_command(replay)
main.add_command(unbind)
main.add_command(watch)


@main.command()
@with_site
def run(site: Site) -> None:
    """Listen for finished builds and publish them, until told to stop.

    SIGTERM finishes the work in hand; a second one stops at once. SIGHUP reads the mapping again.
    """
    from omps_worker import running

    sys.exit(running.run(site))


def _build_or_file(context: click.Context, parameter: click.Parameter, value: str) -> str:
    readable_at_once(context, parameter, Path(value))
    return not_empty(context, parameter, value)


@main.command()
@click.argument("build", metavar="NVR-or-message-file", callback=_build_or_file)
@as_json
@with_site
def explain(site: Site, build: str, json_output: bool) -> None:
    """Say what would become of a build, and why. Changes nothing.

    Names a build, or a file that holds a message about one.
    """
    explanation = site.explain(build)
    if json_output:
        say_json(explanation.as_json())
    else:
        from omps_worker.publishing.explain import as_text

        say(as_text(explanation))
    sys.exit(exit_code_of(explanation.error) if explanation.error else DONE)


@main.command()
@click.argument("what", type=click.Choice(["mapping", "config", "results"]))
def schema(what: str) -> None:
    """Print the JSON Schema of a file or a message, for editors and validators."""
    from omps_worker.configuration.schema import schema_of

    say(json.dumps(schema_of(what), indent=2))


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
