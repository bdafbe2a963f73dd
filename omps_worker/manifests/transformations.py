# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply an organization's changes to manifests, before they are verified and packed.

There are three kinds of changes. They are made in this order, which is OMPS's:

1. append a suffix to ``packageName`` in the package file, unless the name already ends with it;
2. replace registries in the text of every YAML file, at any depth;
3. set annotations on every ClusterServiceVersion (CSV) that operator-courier reads.

The texts are edited, not dumped again, so comments, order, quotes, line ends and every byte outside of the change are
kept. OMPS dumped CSVs again, which turned quoted ``"yes"`` and ``"12:30:45"`` into booleans and numbers. After 1 and
3, the file is read again and compared with the expected document. If other values would change too, for example
because anchors and aliases share the annotations with another place, the file is refused.

A file that needs no change is not written. It is not even parsed if its text shows that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omps_worker.common.errors import PackageValidationError, RegistryReplacementError, WorkerError
from omps_worker.common.limits import VALUES
from omps_worker.common.text import one_line
from omps_worker.manifests import regexp_process, replacements, yaml_edit
from omps_worker.manifests.file_tree import FilesOnDisk
from omps_worker.manifests.operator_manifests import (
    CSV,
    described,
    find_package,
    invalid,
    kind_of,
    new_reader,
    parse,
    read_text,
    shown_path,
    unreadable,
    with_newlines,
    yaml_files,
)
from omps_worker.manifests.replacements import CannotReplace, TextReplacer
from omps_worker.manifests.yaml_reader import YamlFault, YamlReader

GROWTH = 10 * 2**20
"""The most characters that replacements may add to all files of one operator together, counting each step."""

REPLACED = 100_000
"""The most places that replacements may change in all files of one operator. Large ones name a few hundred images."""

_ANNOTATIONS = ("metadata", "annotations")
_SPELLED_OUT = re.compile(r"\\[xuU\r\n\x85\u2028\u2029]")
"""An escape sequence, with which a YAML text may contain a word that a text search does not find."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A rule that replaces ``old`` with ``new`` everywhere in a file.

    With ``regexp``, ``old`` is a regular expression of Python's ``re``, matched with ``MULTILINE``, and ``new`` may
    refer to its groups. ``key`` is the configuration key of the rule.
    """

    old: str
    new: str
    regexp: bool = False
    key: str = ""

    @property
    def shown(self) -> str:
        """The name of the rule in error messages."""
        return f"the rule '{one_line(self.old)[:200]}'" + (f" ({self.key})" if self.key else "")


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation that every CSV gets. ``{package_name}`` in ``value`` stands for the name of the released package.

    Other braces in ``value`` are doubled, as for ``str.format``.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Transformations:
    """All changes of one organization; false if there are none.

    The configuration has already checked the values: expressions compile, and templates have no other names.
    """

    package_name_suffix: str = ""
    replacements: tuple[Replacement, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.package_name_suffix or self.replacements or self.annotations)


def apply(tree: FilesOnDisk, transformations: Transformations, max_values: int = VALUES) -> None:
    """Change the manifests in ``tree`` in place.

    ``{package_name}`` is the name under which the package is released, after the suffix and the replacements. Applying
    the same changes again changes nothing, unless a replacement matches its own result. ``max_values`` is the most
    YAML values that all files may have together.

    Raises PackageValidationError, naming the file, if a file that must be read is not UTF-8 text or not readable YAML,
    if the package name is needed but missing, if the annotations of a CSV are not a mapping, or if a value cannot be
    changed without changing others; also if replacements would change more than ``REPLACED`` places or add more than
    ``GROWTH`` characters. Raises RegistryReplacementError, naming rule and file, if regular expressions take more time
    or memory than ``regexp_process`` allows. With both, trying again does not help, and the tree must not be used,
    because some of its files may already be changed.

    Raises OSError if the disk fails, and StorageError or ResourcesExhausted if the machine cannot run the expressions
    at the moment; trying again may help.
    """
    suffix, annotations = transformations.package_name_suffix, transformations.annotations
    package_name = None
    uses_package_name = any("{package_name}" in annotation.value for annotation in annotations)
    if suffix or uses_package_name:
        package_name = _append_to_package_name(tree, suffix, max_values)
    if transformations.replacements:
        _replace(tree.directory, transformations.replacements)
        if uses_package_name:
            # OMPS refused a push whose rules had changed the name, because it used the old one.
            package_name = _package(tree, max_values)[1]["packageName"]
    if annotations:
        _annotate(tree, {each.name: each.value.format(package_name=package_name) for each in annotations}, max_values)


def _append_to_package_name(tree: FilesOnDisk, suffix: str, max_values: int) -> str:
    """Make the package name end with ``suffix``, and return the name."""
    path, document = _package(tree, max_values)
    package_name: str = document["packageName"]
    if package_name.endswith(suffix):
        return package_name
    changed = {"packageName": package_name + suffix}
    file = _File(tree, path, read_text(tree, path))
    file.edit(
        "packageName",
        new_reader(max_values),
        {**document, **changed},
        lambda text: yaml_edit.with_suffix(text, "packageName", suffix),
        # Without quotes, a name can become a number or a boolean, such as "no" from "n" and the suffix "o".
        lambda text: yaml_edit.with_texts(text, (), changed),
    )
    return changed["packageName"]


