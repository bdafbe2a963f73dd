# SPDX-License-Identifier: GPL-3.0-or-later
"""``deploy/rabbitmq`` is what the worker of ``deploy/kubernetes`` would declare, and lets its user do just that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from omps_worker.broker.locks.lock_queues import LockedPackage
from omps_worker.broker.queues.topology import Topology, failed_queue, retry_arguments, retry_queue
from omps_worker.common.model import Status
from omps_worker.configuration.settings.models import WorkerSettings
from omps_worker.messages.events import BODY_LIMIT
from omps_worker.sandbox.broker import MESSAGE_BYTES
from tests.support.deploying import DEPLOY, KUBERNETES, definitions, documents, mounted

BASE = KUBERNETES / "base"
BROKER_CONFIGURATION = DEPLOY / "rabbitmq/10-omps-worker.conf"
IDLE_BYTES = 110 * 2**20
"""What a worker takes that has worked, by the mark of docs/performance.md."""


@pytest.fixture
def topology(tmp_path: Path) -> Topology:
    return Topology.of(mounted(BASE / "config.toml", BASE / "mapping.yaml", tmp_path)[0])


def queue(name: str, arguments: Any) -> dict[str, Any]:
    return {"name": name, "vhost": "/", "durable": True, "auto_delete": False, "arguments": dict(arguments)}


def test_the_queues_are_those_that_the_worker_declares(topology: Topology) -> None:
    assert definitions()["queues"] == [
        queue(topology.queue, topology.arguments),
        *(
            queue(retry_queue(topology.queue, delay), retry_arguments(topology.queue, delay))
            for delay in topology.delays
        ),
        queue(failed_queue(topology.queue), topology.failed_arguments),
    ]


def test_the_bindings_are_those_that_the_worker_makes(topology: Topology) -> None:
    bound = [(each["source"], each["routing_key"]) for each in definitions()["bindings"]]
    assert tuple(bound) == topology.bindings
    assert {each["destination"] for each in definitions()["bindings"]} == {topology.queue}


def test_nothing_limits_or_expires_what_waits_in_the_failed_queue() -> None:
    (failed,) = (each for each in definitions()["queues"] if each["name"].endswith(".failed"))
    losing = {"x-expires", "x-max-length", "x-max-length-bytes", "x-message-ttl"}
    assert not losing & set(failed["arguments"])


def test_the_policy_reaches_every_queue_that_holds_messages_and_limits_none_of_them(topology: Topology) -> None:
    (policy,) = definitions()["policies"]
    assert policy["definition"] == {"overflow": "reject-publish"}
    reached = re.compile(policy["pattern"])
    assert [each["name"] for each in definitions()["queues"] if not reached.search(each["name"])] == []
    package = LockedPackage.of("https://quay.example.com", "community", "etcd")
    others = ("omps-worker2", "my-omps-worker", "omps-workerXfailed", package.lock, package.mark)
    assert [name for name in others if reached.search(name)] == []


def test_the_size_of_messages_is_bounded_as_tests_have_it_and_fits_into_the_memory_of_a_worker() -> None:
    (told,) = re.findall(r"^max_message_size = (\d+)$", BROKER_CONFIGURATION.read_text(), re.MULTILINE)
    assert int(told) == MESSAGE_BYTES
    assert BODY_LIMIT <= MESSAGE_BYTES
    (container,) = documents(BASE / "worker.yaml")[-1]["spec"]["template"]["spec"]["containers"]
    allowed = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    prefetch = WorkerSettings.model_fields["prefetch"].default
    # Those in hand, one that comes in twice, one that goes out once more.
    assert IDLE_BYTES + (prefetch + 3) * MESSAGE_BYTES < allowed


def test_there_is_no_user_so_that_importing_again_changes_no_password() -> None:
    assert set(definitions()) == {"permissions", "topic_permissions", "policies", "queues", "bindings"}


def test_the_patterns_fit_whole_names_of_ours_alone(topology: Topology) -> None:
    (permissions,) = definitions()["permissions"]
    for kind in ("configure", "write", "read"):
        assert permissions[kind].startswith("^(")
        assert permissions[kind].endswith(")$")
    package = LockedPackage.of("https://quay.example.com", "community", "etcd")
    own = [each["name"] for each in definitions()["queues"]]
    configure = re.compile(permissions["configure"])
    assert [name for name in (*own, package.lock, package.mark) if not configure.search(name)] == []
    others = (
        "omps-worker2",
        "my-omps-worker",
        "omps-worker.other",
        "omps-workerXfailed",
        f"{package.lock}0",
        "amq.topic",
    )
    assert [name for name in others if configure.search(name)] == []
    assert [name for name in others[:-1] if re.search(permissions["read"], name)] == []


@pytest.mark.parametrize("delay", ["500ms", "10s", "1.5h", "30"])
def test_delays_of_any_form_need_no_new_permissions(delay: str) -> None:
    (permissions,) = definitions()["permissions"]
    assert re.search(permissions["configure"], f"omps-worker.retry.{delay}")


def test_results_may_be_told_and_builds_be_heard_of_and_no_other_topics(topology: Topology, tmp_path: Path) -> None:
    (topics,) = definitions()["topic_permissions"]
    prefix = mounted(BASE / "config.toml", BASE / "mapping.yaml", tmp_path)[0].topic_prefix
    results = [f"{prefix}.omps.release.{status}" for status in (*(each.value for each in Status), "deleted")]
    assert topics["exchange"] == topology.publish_exchange
    assert [topic for topic in results if not re.search(topics["write"], topic)] == []
    assert [key for _, key in topology.bindings if not re.search(topics["read"], key)] == []
    others = (f"{prefix}.omps.release", f"{prefix}.buildsys.tag", f"{prefix}Xomps.release.failed", "#")
    assert [topic for topic in others if re.search(topics["write"], topic) or re.search(topics["read"], topic)] == []
