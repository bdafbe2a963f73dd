# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker's part of the configuration: URL, queue, bindings, certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import self_signed
from tests.support.configuration import faults, settings

CONTRACT = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "omps-worker.failed",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


@pytest.mark.parametrize(
    "url",
    [
        "amqp://",
        "amqp://?connection_attempts=3&retry_delay=5",
        "amqp://localhost",
        "amqps://user:p%40ss@rabbit.example.com:5671/%2Fvhost?heartbeat=30",
        "amqp://[::1]:5672/",
    ],
)
def test_amqp_urls_are_those_of_pika(tmp_path: Path, url: str) -> None:
    assert settings(tmp_path, {"amqp_url": url}).amqp_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rabbit.example.com",
        "http://rabbit",
        "amqp:rabbit",
        "amqp://rabbit:port/",
        "amqp://me:pass/word@rabbit",
        "amqp://me:p#ss@rabbit",
        "amqp://a b",
        "amqp://x\n",
    ],
)
def test_what_is_no_amqp_url_is_a_fault(tmp_path: Path, url: str) -> None:
    found = faults(tmp_path, {"amqp_url": url})
    assert list(found) == ["amqp_url"]
    assert "%2F" in found["amqp_url"]


def test_the_queue_gets_the_arguments_of_the_contract(tmp_path: Path) -> None:
    queue = settings(tmp_path).queue
    assert queue.name == "omps-worker"
    assert queue.arguments == CONTRACT


def test_other_arguments_of_the_queue_are_kept(tmp_path: Path) -> None:
    given = {"x-queue-leader-locator": "balanced", "x-delivery-limit": 20}
    queue = settings(tmp_path, {"queues.omps-worker.arguments": given}).queue
    assert queue.arguments == {**CONTRACT, "x-queue-leader-locator": "balanced"}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("x-queue-type", "classic"),
        ("x-delivery-limit", 5),
        ("x-delivery-limit", "20"),
        ("x-delivery-limit", 20.0),
        ("x-dead-letter-exchange", "dlx"),
        ("x-dead-letter-routing-key", "elsewhere"),
        ("x-dead-letter-strategy", "at-most-once"),
        ("x-overflow", "drop-head"),
    ],
)
def test_an_argument_that_contradicts_the_contract_is_a_fault(tmp_path: Path, argument: str, value: object) -> None:
    found = faults(tmp_path, {"queues.omps-worker.arguments": {argument: value}})
    assert list(found) == [f"queues.omps-worker.arguments.{argument}"]
    assert "remove this key" in found[f"queues.omps-worker.arguments.{argument}"]


@pytest.mark.parametrize(("key", "value"), [("durable", False), ("auto_delete", True), ("exclusive", True)])
def test_a_queue_that_vanishes_is_a_fault(tmp_path: Path, key: str, value: bool) -> None:
    found = faults(tmp_path, {f"queues.omps-worker.{key}": value})
    assert list(found) == [f"queues.omps-worker.{key}"]
    assert "survive" in found[f"queues.omps-worker.{key}"]


def test_a_queue_as_fedora_messaging_wants_it_is_taken(tmp_path: Path) -> None:
    complete = {"durable": True, "auto_delete": False, "exclusive": False, "arguments": {}}
    assert faults(tmp_path, {"queues.omps-worker": complete}) == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "anonymous"), ("amq.mine", "amq."), ("x" * 217, "at most"), ("a\nb", "control")],
)
def test_a_queue_needs_a_name_that_the_broker_takes(tmp_path: Path, name: str, reason: str) -> None:
    found = faults(tmp_path, {"queues": {name: {}}})
    assert any(reason in text for text in found.values())


def test_a_number_too_large_for_the_broker_is_a_fault(tmp_path: Path) -> None:
    found = faults(tmp_path, {"queues.omps-worker.arguments": {"x-max-age": 2**63}})
    assert "64 bits" in found["queues.omps-worker.arguments"]


def test_a_binding_means_the_configured_queue(tmp_path: Path) -> None:
    keys = ["org.example.build", "*.koji.#"]
    for binding in (
        {"exchange": "amq.topic", "routing_keys": keys},
        {"queue": "omps-worker", "exchange": "amq.topic", "routing_keys": keys},
    ):
        (read,) = settings(tmp_path, {"bindings": [binding]}).bindings
        assert (read.exchange, read.routing_keys) == ("amq.topic", tuple(keys))


