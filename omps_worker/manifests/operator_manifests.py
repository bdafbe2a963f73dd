# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the manifests of an unpacked archive: the package name, and the documents.

There are two layouts. Flat: the package file, the ClusterServiceVersions (CSVs) and the CustomResourceDefinitions
(CRDs) are all in the root. Nested: the package file is in the root, and there is one directory per version. Files that
are not YAML, and directories further down, are never read. They are only packed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import FLAT_SHARE, VALUES, limit_advice
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
"""The names that Quay accepts for a repository (its ``REPOSITORY_NAME_REGEX``). Use ``fullmatch``."""

YAML_ENDINGS = (".yaml", ".yml")
"""The endings of the files that operator-courier reads as YAML."""


@dataclass(frozen=True, slots=True)
class OperatorManifests:
    """The manifests of one operator, each YAML file parsed once."""

    package_name: str
    nested: bool
    default_csv_version: str | None
    """``spec.version`` of the current CSV of the default channel, if there is one."""
    documents: Mapping[str, Any] = field(repr=False)
    """The document of each YAML file in the root and in its directories, by relative path."""
    repeated: Sequence[Finding] = ()
    """Keys that occur twice in one mapping. The last one counts."""

    @classmethod
    def read(cls, tree: FileTree, values: int = VALUES) -> OperatorManifests:
        """Read the manifests in ``tree``.

        ``values`` is the most YAML values that the files may have together; a flat tree may have one in ``FLAT_SHARE``
        of that. The package name is the top-level ``packageName`` of the first file in the root, in the order of the
        file names, that has this key. It must be a valid name of a repository.

        Raises PackageValidationError, naming the file, if there is no such name or a file is not readable YAML; trying
        again does not help.
        """
        reader = new_reader(values)
        repeated: list[Finding] = []
        documents = read_documents(reader, tree, repeated)
        _, package = find_package(documents.items())
        nested = any("/" in path and kind_of(document) == CSV for path, document in documents.items())
        if not nested and reader.values > values // FLAT_SHARE:
            raise invalid(
                f"The manifests have {reader.values} values. If all manifests are in one directory, at most "
                f"{values // FLAT_SHARE} values are accepted, a fraction of the limit; {limit_advice('values')}."
            )
        return cls(
            package_name=package["packageName"],
            nested=nested,
            default_csv_version=_default_csv_version(package, documents),
            documents=documents,
            repeated=tuple(repeated),
        )


def kind_of(document: Any) -> str | None:
    """Return the kind that operator-courier sees in a document: ``PACKAGE``, ``CSV``, ``CRD``, or None."""
    if not isinstance(document, dict):
        return None
    if "packageName" in document:
        return PACKAGE
    kind = document.get("kind")
    return kind if isinstance(kind, str) and kind in (CSV, CRD) else None


def read_documents(reader: YamlReader, tree: FileTree, repeated: list[Finding] | None = None) -> dict[str, Any]:
    """Return the documents of all YAML files in the root of ``tree`` and in its directories, by relative path.

    The root comes first, and names are sorted. Keys that occur twice in a mapping are added to ``repeated``. Raises
    PackageValidationError, naming the file, if a file cannot be read.
    """
    documents = {}
    for path in yaml_files(tree.files):
        documents[path] = parse(reader, path, read_text(tree, path))
        if repeated is not None:
            repeated += (Finding(text, path) for text in reader.repeated)
    return documents


def yaml_files(files: Iterable[str]) -> list[str]:
    """Return those of ``files`` (relative paths) that operator-courier reads: the root first, names sorted."""
    seen = [path for path in files if path.endswith(YAML_ENDINGS) and path.count("/") <= 1]
    return sorted(seen, key=lambda path: path.rpartition("/"))


def new_reader(values: int = VALUES) -> YamlReader:
    """Return a reader for the files of one operator, which may have at most ``values`` YAML values together."""
    from omps_worker.manifests.yaml_reader import YamlReader

    return YamlReader(values)


