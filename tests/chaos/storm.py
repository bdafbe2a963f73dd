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
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX, SandboxSite
from tests.chaos.builds import IN_CATALOG, StormBuild, builds_of, mapping_of
from tests.chaos.catalog_books import look_at_catalog
from tests.chaos.cluster import Cluster
from tests.chaos.image_faults import ImageFaults
from tests.chaos.plan import Plan, Report

RESULTS = "results"
"""A queue of our own that keeps every result, whatever happens to the broker."""

RESULTS_BETWEEN_KILLS = 3
"""How many results a worker, on average, publishes at least between two kills."""

FINAL = {"published", "unchanged", "skipped", "failed"}

EXTRA = """\
[consumer_config.retry]
delays = ["200ms", "1s", "2s"]
give_up_after = "1h"
"""


class Storm:
    """One storm over a site of its own in ``directory``."""

    def __init__(self, directory: Path, plan: Plan, say: Callable[[str], object] = lambda text: None) -> None:
        self._plan = plan
        self._say = say
        self._random = random.Random(plan.seed)
        self._directory = directory
        self._broker = Cluster(directory, plan.nodes)
        self._workers: list[subprocess.Popen[str]] = []
        self._builds: list[StormBuild] = []
        self._told: dict[str, dict[str, Any]] = {}
        """The results by their ids: what is told again has the same."""
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
        (site.directory / "mapping.yaml").write_text(mapping_of(plan))
        text = site.config.read_text().replace("[consumer_config.koji]", f"{EXTRA}\n[consumer_config.koji]")
        text = text.replace(f'url = "{site.registry.url}"', f'url = "{site.registry.url}"\ntimeout = "3s"')
        site.config.write_text(f'{text}timeout = "2s"\n')  # of the catalog, which is the last section
        with self._channel() as channel:
            channel.queue_declare(RESULTS, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(RESULTS, "amq.topic", f"{TOPIC_PREFIX}.omps.release.#")
        self._builds = list(builds_of(plan, site))
        pushes = range((plan.builds + plan.operators) * 2)
        for after in pushes:
            chance = self._random.random()
            if chance < plan.lost_answers:
                site.registry.faults.add(Fault("POST /cnr/.*", drop_answer=True, after=after))
                self.report.lost_answers += 1
            elif chance < plan.lost_answers + plan.refused:
                site.registry.faults.add(Fault("(GET|POST) /cnr/.*", status=503, after=after))
                self.report.refused += 1

        updates = sum(IN_CATALOG in build.targets for build in self._builds)
        self._image_faults = ImageFaults(site.images, random.Random(plan.seed + 3))
        self._image_faults.plan(round(updates * plan.image_faults), updates)

    # During the storm.

    def _send_messages(self) -> None:
        builds = list(self._builds)
        builds += [build for build in self._builds if self._random.random() < self._plan.repeated]
        # Out of order, but not wildly: as after an outage of the bus.
        builds.sort(key=lambda build: build.koji["id"] + self._random.uniform(0, 8))
        for build in builds:
            message = self._site.koji.message(build.koji)
            self._insist(lambda channel, message=message: self._site.send(channel, message))
            self.report.messages += 1

    def _kill_workers(self) -> None:
        chaos, told = random.Random(self._plan.seed + 1), 0
        while not self._over.wait(self._plan.kill_every * chaos.uniform(0.5, 1.5)):
            # On a busy machine workers that are killed before they began would settle nothing, and a message that is
            # always in flight then would be parked: workers seem to die of it.
            while not (self._all_consume() and told < (self._depth(RESULTS) or 0)) and not self._over.wait(0.1):
                pass
            if self._over.is_set() or self.report.kills == self._plan.most_kills:
                return
            number = chaos.randrange(len(self._workers))
            self._workers[number].send_signal(signal.SIGKILL)
            self._workers[number].wait()
            self.report.kills += 1
            told = (self._depth(RESULTS) or told) + RESULTS_BETWEEN_KILLS * self._plan.workers
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
        """What has no final result: NVRs with the labels of targets."""
        final = {(result["nvr"], _target(result)) for result in self._told.values() if result["status"] in FINAL}
        # What is parked before it is begun has one result for all targets.
        return [
            f"{build.nvr} at {target}"
            for build in self._builds
            for target in build.targets
            if not final & {(build.nvr, target), (build.nvr, None)}
        ]

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
        self.report.image_faults = self._image_faults.end()
        told = list(self._told.values())
        faults = self.report.faults
        digests: dict[str, str] = {}
        for result in told:
            self.report.results[result["status"]] += 1
            if result["status"] == "published" and result["organization"]:
                digests[result["digest"]] = result["nvr"]
        faults += [f"{what} has no final result" for what in self._unsettled()]
        if self.report.results["failed"]:
            names = Counter(result["error"]["name"] for result in told if result["status"] == "failed")
            faults.append(f"failures were told: {dict(names)}")
        if self._depth(f"{QUEUE}.failed"):
            faults.append(f"{self._depth(f'{QUEUE}.failed')} message(s) are parked")
        for package in sorted({build.package for build in self._builds if not build.is_bundle}):
            self._look_at_package(package, digests)
        look_at_catalog(self._site.images, self._builds, told, self.report)
        queues = json.loads(self._site.node.rabbitmqctl("list_queues", "--silent", "name", "--formatter", "json"))
        left = [queue["name"] for queue in queues if queue["name"].startswith("omps-worker.lock.")]
        if left:
            faults.append(f"locks are held: {left}")

    def _look_at_package(self, package: str, digests: dict[str, str]) -> None:
        faults = self.report.faults
        builds = [build for build in self._builds if build.package == package]
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
        newest = max(builds, key=lambda build: build.koji["completion_ts"])
        if self._plan.superseded == "skip" and (highest is None or digests.get(highest.digest) != newest.nvr):
            faults.append(f"{newest.nvr} is not the highest release of {package}")

    def _hear(self) -> None:
        """Take the results that have come."""
        with suppress(AMQPError), self._channel() as channel:
            while True:
                method, properties, body = channel.basic_get(RESULTS, auto_ack=True)
                if method is None or body is None:
                    return
                self._told[properties.message_id] = json.loads(body)

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

    def _all_consume(self) -> bool:
        with suppress(AMQPError, OSError), self._channel() as channel:
            return int(channel.queue_declare(QUEUE, passive=True).method.consumer_count) >= len(self._workers)
        return False

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


def _target(result: dict[str, Any]) -> str | None:
    """The label of the target that a result is about; None if it is about all."""
    return f"catalog:{result['catalog']['name']}" if result["catalog"] else result["organization"]


def _number(version: str) -> int:
    return int(version.partition(".")[0])
