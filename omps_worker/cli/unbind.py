# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that takes a binding of the queue away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from omps_worker.cli.common import as_json, dry_run_option, not_empty, with_broker

if TYPE_CHECKING:
    from omps_worker.bootstrap import BrokerSite


@click.command()
@click.argument("exchange", callback=not_empty)
@click.argument("routing_key")
@dry_run_option
@as_json
@with_broker
def unbind(site: BrokerSite, exchange: str, routing_key: str, dry_run: bool, json_output: bool) -> None:
    """Take away a binding of the queue that is no longer in the configuration.

    Nothing more comes by it; what is in the queue stays there.
    """
    topology = site.topology
    if (exchange, routing_key) in topology.bindings:
        raise click.UsageError(
            f"{exchange} {routing_key!r} stands under [[bindings]] in the configuration: take it out there first, "
            "or `omps-worker run` binds it again."
        )
    if not dry_run:
        site.unbind(exchange, routing_key)
    if json_output:
        click.echo(json.dumps({"queue": topology.queue, "exchange": exchange, "routing_key": routing_key}))
    else:
        verb = "would be unbound" if dry_run else "unbound"
        click.echo(f"{verb}: {topology.queue} from {exchange} {routing_key!r}")
