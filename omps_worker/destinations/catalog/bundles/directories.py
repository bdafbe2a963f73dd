# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories of a tree of package manifests, each read as the files of a bundle.

Bundles are flat, and opm reads only the first document of a file, so files with several documents are split. What is no
object of Kubernetes, and what lies deeper than one directory, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import FILES, VALUES, limit_advice
from omps_worker.destinations.catalog.bundles.extraction import SafeNames
from omps_worker.destinations.catalog.bundles.render import ENDINGS, is_object
from omps_worker.destinations.catalog.grammars.go_yaml import GoReader
from omps_worker.manifests.file_tree import FileTree
from omps_worker.manifests.findings import Finding
from omps_worker.manifests.operator_manifests import CSV, PACKAGE_NAME

FILE_DOCUMENTS = 1000
"""How many documents a file may have."""


@dataclass(slots=True)
class Directory:
    """A directory with one CSV."""

    path: str
    """From the root of the tree; empty for the root itself."""
    name: str
    """The name of the CSV."""
    csv_path: str
    objects: list[Mapping[Any, Any]] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)
    """The files of the bundle's ``manifests/``, by name."""
    entry: Mapping[str, Any] = field(repr=False)
    """What the CSV leads to, as far as it can be read: a CSV that opm refuses belongs to a channel too."""
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Directories:
    """What stands in the root of a tree and in the directories there."""

    directories: list[Directory] = field(default_factory=list)
    root_documents: dict[str, Any] = field(default_factory=dict)
    """The first document with content of each file in the root, by path."""
    misplaced: dict[str, Any] = field(default_factory=dict)
    """Package files in directories, where they do not count."""
    crowded: set[str] = field(default_factory=set)
    """The names of the CSVs that share a directory, which is a fault."""
    left_out: list[str] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)
    made: int = 0
    """How many files are made of those in the tree: one for each object."""


def too_many_documents(most: int) -> PackageValidationError:
    """Return the error about files that would be split into more than ``most`` files; trying again does not help."""
    return PackageValidationError(f"The files have more than {most} documents together; {limit_advice('files')}.")


def read_directories(tree: FileTree, values: int = VALUES, files: int = FILES) -> Directories:
    """Read all files of ``tree`` that can be part of a bundle.

    They may have so many YAML values together, and so many files may be made of them: PackageValidationError says that
    there would be more. Other faults are noted, not raised. Raises OSError if the disk fails.
    """
    reader = GoReader(values)
    found = Directories()
    by_directory: dict[str, list[str]] = {}
    for path in tree.files:
        directory, _, name = path.rpartition("/")
        if name.startswith(".") or directory.startswith("."):
            continue
        if "/" in directory or not name.endswith(ENDINGS):
            found.left_out.append(path)
        else:
            by_directory.setdefault(directory, []).append(path)
    for directory, paths in sorted(by_directory.items()):
        _read_directory(reader, tree, directory, paths, found, files)
    return found


@dataclass(frozen=True, slots=True)
class _Document:
    path: str
    name: str
    content: bytes
    value: Mapping[Any, Any]


def _read_directory(
    reader: GoReader, tree: FileTree, directory: str, paths: list[str], found: Directories, most: int
) -> None:
    names = SafeNames(path.rpartition("/")[2] for path in paths)
    inside: list[_Document] = []
    left_out: list[str] = []
    for path in paths:
        try:
            values = _values(reader, tree.read(path))
        except ValueError as fault:
            reason = "it is not UTF-8 text" if isinstance(fault, UnicodeDecodeError) else str(fault)
            found.faults.append(Finding(f"Failed to process yaml file: {reason}", path))
            continue
        if not directory and values:
            found.root_documents[path] = next((value for _, value in values if value is not None), None)
        if directory:
            found.misplaced.update((path, value) for _, value in values if _is_package("", value))
        objects = [(text, value) for text, value in values if is_object(value) and not _is_package(directory, value)]
        packages = any(_is_package(directory, value) for _, value in values)
        if not objects and not packages:
            left_out.append(path)
        elif len(objects) < sum(value is not None for _, value in values) and not packages:
            left_out.append(f"{path} (documents without a kind)")
        found.made += len(objects)
        if found.made > most:
            raise too_many_documents(most)
        inside += _split(path, tree.read(path), values, objects, names)
    csvs = [each for each in inside if each.value["kind"] == CSV]
    called = [_name(each.value) for each in csvs]
    found.left_out += left_out
    if len(csvs) == 1:
        objects_ = [each.value for each in inside]
        files = {each.name: each.content for each in inside}
        found.directories.append(
            Directory(directory, called[0], csvs[0].path, objects_, files, _entry(called[0], csvs[0].value))
        )
    elif csvs:
        found.crowded.update(called)
        found.faults.append(
            Finding(
                f"{len(csvs)} CSVs in one directory ({', '.join(called[:10])}): it cannot be told which CRD belongs to "
                "which",
                csvs[0].path,
            )
        )
    else:
        found.left_out += dict.fromkeys(each.path for each in inside)


def _values(reader: GoReader, content: bytes) -> list[tuple[str, Any]]:
    """Return the text and the value of each document. Raises ValueError."""
    return reader.all(content.decode(), FILE_DOCUMENTS)


def _split(
    path: str, content: bytes, values: list[tuple[str, Any]], objects: list[tuple[str, Any]], names: SafeNames
) -> list[_Document]:
    """Return a file for each object, the whole file if opm reads it as this object."""
    name = path.rpartition("/")[2]
    if len(objects) == 1:
        whole = values[0] is objects[0] or values[0][1] is objects[0][1]
        only = sum(value is not None for _, value in values) == 1
        made = content if whole and only else objects[0][0].encode()
        return [_Document(path, names.of_file(name), made, objects[0][1])]
    return [_Document(path, names.of_part(name), text.encode(), value) for text, value in objects]


def _is_package(directory: str, value: Any) -> bool:
    return not directory and isinstance(value, dict) and PACKAGE_NAME in value


def _name(csv: Mapping[Any, Any]) -> str:
    metadata = csv.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _entry(name: str, csv: Mapping[Any, Any]) -> dict[str, Any]:
    spec = csv.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    replaced, skips = spec.get("replaces"), spec.get("skips")
    skipped = [each for each in skips if isinstance(each, str)] if isinstance(skips, list) else []
    return {"name": name, "replaces": replaced if isinstance(replaced, str) else "", "skips": skipped}
