# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of manifests that came out of an archive: what it calls itself, and its documents.

Two shapes exist. Flat: the package file, the ClusterServiceVersions (CSVs) and the
CustomResourceDefinitions (CRDs) all in the root. Nested: the package file in the root and one
directory per version. Files that are no YAML, and directories further down, are never looked
into; they are only carried along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import FLAT_SHARE, VALUES, whose
from omps_worker.common.text import one_line
from omps_worker.manifests.archive import shown
from omps_worker.manifests.findings import Finding

if TYPE_CHECKING:
    from omps_worker.manifests.file_tree import FileTree
    from omps_worker.manifests.yaml_reader import YamlReader

PACKAGE = "Package"
PACKAGE_NAME = "packageName"
CSV = "ClusterServiceVersion"
CRD = "CustomResourceDefinition"

REPOSITORY_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,254}")
"""What Quay takes for the name of a repository (its ``REPOSITORY_NAME_REGEX``); match it whole."""

YAML_ENDINGS = (".yaml", ".yml")
"""What operator-courier takes for YAML."""


@dataclass(frozen=True, slots=True)
class OperatorManifests:
    """The manifests of one operator, each YAML file parsed once."""

    package_name: str
    nested: bool
    default_csv_version: str | None
    """``spec.version`` of the CSV that is current in the default channel, if there is one."""
    documents: Mapping[str, Any] = field(repr=False)
    """The document of each YAML file in the root and in the directories there, by relative path."""
    repeated: Sequence[Finding] = ()
    """Keys that stand twice in one mapping, of which the last one counts."""

    @classmethod
    def read(cls, tree: FileTree, values: int = VALUES) -> OperatorManifests:
        """Read ``tree``, whose files may have so many YAML values, or a part of that if it is flat.

        The package name is that of the first file in the root, by name, that has the top-level
        key ``packageName``; it must be a valid name of a repository.

        Raises PackageValidationError, naming the file, if there is no such name or a file is not
        readable YAML; trying again does not help.
        """
        reader = new_reader(values)
        repeated: list[Finding] = []
        documents = read_documents(reader, tree, repeated)
        _, package = find_package(documents.items())
        nested = any("/" in path and kind_of(document) == CSV for path, document in documents.items())
        if not nested and reader.values > values // FLAT_SHARE:
            raise invalid(
                f"The manifests have {reader.values} values, and {values // FLAT_SHARE} are taken where all of them "
                f"stand in one directory, a part of what is taken otherwise; {whose('values')}."
            )
        return cls(
            package_name=package["packageName"],
            nested=nested,
            default_csv_version=_default_csv_version(package, documents),
            documents=documents,
            repeated=tuple(repeated),
        )


def kind_of(document: Any) -> str | None:
    """What operator-courier takes a document for: ``PACKAGE``, ``CSV``, ``CRD``, or None."""
    if not isinstance(document, dict):
        return None
    if "packageName" in document:
        return PACKAGE
    kind = document.get("kind")
    return kind if isinstance(kind, str) and kind in (CSV, CRD) else None


def read_documents(reader: YamlReader, tree: FileTree, repeated: list[Finding] | None = None) -> dict[str, Any]:
    """The documents of all YAML files in the root of ``tree`` and the directories there, by relative path.

    Ordered: the root first, names sorted. What stands twice in a mapping is added to ``repeated``. Raises
    PackageValidationError, naming the file, for one that cannot be read.
    """
    documents = {}
    for path in yaml_files(tree.files):
        documents[path] = parse(reader, path, read_text(tree, path))
        if repeated is not None:
            repeated += (Finding(text, path) for text in reader.repeated)
    return documents


def yaml_files(files: Iterable[str]) -> list[str]:
    """Those of ``files``, relative paths, that operator-courier sees: the root first, names sorted."""
    seen = [path for path in files if path.endswith(YAML_ENDINGS) and path.count("/") <= 1]
    return sorted(seen, key=lambda path: path.rpartition("/"))


