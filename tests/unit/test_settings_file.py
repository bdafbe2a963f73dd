# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding the configuration file and reading it."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration import loading
from omps_worker.configuration.settings import file as settings_file
from tests.support.configuration import MAPPING, MINIMAL, faults, settings


def written(directory: Path, text: str = MINIMAL, mapping: str = MAPPING) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "mapping.yaml").write_text(mapping)
    (directory / "config.toml").write_text(text)
    return directory / "config.toml"


def fault_of(path: Path) -> Fault:
    with pytest.raises(SettingsError) as caught:
        settings_file.load(path, environment={})
    (fault,) = caught.value.faults
    return fault


def test_a_file_named_on_the_command_line_comes_first() -> None:
    assert settings_file.find(Path("x"), {"FEDORA_MESSAGING_CONF": "y"}) == Path("x")
    assert settings_file.find(None, {"FEDORA_MESSAGING_CONF": "y"}) == Path("y")
    assert settings_file.find(None, {}) == Path("/etc/fedora-messaging/config.toml")
    assert settings_file.find(None, {"FEDORA_MESSAGING_CONF": ""}) == Path("/etc/fedora-messaging/config.toml")


def test_the_file_that_the_environment_names_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert settings_file.load(environment={"FEDORA_MESSAGING_CONF": str(path)}).topic_prefix == "org.example"


def test_paths_start_in_the_directory_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "etc")
    monkeypatch.chdir(tmp_path)
    read = settings_file.load(Path("etc/config.toml"), environment={})
    assert read.worker.mapping == tmp_path / "etc" / "mapping.yaml"


