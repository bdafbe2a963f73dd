# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``catalog show``: what is in a catalog."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from omps_worker.cli.common import DONE, FAILED, as_json, print_json, print_lines, valid_name, with_site
from omps_worker.common.names import catalog_name_fault, package_name_fault
from omps_worker.common.text import one_line, table

if TYPE_CHECKING:
    from omps_worker.bootstrap import Site


@click.group()
def catalog() -> None:
    """Look into catalogs of bundle images."""


@catalog.command()
@click.argument("name", callback=valid_name(catalog_name_fault))
@click.argument("package", required=False, callback=valid_name(package_name_fault))
@as_json
@with_site
def show(site: Site, name: str, package: str | None, json_output: bool) -> None:
    """Show the packages of a catalog, or one package: its channels, their heads, and its bundles.

    The catalog image is the record of what is published. Changes nothing. If each package has a catalog image of its
    own, give the package.
    """
    contents = site.catalog_contents(name, package)
    found: dict[str, Any] = {"name": name, **contents.as_json()}
    if json_output:
        print_json(found)
    else:
        print_lines("\n".join(map(one_line, _lines(found, whole=package is None))))
    sys.exit(FAILED if package is not None and not contents.packages else DONE)


def _lines(found: dict[str, Any], *, whole: bool) -> list[str]:
    digest = found["digest"] or "there is no such tag yet: the first push makes it"
    lines = [f"catalog   {found['name']}", f"image     {found['image']}", f"digest    {digest}"]
    packages = found["packages"]
    if not packages:
        return [*lines, "packages  none" if whole else "package   not in the catalog"]
    if whole:
        rows = [(each["package"], _heads(each), len(each["bundles"])) for each in packages]
        return [*lines, "", *table(["package", "channels", "bundles"], rows).split("\n")]
    (package,) = packages
    heads: dict[str, list[str]] = {}
    for channel, head in package["channels"].items():
        heads.setdefault(head, []).append(channel)
    bundles = [
        (each["version"], each["name"], ", ".join(heads.get(each["name"], ())), each["image"])
        for each in package["bundles"]
    ]
    default = package["default_channel"]
    lines += [f"package   {package['package']}", f"channels  {', '.join(package['channels'])} (default: {default})"]
    return [*lines, "", *table(["version", "bundle", "head of", "image"], bundles).split("\n")]


def _heads(package: dict[str, Any]) -> str:
    return ", ".join(f"{channel}: {head}" for channel, head in package["channels"].items())