def new_reader(values: int = VALUES) -> YamlReader:
    """A reader for the files of one operator, which may have so many YAML values together."""
    from omps_worker.manifests.yaml_reader import YamlReader

    return YamlReader(values)


def read_text(tree: FileTree, path: str) -> str:
    """The text in a file, every carriage return and byte order mark kept.

    Raises PackageValidationError, naming the file, if it is not UTF-8 text.
    """
    try:
        return tree.read(path).decode()
    except UnicodeDecodeError:
        raise unreadable(path, "it is not UTF-8 text") from None


def parse(reader: YamlReader, name: str, text: str) -> Any:
    """The document in the text of a file. Raises PackageValidationError, naming the file, if that is not readable."""
    try:
        return reader.read(with_newlines(text))
    except ValueError as fault:
        raise unreadable(name, str(fault)) from None


def with_newlines(text: str) -> str:
    """``text`` as reading a text file gives it: operator-courier does, so it never sees a carriage return."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def find_package(documents: Iterable[tuple[str, Any]]) -> tuple[str, Mapping[Any, Any]]:
    """The relative path and the document of the package file, the first one in the root that has a package name.

    No more of ``documents`` are taken than it needs. Raises PackageValidationError if there is none
    or its name cannot be that of a repository.
    """
    almost: list[str] = []
    for path, document in documents:
        if "/" in path or kind_of(document) != PACKAGE:
            almost += _why_no_package(path, document)
            continue
        name = document["packageName"]
        if not isinstance(name, str):
            raise invalid(f"packageName in {shown_path(path)} is no text, but {described(name)}.")
        if not REPOSITORY_NAME.fullmatch(name):
            raise invalid(
                f"packageName in {shown_path(path)} cannot be the name of a repository: {shown(name)}. Such names are "
                "up to 255 lower-case letters, digits, dots, dashes and underscores, a letter or digit first."
            )
        return path, document
    hint = f" {almost[0]}." if len(almost) == 1 else ""
    raise invalid(f"Could not find packageName in manifests.{hint}")


def _why_no_package(path: str, document: Any) -> Iterator[str]:
    """Why a file that seems to be meant for the package file is none."""
    file, kind = shown_path(path), kind_of(document)
    if "/" in path:
        if kind == PACKAGE:
            yield f"{file} has it, but stands in a directory: only files beside all directories count"
        return
    entries = document if isinstance(document, list) else ()
    if any(kind_of(entry) == PACKAGE for entry in entries):
        yield f"{file} is a list: packageName has to stand at the top, without a dash before it"
        return
    for key, value in document.items() if isinstance(document, dict) else ():
        if isinstance(key, str) and re.sub("[-_ ]", "", key).lower() == PACKAGE_NAME.lower():
            yield f"{file} has {shown(key)}, which has to be spelt packageName"
            return
        if kind is None and isinstance(value, dict) and PACKAGE_NAME in value:
            yield f"{file} has it below {shown(str(key))} instead of at the top"
            return
    if kind is None and "package" in path.lower():
        what = "has none" if isinstance(document, dict) else f"is {described(document)} instead of a mapping with it"
        yield f"{file} {what}"


def invalid(message: str) -> PackageValidationError:
    """A PackageValidationError that is not operator-courier's: it has no verdict."""
    return PackageValidationError(message, details={"validation_info": {}})


def unreadable(name: str, reason: str) -> PackageValidationError:
    """The error of a file that cannot be read, for ``reason``."""
    return invalid(f"Failed to process yaml file {shown_path(name)}: {reason}")


def shown_path(path: str) -> str:
    """How messages name a file: from the root of the tree, on one line."""
    return one_line(f"/{path}")


def described(value: Any) -> str:
    """What kind of value this is, for a message that wants another kind."""
    kinds = {dict: "a mapping", list: "a list", str: "text", type(None): "empty", bool: "a boolean"}
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
