# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``config-from-omps``, for users of OMPS."""

from __future__ import annotations

from pathlib import Path

import click

from omps_worker.cli.common import print_to_stderr


@click.command("config-from-omps")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--section", metavar="CLASS", help="The configuration class that OMPS used. Default: ProdConfig, or the only class."
)
@click.option(
    "--with-secrets",
    is_flag=True,
    help="Write the OAuth tokens into the output, not the names of environment variables for them.",
)
def config_from_omps(file: Path, section: str | None, with_secrets: bool) -> None:
    """Convert OMPS's configuration to one for omps-worker.

    FILE is OMPS's configuration. It is read and never executed. Prints an equivalent configuration, in which settings
    that OMPS did not have, such as the broker, are marked FILL IN.
    """
    from omps_worker.configuration.omps import file as omps_file
    from omps_worker.configuration.omps.translation import translate

    translation = translate(omps_file.read(file, section), with_secrets=with_secrets)
    # In UTF-8 whatever the terminal's encoding is: TOML allows no other.
    click.echo(str(translation.document).encode(), nl=False)
    print_to_stderr(f"note: settings to fill in: {', '.join(translation.document.blanks)}")
    if translation.variables:
        print_to_stderr(f"note: set these environment variables to the tokens: {', '.join(translation.variables)}")
