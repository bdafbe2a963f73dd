# SPDX-License-Identifier: GPL-3.0-or-later
"""constraints.txt and the hashed files pin all that setup.cfg asks for, and name no place to get it from."""

from __future__ import annotations

import configparser
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import pins
from tests.support.sources import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PYTHONS = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
FILES = ("constraints.txt", "requirements/runtime.txt", "requirements/build.txt")
EVERYTHING = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
OF_USERS = [SETUP["options"]["install_requires"], SETUP["options.extras_require"]["api"]]
REMEDY = "run `make constraints`"
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def requirements(texts):
    lines = {line for text in texts for line in text.splitlines() if line.strip() and not line.startswith("#")}
    return [Requirement(line) for line in sorted(lines)]


def read(name):
    return pins.parse((ROOT / name).read_text(encoding="utf-8"))


def pinned(name, python):
    return pins.of_python([requirement for requirement, _ in read(name)], python)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("name", "texts"), [("constraints.txt", EVERYTHING), ("requirements/runtime.txt", OF_USERS)])
def test_every_requirement_is_pinned_to_a_version_that_it_allows(name, texts, python):
    versions = pinned(name, python)
    for requirement in requirements(texts):
        if pins.applies(requirement.marker, {"python_version": python}):
            assert canonicalize_name(requirement.name) in versions, f"{requirement}: {REMEDY}"
            version = versions[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {REMEDY}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", FILES[1:])
def test_the_image_is_made_of_the_versions_that_were_tested(name, python):
    assert pinned(name, python).items() <= pinned("constraints.txt", python).items(), REMEDY


@pytest.mark.parametrize("name", FILES[1:])
def test_everything_in_the_image_has_its_hashes(name):
    assert [str(requirement) for requirement, hashes in read(name) if not hashes] == []


@pytest.mark.parametrize("name", FILES)
def test_where_packages_come_from_is_the_business_of_who_installs(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert all(requirement.url is None for requirement, _ in read(name))
    assert re.search(r"://|--(?!hash=)|\bfile:|@", text) is None


def test_a_package_that_is_the_same_everywhere_has_one_line_without_a_marker():
    assert pins.lines({"3.10": {"pika": "1.4"}, "3.11": {"pika": "1.4"}}) == ["pika==1.4"]
    assert pins.lines({"3.10": {"tomli": "2.0"}, "3.11": {}}) == ["tomli==2.0"]


def test_where_pythons_differ_the_oldest_and_the_newest_speak_for_those_beyond_them():
    versions = {"3.10": "1", "3.11": "2", "3.12": "2", "3.13": "3"}
    lines = pins.lines({python: {"pika": version} for python, version in versions.items()})
    assert lines == [
        'pika==1; python_version < "3.11"',
        'pika==2; python_version >= "3.11" and python_version < "3.13"',
        'pika==3; python_version >= "3.13"',
    ]
    read_again = [requirement for requirement, _ in pins.parse("\n".join(lines))]
    for python, version in {**versions, "3.9": "1", "3.14": "3"}.items():
        assert pins.of_python(read_again, python) == {"pika": version}


def test_what_is_installed_by_hash_is_installed_only_where_it_is_needed():
    lines = pins.lines({"3.10": {"tomli": "2.0"}, "3.11": {}}, {("tomli", "2.0"): [B, A]})
    assert lines == [f'tomli==2.0; python_version < "3.11" \\\n    --hash={A} \\\n    --hash={B}']
    ((requirement, hashes),) = pins.parse("# about\n" + lines[0] + "\n")
    assert (requirement.name, hashes) == ("tomli", (A, B))


@pytest.mark.parametrize("line", ["--index-url x", "-e .", "pika==1 --hash=md5:00", "pika==1 --global-option=x"])
def test_a_line_that_is_no_pin_is_noticed(line):
    with pytest.raises(ValueError):
        pins.parse(line)


@pytest.mark.parametrize("lines", [["pika>=1"], ["pika==1.*"], ["pika"], ["pika==1", "Pika==2"]])
def test_a_version_that_is_left_open_is_noticed(lines):
    with pytest.raises(ValueError):
        pins.of_python([Requirement(line) for line in lines], "3.11")


def test_what_is_needed_follows_extras_and_markers():
    def item(name, *requires):
        return {"metadata": {"name": name, "version": "1", "requires_dist": list(requires)}}

    report = {
        "environment": {"python_version": "3.11"},
        "install": [
            item("Root", "A_a[fast]", 'old; python_version < "3"', 'web; extra == "api"', 'test; extra == "test"'),
            item("a-a", 'speed; extra == "fast"', 'colour; extra == "pretty"', "root"),
            item("speed"), item("web"), item("test"), item("colour"), item("old"),
        ],
    }  # fmt: skip
    assert pins.closure(report, "root", ["api"]) == {"a-a", "speed", "web"}
