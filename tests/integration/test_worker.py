# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker run`` as its users know it: messages go in, releases and results come out."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import pytest
from fedora_messaging import message as fedora_message
from pika.exceptions import UnroutableError

from omps_worker.common.model import BuildState, OperatorKind
from omps_worker.monitoring.port import ask
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.messages import DIALECTS, BusMessage
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
LANTERN = operators.zip_of(operators.flat_operator("lantern"))
COMPONENT = "otter-cache-operator-container"


def otter(number):
    return operators.zip_of(operators.nested_operator("otter-cache", versions=(f"1.0.{number}",)))


def test_a_build_message_becomes_a_release_and_a_result(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        (result,) = results_of(watch, 1)
    (release,) = site.registry.releases("community", "otter-cache")
    assert watch.results[0][0] == "org.example.sandbox.omps.release.published"
    assert (result["status"], result["organization"], result["repo"]) == ("published", "community", "otter-cache")
    assert (result["version"], result["digest"], result["public"]) == (release.version, release.digest, True)
    assert result["nvr"] == build["nvr"]
    assert result["build"]["id"] == build["id"]
    assert result["source"]["message_id"]
    assert result["source"]["topic"].endswith("buildsys.build.state.change")
    assert result["error"] is None
    assert site.take(QUEUE) == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_understood(site, dialect):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.watching() as watch, site.running():
        message = site.koji.message(build, dialect)
        site.publish(message._replace(routing_key="any.buildsys.build.state.change"))
        (result,) = results_of(watch, 1)
    assert (result["status"], result["nvr"]) == ("published", build["nvr"])


def test_results_are_messages_that_fedora_messaging_can_read(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.channel() as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", "org.example.sandbox.omps.#")
        with site.running():
            site.publish(site.koji.message(build))
            method, properties, body = wait_until(lambda: received(channel, queue), 30)
    read = fedora_message.get_message(method.routing_key, properties, body)
    assert type(read).__name__ == "ReleasePublishedV1"
    assert read.summary == f"{build['nvr']} was published as community/otter-cache 1.0.0"
    assert read.url == f"{site.registry.url}/application/community/otter-cache"
    assert properties.delivery_mode == 2


def received(channel, queue):
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    return (method, properties, body) if method else None


def test_what_fails_is_told_and_parked_with_its_reason(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER[:99])
    message = site.koji.message(build)
    with site.watching() as watch, site.running():
        site.publish(message)
        (result,) = results_of(watch, 1)
        wait_until(lambda: watch.depth(f"{QUEUE}.failed") == 1)
    assert (result["status"], result["error"]["name"]) == ("failed", "OMPSUploadedFileError")
    assert result["error"]["transient"] is False
    ((properties, body),) = site.take(f"{QUEUE}.failed")
    assert body == message.body
    assert properties.message_id == message.properties["message_id"]
    assert properties.headers["omps-topic"] == message.routing_key
    assert properties.headers["omps-exchange"] == "amq.topic"
    assert properties.headers["omps-error"] == "OMPSUploadedFileError"
    assert properties.headers["omps-targets"] == ["community"]
    assert properties.headers["fedora_messaging_schema"] == message.properties["headers"]["fedora_messaging_schema"]
    assert site.take(QUEUE) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\xff", b"{", b"[" * 100_000, b'{"attribute": "state", "new": 1}', b'"' + b"\\\\" * 1000],
    ids=["empty", "binary", "cut short", "too deep", "nameless build", "backslashes"],
)
def test_what_cannot_be_read_is_parked_and_the_worker_goes_on(site, body):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.watching() as watch, site.running():
        site.publish(BusMessage("org.example.buildsys.build.state.change", {}, body), site.koji.message(build))
        results = results_of(watch, 2)
        wait_until(lambda: watch.depth(f"{QUEUE}.failed") == 1)
    failed = next(result for result in results if result["status"] == "failed")
    assert (failed["organization"], failed["repo"], failed["error"]["name"]) == (None, None, "MessageError")
    assert "published" in {result["status"] for result in results}
    ((properties, parked),) = site.take(f"{QUEUE}.failed")
    assert (parked, properties.headers["omps-error"]) == (body, "MessageError")


def test_what_is_no_business_of_ours_leaves_no_trace(site):
    failed = site.koji.add_build(COMPONENT, "1.0", "1", state=BuildState.FAILED)
    elsewhere = site.koji.add_build("some-library", "1.0", "1", manifests=OTTER)
    playground = site.koji.add_build("playground-x", "1.0", "1", manifests=OTTER)
    wanted = site.koji.add_build("lantern-operator-container", "1.0", "1", manifests=LANTERN)
    with site.watching() as watch, site.running():
        quiet = [site.koji.message(build) for build in (failed, elsewhere, playground)]
        site.publish(*quiet)
        with pytest.raises(UnroutableError):
            site.publish(site.koji.tag_message(elsewhere))
        site.publish(site.koji.message(wanted))
        (result,) = results_of(watch, 1)
    assert result["nvr"] == wanted["nvr"]
    assert site.take(QUEUE) == site.take(f"{QUEUE}.failed") == []


def test_a_bundle_build_and_a_plain_image_are_skipped_with_the_reason(site):
    bundle = site.koji.add_build(
        "heron-operator-bundle-container", "1", "1", manifests=LANTERN, kind=OperatorKind.BUNDLE
    )
    plain = site.koji.add_build("kestrel-operator-container", "1", "1")
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(bundle), site.koji.message(plain))
        results = results_of(watch, 2)
    assert {(result["nvr"], result["status"], result["reason"]) for result in results} == {
        (bundle["nvr"], "skipped", "bundle build"),
        (plain["nvr"], "skipped", "not an operator image"),
    }
    assert site.take(f"{QUEUE}.failed") == []


def test_a_message_that_comes_twice_makes_one_release(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    message = site.koji.message(build)
    with site.watching() as watch, site.running():
        site.publish(message, message)
        results = results_of(watch, 2)
    assert [result["status"] for result in results] == ["published", "unchanged"]
    assert len(site.registry.releases("community", "otter-cache")) == 1


def test_builds_of_one_package_that_come_at_once_become_consecutive_releases(site):
    builds = [site.koji.add_build(COMPONENT, "1.0", str(n), manifests=otter(n)) for n in range(12)]
    with site.watching() as watch, site.running():
        site.publish(*map(site.koji.message, builds))
        results = results_of(watch, 12)
    assert {result["status"] for result in results} == {"published"}
    versions = [release.version for release in site.registry.releases("community", "otter-cache")]
    assert versions == [f"{n}.0.0" for n in range(1, 13)]


def test_an_answer_of_the_registry_that_is_lost_makes_no_second_release(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    site.registry.faults.add(Fault("POST /cnr/.*", drop_answer=True))
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        (result,) = results_of(watch, 1)
    assert (result["status"], result["version"]) == ("published", "1.0.0")
    assert len(site.registry.releases("community", "otter-cache")) == 1


def test_an_edit_of_the_mapping_counts_without_a_restart(site):
    build = site.koji.add_build("finch", "1.0", "1", manifests=OTTER)
    mapping = site.directory / "mapping.yaml"
    with site.watching() as watch, site.running() as worker:
        edit(mapping, "version: 1", "version: one")
        worker.send_signal(signal.SIGHUP)
        wait_until(lambda: "mapping.yaml" in site.log, what="the log to speak of the broken edit")
        edit(mapping, "rules:", "rules:\n  - {match: {component: finch}, publish: [{organization: partners}]}")
        edit(mapping, "version: one", "version: 1")
        worker.send_signal(signal.SIGHUP)
        message = site.koji.message(build)

        def published():
            site.publish(message)
            watch.poll()
            return watch.results

        wait_until(published, what="the new rule to count")
    assert watch.results[0][1]["organization"] == "partners"


def test_the_log_has_one_line_per_outcome_with_what_is_needed_to_find_it(site):
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    message = site.koji.message(build)
    with site.watching() as watch, site.running():
        site.publish(message)
        results_of(watch, 1)
    (line,) = [line for line in site.log.splitlines() if build["nvr"] in line]
    assert f"published {build['nvr']} community/otter-cache 1.0.0" in line
    assert message.properties["message_id"] in line


def test_machines_can_read_the_log(site):
    edit(site.config, "[consumer_config]", '[consumer_config]\nlog_format = "json"')
    build = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with site.watching() as watch, site.running():
        site.publish(site.koji.message(build))
        results_of(watch, 1)
    entries = [json.loads(line) for line in site.log.splitlines()]
    assert any(build["nvr"] in entry["message"] for entry in entries)


def test_no_secret_shows_anywhere_even_when_everything_fails(site):
    token, oauth = (
        (site.directory / "secrets" / name).read_text().strip() for name in ("community", "community-oauth")
    )
    basic = token.removeprefix("basic ")
    edit(site.config, "[consumer_config]", '[consumer_config]\nlog_level = "DEBUG"')
    edit(site.directory / "mapping.yaml", "asmith]}\n", "asmith]}\n    superseded: publish\n")
    builds = [site.koji.add_build(COMPONENT, "1.0", str(n), manifests=otter(n)) for n in range(3)]
    site.registry.faults.add(
        Fault("POST /cnr/.*", status=400, body={"error": {"code": "x", "message": f"bad {basic}"}})
    )
    site.registry.faults.add(Fault("POST /api/.*", status=500, body=f"<html>no {oauth} here</html>"))
    with site.watching() as watch, site.running():
        site.publish(*map(site.koji.message, builds))
        results = results_of(watch, 3)
    assert sorted(result["status"] for result in results) == ["failed", "published", "retrying"]
    told = json.dumps(watch.results) + site.log + site.command("check").out
    told += "".join(f"{properties}{body!r}" for properties, body in site.take(f"{QUEUE}.failed"))
    for secret in (basic, base64.b64decode(basic).decode().partition(":")[2], oauth):
        assert secret not in told


def test_the_health_port_tells_a_worker_that_listens_from_one_whose_broker_is_away(site):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    edit(site.config, "[consumer_config]", f"[monitoring]\nport = {port}\n[consumer_config]")
    with site.running():
        wait_until(lambda: ask("127.0.0.1", port, "/ready"), what="the worker to be ready")
        assert health_check(site) == 0
    assert health_check(site) == 1
    edit(site.config, site.amqp_url, "amqp://127.0.0.1:9")
    away = site.worker("run")
    try:
        wait_until(lambda: "cannot be reached" in site.log, what="the worker to miss its broker")
        assert ask("127.0.0.1", port, "/live")
        assert not ask("127.0.0.1", port, "/ready")
    finally:
        away.terminate()
        assert away.wait(30) == 0
        away.stdout.close()


def health_check(site):
    """What the container's health check does."""
    environment = {**os.environ, "FEDORA_MESSAGING_CONF": str(site.config)}
    return subprocess.run([sys.executable, "-m", "omps_worker.monitoring.port"], env=environment, timeout=30).returncode


def test_a_worker_that_is_frozen_loses_its_messages_as_soon_as_its_locks(site, shared_rabbit):
    """The broker ends a connection after two or three heartbeats of silence: all have the same."""
    vhost = unquote(urlsplit(site.amqp_url).path[1:])
    with site.running():

        def heartbeats() -> dict[str, str]:
            listed = shared_rabbit.node.rabbitmqctl("-q", "list_connections", "vhost", "timeout", "client_properties")
            ours = re.findall(rf"^{vhost}\t(\d+)\t.*omps-worker {QUEUE} (\w+)", listed, re.M)
            return {purpose: heartbeat for heartbeat, purpose in ours}

        wait_until(lambda: {"consumer", "publisher", "lock"} <= set(heartbeats()), 30, "the connections")
        assert set(heartbeats().values()) == {"15"}
