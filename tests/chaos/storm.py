# SPDX-License-Identifier: GPL-3.0-or-later
"""A storm: several workers, many builds of few packages, and everything around them fails at random.

After the storm the books are looked at: what the registry holds, what the bus was told, and what is
left in the queues. All randomness comes from one seed; what the machine adds is timing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError

from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX, SandboxSite
from tests.chaos.cluster import Cluster

RESULTS = "results"
"""A queue of our own that keeps every result, whatever happens to the broker."""

FINAL = {"published", "unchanged", "skipped", "failed"}

MAPPING = """\
version: 1
rules:
  - match: {component: "storm-*-container"}
    superseded: SUPERSEDED
    publish: [{organization: community}]
"""

EXTRA = """\
[consumer_config.retry]
delays = ["200ms", "1s", "2s"]
give_up_after = "1h"
"""


@dataclass(frozen=True)
class Plan:
    """How bad it gets. Times are in seconds, chances from 0 to 1."""

    seed: int = 1
    builds: int = 40
    packages: int = 4
    workers: int = 2
    repeated: float = 0.2
    kill_every: float = 1.0
    nodes: int = 1
    """Of how many nodes the broker is a cluster."""
    broker_restarts: int = 0
    """How often a node of it is stopped or killed, and started again."""
    lost_answers: float = 0.05
    refused: float = 0.05
    outages: int = 2
    superseded: str = "publish"
    patience: float = 120.0
    """How long after the last message the workers may take to settle everything."""


@dataclass
class Report:
    """What happened, and what was wrong with the outcome."""

    plan: Plan
    messages: int = 0
    kills: int = 0
    broker_restarts: int = 0
    lost_answers: int = 0
    refused: int = 0
    seconds: float = 0.0
    results: Counter[str] = field(default_factory=Counter)
    releases: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.plan.seed}: {self.plan.builds} builds of {self.plan.packages} packages, "
            f"{self.plan.workers} workers, {self.messages} messages, superseded: {self.plan.superseded}",
            f"kills {self.kills}, restarts of one of {self.plan.nodes} broker node(s) {self.broker_restarts}, "
            f"answers lost {self.lost_answers}, requests refused {self.refused}, {self.seconds:.0f} s",
            f"releases {self.releases}, results {dict(sorted(self.results.items()))}",
        ]
        return "\n".join([*lines, *(f"WRONG: {fault}" for fault in self.faults)])


class Storm:
    """One storm over a site of its own in ``directory``."""

    def __init__(self, directory: Path, plan: Plan, say: Callable[[str], object] = lambda text: None) -> None:
        self._plan = plan
        self._say = say
        self._random = random.Random(plan.seed)
        self._directory = directory
        self._broker = Cluster(directory, plan.nodes)
        self._workers: list[subprocess.Popen[str]] = []
        self._builds: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._broker_free = threading.Lock()
        self.report = Report(plan)

    def rage(self) -> Report:
        """Let it happen; afterwards look at the books."""
        begun = time.monotonic()
        with (
            self._broker,
            SandboxSite(self._directory, node=self._broker.first, amqp_url=self._broker.url) as self._site,
        ):
            self._prepare()
            self._workers = [self._start_worker() for _ in range(self._plan.workers)]
            killer = threading.Thread(target=self._kill_workers)
            breaker = threading.Thread(target=self._break_parts)
            try:
                self._wait(lambda: self._depth(QUEUE) is not None, 60, "the queue")
                killer.start()
                breaker.start()
                self._send_messages()
                breaker.join()
                self._wait(lambda: self._depth(QUEUE) == 0, self._plan.patience, "the queue to be taken")
                self._over.set()
                killer.join()
                self._say("the storm is over; the workers settle what is left")
                self._settle()
                self._stop_workers()
                self._look_at_the_books()
            finally:
                self._over.set()
                for worker in self._workers:
                    worker.kill()
                    worker.wait()
                for thread in (killer, breaker):
                    if thread.is_alive():
                        thread.join()
        self.report.seconds = time.monotonic() - begun
        return self.report

    # Before the storm.

    def _prepare(self) -> None:
        site, plan = self._site, self._plan
        (site.directory / "mapping.yaml").write_text(MAPPING.replace("SUPERSEDED", plan.superseded))
        text = site.config.read_text().replace("[consumer_config.koji]", f"{EXTRA}\n[consumer_config.koji]")
        text = text.replace(f'url = "{site.registry.url}"', f'url = "{site.registry.url}"\ntimeout = "3s"')
        site.config.write_text(text)
        with self._channel() as channel:
            channel.queue_declare(RESULTS, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(RESULTS, "amq.topic", f"{TOPIC_PREFIX}.omps.release.#")
        for number in range(plan.builds):
            package = f"storm-{number % plan.packages}"
            files = operators.flat_operator(package, version=f"1.0.{number}")
            build = site.koji.add_build(f"{package}-container", "1.0", str(number), manifests=operators.zip_of(files))
            self._builds.append(build)
        pushes = range(plan.builds * 2)
        for after in pushes:
            chance = self._random.random()
            if chance < plan.lost_answers:
                site.registry.faults.add(Fault("POST /cnr/.*", drop_answer=True, after=after))
                self.report.lost_answers += 1
            elif chance < plan.lost_answers + plan.refused:
                site.registry.faults.add(Fault("(GET|POST) /cnr/.*", status=503, after=after))
                self.report.refused += 1

    # During the storm.

    def _send_messages(self) -> None:
        builds = list(self._builds)
        builds += [build for build in self._builds if self._random.random() < self._plan.repeated]
        # Out of order, but not wildly: as after an outage of the bus.
        builds.sort(key=lambda build: build["id"] + self._random.uniform(0, 8))
        for build in builds:
            message = self._site.koji.message(build)
            self._insist(lambda channel, message=message: self._site.send(channel, message))
            self.report.messages += 1

    def _kill_workers(self) -> None:
        chaos = random.Random(self._plan.seed + 1)
        while not self._over.wait(self._plan.kill_every * chaos.uniform(0.5, 1.5)):
            # On a busy machine workers that are killed before they began would settle nothing.
            while self._consumers() < len(self._workers) and not self._over.wait(0.1):
                pass
            if self._over.is_set():
                return
            number = chaos.randrange(len(self._workers))
            self._workers[number].send_signal(signal.SIGKILL)
            self._workers[number].wait()
            self.report.kills += 1
            self._workers[number] = self._start_worker()

    def _break_parts(self) -> None:
        chaos = random.Random(self._plan.seed + 2)
        for _ in range(self._plan.outages):
            self._over.wait(chaos.uniform(0.5, 2.0))
            self._site.koji.fail_calls(chaos.choice(["offline", "lockout", "database"]), chaos.randint(1, 6))
        for number in range(self._plan.broker_restarts):
            self._over.wait(chaos.uniform(3.0, 6.0))
            # Nobody sends to a broker of one node that is away: only patience would be tried.
            with self._broker_free if self._plan.nodes == 1 else nullcontext():
                self._say("a node of the broker goes away")
                self._say(self._broker.lose_a_node(chaos, self._over.wait, gently=number == 0))
                self.report.broker_restarts += 1

    # After the storm.

    def _settle(self) -> None:
        """Wait until every build has a final result and the queues are empty, or patience ends."""
        deadline = time.monotonic() + self._plan.patience
        while time.monotonic() < deadline:
            self._hear()
            if not self._unsettled() and self._empty():
                return
            threading.Event().wait(0.5)
        self.report.faults.append("patience ended before everything was settled")

    def _unsettled(self) -> list[str]:
        final = {result["nvr"] for result in self._told if result["status"] in FINAL}
        return [build["nvr"] for build in self._builds if build["nvr"] not in final]

    def _empty(self) -> bool:
        """Whether nothing is ready or un-acked in any of our queues but those for people.

        What a retry queue is just sending back is in no such number.
        """
        try:
            listing = self._site.node.rabbitmqctl("list_queues", "--silent", "name", "messages", "--formatter", "json")
        except Exception:
            return False
        depths = {queue["name"]: queue["messages"] for queue in json.loads(listing)}
        return all(count == 0 for name, count in depths.items() if name == QUEUE or name.startswith(f"{QUEUE}.retry."))

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            if worker.wait(60) != 0:
                self.report.faults.append(f"a worker ended with {worker.returncode}")

    def _look_at_the_books(self) -> None:
        self._hear()
        told = self._told
        faults = self.report.faults
        digests: dict[str, str] = {}
        final = defaultdict(set)
        for result in told:
            self.report.results[result["status"]] += 1
            final[result["nvr"]].add(result["status"])
            if result["status"] == "published":
                digests[result["digest"]] = result["nvr"]
        for build in self._builds:
            if not final[build["nvr"]] & FINAL:
                faults.append(f"{build['nvr']} has no final result: {sorted(final[build['nvr']])}")
        if self.report.results["failed"]:
            names = Counter(result["error"]["name"] for result in told if result["status"] == "failed")
            faults.append(f"failures were told: {dict(names)}")
        if self._depth(f"{QUEUE}.failed"):
            faults.append(f"{self._depth(f'{QUEUE}.failed')} message(s) are parked")
        for number in range(self._plan.packages):
            self._look_at_package(f"storm-{number}", digests)
        queues = json.loads(self._site.node.rabbitmqctl("list_queues", "--silent", "name", "--formatter", "json"))
        left = [queue["name"] for queue in queues if queue["name"].startswith("omps-worker.lock.")]
        if left:
            faults.append(f"locks are held: {left}")

    def _look_at_package(self, package: str, digests: dict[str, str]) -> None:
        faults = self.report.faults
        builds = [build for build in self._builds if build["name"] == f"{package}-container"]
        releases = self._site.registry.releases("community", package)
        self.report.releases += len(releases)
        versions = [release.version for release in releases]
        if sorted(versions, key=_number) != [f"{number}.0.0" for number in range(1, len(versions) + 1)]:
            faults.append(f"versions of {package} are not consecutive: {versions}")
        contents = Counter(release.digest for release in releases)
        doubled = {digest[:12]: count for digest, count in contents.items() if count > 1}
        if doubled:
            faults.append(f"contents of {package} were released more than once: {doubled}")
        unknown = [digest[:12] for digest in contents if digest not in digests]
        if unknown:
            faults.append(f"nobody was told of these releases of {package}: {unknown}")
        if self._plan.superseded == "publish" and len(contents) != len(builds):
            faults.append(f"{package}: {len(contents)} contents of {len(builds)} builds were released")
        highest = max(releases, key=lambda release: _number(release.version), default=None)
        newest = max(builds, key=lambda build: build["completion_ts"])
        if self._plan.superseded == "skip" and (highest is None or digests.get(highest.digest) != newest["nvr"]):
            faults.append(f"{newest['nvr']} is not the highest release of {package}")

    def _hear(self) -> None:
        """Take the results that have come."""
        with suppress(AMQPError), self._channel() as channel:
            while True:
                method, _, body = channel.basic_get(RESULTS, auto_ack=True)
                if method is None or body is None:
                    return
                self._told.append(json.loads(body))

    # Small things.

    def _start_worker(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "FEDORA_MESSAGING_CONF": str(self._site.config)}
        with (self._site.directory / "workers.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "omps_worker", "run"],
                stderr=log,
                stdout=subprocess.DEVNULL,
                env=environment,
                text=True,
            )

    def _channel(self) -> _Channel:
        return _Channel(self._site)

    def _depth(self, queue: str) -> int | None:
        with suppress(AMQPError), self._channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)
        return None

    def _consumers(self) -> int:
        with suppress(AMQPError, OSError), self._channel() as channel:
            return int(channel.queue_declare(QUEUE, passive=True).method.consumer_count)
        return 0

    def _insist(self, act: Callable[[Any], object]) -> None:
        """Publish as a build system with patience does: until the broker has confirmed."""
        while True:
            with suppress(AMQPError, OSError), self._broker_free, self._channel() as channel:
                act(channel)
                return
            self._over.wait(0.2)

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            if time.monotonic() > deadline:
                log = (self._site.directory / "workers.log").read_text(errors="replace")
                raise RuntimeError(f"waited in vain for {what}; the workers' log ends so:\n{log[-8000:]}")
            pause.wait(0.2)


class _Channel:
    def __init__(self, site: SandboxSite) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(site.amqp_url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def __enter__(self) -> Any:
        return self._channel

    def __exit__(self, *_: object) -> None:
        with suppress(AMQPError):
            self._connection.close()


def _number(version: str) -> int:
    return int(version.partition(".")[0])
