# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation and the example files say what the program does, key by key."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from omps_worker.common.errors import MappingError
from omps_worker.configuration import loading
from omps_worker.configuration.mapping import file as mapping_file
from omps_worker.configuration.mapping.tables import MappingTable, MatchTable, RuleTable, TargetTable
from omps_worker.configuration.schema import SCHEMAS, config_schema, mapping_schema, schema_of
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings import models as models
from omps_worker.configuration.settings.broker import (
    BindingSettings,
    MonitoringSettings,
    QosSettings,
    QueueSettings,
    TlsSettings,
)
from omps_worker.configuration.settings.manifest_changes import CsvAnnotation, RegistryReplacement
from omps_worker.configuration.settings.organizations import OrganizationSettings
from omps_worker.configuration.settings.tables import Table
from omps_worker.configuration.settings.units import Duration, parse_size
from tests.support.configuration import MAPPING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2]
DOCS, CONFIG = PROJECT / "docs", PROJECT / "config"
ORGANIZATIONS = ["community", "internal"]
CATALOGS = ["community"]
ENVIRONMENT = {
    "OMPS_WORKER_COMMUNITY_TOKEN": "basic Y29tbXVuaXR5",
    "OMPS_WORKER_COMMUNITY_OAUTH_TOKEN": "0123456789",
    "OMPS_WORKER_INTERNAL_PASSWORD": "secret",
    "OMPS_WORKER_CATALOG_PASSWORD": "secret",
    "COMMUNITY_PASSWORD": "secret",
    "INTERNAL_TOKEN": "basic aW50ZXJuYWw=",
    "INTERNAL_OAUTH_TOKEN": "0123456789",
}

CONFIGURATION_SECTIONS: dict[str, type[Table]] = {
    "Top level": models.Settings,
    "`[queues.NAME]`": QueueSettings,
    "`[[bindings]]`": BindingSettings,
    "`[tls]`": TlsSettings,
    "`[monitoring]`": MonitoringSettings,
    "`[qos]`": QosSettings,
    "`[consumer_config]`": models.WorkerSettings,
    "`[consumer_config.broker]`": models.BrokerSettings,
    "`[consumer_config.koji]`": models.KojiSettings,
    "`[consumer_config.registry]`": models.RegistrySettings,
    "`[consumer_config.retry]`": models.RetrySettings,
    "`[consumer_config.limits]`": models.Limits,
    "`[consumer_config.catch_up]`": models.CatchUpSettings,
    "`[consumer_config.greenwave]`": models.GreenwaveSettings,
    "`[consumer_config.api]`": models.ApiSettings,
    "`[consumer_config.organizations.NAME]`": OrganizationSettings,
    "`[consumer_config.catalogs.NAME]`": models.CatalogSettings,
    "Entries of `replace_registry`": RegistryReplacement,
    "Entries of `csv_annotations`": CsvAnnotation,
}
MAPPING_SECTIONS: dict[str, type[Table]] = {
    "The file": MappingTable,
    "A rule": RuleTable,
    "`match`": MatchTable,
    "A target": TargetTable,
}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def documented(page: str, section: str) -> dict[str, str]:
    """The keys in the table under a heading, each with what is said about its default."""
    text = (DOCS / page).read_text()
    heading = re.search(rf"^#+ {re.escape(section)}$", text, re.MULTILINE)
    assert heading, f"{page} has no section {section}"
    below = re.split(r"^#+ ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", below, re.MULTILINE))


def meant(model: type[Table], key: str, cell: str) -> bool:
    """Whether ``cell`` tells the default that ``key`` has."""
    field = next(known for name, known in model.model_fields.items() if key in (name, known.alias))
    if field.is_required():
        return cell == "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return cell == "none"
    text = cell.strip("`")
    written = yaml.safe_load(text) if model in MAPPING_SECTIONS.values() else tomllib.loads(f"x = {text}")["x"]
    if isinstance(default, Table):
        return bool(written == {} and default == type(default)())
    if isinstance(default, Duration):
        return Duration.parse(written).text == default.text
    if isinstance(default, tuple):
        return [str(item) for item in written] == [getattr(item, "text", item) for item in default]
    if isinstance(written, str) and type(default) is int:
        return parse_size(written) == default
    return bool(written == default and type(written) is type(default))


@pytest.mark.parametrize("section", CONFIGURATION_SECTIONS)
def test_every_key_of_the_configuration_is_documented_with_its_default(section: str) -> None:
    model = CONFIGURATION_SECTIONS[section]
    told = documented("configuration.md", section)
    assert set(told) == set(model.keys())
    assert [key for key, cell in told.items() if not meant(model, key, cell)] == []


@pytest.mark.parametrize("section", MAPPING_SECTIONS)
def test_every_key_of_the_mapping_is_documented_with_its_default(section: str) -> None:
    model = MAPPING_SECTIONS[section]
    told = documented("mapping.md", section)
    assert set(told) == set(model.keys())
    assert [key for key, cell in told.items() if not meant(model, key, cell)] == []


def test_every_section_has_a_table_of_its_own() -> None:
    there = {value for value in vars(models).values() if isinstance(value, type(Table))}
    assert there - set(CONFIGURATION_SECTIONS.values()) == {Table, models.ExchangeSettings}


