# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox site on the broker of the test run, with the worker as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika

from omps_worker.sandbox.broker import RabbitNode
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import QUEUE, ResultWatch, SandboxSite
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Ran:
    """The result of a command: its exit code and output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class TestSite(SandboxSite):
    """A SandboxSite with methods for tests.

    It has no catalog: a worker without one starts faster, and a build has one result. ``with_catalog`` in ``catalogs``
    adds one.
    """

    __test__ = False

    def __init__(self, directory: Path, *, node: RabbitNode | None = None, amqp_url: str | None = None) -> None:
        super().__init__(directory, node=node, amqp_url=amqp_url, catalog=False)

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        """Run ``omps-worker ARGUMENTS``, and wait until it ends."""
        ended = subprocess.run(
            [sys.executable, "-m", "omps_worker", "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **(environment or {})},
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run ``omps-worker run``, and yield when it consumes.

        At the end, it is stopped with SIGTERM, unless it has ended before, and must exit with code 0.
        """
        worker = self.worker("run")
        try:
            wait_until(lambda: worker.poll() is not None or self.consumers(), 20, "the worker to consume")
            assert worker.poll() is None, self.log
            yield worker
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(30) == 0, self.log
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            worker.stdout.close()

    @property
    def log(self) -> str:
        """The worker's log so far."""
        path = self.directory / "worker.log"
        return path.read_text() if path.exists() else ""

    def consumers(self) -> int:
        """Return the number of consumers of the queue; 0 if there is no queue."""
        with self.channel() as channel:
            try:
                return channel.queue_declare(QUEUE, passive=True).method.consumer_count
            except pika.exceptions.ChannelClosedByBroker:
                return 0

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a channel with publisher confirms."""
        connection = self.connect()
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            connection.close()

    def publish(self, *messages: BusMessage) -> None:
        """Send messages as the build system does."""
        with self.channel() as channel:
            for message in messages:
                self.send(channel, message)

    def take(self, queue: str) -> list[tuple[pika.BasicProperties, bytes]]:
        """Take all messages of a queue."""
        taken = []
        with self.channel() as channel:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    return taken
                taken.append((properties, body))

    @contextmanager
    def watching(self) -> Iterator[ResultWatch]:
        """Collect results from now on."""
        watch = ResultWatch(self)
        try:
            yield watch
        finally:
            watch.close()


def results_of(watch: ResultWatch, count: int, seconds: float = 30) -> list[dict[str, Any]]:
    """Wait for ``count`` results, and return their bodies."""

    def enough() -> bool:
        watch.poll()
        return len(watch.results) >= count

    wait_until(enough, seconds, f"{count} results; so far: {watch.results}")
    return [body for _, body in watch.results]


def edit(path: Path, old: str, new: str) -> None:
    """Replace text in a file as an editor does: write a new file, and rename it to the old name."""
    text = path.read_text()
    assert old in text
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(old, new))
    fresh.replace(path)
