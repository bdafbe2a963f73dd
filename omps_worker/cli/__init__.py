# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: one module per group of commands.

Each command gets its parts from ``bootstrap`` and prints their results. May know: every room but ``manifests`` and
``results``. Exit codes: 0 done; 1 failed or skipped; 2 usage or configuration; 75 transient failure, try again later.
Commands import what they need inside their functions, so that ``--help`` answers quickly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omps_worker import __version__
from omps_worker.cli.api import api
from omps_worker.cli.catalog import catalog
from omps_worker.cli.catch_up import catch_up
from omps_worker.cli.check import check
from omps_worker.cli.common import (
    DONE,
    ErrorReportingGroup,
    as_json,
    directory_path,
    exit_code_of,
    no_named_pipe,
    not_empty,
    print_json,
    print_lines,
    with_site,
)
from omps_worker.cli.config import config_from_omps
from omps_worker.cli.failed import failed
from omps_worker.cli.push import delete, push, push_zip
from omps_worker.cli.replay import replay
from omps_worker.cli.unbind import unbind
from omps_worker.cli.watch import watch

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site


@click.group(cls=ErrorReportingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Configuration file. Default: $FEDORA_MESSAGING_CONF, or /etc/fedora-messaging/config.toml.",
)
@click.version_option(__version__, prog_name="omps-worker")
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Publish the operators of Koji builds to an app registry, and to catalogs of bundle images."""
    context.obj = config


main.add_command(api)
main.add_command(catalog)
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
    """Publish every finished build, until stopped by a signal.

    Listens for Koji's messages on RabbitMQ. SIGTERM or Ctrl-C: finish the work in progress, then stop. A second signal
    stops immediately. SIGHUP reloads the mapping.
    """
    from omps_worker import running

    sys.exit(running.run(site))


def _build_or_file(context: click.Context, parameter: click.Parameter, value: str) -> str:
    no_named_pipe(context, parameter, Path(value))
    return not_empty(context, parameter, value)


@main.command()
@click.argument("build", metavar="NVR-or-message-file", callback=_build_or_file)
@as_json
@with_site
def explain(site: Site, build: str, json_output: bool) -> None:
    """Show what the worker would do with a build, and why. Changes nothing.

    The argument is the NVR of a build, or a file that contains a message about a build.
    """
    explanation = site.explain(build)
    if json_output:
        print_json(explanation.as_json())
    else:
        from omps_worker.publishing.explain import as_text

        print_lines(as_text(explanation))
    sys.exit(exit_code_of(explanation.error) if explanation.error else DONE)


@main.command()
@click.argument("what", type=click.Choice(["mapping", "config", "results"]))
def schema(what: str) -> None:
    """Print a JSON Schema: mapping, config or results.

    The schemas of the mapping file, the configuration file and the result messages are for editors and validators.
    Needs no configuration.
    """
    from omps_worker.configuration.schema import schema_of

    print_lines(json.dumps(schema_of(what), indent=2))


@main.command()
@click.option(
    "--directory",
    metavar="DIR",
    type=click.Path(file_okay=False),
    callback=directory_path,
    help="Keep the sandbox's files in this directory. Default: a temporary directory, deleted at the end.",
)
def sandbox(directory: Path | None) -> None:
    """Run a private broker, Koji, app registry and image registry.

    They listen on loopback only, until you press Ctrl-C. Prints how to use them. Needs RabbitMQ, but no configuration.
    """
    from omps_worker.sandbox.command import keep_running

    sys.exit(keep_running(directory))


@main.command()
@click.option("--plain", is_flag=True, help="Print without colours, even on a terminal.")
def demo(plain: bool) -> None:
    """Show the worker at work in a private sandbox.

    Sends messages about builds of every kind and shows the outcome of each, in less than a minute. Leaves nothing
    behind. Needs RabbitMQ, but no configuration.
    """
    from omps_worker.sandbox.demo import play

    sys.exit(play(colours=not plain and sys.stdout.isatty()))