def test_the_smallest_configuration_works(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    (tmp_path / "config.toml").write_text(blocks("configuration.md", "toml")[0])
    settings, _ = loading.load(tmp_path / "config.toml", environment={})
    assert settings.warnings == ()


@pytest.mark.parametrize("fragment", blocks("configuration.md", "toml")[1:])
def test_fragments_of_the_documentation_work_in_place_of_the_same_sections(tmp_path: Path, fragment: str) -> None:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    table = tomllib.loads(blocks("configuration.md", "toml")[0])
    part = tomllib.loads(fragment)
    table["consumer_config"].update(part.pop("consumer_config", {}))
    settings = settings_file.check({**table, **part}, tmp_path / "config.toml", environment=ENVIRONMENT)
    assert settings.warnings == ()


@pytest.mark.parametrize("text", [*blocks("mapping.md", "yaml"), (CONFIG / "mapping.yaml").read_text()])
def test_mappings_in_the_documentation_work_and_fit_their_schema(text: str) -> None:
    mapping = mapping_file.parse(text, "mapping.yaml", ORGANIZATIONS, CATALOGS)
    assert len(mapping) > 0
    assert mapping.warnings == ()
    jsonschema.validate(yaml.safe_load(text), mapping_schema())


def test_the_faults_in_the_documentation_are_the_real_ones() -> None:
    text = (
        "version: 1\nrules:\n- match: {}\n  publish:\n\n  - organization: comunity\n"
        "- match:\n    componet: x\n  publish: []\n"
    )
    with pytest.raises(MappingError) as caught:
        mapping_file.parse(text, "/etc/omps-worker/mapping.yaml", ORGANIZATIONS)
    for fault in caught.value.faults:
        assert str(fault) in (DOCS / "mapping.md").read_text()


def test_the_example_files_work_as_they_are() -> None:
    settings, mapping = loading.load(CONFIG / "config.toml", environment=ENVIRONMENT)
    assert settings.warnings == ()
    assert settings.queue.name == "omps-worker"
    assert set(settings.worker.organizations) == set(ORGANIZATIONS)
    assert len(mapping.current) == 4


def uncommented() -> dict[str, Any]:
    """The example with all its commented keys; where two would clash the later one is written."""
    lines = (CONFIG / "config.toml").read_text().splitlines()
    text = "\n".join(line[1:] if re.match(r"#(\w+ = |\[)", line) else line for line in lines)
    return tomllib.loads(text)


def test_the_example_fits_its_schema_with_and_without_its_commented_keys() -> None:
    schema = config_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(tomllib.loads((CONFIG / "config.toml").read_text()))
    validator.validate(uncommented())


def test_the_example_has_every_key() -> None:
    example = uncommented()
    worker = example["consumer_config"]
    organizations = worker["organizations"]
    both = {**organizations["community"], **organizations["internal"]}
    pairs: list[tuple[dict[str, Any], type[Table]]] = [
        (example, models.Settings),
        (example["queues"]["omps-worker"], QueueSettings),
        (example["bindings"][0], BindingSettings),
        (example["tls"], TlsSettings),
        (example["monitoring"], MonitoringSettings),
        (example["qos"], QosSettings),
        (worker, models.WorkerSettings),
        *((worker[name], CONFIGURATION_SECTIONS[f"`[consumer_config.{name}]`"]) for name in worker if name in SECTIONS),
        (both, OrganizationSettings),
        (worker["catalogs"]["community"], models.CatalogSettings),
    ]
    for table, model in pairs:
        assert set(model.keys()) == set(table), model.__name__


SECTIONS = ("koji", "registry", "retry", "limits", "catch_up", "greenwave", "api")


@pytest.mark.parametrize("what", sorted(SCHEMAS))
def test_schemas_are_schemas(what: str) -> None:
    schema = schema_of(what)
    jsonschema.validators.validator_for(schema).check_schema(schema)
    assert schema["title"]


@pytest.mark.parametrize("what", ["config", "mapping"])
def test_schemas_explain_every_key_and_refuse_others(what: str) -> None:
    schema = schema_of(what)
    for name, table in {"": schema, **schema["$defs"]}.items():
        assert table["additionalProperties"] is False, name
        if name != "ExchangeSettings":
            bare = [
                key for key, about in table["properties"].items() if not ("description" in about or "$ref" in about)
            ]
            assert bare == [], name
    assert '"null"' not in str(schema)


@pytest.mark.parametrize(
    "broken",
    [
        {"consumer_config": {"colour": "red"}},
        {"consumer_config": {"koji": {"timeout": "soon"}}},
        {"consumer_config": {"limits": {"archive_bytes": "20 MiB"}}},
        {"topic_prefix": 5},
    ],
)
def test_the_schema_of_the_configuration_refuses_what_the_program_refuses(broken: dict[str, Any]) -> None:
    schema = {key: value for key, value in config_schema().items() if key != "required"}
    assert not jsonschema.Draft202012Validator(schema).is_valid(broken)


@pytest.mark.parametrize("text", ["version: 2\nrules: []", "version: 1\nrules: [{match: {componet: x}, publish: []}]"])
def test_the_schema_of_the_mapping_refuses_what_the_program_refuses(text: str) -> None:
    assert not jsonschema.Draft202012Validator(mapping_schema()).is_valid(yaml.safe_load(text))
