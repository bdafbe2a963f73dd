# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the mapping file: the keys of a rule and their valid values."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema

from omps_worker.common.model import CATALOG, Target
from omps_worker.common.names import is_name, package_name_fault
from omps_worker.common.text import listed
from omps_worker.configuration.settings.fields import Name
from omps_worker.configuration.settings.tables import Location, Reading, Table
from omps_worker.destinations import versions

GLOB_LIMIT = 512
"""The maximum length of a glob in characters."""
TEMPLATE_LIMIT = 128
"""The maximum length of a version template in characters."""

EVERYWHERE = "*"
"""The value of ``pause`` that means all organizations and catalogs."""

_VALUES = ("1", "1.1", "1.1.1")
"""Sample values of a template's fields, to check which versions a template can produce."""


class YamlTable(Table):
    """A table in a YAML file, where a key without a value is null. That is always a mistake."""

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that every key that was written has a value."""
        for key, known in cls.model_fields.items():
            if key in table and table[key] is None and known.default is None:
                yield (key,), "has no value: add one, or remove the key"


def _globs(value: object) -> tuple[str, ...]:
    globs = [value] if isinstance(value, str) else value
    if value is None:
        return ()
    if not isinstance(globs, (list, tuple)) or not all(isinstance(glob, str) for glob in globs):
        raise ValueError("must be a glob or a list of globs, as text (numbers in quotes)")
    if not globs:
        raise ValueError("must not be an empty list: remove the key to match any value")
    for glob in globs:
        if not glob or len(glob) > GLOB_LIMIT or not glob.isprintable():
            raise ValueError(f"must be globs of 1 to {GLOB_LIMIT} printable characters")
    return tuple(globs)


Globs = Annotated[
    tuple[str, ...],
    BeforeValidator(_globs),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": GLOB_LIMIT},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1, "maxLength": GLOB_LIMIT}},
            ]
        }
    ),
]
"""A shell glob or a list of globs: ``*``, ``?``, ``[abc]``, ``[!abc]``; case-sensitive."""


def _any_globs(value: object) -> tuple[str, ...]:
    return () if isinstance(value, (list, tuple)) and not value else _globs(value)


AnyGlobs = Annotated[
    tuple[str, ...],
    BeforeValidator(_any_globs),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": GLOB_LIMIT}}),
]
"""A list of globs, which may be empty."""


def _places(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(place, str) for place in value):
        raise ValueError('must be a list of organizations, catalog:NAME, or "*"')
    for place in value:
        if place != EVERYWHERE and not is_name(place.removeprefix(CATALOG)):
            raise ValueError(f'{place[:100]!r} is neither an organization, catalog:NAME nor "*"')
    return tuple(value)


Places = Annotated[
    tuple[str, ...],
    BeforeValidator(_places),
    WithJsonSchema({"type": "array", "items": {"type": "string", "minLength": 1}}),
]
"""Destinations of builds: organizations, ``catalog:NAME``, or ``*`` for all."""


class MatchTable(YamlTable):
    """The conditions that a build must meet; all given keys must match, {} matches everything."""

    component: Globs | None = Field(default=None, description="Globs on the name of the Koji package.")
    nvr: Globs | None = Field(default=None, description="Globs on the whole name-version-release.")
    owner: Globs | None = Field(default=None, description="Globs on the Koji user who built it.")
    target: Globs | None = Field(default=None, description="Globs on the Koji build target.")

    def conditions(self) -> dict[str, tuple[str, ...]]:
        """Return the globs by the fact that they match on, in the order component, nvr, owner, target."""
        named = (("component", self.component), ("nvr", self.nvr), ("owner", self.owner), ("target", self.target))
        return {fact: globs for fact, globs in named if globs}


def _repository(value: str) -> str:
    if not is_name(value):
        raise ValueError(
            "is not a valid name of a repository: write letters, digits and . _ -, beginning with a letter or digit"
        )
    return value


def _version(value: str) -> str:
    if value in (versions.INCREMENT, versions.CSV):
        return value
    if len(value) > TEMPLATE_LIMIT:
        raise ValueError(f"must have at most {TEMPLATE_LIMIT} characters")
    try:
        names = sorted(versions.fields_of(value))
    except ValueError as error:
        raise ValueError(f"is not increment, csv, or a template: {error}") from None
    for values in itertools.product(_VALUES, repeat=len(names)):
        if versions.is_valid(value.format(**dict(zip(names, values, strict=True)))):
            return value
    if not names:
        raise ValueError('must be increment, csv, or a template such as "{version}"')
    raise ValueError("can never produce three integers joined by dots, the form of a release's version")


class TargetTable(YamlTable):
    """One place to publish to: an organization of the app registry, or a catalog."""

    organization: Name | None = Field(
        default=None, description="The organization; must have credentials in the configuration."
    )
    catalog: Name | None = Field(
        default=None, description="Instead of an organization: the catalog; must be in the configuration."
    )
    repository: Annotated[str, Strict(), AfterValidator(_repository)] | None = Field(
        default=None, description="The packageName (with the suffix) that the manifests must have; if omitted, any."
    )
    version: Annotated[str, Strict(), AfterValidator(_version)] = Field(
        default=versions.INCREMENT,
        description="increment, csv, or a template of {name}, {version}, {release}, {build_id}; for organizations.",
    )
    overwrite: Literal["never", "heads"] = Field(
        default="never", description="Whether a bundle may get other content under its version; for catalogs."
    )
    graph: Literal["replaces", "semver"] = Field(
        default="replaces", description="Where the edges between the bundles of bundle builds come from; for catalogs."
    )

    @property
    def place(self) -> str:
        """The organization, or ``catalog:`` and the name of the catalog."""
        return self.as_target().place

    def as_target(self) -> Target:
        """Return the target, without the rule's ``superseded``."""
        return Target(
            self.organization,
            self.repository,
            self.version,
            catalog=self.catalog,
            overwrite=self.overwrite,
            graph=self.graph,
        )

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that there is one destination, that it is configured, and that the other keys belong to it."""
        yield from super().combined_faults(table, reading)
        organization, catalog = table.get("organization"), table.get("catalog")
        if "organization" not in table and "catalog" not in table:
            yield ("organization",), "is missing: a target has an organization or a catalog"
        elif "organization" in table and "catalog" in table:
            yield (), "has an organization and a catalog: make it two targets"
        elif "catalog" in table and "version" in table:
            yield ("version",), "is for organizations only: the version of a bundle is that of its CSV"
        elif "organization" in table:
            yield from (((key,), "is for catalogs only") for key in ("overwrite", "graph") if key in table)
        known = reading.organizations
        if isinstance(organization, str) and known is not None and organization not in known:
            there = _there(known)
            yield (
                ("organization",),
                f"has no credentials in the configuration ({there}): add [consumer_config.organizations.NAME]",
            )
        known = reading.catalogs
        if isinstance(catalog, str) and known is not None and catalog not in known:
            yield ("catalog",), f"is not in the configuration ({_there(known)}): add [consumer_config.catalogs.NAME]"
        repository = table.get("repository")
        if "catalog" in table and isinstance(repository, str) and is_name(repository):
            yield from ((("repository",), fault) for fault in (package_name_fault(repository),) if fault)


def _there(known: Collection[str]) -> str:
    return f"it has {listed(sorted(known)) or 'none'}"


class RuleTable(YamlTable):
    """One rule; the first rule that matches decides."""

    match: MatchTable = Field(description="The conditions that a build must meet; {} matches everything.")
    superseded: Literal["skip", "publish"] = Field(
        default="skip", description="What to do with a build if a newer one of its component and target exists."
    )
    publish: tuple[TargetTable, ...] = Field(description="The targets; [] ignores the build on purpose.")

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that no target is listed twice."""
        yield from super().combined_faults(table, reading)
        publish = table.get("publish")
        seen: set[tuple[str | None, ...]] = set()
        for index, target in enumerate(publish if isinstance(publish, (list, tuple)) else ()):
            if not isinstance(target, Mapping):
                continue
            facts = tuple(target.get(key) for key in ("organization", "catalog", "repository"))
            if facts[:2] == (None, None) or not all(isinstance(fact, (str, type(None))) for fact in facts):
                continue
            if facts in seen:
                place = "organization" if facts[0] is not None else "catalog"
                yield ("publish", index), f"has the same {place} and repository as another target of this rule"
            seen.add(facts)


