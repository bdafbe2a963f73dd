# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a site's results with its releases and queues, for tests in which workers and brokers die."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pika.exceptions import AMQPError

from omps_worker.sandbox import operators
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX
from tests.support.site import TestSite
from tests.support.waiting import wait_until

PACKAGE = "otter-cache"
COMPONENT = "otter-cache-operator-container"
DELAYS = ("100ms", "1s")

_RESULTS = "everything-told"


def otter(number: int = 1) -> bytes:
    """Return manifests of the package. Each number gives another content."""
    return operators.zip_of(operators.flat_operator(PACKAGE, version=f"1.0.{number}"))


@dataclass(frozen=True)
class Told:
    """One result message."""

    id: str
    body: Mapping[str, Any]

    @property
    def status(self) -> str:
        return str(self.body["status"])


class Books:
    """Collects all results from the start, in a queue that survives restarts of the broker."""

    def __init__(self, site: TestSite) -> None:
        self.site = site
        self.told: list[Told] = []
        with site.channel() as channel:
            channel.queue_declare(_RESULTS, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(_RESULTS, "amq.topic", f"{TOPIC_PREFIX}.omps.release.#")

    def hear(self) -> list[Told]:
        """Return all results so far. If the broker is unavailable, there are no new ones."""
        with suppress(AMQPError, OSError):
            for properties, body in self.site.take(_RESULTS):
                self.told.append(Told(properties.message_id, json.loads(body)))
        return self.told

    def statuses(self) -> list[str]:
        """Return the statuses of all results so far, in order."""
        return [told.status for told in self.hear()]

    def wait_for(self, status: str, count: int = 1, seconds: float = 40) -> None:
        """Wait until ``count`` builds have a result of that status."""

        def enough() -> bool:
            return len({told.body["nvr"] for told in self.hear() if told.status == status}) >= count

        try:
            wait_until(enough, seconds, f"{count} {status}")
        except AssertionError as error:
            depths = {queue: self._depth(queue) for queue in self._working_queues()}
            raise AssertionError(f"{error}; so far {self.statuses()}, ready {depths}; {self.site.log}") from None

    def wait_until_idle(self, seconds: float = 20) -> None:
        """Wait until no message is ready in the queues that workers consume from."""
        wait_until(lambda: not any(map(self._depth, self._working_queues())), seconds, "empty queues")

    def balance(self, builds: Iterable[Mapping[str, Any]], *, parked: Iterable[str] = ()) -> None:
        """Check, after the last worker has ended, that each build is released and reported exactly once.

        Only the messages with the ids ``parked`` may be parked.
        """
        wait_until(lambda: self.site.consumers() == 0, 20, "the end of the workers")
        self.hear()
        for queue in self._working_queues():
            # Messages that were in flight in a dead worker are ready again, so this includes the unacked ones.
            assert self.site.take(queue) == [], queue
        assert sorted(properties.message_id for properties, _ in self.site.take(f"{QUEUE}.failed")) == sorted(parked)
        published = defaultdict(set)
        for told in self.told:
            if told.status == "published":
                published[told.body["nvr"]].add((told.id, told.body["version"], told.body["digest"]))
        assert set(published) == {build["nvr"] for build in builds}
        assert all(len(facts) == 1 for facts in published.values()), published
        releases = self.site.registry.releases("community", PACKAGE)
        assert [release.version for release in releases] == [f"{number + 1}.0.0" for number in range(len(published))]
        announced = {(version, digest) for facts in published.values() for _, version, digest in facts}
        assert {(release.version, release.digest) for release in releases} == announced

    def _working_queues(self) -> list[str]:
        return [QUEUE, *(f"{QUEUE}.retry.{delay}" for delay in DELAYS)]

    def _depth(self, queue: str) -> int:
        with self.site.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)


class Crew:
    """The worker processes of a site, which are all ended at the end."""

    def __init__(self, site: TestSite) -> None:
        self._site = site
        self._workers: list[subprocess.Popen[str]] = []

    def begin(self) -> subprocess.Popen[str]:
        """Start a worker, without waiting for it."""
        worker = self._site.worker("run")
        self._workers.append(worker)
        return worker

    def start(self) -> subprocess.Popen[str]:
        """Start a worker, and wait until it consumes."""
        before = self._begun_to_consume()
        worker = self.begin()
        wait_until(lambda: worker.poll() is not None or self._begun_to_consume() > before, 40, "a worker that consumes")
        assert worker.poll() is None, self._site.log
        return worker

    def stop(self, worker: subprocess.Popen[str]) -> None:
        """Stop a worker with SIGTERM. It must exit with code 0."""
        worker.terminate()
        assert worker.wait(40) == 0, self._site.log

    def stop_all(self) -> None:
        """Stop the workers that are still running."""
        for worker in self._workers:
            if worker.poll() is None:
                self.stop(worker)

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()

    def _begun_to_consume(self) -> int:
        return self._site.log.count("consuming from the queue")


@contextmanager
def crew_of(site: TestSite) -> Iterator[Crew]:
    """Yield the crew of a site, and end its workers in any case."""
    crew = Crew(site)
    try:
        yield crew
    finally:
        crew.close()


def impatient(site: TestSite, **more: str) -> TestSite:
    """Give the site short delays and timeouts. ``more``: further keys of consumer_config."""
    text = site.config.read_text()
    retry = f'[consumer_config.retry]\ndelays = {json.dumps(DELAYS)}\ngive_up_after = "5m"\n\n'
    text = text.replace("[consumer_config.koji]", f"{retry}[consumer_config.koji]")
    for key, url in (("hub_url", site.koji.hub_url), ("url", site.registry.url)):
        text = text.replace(f"{key} = {json.dumps(url)}\n", f'{key} = {json.dumps(url)}\ntimeout = "1500ms"\n')
    mapping = site.directory / "mapping.yaml"
    # Superseded builds must be published too, because here each build counts.
    mapping.write_text(mapping.read_text().replace("    publish:\n", "    superseded: publish\n    publish:\n"))
    lines = "".join(f"{key} = {value}\n" for key, value in more.items())
    site.config.write_text(text.replace("[consumer_config]\n", f"[consumer_config]\n{lines}"))
    return site
