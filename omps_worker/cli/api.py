# SPDX-License-Identifier: GPL-3.0-or-later
"""The command that serves OMPS's REST API."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from omps_worker.cli.common import USAGE, print_to_stderr

_LIBRARIES = ("starlette", "uvicorn", "python_multipart", "h11", "anyio")


@click.command()
@click.option(
    "--workers",
    metavar="NUMBER",
    type=click.IntRange(1, 256),
    help="Number of processes. Default: $WORKERS_NUM, or one per CPU core, at most 8.",
)
@click.pass_context
def api(context: click.Context, workers: int | None) -> None:
    """Serve OMPS's REST API, until stopped by a signal.

    [consumer_config.api] sets the address and the port. A broker and a mapping are optional. SIGTERM: finish the
    requests in progress, then stop. $WORKER_TIMEOUT limits how long an upload may take, in seconds (default 30).
    """
    path: Path | None = context.obj
    try:
        from omps_worker.api import server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _LIBRARIES:
            raise
        print_to_stderr(
            f"error: the REST API needs {error.name}, which is not installed: pip install 'omps-worker[api]'"
        )
        sys.exit(USAGE)
    sys.exit(server.run(path, workers))