def _one(value: object) -> int:
    if value != 1 or type(value) is not int:
        raise ValueError("must be 1, the only version of the file format")
    return 1


class MappingTable(YamlTable):
    """The whole file."""

    version: Annotated[int, BeforeValidator(_one), WithJsonSchema({"const": 1})] = Field(
        description="The version of the file format, 1."
    )
    hold: AnyGlobs = Field(default=(), description="Globs on the NVR of builds that only `push --held` publishes.")
    pause: Places = Field(
        default=(), description='Organizations, catalog:NAME, or "*": builds for them wait until the name is removed.'
    )
    rules: tuple[RuleTable, ...] = Field(description="The rules; the first rule that matches decides.")

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that paused organizations and catalogs are configured: a misspelt name would pause nothing."""
        yield from super().combined_faults(table, reading)
        pause = table.get("pause")
        for index, place in enumerate(pause if isinstance(pause, (list, tuple)) else ()):
            if not isinstance(place, str) or place == EVERYWHERE or not is_name(place.removeprefix(CATALOG)):
                continue
            name, is_catalog = place.removeprefix(CATALOG), place.startswith(CATALOG)
            known = reading.catalogs if is_catalog else reading.organizations
            if known is not None and name not in known:
                kind = "a catalog" if is_catalog else "an organization"
                yield ("pause", index), f"{place!r} is not {kind} in the configuration ({_there(known)})"
