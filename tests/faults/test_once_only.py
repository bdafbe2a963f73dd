# SPDX-License-Identifier: GPL-3.0-or-later
"""One content, one release, and never two contents under one version: with real workers that die or freeze."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.faults import Fault
from tests.support.proxy import Proxy
from tests.support.site import TestSite, edit, results_of
from tests.support.waiting import wait_until

COMPONENT = "otter-cache-operator-container"
MAPPING = """\
version: 1
rules:
  - match: {}
    superseded: publish
    publish: [{organization: community}]
"""
PUSH = "POST /cnr/api/v1/packages/.*"
LOOK = "GET /cnr/api/v1/packages/.*"


@dataclass
class Replica:
    process: subprocess.Popen
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_until_logged(self, text: str, seconds: float = 40) -> None:
        wait_until(lambda: text in self.log, seconds, f"{text!r} in the log:\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Crowd(TestSite):
    """A site for several workers, quick to notice that one is gone, with a registry that does not guard versions."""

    def __init__(self, directory, amqp_url: str, *, through: str | None = None, registry_timeout: str = "6s") -> None:
        super().__init__(directory, amqp_url=amqp_url)
        self.registry = SandboxRegistry(racy=True)
        self._through = through or amqp_url
        self._timeout = registry_timeout
        self._replicas = 0

    def __enter__(self) -> Crowd:
        super().__enter__()
        edit(self.config, f'"{self.amqp_url}"', f'"{self._through}?heartbeat=2"')
        edit(self.config, "[consumer_config]\n", "[consumer_config]\nconcurrency = 16\nprefetch = 16\n")
        edit(self.config, "[consumer_config.registry]", f"[consumer_config.registry]\ntimeout = {self._timeout!r}")
        retry = '[consumer_config.retry]\ndelays = ["200ms", "1s"]\n'
        edit(self.config, "[consumer_config.koji]", f"{retry}[consumer_config.koji]")
        (self.directory / "mapping.yaml").write_text(MAPPING)
        return self

    @contextmanager
    def replica(self) -> Iterator[Replica]:
        """A worker, consuming; killed at the end, in whatever state it is."""
        self._replicas += 1
        log = self.directory / f"worker-{self._replicas}.log"
        process = self.worker("run", log=log)
        try:
            replica = Replica(process, log)
            replica.wait_until_logged("consuming from the queue")
            yield replica
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def build(self, number: int) -> dict:
        manifests = operators.zip_of(operators.nested_operator("otter-cache", versions=(f"1.0.{number}",)))
        return self.koji.add_build(COMPONENT, "1.0", str(number), manifests=manifests)

    @property
    def pushes(self) -> int:
        return sum(entry.method == "POST" and entry.target.startswith("/cnr/") for entry in self.registry.log)

    @property
    def versions(self) -> list[str]:
        return [release.version for release in self.registry.releases("community", "otter-cache")]

    def contents(self) -> int:
        return len({release.digest for release in self.registry.releases("community", "otter-cache")})


@pytest.fixture
def crowd(tmp_path, amqp_url):
    with Crowd(tmp_path / "site", amqp_url) as made:
        yield made


@contextmanager
def two_replicas(crowd: Crowd, build: dict) -> Iterator[tuple[Replica, Replica]]:
    """The first of them works on ``build`` as soon as both consume."""
    both = threading.Event()
    download = crowd.koji.faults.add(Fault("GET .*operator_manifests.*", hold=both))
    with crowd.replica() as one:
        crowd.publish(crowd.koji.message(build))
        wait_until(lambda: crowd.koji.faults.fired(download), 30, "the download")
        with crowd.replica() as other:
            both.set()
            yield one, other


@pytest.fixture
def patient_crowd(tmp_path, amqp_url):
    """As long as a worker waits for the registry, its work is not over."""
    with Crowd(tmp_path / "site", amqp_url, registry_timeout="60s") as made:
        yield made


def all_told(watch, builds):
    """Wait until every build was told to be published, as often as it may be; returns the results."""

    def told():
        watch.poll()
        return {body["nvr"] for _, body in watch.results if body["status"] == "published"} == set(builds)

    wait_until(told, 60, f"all of {builds} to be published; so far: {watch.results}")
    return [body for _, body in watch.results]


def versions_of(results):
    return {(body["nvr"], body["version"]) for body in results if body["status"] == "published"}


def test_a_worker_killed_inside_a_push_that_is_stored_later_leaves_no_double(crowd):
    stored = threading.Event()
    push = crowd.registry.faults.add(Fault(PUSH, hold=stored))
    first, second = crowd.build(1), crowd.build(2)
    with crowd.watching() as watch, two_replicas(crowd, first) as (one, other):
        wait_until(lambda: crowd.registry.faults.fired(push), 30, "the push")
        one.send(signal.SIGKILL)
        crowd.publish(crowd.koji.message(second))
        other.wait_until_logged("the outcome of an earlier push to community/otter-cache is not known yet")
        stored.set()
        results = all_told(watch, {first["nvr"], second["nvr"]})
    assert crowd.versions == ["1.0.0", "2.0.0"]
    assert versions_of(results) == {(first["nvr"], "1.0.0"), (second["nvr"], "2.0.0")}
    assert crowd.pushes == 2


def test_a_worker_killed_inside_a_push_that_is_never_stored_is_replaced(crowd):
    never = threading.Event()
    push = crowd.registry.faults.add(Fault(PUSH, hold=never, drop=True))
    build = crowd.build(1)
    with crowd.watching() as watch, two_replicas(crowd, build) as (one, _other):
        wait_until(lambda: crowd.registry.faults.fired(push), 30, "the push")
        one.send(signal.SIGKILL)
        results = all_told(watch, {build["nvr"]})
        never.set()
    assert crowd.versions == ["1.0.0"]
    assert [body["status"] for body in results] == ["published"]


def test_a_worker_frozen_inside_a_push_finds_it_stored_when_it_wakes_up(crowd):
    stored = threading.Event()
    push = crowd.registry.faults.add(Fault(PUSH, hold=stored))
    first, second = crowd.build(1), crowd.build(2)
    with crowd.watching() as watch, two_replicas(crowd, first) as (one, other):
        wait_until(lambda: crowd.registry.faults.fired(push), 30, "the push")
        one.send(signal.SIGSTOP)
        crowd.publish(crowd.koji.message(second))
        other.wait_until_logged("the outcome of an earlier push to community/otter-cache is not known yet")
        stored.set()
        all_told(watch, {first["nvr"], second["nvr"]})
        one.send(signal.SIGCONT)
        one.wait_until_logged(f"published {first['nvr']} community/otter-cache 1.0.0")
        one.send(signal.SIGTERM)
        assert one.process.wait(30) in (0, 1)
        watch.poll()
    assert crowd.versions == ["1.0.0", "2.0.0"]
    assert crowd.pushes == 2
    assert {body["status"] for _, body in watch.results} == {"published"}
    assert versions_of(body for _, body in watch.results) == {(first["nvr"], "1.0.0"), (second["nvr"], "2.0.0")}


def test_a_worker_frozen_before_its_push_does_not_push_when_it_wakes_up(patient_crowd):
    crowd, seen = patient_crowd, threading.Event()
    look = crowd.registry.faults.add(Fault(LOOK, hold_answer=seen))
    first, second = crowd.build(1), crowd.build(2)
    with crowd.watching() as watch, two_replicas(crowd, first) as (one, other):
        wait_until(lambda: crowd.registry.faults.fired(look), 30, "the look")
        one.send(signal.SIGSTOP)
        seen.set()
        crowd.publish(crowd.koji.message(second))
        all_told(watch, {first["nvr"], second["nvr"]})
        assert crowd.pushes == 2
        one.send(signal.SIGCONT)
        one.wait_until_logged("was lost before the push, and nothing was pushed")
        one.wait_until_logged(f"retrying {first['nvr']}")
        # The retry finds the work done.
        wait_until(lambda: "attempt=2" in one.log + other.log, 30, "the retry")
    assert sorted(crowd.versions) == ["1.0.0", "2.0.0"]
    assert crowd.contents() == crowd.pushes == 2


def test_a_connection_cut_between_look_and_push_stops_the_push(tmp_path, amqp_url, shared_rabbit):
    with Proxy(shared_rabbit.node.port) as proxy:
        through = amqp_url.replace(f":{shared_rabbit.node.port}/", f":{proxy.port}/")
        with Crowd(tmp_path / "site", amqp_url, through=through, registry_timeout="60s") as crowd:
            seen = threading.Event()
            look = crowd.registry.faults.add(Fault(LOOK, hold_answer=seen))
            build = crowd.build(1)
            with crowd.watching() as watch, crowd.replica() as one:
                crowd.publish(crowd.koji.message(build))
                wait_until(lambda: crowd.registry.faults.fired(look), 30, "the look")
                proxy.cut()
                one.wait_until_logged("not consuming, trying again")
                seen.set()
                one.wait_until_logged("was lost before the push, and nothing was pushed")
                all_told(watch, {build["nvr"]})
            assert crowd.versions == ["1.0.0"]
            assert crowd.pushes == 1


@pytest.mark.parametrize("count", [8, 40])
def test_simultaneous_pushes_to_one_package_become_as_many_consecutive_versions(crowd, count):
    builds = [crowd.build(number) for number in range(count)]
    for number in range(count // 20):
        crowd.registry.faults.add(Fault(PUSH, drop_answer=True, after=7 + 17 * number))
    with crowd.watching() as watch, crowd.replica() as one, crowd.replica() as two, crowd.replica() as three:
        crowd.publish(*map(crowd.koji.message, builds))
        results = results_of(watch, count, 90)
        for replica in (one, two, three):
            replica.send(signal.SIGTERM)
        assert [replica.process.wait(30) for replica in (one, two, three)] == [0, 0, 0]
        assert sum("published" in replica.log for replica in (one, two, three)) > 1, "one did all the work"
    assert {body["status"] for body in results} == {"published"}
    assert crowd.versions == [f"{number}.0.0" for number in range(1, count + 1)]
    assert crowd.contents() == crowd.pushes == count


def test_builds_that_are_completed_together_all_become_releases_and_the_newest_is_on_top(crowd):
    edit(crowd.directory / "mapping.yaml", "superseded: publish", "superseded: skip")
    builds = [crowd.build(number) for number in range(16)]
    with crowd.watching() as watch, crowd.replica() as one, crowd.replica() as two:
        crowd.publish(*map(crowd.koji.message, reversed(builds)))
        results = results_of(watch, len(builds), 90)
        for replica in (one, two):
            replica.send(signal.SIGTERM)
        assert [replica.process.wait(30) for replica in (one, two)] == [0, 0]
    assert {body["nvr"]: body["status"] for body in results} == {build["nvr"]: "published" for build in builds}
    assert crowd.versions == [f"{number}.0.0" for number in range(1, len(builds) + 1)]
    (newest,) = [body["version"] for body in results if body["nvr"] == builds[-1]["nvr"]]
    assert newest == crowd.versions[-1]


def test_people_who_push_at_the_same_time_wait_for_each_other(crowd):
    builds = [crowd.build(number) for number in range(4)]
    command = [sys.executable, "-m", "omps_worker", "--config", str(crowd.config), "push", "--json"]
    pushing = [
        subprocess.Popen([*command, build["nvr"]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for build in builds
    ]
    ended = [(process.communicate(timeout=90), process.returncode) for process in pushing]
    assert [code for _, code in ended] == [0] * 4, ended
    published = sorted(json.loads(out)[0]["version"] for (out, _), _ in ended)
    assert published == sorted(crowd.versions) == ["1.0.0", "2.0.0", "3.0.0", "4.0.0"]
