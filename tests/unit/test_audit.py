# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked for advisories, and what the image says that it is built on."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from scripts import audit, pins
from tests.support.sources import ROOT

TEXTS = [(ROOT / name).read_text(encoding="utf-8") for name in audit.AUDITED]


def test_every_pin_of_every_python_is_asked_about_and_once():
    asked = [line for chosen in audit.sets(audit.pinned(TEXTS)) for line in chosen]
    wanted = {
        f"{canonicalize_name(requirement.name)}{requirement.specifier}"
        for text in TEXTS
        for requirement, _ in pins.parse(text)
    }
    assert set(asked) == wanted
    assert len(asked) == len(wanted)


def test_no_list_names_a_package_twice():
    texts = ['a==1; python_version < "3.11"\nA==2; python_version >= "3.11"\nb==1\n', "a==3\nb==1\n"]
    assert audit.pinned(texts) == ["a==1", "a==2", "a==3", "b==1"]
    assert audit.sets(audit.pinned(texts)) == [["a==1", "b==1"], ["a==2"], ["a==3"]]


def test_the_audit_is_a_step_of_a_release_and_nothing_that_is_checked_needs_the_network_for_it():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = dict(re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", makefile, re.MULTILINE))
    assert [name for name, recipe in targets.items() if "scripts.audit" in recipe] == ["audit"]
    assert not re.search(r"^[a-z-]+:[^#\n]*\baudit\b", makefile, re.MULTILINE)
    steps = (ROOT / "docs/releasing.md").read_text(encoding="utf-8").partition("## A release")[2]
    assert "`make audit`" in steps
    for name in ("setup.cfg", "constraints.txt", *audit.AUDITED):
        assert "pip-audit" not in (ROOT / name).read_text(encoding="utf-8")


def test_the_image_is_built_on_one_base_that_it_names():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE}"}
    last = dockerfile.rpartition("\nFROM ")[2]
    assert last.index("\nARG BASE\n") < last.index('org.opencontainers.image.base.name="${BASE}"')
    assert "@sha256:" in (ROOT / "docs/releasing.md").read_text(encoding="utf-8")
