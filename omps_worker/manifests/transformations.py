# SPDX-License-Identifier: GPL-3.0-or-later
"""What an organization wants changed in manifests before they are verified and packed.

Three kinds of changes, in this order, which is OMPS's:

1. a suffix is appended to ``packageName`` in the package file, unless the name ends with it;
2. registries are replaced in the text of every YAML file, at any depth;
3. annotations are set on every ClusterServiceVersion (CSV) that operator-courier would see.

The texts are edited, not dumped again: comments, order, quotes, line ends and every byte outside of
the change stay. OMPS dumped CSVs again, which made booleans and numbers of quoted ``"yes"`` and
``"12:30:45"``. After 1 and 3 the file is read again and compared with what was meant; a file where
more would change, as when anchors and aliases share the annotations with another place, is refused.

A file that needs no change is not written, and not parsed where a look at its text is enough.
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
"""How many characters replacements may add to all files of one operator together, each step counted."""

REPLACED = 100_000
"""How many places replacements may change in all files of one operator. Big ones name some hundred images."""

_ANNOTATIONS = ("metadata", "annotations")
_SPELLED_OUT = re.compile(r"\\[xuU\r\n\x85\u2028\u2029]")
"""An escape that lets a text have a word which cannot be found in it."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Put ``new`` wherever ``old`` stands in a file.

    With ``regexp``, ``old`` is a regular expression of Python's ``re``, matched with ``MULTILINE``,
    and ``new`` may refer to its groups. ``key`` is where the configuration has it.
    """

    old: str
    new: str
    regexp: bool = False
    key: str = ""

    @property
    def shown(self) -> str:
        """How errors name it."""
        return f"the rule '{one_line(self.old)[:200]}'" + (f" ({self.key})" if self.key else "")


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation of every CSV; ``{package_name}`` in ``value`` is the name of the package as it is released.

    Other braces are doubled in ``value``, as for ``str.format``.
    """

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Transformations:
    """All that one organization wants changed; false if that is nothing.

    The values are those that a configuration was found to be good with: expressions compile,
    templates have no other names.
    """

    package_name_suffix: str = ""
    replacements: tuple[Replacement, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.package_name_suffix or self.replacements or self.annotations)


def apply(tree: FilesOnDisk, transformations: Transformations, most: int = VALUES) -> None:
    """Change the manifests in ``tree`` in place.

    ``{package_name}`` is the name under which the package is released: with the suffix, and with what the
    replacements make of it. Doing all
    this again changes nothing more, but for what replacements find in their own results. ``most``: how many
    YAML values all files together may have.

    Raises PackageValidationError, naming the file, if a file that has to be looked into is not UTF-8
    text or not readable YAML, if the package name is needed and there is none, if the annotations of
    a CSV are no mapping, or if a value cannot be changed alone; and if replacements would change more
    than ``REPLACED`` places or add more than ``GROWTH`` characters. Raises RegistryReplacementError, naming
    rule and file, if regular expressions take more time or memory than ``regexp_process`` gives them. Trying
    again does not help. The tree is good for nothing then: some of its files may be changed already. Raises
    OSError if the disk fails, and StorageError or ResourcesExhausted if the machine cannot run the expressions for now.
    """
    suffix, annotations = transformations.package_name_suffix, transformations.annotations
    package_name = None
    named = any("{package_name}" in annotation.value for annotation in annotations)
    if suffix or named:
        package_name = _append_to_package_name(tree, suffix, most)
    if transformations.replacements:
        _replace(tree.directory, transformations.replacements)
        if named:
            # OMPS refused a push whose rules had changed the name: it had asked for the old one.
            package_name = _package(tree, most)[1]["packageName"]
    if annotations:
        _annotate(tree, {each.name: each.value.format(package_name=package_name) for each in annotations}, most)


