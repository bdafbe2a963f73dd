# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keys of the configuration may be, and what they mean."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from omps_worker.manifests.transformations import Annotation, Replacement, Transformations
from tests.support.configuration import GONE, faults, settings

OURS = "consumer_config"


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    read = settings(tmp_path)
    worker = read.worker
    assert read.publish_exchange == "amq.topic"
    assert read.passive_declares is False
    assert worker.mapping == tmp_path / "mapping.yaml"
    assert (worker.concurrency, worker.prefetch, worker.shutdown_timeout) == (4, 8, 60)
    assert worker.default_release_version == "1.0.0"
    assert worker.ca_bundle is None
    assert (worker.lock, worker.log_format, worker.log_level) == ("broker", "text", "INFO")
    assert (worker.koji.timeout, worker.registry.timeout) == (30, 30)
    assert [delay.text for delay in worker.retry.delays] == ["10s", "1m", "10m", "1h"]
    assert [delay.seconds for delay in worker.retry.delays] == [10, 60, 600, 3600]
    assert worker.retry.give_up_after == 86400
    assert worker.limits.archive_bytes == 10 * 2**20
    assert worker.limits.uncompressed_bytes == 20 * 2**20
    assert worker.limits.files == 2000
    assert (worker.catch_up.period, worker.catch_up.window) == (0, 86400)
    assert worker.greenwave is None
    assert (worker.api.address, worker.api.port) == ("127.0.0.1", 8080)
    assert (worker.api.max_content_length, worker.api.deduplicate) == (2 * 2**20, False)
    organization = worker.organizations["community"]
    assert (organization.public, organization.package_name_suffix) == (False, "")
    assert (organization.replace_registry, organization.csv_annotations) == ((), ())


