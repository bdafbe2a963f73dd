# SPDX-License-Identifier: GPL-3.0-or-later
"""The command for those who come from OMPS."""

from __future__ import annotations

from pathlib import Path

import click

from omps_worker.cli.common import tell


@click.command("config-from-omps")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--section", metavar="CLASS", help="The class that OMPS read; otherwise ProdConfig, or the only one.")
@click.option("--with-secrets", is_flag=True, help="Write OAuth tokens into the output instead of references to them.")
def config_from_omps(file: Path, section: str | None, with_secrets: bool) -> None:
    """Print a configuration for omps-worker that does what OMPS's does.

    OMPS's file is read and never run. What it did not have, such as the broker, is marked FILL IN.
    """
    from omps_worker.configuration.omps import file as omps_file
    from omps_worker.configuration.omps.translation import translate

    translation = translate(omps_file.read(file, section), with_secrets=with_secrets)
    # In UTF-8 whatever the terminal speaks: TOML knows nothing else.
    click.echo(str(translation.document).encode(), nl=False)
    tell(f"note: to fill in: {', '.join(translation.document.blanks)}")
    if translation.variables:
        tell(f"note: tokens are expected in: {', '.join(translation.variables)}")