@pytest.mark.parametrize(
    ("binding", "key"),
    [
        ({"queue": "other", "exchange": "e", "routing_keys": ["#"]}, "bindings[0].queue"),
        ({"queue": "", "exchange": "e", "routing_keys": ["#"]}, "bindings[0].queue"),
        ({"routing_keys": ["#"]}, "bindings[0].exchange"),
        ({"exchange": "", "routing_keys": ["#"]}, "bindings[0].exchange"),
        ({"exchange": "e"}, "bindings[0].routing_keys"),
        ({"exchange": "e", "routing_keys": "#"}, "bindings[0].routing_keys"),
        ({"exchange": "e", "routing_keys": []}, "bindings[0].routing_keys"),
        ({"exchange": "e", "routing_keys": [3]}, "bindings[0].routing_keys[0]"),
        ({"exchange": "e", "routing_keys": ["x" * 256]}, "bindings[0].routing_keys[0]"),
        ({"exchange": "e", "routing_keys": ["#"], "topics": []}, "bindings[0].topics"),
        ("omps-worker", "bindings[0]"),
    ],
)
def test_a_binding_that_binds_nothing_is_a_fault(tmp_path: Path, binding: object, key: str) -> None:
    assert list(faults(tmp_path, {"bindings": [binding]})) == [key]


def test_certificates_are_found_beside_the_file_they_are_named_in(tmp_path: Path) -> None:
    self_signed(tmp_path)
    tls = settings(
        tmp_path, {"tls": {"ca_cert": "certificate.pem", "certfile": "certificate.pem", "keyfile": "key.pem"}}
    ).tls
    assert tls.ca_cert == tls.certfile == tmp_path / "certificate.pem"
    assert tls.keyfile == tmp_path / "key.pem"


def test_part_of_the_tls_section_is_enough(tmp_path: Path) -> None:
    self_signed(tmp_path)
    tls = settings(tmp_path, {"amqp_url": "amqps://rabbit", "tls.ca_cert": "certificate.pem"}).tls
    assert (tls.certfile, tls.keyfile) == (None, None)


@pytest.mark.parametrize(
    ("tls", "key"),
    [
        ({"ca_cert": "nowhere.pem"}, "tls.ca_cert"),
        ({"ca_cert": "key.pem"}, "tls.ca_cert"),
        ({"ca_cert": 5}, "tls.ca_cert"),
        ({"certfile": "certificate.pem"}, "tls.keyfile"),
        ({"keyfile": "key.pem"}, "tls.certfile"),
        ({"certfile": "certificate.pem", "keyfile": "certificate.pem"}, "tls.certfile"),
        ({"ca_certs": "certificate.pem"}, "tls.ca_certs"),
    ],
)
def test_certificates_that_cannot_work_are_a_fault(tmp_path: Path, tls: dict[str, object], key: str) -> None:
    self_signed(tmp_path)
    assert list(faults(tmp_path, {"tls": tls})) == [key]


def test_certificates_without_amqps_are_a_warning(tmp_path: Path) -> None:
    self_signed(tmp_path)
    assert [fault.key for fault in settings(tmp_path, {"tls.ca_cert": "certificate.pem"}).warnings] == ["tls"]


def test_a_bundle_of_certificates_may_be_a_file_or_a_directory(tmp_path: Path) -> None:
    self_signed(tmp_path)
    bundle = "consumer_config.ca_bundle"
    assert settings(tmp_path, {bundle: "certificate.pem"}).warnings == ()
    unhashed = settings(tmp_path, {bundle: "."})
    assert unhashed.worker.ca_bundle == tmp_path
    assert [fault.key for fault in unhashed.warnings] == [bundle]
    (tmp_path / "0a1b2c3d.0").symlink_to("certificate.pem")
    assert settings(tmp_path, {bundle: "."}).warnings == ()


def test_a_bundle_that_holds_no_certificate_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "bundle.pem").write_text("")
    assert (
        "no certificate" in faults(tmp_path, {"consumer_config.ca_bundle": "bundle.pem"})["consumer_config.ca_bundle"]
    )


@pytest.mark.parametrize(
    ("routing_key", "words"),
    [
        ("#.build*.state.change", "'build*', which is not a wildcard"),
        ("org.*koji.#", "'*koji', which is not a wildcard"),
        ("org.##", "'##', which is not a wildcard"),
        ("org.build.complete ", "ends with a space"),
        ("#.build.*.change", None),
        ("#", None),
    ],
)
def test_a_routing_key_whose_wildcard_is_none_is_a_warning(tmp_path: Path, routing_key: str, words: str | None) -> None:
    binding = {"exchange": "amq.topic", "routing_keys": ["#.build.complete", routing_key]}
    warnings = settings(tmp_path, {"bindings": [binding]}).warnings
    assert [warning.key for warning in warnings] == (["bindings[0].routing_keys[1]"] if words else [])
    assert all(words in warning.reason and repr(routing_key) in warning.reason for warning in warnings if words)