def test_settings_do_not_change(tmp_path: Path) -> None:
    read = settings(tmp_path)
    with pytest.raises(ValidationError):
        read.worker.concurrency = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("topic_prefix", GONE, "is missing"),
        ("topic_prefix", "", "empty"),
        ("topic_prefix", "org.*", r"\*"),
        ("topic_prefix", "org.#", "#"),
        ("topic_prefix", "org.", "single dots"),
        ("topic_prefix", ".org", "single dots"),
        ("topic_prefix", "org..x", "single dots"),
        ("topic_prefix", "o rg", "spaces"),
        ("topic_prefix", "org\nx", "control"),
        ("topic_prefix", "x" * 240, "at most"),
        ("topic_prefix", "ü" * 120, "at most"),
        ("topic_prefix", 5, "must be text"),
        ("publish_exchange", "", "empty"),
        ("publish_exchange", "x" * 256, "255 bytes"),
        ("publish_priority", 256, "at most 255"),
        ("publish_priority", True, "whole number"),
        ("passive_declares", "yes", "true or false"),
        ("passive_declares", 1, "true or false"),
        ("queues", GONE, "is missing"),
        ("queues", {}, "empty"),
        ("queues", {"a": {}, "b": {}}, "exactly one"),
        ("queues", [], "table"),
        ("monitoring.port", 65536, "at most"),
        ("monitoring.port", "9100", "whole number"),
        ("monitoring.adress", "x", "did you mean address"),
        ("bindings", {"exchange": "x", "routing_keys": ["#"]}, "list"),
        ("client_properties", {"product": "x"}, "product"),
        ("client_properties", {"app": 3}, "text"),
        ("client_properties", {"app": "x", "odd": ["x", 3]}, "lists of text: odd"),
        ("qos.prefetch_count", 0, "at least 1"),
        ("qos.prefetch_size", 1, "at most 0"),
        ("callback", 5, "text"),
        ("log_config", "x", "table"),
        ("colour", "red", "not a known key"),
        ("amqp_ulr", "amqp://", "did you mean amqp_url"),
        (f"{OURS}.mapping", "nowhere.yaml", "no such file"),
        (f"{OURS}.mapping", ".", "directory"),
        (f"{OURS}.mapping", "", "path"),
        (f"{OURS}.mapping", 3, "path"),
        (f"{OURS}.mapping", "a\0b", "path"),
        (f"{OURS}.concurrency", 0, "at least 1"),
        (f"{OURS}.concurrency", 257, "at most 256"),
        (f"{OURS}.concurrency", True, "whole number"),
        (f"{OURS}.concurrency", 4.0, "whole number"),
        (f"{OURS}.concurrency", "4", "whole number"),
        (f"{OURS}.concurrency", 10**30, "at most|too large"),
        (f"{OURS}.concurency", 4, "did you mean concurrency"),
        (f"{OURS}.prefetch", 0, "at least 1"),
        (f"{OURS}.prefetch", 65536, "at most"),
        (f"{OURS}.shutdown_timeout", "0s", "longer than zero"),
        (f"{OURS}.shutdown_timeout", float("nan"), "duration such as"),
        (f"{OURS}.shutdown_timeout", "a minute", "duration such as"),
        (f"{OURS}.default_release_version", "1.0", "three integers"),
        (f"{OURS}.default_release_version", "01.0.0", "three integers"),
        (f"{OURS}.default_release_version", "1.0.0\n", "three integers"),
        (f"{OURS}.default_release_version", 1, "text"),
        (f"{OURS}.ca_bundle", "nowhere.pem", "no such file"),
        (f"{OURS}.lock", "file", "'broker' or 'process'"),
        (f"{OURS}.log_format", "xml", "'text' or 'json'"),
        (f"{OURS}.log_level", "LOUD", "DEBUG, INFO"),
        (f"{OURS}.koji", GONE, "hub_url and root_url"),
        (f"{OURS}.koji.hub_url", GONE, "is missing"),
        (f"{OURS}.koji.hub_url", "koji.example.com", "http://"),
        (f"{OURS}.koji.hub_url", "ftp://koji.example.com", "http://"),
        (f"{OURS}.koji.hub_url", "https://", "host"),
        (f"{OURS}.koji.hub_url", "https:///kojihub", "host"),
        (f"{OURS}.koji.hub_url", "https:koji", "http://"),
        (f"{OURS}.koji.hub_url", "https://koji:99999", "port"),
        (f"{OURS}.koji.hub_url", "https://koji:0", "port"),
        (f"{OURS}.koji.hub_url", "https://koji:x", "port"),
        (f"{OURS}.koji.hub_url", "https://[::1", "host"),
        (f"{OURS}.koji.hub_url", "https://koji/a b", "http://"),
        (f"{OURS}.koji.hub_url", "https://koji/\n", "http://"),
        (f"{OURS}.koji.hub_url", "https://koji/?a=1", "query"),
        (f"{OURS}.koji.hub_url", "https://koji/?", "query"),
        (f"{OURS}.koji.hub_url", "https://koji/#x", "fragment"),
        (f"{OURS}.koji.hub_url", "https://me:secret@koji/", "credentials"),
        (f"{OURS}.koji.hub_url", 7, "text"),
        (f"{OURS}.koji.timeout", 0, "longer than zero"),
        (f"{OURS}.registry.url", GONE, "is missing"),
        (f"{OURS}.retry.delays", [], "empty"),
        (f"{OURS}.retry.delays", "10s", "list"),
        (f"{OURS}.retry.give_up_after", -1, "negative"),
        (f"{OURS}.limits.archive_bytes", 0, "at least one byte"),
        (f"{OURS}.limits.archive_bytes", True, "size such as"),
        (f"{OURS}.limits.uncompressed_bytes", "20 MiB", "size such as"),
        (f"{OURS}.limits.files", 0, "at least 1"),
        (f"{OURS}.catch_up.window", 0, "longer than zero"),
        (f"{OURS}.catch_up.period", float("inf"), "duration such as"),
        (f"{OURS}.api.port", -1, "at least 0"),
        (f"{OURS}.api.address", "", "empty"),
        (f"{OURS}.organizations", [], "table"),
    ],
)
def test_a_value_that_cannot_be_meant_is_a_fault_of_its_key(
    tmp_path: Path, key: str, value: object, reason: str
) -> None:
    found = faults(tmp_path, {key: value})
    assert list(found) == [key]
    assert re.search(reason, found[key])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("topic_prefix", "VirtualTopic.eng-x_1"),
        ("monitoring.port", 0),
        ("monitoring.address", ""),
        ("client_properties", {"app": "x", "app_contacts_email": ["a@example.com"]}),
        ("callback", "module:function"),
        ("log_config", {"version": 1}),
        ("exchanges", {"amq.topic": {"type": "topic", "durable": True, "auto_delete": False, "arguments": {}}}),
        ("tls", {}),
        ("qos", {"prefetch_size": 0, "prefetch_count": 25}),
        (f"{OURS}.log_level", "debug"),
        (f"{OURS}.shutdown_timeout", 0.5),
        (f"{OURS}.retry.delays", ["100ms", 3]),
        (f"{OURS}.retry.give_up_after", 0),
        (f"{OURS}.limits.archive_bytes", "1GB"),
        (f"{OURS}.koji.instance", "primary"),
    ],
)
def test_what_makes_sense_is_taken(tmp_path: Path, key: str, value: object) -> None:
    assert faults(tmp_path, {key: value}) == {}