def _package(tree: FilesOnDisk, max_values: int) -> tuple[str, Mapping[Any, Any]]:
    """Return the path and the document of the package file, in its current state."""
    try:
        return find_package(_documents(tree, "packageName", max_values))
    except PackageValidationError:
        # If a file cannot be read, report that file rather than a missing name.
        return find_package(_documents(tree, "", max_values))


def _documents(tree: FilesOnDisk, word: str, max_values: int) -> Iterator[tuple[str, Any]]:
    """Yield path and document of those files in the root that may have ``word`` as a key or a value."""
    reader = new_reader(max_values)
    for path in yaml_files(path for path in tree.files if "/" not in path):
        text = read_text(tree, path)
        if _may_have(text, word):
            yield path, parse(reader, path, text)


def _may_have(text: str, word: str) -> bool:
    return word in text or bool(_SPELLED_OUT.search(text))


def _annotate(tree: FilesOnDisk, values: Mapping[str, str], max_values: int) -> None:
    """Set the annotations ``values`` on every CSV."""
    before, after = new_reader(max_values), new_reader(max_values)
    for path in yaml_files(tree.files):
        text = read_text(tree, path)
        document = parse(before, path, text) if _may_have(text, CSV) else None
        if not isinstance(document, dict) or kind_of(document) != CSV:
            continue
        metadata = _mapping_in(document, "metadata", "metadata", path)
        annotations = _mapping_in(metadata, "annotations", "metadata.annotations", path)
        changed = {key: value for key, value in values.items() if annotations.get(key) != value}
        if changed:
            expected = {**document, "metadata": {**metadata, "annotations": {**annotations, **changed}}}
            _File(tree, path, text).edit(
                "metadata.annotations",
                after,
                expected,
                partial(yaml_edit.with_texts, path=_ANNOTATIONS, values=changed),
            )


def _mapping_in(mapping: Mapping[Any, Any], key: str, full_key: str, path: str) -> Mapping[Any, Any]:
    """Return the mapping below ``key``, or an empty one if there is none."""
    value = mapping.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"{full_key} in {shown_path(path)} must be a mapping, but is {described(value)}.")
    return value


def _replace(directory: Path, wanted: tuple[Replacement, ...]) -> None:
    """Make the replacements in all YAML files, including those that operator-courier does not read."""
    rules = [(each.old, each.new, each.regexp) for each in wanted]
    try:
        if any(each.regexp for each in wanted):
            regexp_process.replace_in(directory, rules, REPLACED, GROWTH)
        else:
            TextReplacer(rules, REPLACED, GROWTH).replace_in(directory)
    except CannotReplace as fault:
        raise _replacement_error(fault, wanted[fault.rule]) from None


def _replacement_error(fault: CannotReplace, rule: Replacement) -> WorkerError:
    if fault.kind == replacements.NOT_TEXT:
        return unreadable(fault.file, "it is not UTF-8 text")
    if fault.kind == replacements.NOT_UTF8:
        return invalid(f"{shown_path(fault.file)} cannot be changed: the result would not be UTF-8 text.")
    if fault.kind == replacements.PLACES:
        return invalid(f"Replacing registries would change more than {REPLACED} places in the manifests.")
    if fault.kind == replacements.CHARACTERS:
        return invalid(f"Replacing registries would make the manifests more than {GROWTH} characters longer.")
    limit = f"{regexp_process.SECONDS:g} seconds of processor time"
    if fault.kind == replacements.MEMORY:
        limit = f"{regexp_process.MEMORY // 2**20} MiB of memory"
    place = f", in {shown_path(fault.file)} with {rule.shown}" if fault.file else ""
    return RegistryReplacementError(
        f"Replacing registries takes more than {limit}{place}. Write the regular expression so that there is only one "
        "way to match a text: do not use a repetition inside a repetition that can match the same characters."
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file and its text."""

    tree: FilesOnDisk
    path: str
    text: str

    def edit(self, key: str, reader: YamlReader, expected: Any, *edits: Callable[[str], str]) -> None:
        """Write the result of the first of ``edits`` that ``reader`` reads as the ``expected`` document.

        Raises PackageValidationError if there is none. ``key`` names the edited value in the message.
        """
        reason = "other values would change too, because of how it is written: with anchors, aliases or merge keys"
        for edit in edits:
            try:
                edited = edit(self.text)
                if yaml_edit.equal(reader.read(with_newlines(edited)), expected):
                    self.write(edited)
                    return
            except yaml_edit.CannotEdit as fault:
                reason = str(fault)
            except YamlFault:
                continue
        raise invalid(f"{key} in {shown_path(self.path)} cannot be changed: {reason}.")

    def write(self, text: str) -> None:
        """Replace the file's text."""
        try:
            self.tree.write(self.path, text.encode())
        except UnicodeEncodeError:
            raise invalid(f"{shown_path(self.path)} cannot be changed: the result would not be UTF-8 text.") from None