def test_an_absolute_path_stays_as_it_is(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(MAPPING)
    path = written(
        tmp_path,
        MINIMAL.replace("[consumer_config.koji]", f"[consumer_config]\nmapping='{elsewhere}'\n[consumer_config.koji]"),
    )
    assert settings_file.load(path, environment={}).worker.mapping == elsewhere


def test_top_level_keys_may_be_written_in_any_case(tmp_path: Path) -> None:
    text = MINIMAL.replace("amqp_url", "AMQP_URL").replace("topic_prefix", "Topic_Prefix")
    assert settings_file.load(written(tmp_path, text), environment={}).topic_prefix == "org.example"


def test_a_key_in_two_cases_is_a_fault(tmp_path: Path) -> None:
    fault = fault_of(written(tmp_path, 'Topic_prefix = "a"\n' + MINIMAL))
    assert (fault.key, "twice" in fault.reason) == ("topic_prefix", True)


def test_the_url_in_the_environment_beats_the_one_in_the_file(tmp_path: Path) -> None:
    read = settings_file.load(written(tmp_path), environment={"OMPS_WORKER_AMQP_URL": "amqps://other"})
    assert read.amqp_url.get_secret_value() == "amqps://other"


def test_a_newline_at_the_end_of_the_url_in_the_environment_is_no_part_of_it(tmp_path: Path) -> None:
    read = settings_file.load(written(tmp_path), environment={"OMPS_WORKER_AMQP_URL": "amqps://other\r\n"})
    assert read.amqp_url.get_secret_value() == "amqps://other"


def test_the_url_in_the_environment_is_enough(tmp_path: Path) -> None:
    text = MINIMAL.replace('amqp_url = "amqp://localhost"', "")
    read = settings_file.load(written(tmp_path, text), environment={"OMPS_WORKER_AMQP_URL": "amqps://other"})
    assert read.amqp_url.get_secret_value() == "amqps://other"


def test_a_faulty_url_in_the_environment_is_blamed_on_the_environment(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.load(written(tmp_path), environment={"OMPS_WORKER_AMQP_URL": "CANARY://x"})
    (fault,) = caught.value.faults
    assert (fault.file, fault.key) == ("environment", "OMPS_WORKER_AMQP_URL")
    assert "CANARY" not in str(caught.value)


def test_an_empty_variable_in_the_environment_is_none(tmp_path: Path) -> None:
    text = MINIMAL.replace("amqp://localhost", "http://localhost")
    with pytest.raises(SettingsError) as caught:
        settings_file.load(written(tmp_path, text), environment={"OMPS_WORKER_AMQP_URL": ""})
    assert [fault.key for fault in caught.value.faults] == ["amqp_url"]


def test_a_missing_url_is_told_both_places(tmp_path: Path) -> None:
    fault = fault_of(written(tmp_path, MINIMAL.replace('amqp_url = "amqp://localhost"', "")))
    assert fault.key == "amqp_url"
    assert "OMPS_WORKER_AMQP_URL" in fault.reason


def test_every_fault_names_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + 'x = 1\n[[queues.omps-worker.y]]\n[consumer_config.organizations."a b"]\n')
    with pytest.raises(SettingsError) as caught:
        settings_file.load(path, environment={})
    assert {fault.file for fault in caught.value.faults} == {str(path)}
    assert 'consumer_config.organizations."a b"' in str(caught.value)


def test_a_file_that_is_missing_says_how_to_name_another(tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "nowhere.toml")
    assert (fault.file, fault.key) == (str(tmp_path / "nowhere.toml"), "")
    assert "--config" in fault.reason
    assert "FEDORA_MESSAGING_CONF" in fault.reason


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "directory" in fault_of(tmp_path).reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = 1\nb =\n", "line 2, column 4"),
        (b"token = basic abc", "line 1"),
        (b"a = 1\na = 2", "line 2"),
        (b"a = 1\nb = '\xff'", "is not UTF-8 text (line 2)"),
        (b"a = " + b"[" * 100_000, "deeply"),
        (b"a = " + b"9" * 5000, "number is too long"),
        (b"#" * (2**20 + 1), "more than"),
        (b"a = '\x00'", "line 1"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault_with_its_place(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    fault = fault_of(path)
    assert reason in fault.reason
    assert fault.key == ""


def test_an_empty_file_is_told_everything_that_is_needed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_file.load(written(tmp_path, ""), environment={})
    assert {fault.key for fault in caught.value.faults} == {
        "amqp_url",
        "topic_prefix",
        "queues",
        "consumer_config.koji",
        "consumer_config.registry",
    }


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert settings_file.load(path, environment={}).topic_prefix == "org.example"


def test_a_file_that_fedora_messaging_ships_needs_only_our_section_and_a_queue(tmp_path: Path) -> None:
    foreign: dict[str, Any] = {
        "callback": "fedora_messaging.example:printer",
        "passive_declares": True,
        "client_properties": {"app": "Example", "app_contacts_email": ["x@example.com"]},
        "exchanges": {"amq.topic": {"type": "topic", "durable": True, "auto_delete": False, "arguments": {}}},
        "qos": {"prefetch_size": 0, "prefetch_count": 25},
        "log_config": {"version": 1, "root": {"level": "WARNING", "handlers": ["console"]}},
    }
    read = settings(tmp_path, foreign)
    assert read.worker.prefetch == 25
    assert {warning.key for warning in read.warnings} == {"callback", "log_config"}


def test_configuration_and_mapping_are_reported_together(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "tokn = 1\n", MAPPING.replace("community", "comunity"))
    with pytest.raises(SettingsError) as caught:
        loading.load(path, environment={})
    assert [(Path(fault.file).name, fault.key) for fault in caught.value.faults] == [
        ("config.toml", "consumer_config.organizations.community.tokn"),
        ("mapping.yaml", "rules[0].publish[0].organization"),
    ]


def test_configuration_and_mapping_are_read_together(tmp_path: Path) -> None:
    read, mapping = loading.load(written(tmp_path), environment={})
    assert read.worker.mapping == tmp_path / "mapping.yaml"
    assert len(mapping.current) == 1


@pytest.mark.parametrize(
    "worker", ["consumer_config = 5\n", "consumer_config = {mapping = 5}\n", "consumer_config = {mapping = 'no'}\n"]
)
def test_a_mapping_that_cannot_be_found_does_not_hide_the_other_faults(tmp_path: Path, worker: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loading.load(written(tmp_path, worker), environment={})
    assert {"amqp_url", "topic_prefix", "queues"} < {fault.key for fault in caught.value.faults}


def test_reading_settings_imports_nothing_heavy() -> None:
    script = (
        "import sys; from omps_worker.configuration import loading, schema;"
        "print([name for name in ('jsonschema', 'fedora_messaging', 'pika', 'requests', 'koji', 'operatorcourier')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


values = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.just(datetime.date(2020, 1, 1)),
        st.sampled_from(["10s", "amqp://x", "https://x", "mapping.yaml", "basic x", ".", "1.0.0", "INFO"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    "amqp_url",
    "topic_prefix",
    "queues",
    "queues.omps-worker",
    "queues.omps-worker.arguments",
    "bindings",
    "tls",
    "monitoring",
    "qos",
    "exchanges",
    "client_properties",
    "log_config",
    "consumer_config",
    "consumer_config.mapping",
    "consumer_config.koji",
    "consumer_config.retry.delays",
    "consumer_config.limits",
    "consumer_config.ca_bundle",
    "consumer_config.organizations",
    "consumer_config.organizations.community",
    "consumer_config.organizations.community.token_file",
    "consumer_config.organizations.community.token_env",
    "consumer_config.organizations.community.replace_registry",
]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(KEYS), value=values)
def test_whatever_stands_under_a_key_is_either_settings_or_faults(tmp_path: Path, key: str, value: object) -> None:
    found = faults(tmp_path, {key: value})
    assert all(found.values())


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whole=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), values, max_size=5))
def test_any_table_is_refused_with_faults(tmp_path: Path, whole: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        settings_file.check(whole, tmp_path / "config.toml", environment={})


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_refused_with_faults(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError):
        settings_file.load(path, environment={})