@pytest.mark.parametrize(
    ("delays", "faulty", "reason"),
    [
        (["1m", "60s"], "[1]", "twice"),
        (["10s", 10], "[1]", "twice"),
        (["0s"], "[0]", "longer than zero"),
        (["0.1ms"], "[0]", "millisecond"),
        (["50d"], "[0]", "49 days"),
        (["10s", "soon"], "[1]", "duration such as"),
        (["10s", True], "[1]", "duration such as"),
    ],
)
def test_each_retry_delay_must_make_a_queue_of_its_own(
    tmp_path: Path, delays: list[object], faulty: str, reason: str
) -> None:
    found = faults(tmp_path, {f"{OURS}.retry.delays": delays})
    assert list(found) == [f"{OURS}.retry.delays{faulty}"]
    assert reason in found[f"{OURS}.retry.delays{faulty}"]


def test_a_retry_delay_keeps_the_text_that_names_its_queue(tmp_path: Path) -> None:
    delays = settings(tmp_path, {f"{OURS}.retry.delays": ["60s", "1h", 7200]}).worker.retry.delays
    assert [delay.text for delay in delays] == ["60s", "1h", "7200"]


def test_urls_lose_their_trailing_slash(tmp_path: Path) -> None:
    worker = settings(
        tmp_path, {f"{OURS}.koji.root_url": "https://koji/files/", f"{OURS}.registry.url": "https://quay:8443//"}
    ).worker
    assert worker.koji.root_url == "https://koji/files"
    assert worker.registry.url == "https://quay:8443"


def test_greenwave_needs_to_know_what_to_ask(tmp_path: Path) -> None:
    assert set(faults(tmp_path, {f"{OURS}.greenwave": {}})) == {
        f"{OURS}.greenwave.url",
        f"{OURS}.greenwave.context",
        f"{OURS}.greenwave.product_version",
    }


def test_the_prefetch_of_fedora_messaging_counts_when_ours_is_not_given(tmp_path: Path) -> None:
    assert settings(tmp_path, {"qos.prefetch_count": 25}).worker.prefetch == 25
    assert settings(tmp_path, {"qos.prefetch_count": 25, f"{OURS}.prefetch": 6}).worker.prefetch == 6
    assert settings(tmp_path, {"qos": {}}).worker.prefetch == 8


def test_monitoring_is_off_without_its_section_and_has_defaults_with_it(tmp_path: Path) -> None:
    assert settings(tmp_path).monitoring is None
    there = settings(tmp_path, {"monitoring": {}}).monitoring
    assert there is not None
    assert (there.address, there.port) == ("127.0.0.1", 9100)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        {
            "amqp_url": "http://rabbit",
            "topic_prefix": GONE,
            "colour": "red",
            "queues.omps-worker.durable": False,
            "queues.omps-worker.arguments": {"x-delivery-limit": 5},
            "bindings": [{"queue": "other", "routing_keys": []}],
            "tls.keyfile": "nowhere.key",
            f"{OURS}.koji.timeout": "never",
            f"{OURS}.registry.url": GONE,
            f"{OURS}.mapping": "nowhere.yaml",
            f"{OURS}.retry.delays": ["1m", "60s"],
            f"{OURS}.organizations.community.token_env": "NOT_SET",
            f"{OURS}.organizations.community.replace_registry": [{"old": "(", "new": "", "regexp": True}],
            f"{OURS}.organizations.community.public": 1,
        },
    )
    assert set(found) == {
        "amqp_url",
        "topic_prefix",
        "colour",
        "queues.omps-worker.durable",
        "queues.omps-worker.arguments.x-delivery-limit",
        "bindings[0].queue",
        "bindings[0].exchange",
        "bindings[0].routing_keys",
        "tls.keyfile",
        "tls.certfile",
        f"{OURS}.koji.timeout",
        f"{OURS}.registry.url",
        f"{OURS}.mapping",
        f"{OURS}.retry.delays[1]",
        f"{OURS}.organizations.community",
        f"{OURS}.organizations.community.replace_registry[0].old",
        f"{OURS}.organizations.community.public",
    }


