# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that takes a binding of the queue away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from omps_worker.cli.common import as_json, dry_run_option, not_empty, say, say_json, with_broker
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from omps_worker.bootstrap import BrokerSite


def _short(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from omps_worker.messages.files import SHORT_STRING

    if len(value.encode(errors="replace")) > SHORT_STRING:
        raise click.BadParameter(f"has more than {SHORT_STRING} bytes, which AMQP cannot carry.")
    return value


def _exchange(context: click.Context, parameter: click.Parameter, value: str) -> str:
    return _short(context, parameter, not_empty(context, parameter, value))


@click.command()
@click.argument("exchange", callback=_exchange)
@click.argument("routing_key", callback=_short)
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
        say_json({"queue": topology.queue, "exchange": exchange, "routing_key": routing_key})
    else:
        verb = "would be unbound" if dry_run else "unbound"
        say(f"{verb}: {topology.queue} from {one_line(exchange)} {routing_key!r}")
