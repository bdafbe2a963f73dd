# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file and the mapping, checked together, so that one report lists the faults of both."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omps_worker.common.errors import Fault, MappingError, SettingsError
from omps_worker.configuration.mapping import file as mapping_file
from omps_worker.configuration.mapping.file import MappingFile
from omps_worker.configuration.mapping.matching import Mapping as Rules
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.models import Settings
from omps_worker.configuration.settings.tables import Lenience

_MAPPING = "consumer_config.mapping"


def load(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> tuple[Settings, MappingFile]:
    """Load the configuration and the mapping. Raises SettingsError with every fault of both files."""
    path = settings_file.find(path, environment).absolute()
    table = settings_file.read(path)
    try:
        settings = settings_file.check(table, path, environment=environment)
    except SettingsError as error:
        faults = list(error.faults)
    else:
        return settings, MappingFile(settings.worker.mapping, settings.worker.organizations, settings.worker.catalogs)
    raise SettingsError(faults + _mapping_faults(table, path, faults))


def load_broker(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> Settings:
    """Load only the settings of the broker, even if the mapping or a secret of an organization or catalog is invalid.

    This is for commands that handle failed messages: such a fault is probably why they are used. Raises SettingsError
    as ``load`` does if the rest of the file is invalid or has no broker.
    """
    path = settings_file.find(path, environment).absolute()
    table = settings_file.read(path)
    worker = table.get("consumer_config")
    if isinstance(worker, Mapping):
        worker = {key: value for key, value in worker.items() if key not in ("organizations", "catalogs", "mapping")}
        settings = settings_file.check({**table, "consumer_config": worker}, path, environment=environment, api=True)
        if settings.has_broker and settings.queues:
            return settings
    return load(path, environment=environment)[0]


@dataclass(frozen=True)
class CheckedConfiguration:
    """The content of the configuration and the mapping, as far as it is usable, and all faults.

    ``absent``: variables that are not set and files that do not exist. ``unusable``: variables and files that exist but
    are invalid. ``mapping``: None if the mapping is invalid; ``mapping_faults`` says why.
    """

    settings: Settings
    absent: tuple[Fault, ...]
    unusable: tuple[Fault, ...]
    mapping: Rules | None
    mapping_faults: tuple[Fault, ...]


def examine(path: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> CheckedConfiguration:
    """Load both files and collect all faults, for commands that report them.

    Raises SettingsError, as ``load`` does, if the configuration itself is invalid.
    """
    path = settings_file.find(path, environment).absolute()
    table = settings_file.read(path)

    def faults(lenience: Lenience) -> list[Fault]:
        try:
            settings_file.check(table, path, environment=environment, lenience=lenience)
        except SettingsError as error:
            # The mapping is checked separately.
            return [fault for fault in error.faults if fault.key != _MAPPING]
        return []

    try:
        settings = settings_file.check(table, path, environment=environment, lenience=Lenience.UNUSABLE)
    except SettingsError:
        load(path, environment=environment)
        raise
    unusable = faults(Lenience.ABSENT)
    absent = [fault for fault in faults(Lenience.NONE) if fault not in unusable]
    rules: Rules | None = None
    mapping_faults: tuple[Fault, ...] = ()
    try:
        rules = mapping_file.load(settings.worker.mapping, settings.worker.organizations, settings.worker.catalogs)
    except MappingError as error:
        mapping_faults = error.faults
    return CheckedConfiguration(settings, tuple(absent), tuple(unusable), rules, mapping_faults)


def _mapping_faults(table: Mapping[str, Any], path: Path, found: Collection[Fault]) -> list[Fault]:
    """Return the faults of the mapping itself, if the invalid configuration still says where it is."""
    worker = next((value for key, value in table.items() if key.lower() == "consumer_config"), None)
    if not isinstance(worker, Mapping) or any(fault.key == _MAPPING for fault in found):
        return []
    mapping, organizations = worker.get("mapping", "mapping.yaml"), worker.get("organizations", {})
    catalogs = worker.get("catalogs", {})
    if not isinstance(mapping, str) or not isinstance(organizations, Mapping) or not isinstance(catalogs, Mapping):
        return []
    try:
        MappingFile(path.parent / mapping, organizations, catalogs)
    except MappingError as error:
        return list(error.faults)
    return []