def read_text(tree: FileTree, path: str) -> str:
    """Return the text of a file, including carriage returns and byte order marks.

    Raises PackageValidationError, naming the file, if it is not UTF-8 text.
    """
    try:
        return tree.read(path).decode()
    except UnicodeDecodeError:
        raise unreadable(path, "it is not UTF-8 text") from None


def parse(reader: YamlReader, name: str, text: str) -> Any:
    """Return the document in the text of a file. Raises PackageValidationError, naming the file, if that fails."""
    try:
        return reader.read(with_newlines(text))
    except ValueError as fault:
        raise unreadable(name, str(fault)) from None


def with_newlines(text: str) -> str:
    """Return ``text`` with the line ends that Python gives when it reads a text file, as operator-courier does."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def find_package(documents: Iterable[tuple[str, Any]]) -> tuple[str, Mapping[Any, Any]]:
    """Return the relative path and the document of the package file: the first in the root with a package name.

    ``documents`` is consumed only as far as needed. Raises PackageValidationError if there is no package file, or if
    its name cannot be the name of a repository.
    """
    almost: list[str] = []
    for path, document in documents:
        if "/" in path or kind_of(document) != PACKAGE:
            almost += _why_no_package(path, document)
            continue
        name = document["packageName"]
        if not isinstance(name, str):
            raise invalid(f"packageName in {shown_path(path)} must be text, but is {described(name)}.")
        if not REPOSITORY_NAME.fullmatch(name):
            raise invalid(
                f"packageName in {shown_path(path)} is not a valid repository name: {shown(name)}. A repository name "
                "has up to 255 lower-case letters, digits, dots, dashes and underscores, and begins with a letter or a "
                "digit."
            )
        return path, document
    hint = f" {almost[0]}." if len(almost) == 1 else ""
    raise invalid(f"Could not find packageName in manifests.{hint}")


def _why_no_package(path: str, document: Any) -> Iterator[str]:
    """Yield why a file that looks like the package file is not accepted as such."""
    file, kind = shown_path(path), kind_of(document)
    if "/" in path:
        if kind == PACKAGE:
            yield f"{file} has it, but is in a directory: only files in the root count"
        return
    entries = document if isinstance(document, list) else ()
    if any(kind_of(entry) == PACKAGE for entry in entries):
        yield f"{file} is a list: packageName must be at the top level, without a dash before it"
        return
    for key, value in document.items() if isinstance(document, dict) else ():
        if isinstance(key, str) and re.sub("[-_ ]", "", key).lower() == PACKAGE_NAME.lower():
            yield f"{file} has {shown(key)}, which must be spelt packageName"
            return
        if kind is None and isinstance(value, dict) and PACKAGE_NAME in value:
            yield f"{file} has it below {shown(str(key))} instead of at the top level"
            return
    if kind is None and "package" in path.lower():
        fault = "has none" if isinstance(document, dict) else f"is {described(document)} instead of a mapping with it"
        yield f"{file} {fault}"


def invalid(message: str) -> PackageValidationError:
    """Return a PackageValidationError without a verdict: not operator-courier, but the worker refuses the manifests."""
    return PackageValidationError(message, details={"validation_info": {}})


def unreadable(name: str, reason: str) -> PackageValidationError:
    """Return the error for a file that cannot be read because of ``reason``."""
    # With the slash of OMPS, whose clients may look for it.
    return invalid(f"Failed to process yaml file /{shown_path(name)}: {reason}")


def shown_path(path: str) -> str:
    """Return the name of a file for messages: its path in the build's archive, on one line."""
    return one_line(path)


def described(value: Any) -> str:
    """Return the kind of a value, for a message that another kind is needed."""
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
    """Return the current CSV of the default channel, or of the only channel if no default is named."""
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
    """Return the value below ``keys``, or None if there is none."""
    for key in keys:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document
