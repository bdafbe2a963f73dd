# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of manifests that came out of an archive: what it calls itself, and its documents.

Two shapes exist. Flat: the package file, the ClusterServiceVersions (CSVs) and the
CustomResourceDefinitions (CRDs) all in the root. Nested: the package file in the root and one
directory per version. Files that are no YAML, and directories further down, are never looked
into; they are only carried along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omps_worker.archive import shown
from omps_worker.errors import PackageValidationError
from omps_worker.text import one_line

if TYPE_CHECKING:
    from omps_worker.manifest_yaml import Reader

PACKAGE = "Package"
CSV = "ClusterServiceVersion"
CRD = "CustomResourceDefinition"

REPOSITORY_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,254}")
"""What Quay takes for the name of a repository (its ``REPOSITORY_NAME_REGEX``); match it whole."""

_YAML_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Manifests:
    """The manifests of one operator, each YAML file parsed once."""

    package_name: str
    nested: bool
    default_csv_version: str | None
    """``spec.version`` of the CSV that is current in the default channel, if there is one."""
    documents: Mapping[str, Any] = field(repr=False)
    """The document of each YAML file in the root and in the directories there, by relative path."""

    @classmethod
    def read(cls, directory: Path) -> Manifests:
        """Read the tree in ``directory``.

        The package name is that of the first file in the root, by name, that has the top-level
        key ``packageName``; it must be a valid name of a repository.

        Raises PackageValidationError, naming the file, if there is no such name or a file is not
        readable YAML; trying again does not help.
        """
        documents = read_documents(directory)
        package_name, package = _package(documents)
        return cls(
            package_name=package_name,
            nested=any("/" in path and kind_of(document) == CSV for path, document in documents.items()),
            default_csv_version=_default_csv_version(package, documents),
            documents=documents,
        )


def kind_of(document: Any) -> str | None:
    """What operator-courier takes a document for: ``PACKAGE``, ``CSV``, ``CRD``, or None."""
    if not isinstance(document, dict):
        return None
    if "packageName" in document:
        return PACKAGE
    kind = document.get("kind")
    return kind if isinstance(kind, str) and kind in (CSV, CRD) else None


def read_documents(directory: Path) -> dict[str, Any]:
    """The documents of all YAML files in ``directory`` and the directories in it, by relative path.

    Ordered: the root first, names sorted. Raises PackageValidationError, naming the file, for
    one that cannot be read.
    """
    reader = _reader()
    documents = _read_files(directory, "", reader)
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            documents.update(_read_files(path, f"{path.name}/", reader))
    return documents


def invalid(message: str) -> PackageValidationError:
    """A PackageValidationError that is not operator-courier's: it has no verdict."""
    return PackageValidationError(message, details={"validation_info": {}})


def _reader() -> Reader:
    from omps_worker.manifest_yaml import Reader  # imports PyYAML: only those who read manifests wait for it

    return Reader()


def _read_files(directory: Path, prefix: str, reader: Reader) -> dict[str, Any]:
    documents = {}
    for path in sorted(directory.iterdir()):
        if path.name.endswith(_YAML_ENDINGS) and path.is_file():
            documents[prefix + path.name] = _read_file(path, prefix + path.name, reader)
    return documents


def _read_file(path: Path, name: str, reader: Reader) -> Any:
    try:
        # As text files are read: operator-courier does, so it never sees a carriage return.
        text = path.read_bytes().decode().replace("\r\n", "\n").replace("\r", "\n")
        return reader.read(text)
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except ValueError as fault:
        reason = str(fault)
    raise invalid(f"Failed to process yaml file {_name(name)}: {reason}")


def _name(path: str) -> str:
    """How messages name a file: from the root of the tree, on one line."""
    return one_line(f"/{path}")


def _package(documents: Mapping[str, Any]) -> tuple[str, Mapping[Any, Any]]:
    """The package name, and the document that has it."""
    for path, document in documents.items():
        if "/" in path or kind_of(document) != PACKAGE:
            continue
        name = document["packageName"]
        if not isinstance(name, str):
            raise invalid(f"packageName in {_name(path)} is no text, but {_kind(name)}.")
        if not REPOSITORY_NAME.fullmatch(name):
            raise invalid(
                f"packageName in {_name(path)} cannot be the name of a repository: {shown(name)}. Such names are up to "
                "255 lower-case letters, digits, dots, dashes and underscores, a letter or digit first."
            )
        return name, document
    raise invalid("Could not find packageName in manifests.")


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", type(None): "empty", bool: "a boolean"}
    return kinds.get(type(value), "a number or a date")


def _default_csv_version(package: Mapping[Any, Any], documents: Mapping[str, Any]) -> str | None:
    current = _current_csv(package)
    if current is None:
        return None
    for document in documents.values():
        if kind_of(document) == CSV and _get(document, "metadata", "name") == current:
            version = _get(document, "spec", "version")
            if isinstance(version, (str, int, float)) and not isinstance(version, bool):
                return str(version)
    return None


def _current_csv(package: Mapping[Any, Any]) -> str | None:
    """The current CSV of the default channel: the one that is named so, or the only one."""
    channels = package.get("channels")
    if not isinstance(channels, list):
        return None
    default = package.get("defaultChannel")
    if default in (None, "") and len(channels) == 1:
        current = _get(channels[0], "currentCSV")
    else:
        named = (channel for channel in channels if default and _get(channel, "name") == default)
        current = _get(next(named, None), "currentCSV")
    return current if isinstance(current, str) else None


def _get(document: Any, *keys: str) -> Any:
    """What stands under ``keys``; None where the way there ends."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document