def test_an_empty_file_is_told_everything_that_is_needed(tmp_path: Path) -> None:
    changes = dict.fromkeys(("amqp_url", "topic_prefix", "queues", "bindings", OURS), GONE)
    assert set(faults(tmp_path, changes)) == {
        "amqp_url",
        "topic_prefix",
        "queues",
        f"{OURS}.koji",
        f"{OURS}.registry",
    }


def test_the_rest_api_needs_no_broker_no_mapping_and_no_tokens(tmp_path: Path) -> None:
    changes = {
        "amqp_url": GONE,
        "topic_prefix": GONE,
        "queues": GONE,
        "bindings": GONE,
        f"{OURS}.mapping": "nowhere.yaml",
        f"{OURS}.organizations.community.token": GONE,
    }
    read = settings(tmp_path, changes, api=True)
    assert not read.has_broker
    assert not read.worker.organizations["community"].has_token


def test_the_rest_api_with_a_broker_must_know_its_topics(tmp_path: Path) -> None:
    assert list(faults(tmp_path, {"topic_prefix": GONE, "queues": GONE, "bindings": GONE}, api=True)) == [
        "topic_prefix"
    ]
    read = settings(tmp_path, {"queues": GONE, "bindings": GONE}, api=True)
    assert read.has_broker


def test_an_organization_knows_what_it_wants_changed(tmp_path: Path) -> None:
    key = f"{OURS}.organizations.community"
    read = settings(
        tmp_path,
        {
            f"{key}.package_name_suffix": "-x",
            f"{key}.replace_registry": [{"old": "a", "new": "b"}, {"old": "c+", "new": "d", "regexp": True}],
            f"{key}.csv_annotations": [{"name": "n", "value": "v"}],
        },
    )
    assert read.worker.organizations["community"].transformations == Transformations(
        "-x",
        (Replacement("a", "b"), Replacement("c+", "d", regexp=True, key=f"{key}.replace_registry[1]")),
        (Annotation("n", "v"),),
    )
    assert not settings(tmp_path).worker.organizations["community"].transformations


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"bindings": []}, "bindings"),
        ({f"{OURS}.registry.url": "http://quay.example.com"}, f"{OURS}.registry.url"),
        ({f"{OURS}.registry.url": "https://quay.example.com/cnr"}, f"{OURS}.registry.url"),
        ({f"{OURS}.prefetch": 2}, f"{OURS}.prefetch"),
        ({f"{OURS}.organizations.community.public": True}, f"{OURS}.organizations.community.public"),
        ({f"{OURS}.organizations.community.token": "c2VjcmV0"}, f"{OURS}.organizations.community"),
        ({f"{OURS}.organizations.community.token": "Bearer abc"}, f"{OURS}.organizations.community"),
        ({"callback": "a:b"}, "callback"),
        ({"log_config": {}}, "log_config"),
        ({"queues.omps-worker.arguments": {"x-max-length": 5}}, "queues.omps-worker.arguments.x-max-length"),
    ],
)
def test_what_is_allowed_but_doubtful_is_a_warning(tmp_path: Path, changes: dict[str, object], key: str) -> None:
    assert [warning.key for warning in settings(tmp_path, changes).warnings] == [key]


def test_a_registry_on_loopback_may_be_asked_in_the_clear(tmp_path: Path) -> None:
    for host in ("localhost", "127.0.0.1:5000", "[::1]:5000"):
        assert settings(tmp_path, {f"{OURS}.registry.url": f"http://{host}"}).warnings == ()
