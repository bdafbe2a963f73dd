# SPDX-License-Identifier: GPL-3.0-or-later
"""Every link of the documentation leads somewhere, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.sources import ROOT, relative, text_files

PAGES = [path for path in text_files() if path.suffix == ".md"]
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[[^\]\n]*\]\(([^)\s]+)\)")
INDEX = ROOT / "README.md"
COMING: set[str] = set()
"""What pages lead to already, and is still to be written."""


def prose(path: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What a link may name behind ``#``: the headings, as web pages of repositories write them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        base = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while (anchor := f"{base}-{number}" if number else base) in found:
            number += 1
        found.add(anchor)
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    wrong = []
    for link in LINK.findall(prose(page)) + PICTURE.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if target in {ROOT / coming for coming in COMING}:
            continue
        inside = target.exists() and ROOT in (target, *target.parents)
        if not inside or (anchor and not (target.suffix == ".md" and anchor in anchors(target))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_relative_link_and_anchor_resolves(page):
    assert broken(page) == []


def test_nothing_that_is_there_is_said_to_be_still_to_be_written():
    assert [coming for coming in COMING if (ROOT / coming).exists()] == [], "take it out of COMING"


def test_every_page_is_in_the_index_with_whom_it_is_for():
    text = INDEX.read_text(encoding="utf-8")
    table = text[text.index("## Read on") : text.index("## Work on it")]
    rows = dict(re.findall(r"^\| \[.+?\]\((docs/[^)]+)\) \| .+ \| (.+) \|$", table, re.MULTILINE))
    assert set(rows) == {relative(path) for path in PAGES if path.parent.name == "docs"}
    assert all(rows.values())


def test_a_link_that_leads_nowhere_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.unit.test_docs_links.ROOT", tmp_path)
    (tmp_path / "there.md").write_text("# A `b` c\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    good = ["there.md", "there.md#a-b-c", "there.md#twice-1", "#here", "https://example.com/nowhere"]
    bad = ["gone.md", "there.md#a", "#there", "../outside", "there.md#twice-2"]
    page.write_text("# Here\n\n" + "".join(f"[x]({link})\n" for link in good + bad) + "```\n[x](gone.md)\n```\n")
    assert broken(page) == bad
