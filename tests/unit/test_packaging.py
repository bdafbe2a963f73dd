# SPDX-License-Identifier: GPL-3.0-or-later
"""What the package says about itself, held against what it is."""

from __future__ import annotations

import ast
import configparser
import importlib
import re
import sys
from importlib import metadata

import pytest
from fedora_messaging import message
from packaging.requirements import Requirement

import omps_worker
from tests.support.sources import ROOT, foreign_imports_of, modules, tree

NEEDED_WITHOUT_IMPORT = {
    "operator-courier": "courier.py loads its modules by name",
    "setuptools": "operator-courier imports distutils",
    "tomli": "Python 3.10 alone has it installed",
}
PARTS_OF_OTHERS = {"pydantic_core": "pydantic", "typing_extensions": "pydantic"}
"""Documented parts of libraries, which bring them in the one version that fits."""


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _requirements(setup) -> list[Requirement]:
    """What is installed for the worker, and for the REST API besides."""
    texts = (setup["options"]["install_requires"], setup["options.extras_require"]["api"])
    return [Requirement(line) for text in texts for line in _lines(text)]


def _imported_libraries() -> set[str]:
    imported = {name.split(".")[0] for module in modules() for name in foreign_imports_of(module)}
    return {PARTS_OF_OTHERS.get(name, name) for name in imported - set(sys.stdlib_module_names) - {"tomllib"}}


def _libraries_of(requirement: Requirement) -> set[str]:
    """What may be imported once the requirement is installed."""
    try:
        files = metadata.distribution(requirement.name).files or []
    except metadata.PackageNotFoundError:
        return {requirement.name}
    return {file.parts[0].removesuffix(".py") for file in files}


def test_every_library_that_the_package_imports_is_required_by_name(setup):
    required = {library for requirement in _requirements(setup) for library in _libraries_of(requirement)}

    assert _imported_libraries() - required == set()


def test_every_requirement_is_used(setup):
    unused = {
        requirement.name
        for requirement in _requirements(setup)
        if not _libraries_of(requirement) & _imported_libraries()
    }

    assert unused <= set(NEEDED_WITHOUT_IMPORT)


def test_every_requirement_has_a_lower_bound_and_its_reason(setup):
    for requirement in _requirements(setup):
        assert any(specifier.operator == ">=" for specifier in requirement.specifier), requirement
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    blocks = (
        ("install_requires =", "[options.packages.find]", setup["options"]["install_requires"]),
        ("api =", "test =", setup["options.extras_require"]["api"]),
    )
    for begin, end, requirements in blocks:
        block = text[text.index(f"\n{begin}\n") : text.index(f"\n{end}\n")].splitlines()[2:]
        before = dict(zip([line.strip() for line in block[1:]], [line.strip() for line in block[:-1]], strict=True))
        for requirement in _lines(requirements):
            assert before[requirement].startswith("#"), requirement


def test_who_runs_the_tests_has_the_rest_api(setup):
    extras = setup["options.extras_require"]

    assert set(_lines(extras["api"])) <= set(_lines(extras["test"]))


def test_the_python_versions_that_are_promised_are_one_list(setup):
    oldest = Requirement(f"python{setup['options']['python_requires']}").specifier
    named = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])

    assert named == sorted(named, key=lambda version: int(version[2:]))
    assert all(version in oldest for version in named)
    assert "3.9" not in oldest
    ruff = (ROOT / "ruff.toml").read_text(encoding="utf-8")
    assert f'target-version = "py{named[0].replace(".", "")}"' in ruff


def test_the_version_is_said_in_one_place(setup):
    assert setup["metadata"]["version"] == "attr: omps_worker.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", omps_worker.__version__)


def test_the_command_exists(setup):
    name, _, where = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = where.partition(":")

    assert name == "omps-worker"
    assert callable(getattr(importlib.import_module(module), function))


def test_every_result_class_is_registered_under_its_own_name(setup):
    entries = dict(line.split(" = ") for line in _lines(setup["options.entry_points"]["fedora.messages"]))
    results = importlib.import_module("omps_worker.results")
    defined = [node.name for node in tree(modules()["results"]).body if isinstance(node, ast.ClassDef)]
    versioned = {name for name in defined if re.fullmatch(r"Release(?!Result)\w+V\d+", name)}

    assert entries == {f"omps.{name}": f"omps_worker.results:{name}" for name in versioned}
    assert all(issubclass(getattr(results, name), message.Message) for name in versioned)


def test_fedora_messaging_finds_the_result_classes(setup):
    for line in _lines(setup["options.entry_points"]["fedora.messages"]):
        name = line.split(" = ")[0]

        assert message.get_name(message.get_class(name)) == name


def test_the_licence_is_the_one_that_every_file_names(setup):
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert setup["metadata"]["license"] == "GPL-3.0-or-later"
    assert "GNU GENERAL PUBLIC LICENSE" in licence
    assert "Version 3, 29 June 2007" in licence


def test_the_changelog_has_a_section_for_this_version_or_for_the_next():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    released = [section.partition(" - ")[0] for section in sections if section != "Unreleased"]

    assert "Unreleased" in sections[:1] or omps_worker.__version__ in released
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", section) for section in sections if section != "Unreleased"
    )
    assert released == sorted(released, key=lambda version: [int(part) for part in version.split(".")], reverse=True)


def test_the_changelog_has_the_form_that_it_names():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)

    assert text.startswith("# Changelog\n")
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert all(line.startswith(("- ", "  ", "#")) for line in text[text.index("\n## ") :].splitlines() if line)


def test_the_page_tells_the_limit_of_the_image_that_is_checked():
    (limit,) = re.findall(r"^limit_megabytes=(\d+)", (ROOT / "scripts/check-image").read_text(), re.MULTILINE)
    ((measured, told),) = re.findall(r"adds (\d+) MB to its base \((\d+) at most", (ROOT / "README.md").read_text())
    assert told == limit
    assert int(measured) <= int(limit)
