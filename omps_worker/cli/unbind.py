# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``unbind``, which removes a binding of the worker's queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from omps_worker.cli.common import as_json, dry_run_option, not_empty, print_json, print_lines, with_broker
from omps_worker.common.text import one_line

if TYPE_CHECKING:
    from omps_worker.broker_site import BrokerSite


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
    """Remove a binding of the worker's queue.

    Use this after removing a binding from the configuration: the broker keeps it, and routes messages by it, until you
    unbind it. Messages that are already in the queue stay there. Whether there was such a binding is known only with
    management_url in the configuration.
    """
    topology = site.topology
    if (exchange, routing_key) in topology.bindings:
        raise click.UsageError(
            f"{exchange} {routing_key!r} is still in [[bindings]] of the configuration. Remove it there first; "
            "otherwise `omps-worker run` would bind it again."
        )
    bound = site.is_bound(exchange, routing_key)
    if not dry_run:
        site.unbind(exchange, routing_key)
    if json_output:
        print_json(
            {
                "queue": topology.queue,
                "exchange": exchange,
                "routing_key": routing_key,
                "was_bound": bound,
                "dry_run": dry_run,
            }
        )
    else:
        print_lines(f"{_verb(bound, dry_run=dry_run)}: {topology.queue} from {one_line(exchange)} {routing_key!r}")


def _verb(bound: bool | None, *, dry_run: bool) -> str:
    """Return what is said about a binding. ``bound``: whether it was there before; None: not known."""
    if bound is False:
        return "there is no such binding"
    if dry_run:
        return "would be unbound" if bound else "would be unbound, if it is bound"
    return "unbound" if bound else "not bound any more"