def _append_to_package_name(tree: FilesOnDisk, suffix: str, most: int) -> str:
    """Make the package name end with ``suffix``; returns it."""
    path, document = _package(tree, most)
    package_name: str = document["packageName"]
    if package_name.endswith(suffix):
        return package_name
    changed = {"packageName": package_name + suffix}
    file = _File(tree, path, read_text(tree, path))
    file.edit(
        "packageName",
        new_reader(most),
        {**document, **changed},
        lambda text: yaml_edit.with_suffix(text, "packageName", suffix),
        # Without quotes a name can turn into a number or a boolean: "n" and "o" make one.
        lambda text: yaml_edit.with_texts(text, (), changed),
    )
    return changed["packageName"]


def _package(tree: FilesOnDisk, most: int) -> tuple[str, Mapping[Any, Any]]:
    """The package file, as it is now."""
    try:
        return find_package(_documents(tree, "packageName", most))
    except PackageValidationError:
        # A file that cannot be read is to be named rather than a name that is missing.
        return find_package(_documents(tree, "", most))


def _documents(tree: FilesOnDisk, word: str, most: int) -> Iterator[tuple[str, Any]]:
    """The documents, by path, of those files in the root that may have ``word`` as a key or a value."""
    reader = new_reader(most)
    for path in yaml_files(path for path in tree.files if "/" not in path):
        text = read_text(tree, path)
        if _may_have(text, word):
            yield path, parse(reader, path, text)


def _may_have(text: str, word: str) -> bool:
    return word in text or bool(_SPELLED_OUT.search(text))


def _annotate(tree: FilesOnDisk, values: Mapping[str, str], most: int) -> None:
    """Set the annotations ``values`` on every CSV."""
    before, after = new_reader(most), new_reader(most)
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


def _mapping_in(mapping: Mapping[Any, Any], key: str, called: str, name: str) -> Mapping[Any, Any]:
    """The mapping under ``key``; an empty one if there is none."""
    value = mapping.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"{called} in {shown_path(name)} is no mapping, but {described(value)}.")
    return value


def _replace(directory: Path, wanted: tuple[Replacement, ...]) -> None:
    """Make the replacements in all YAML files, also those that operator-courier never looks into."""
    rules = [(each.old, each.new, each.regexp) for each in wanted]
    try:
        if any(each.regexp for each in wanted):
            regexp_process.replace_in(directory, rules, REPLACED, GROWTH)
        else:
            TextReplacer(rules, REPLACED, GROWTH).replace_in(directory)
    except CannotReplace as fault:
        raise _irreplaceable(fault, wanted[fault.rule]) from None


def _irreplaceable(fault: CannotReplace, rule: Replacement) -> WorkerError:
    if fault.kind == replacements.NOT_TEXT:
        return unreadable(fault.file, "it is not UTF-8 text")
    if fault.kind == replacements.NOT_UTF8:
        return invalid(f"{shown_path(fault.file)} cannot be changed: it would not be UTF-8 text.")
    if fault.kind == replacements.PLACES:
        return invalid(f"Replacing registries would change more than {REPLACED} places in the manifests.")
    if fault.kind == replacements.CHARACTERS:
        return invalid(f"Replacing registries would make the manifests more than {GROWTH} characters longer.")
    limit = f"{regexp_process.SECONDS:g} seconds of processor time"
    if fault.kind == replacements.MEMORY:
        limit = f"{regexp_process.MEMORY // 2**20} MiB of memory"
    at = f", at work on {shown_path(fault.file)} by {rule.shown}" if fault.file else ""
    return RegistryReplacementError(
        f"Replacing registries takes more than {limit}{at}. Write the regular expression so that there is only one "
        "way to match a text: no repetition inside a repetition that can match the same letters."
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file and the text that is in it."""

    tree: FilesOnDisk
    path: str
    text: str

    def edit(self, what: str, reader: YamlReader, expected: Any, *edits: Callable[[str], str]) -> None:
        """Write what the first of ``edits`` makes of the text that ``reader`` reads as ``expected``."""
        reason = "it is written in a way that would change other values too, as by anchors, aliases or merge keys"
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
        raise invalid(f"{what} in {shown_path(self.path)} cannot be changed: {reason}.")

    def write(self, text: str) -> None:
        """Put ``text`` in its place."""
        try:
            self.tree.write(self.path, text.encode())
        except UnicodeEncodeError:
            raise invalid(f"{shown_path(self.path)} cannot be changed: it would not be UTF-8 text.") from None
