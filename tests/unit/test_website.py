# SPDX-License-Identifier: GPL-3.0-or-later
"""The website has the pages of the repository, and links that work there."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import website
from tests.support.sources import ROOT


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        ("README.md", "[rules](docs/mapping.md#the-file)", "[rules](docs/mapping.md#the-file)"),
        ("docs/rest.md", "[start](../README.md)", "[start](../index.md)"),
        (
            "docs/rest.md",
            "[here](#turns) [there](https://example.com/x.md)",
            "[here](#turns) [there](https://example.com/x.md)",
        ),
        ("README.md", "[deploy](deploy) has", "deploy has"),
        ("docs/deployment.md", "[units](../deploy/systemd)", "units (`deploy/systemd`)"),
        ("docs/deployment.md", "![a picture](x.png)", "![a picture](x.png)"),
    ],
)
def test_a_link_leads_to_a_page_or_names_a_file(page, text, there):
    assert website.on_the_website(Path(page), text) == there


def test_it_has_every_page_and_begins_with_the_one_that_leads_to_the_others():
    pages = website.pages()
    assert pages[0] == Path("README.md")
    assert {ROOT / page for page in pages} == {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")}
