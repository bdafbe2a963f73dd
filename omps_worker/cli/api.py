# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that serves OMPS's REST API."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from omps_worker.cli.common import USAGE, tell

_LIBRARIES = ("starlette", "uvicorn", "python_multipart", "h11", "anyio")


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="How many processes; otherwise $WORKERS_NUM, or one for each core, at most 8.",
)
@click.pass_context
def api(context: click.Context, workers: int | None) -> None:
    """Serve OMPS's REST API, until told to stop.

    Address and port are those of [consumer_config.api]; no broker and no mapping are needed. SIGTERM finishes
    the requests in hand. $WORKER_TIMEOUT is how many seconds an upload may take, 30 if it is not set.
    """
    path: Path | None = context.obj
    try:
        from omps_worker.api import server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _LIBRARIES:
            raise
        tell(f"error: the REST API needs {error.name}, which is not installed: pip install 'omps-worker[api]'")
        sys.exit(USAGE)
    sys.exit(server.run(path, workers))
