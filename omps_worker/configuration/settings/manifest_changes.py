# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes to manifests that the configuration of an organization or of a catalog can ask for."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

from omps_worker.configuration.settings.fields import Flag, Name
from omps_worker.configuration.settings.tables import Location, Reading, Table, dotted
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations

_SUFFIX = re.compile(r"[A-Za-z0-9._-]*")


class RegistryReplacement(Table):
    """One replacement of a registry in the manifests."""

    old: Annotated[str, Strict(), Field(min_length=1, description="The text to search for.")]
    new: Annotated[str, Strict(), Field(description="The replacement.")]
    regexp: Flag = Field(default=False, description="Whether `old` is a regular expression (Python's `re`).")

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that a regular expression compiles, and that its replacement refers only to groups that it has."""
        old, new = table.get("old"), table.get("new")
        if table.get("regexp") is not True or not isinstance(old, str):
            return
        try:
            pattern = re.compile(old, re.MULTILINE)
        except (re.error, OverflowError, RecursionError) as error:
            yield ("old",), f"is not a regular expression: {error}"
            return
        if isinstance(new, str):
            try:
                pattern.sub(new, "")
            except (re.error, IndexError) as error:
                yield ("new",), f"does not fit the regular expression: {error}"


def _annotation_template(value: str) -> str:
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        raise ValueError("has a single brace: write {{ and }} for literal braces") from None
    for _, name, specification, conversion in parts:
        if name is not None and (name != "package_name" or specification or conversion):
            raise ValueError("may only use {package_name}: write {{ and }} for literal braces")
    return value


class CsvAnnotation(Table):
    """One annotation that is set on every ClusterServiceVersion."""

    name: Name = Field(description="The annotation's name.")
    value: Annotated[str, Strict(), AfterValidator(_annotation_template)] = Field(
        description="Its value; {package_name} is the name of the package as it is released."
    )


def _suffix(value: str) -> str:
    if not _SUFFIX.fullmatch(value):
        raise ValueError("may only contain letters, digits and . _ -, like the name of a repository")
    return value


class ManifestChanges(Table):
    """The keys of a section that changes manifests."""

    package_name_suffix: Annotated[str, Strict(), AfterValidator(_suffix)] = Field(
        default="", description="Appended to the packageName, unless the packageName already ends with it."
    )
    replace_registry: tuple[RegistryReplacement, ...] = Field(
        default=(), description="Replacements in the text of every manifest, in order."
    )
    csv_annotations: tuple[CsvAnnotation, ...] = Field(
        default=(), description="Annotations set on every ClusterServiceVersion."
    )

    def transformations_in(self, section: Location) -> Transformations:
        """Return the changes to make in manifests; ``section`` is the place of this table, for messages."""
        return Transformations(
            self.package_name_suffix,
            tuple(_replacement(section, index, each) for index, each in enumerate(self.replace_registry)),
            tuple(Annotation(each.name, each.value) for each in self.csv_annotations),
        )


def _replacement(section: Location, index: int, rule: RegistryReplacement) -> Replacement:
    """Return one replacement. Only a regular expression, which may fail, gets its key: otherwise equal changes of two
    sections would differ.
    """
    location = (*section, "replace_registry", index)
    return Replacement(rule.old, rule.new, rule.regexp, dotted(location) if rule.regexp else "")
