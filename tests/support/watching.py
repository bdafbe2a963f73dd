# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker watch`` as a process, and results for it to show."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pika

from omps_worker.sandbox.site import TOPIC_PREFIX
from tests.support.waiting import wait_until


class Watcher:
    """``omps-worker watch`` as a process, and its output so far."""

    def __init__(self, site, *arguments, **more):
        self.out, self.err = [], []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "omps_worker", "--config", str(site.config), "watch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **more,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def noted(self, text, times=1):
        wait_until(lambda: sum(text in line for line in self.err) >= times, 30, f"{text!r}: {self.err}")

    def ended(self, seconds=30):
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(10)
        return code


@contextmanager
def watching(site, *arguments, **more) -> Iterator[Watcher]:
    watcher = Watcher(site, *arguments, **more)
    try:
        watcher.noted("watching: ")
        yield watcher
    finally:
        watcher.process.kill()
        watcher.ended()


def result(status="published", organization="community", component="otter", **more):
    body = {"status": status, "organization": organization, "repo": component, "version": "1.0.0"}
    return {**body, "nvr": f"{component}-1-1", "build": {"name": component}, "error": None, "reason": None, **more}


def tell(site, *results, topic="published"):
    with site.channel() as channel:
        for each in results:
            body = each if isinstance(each, bytes) else json.dumps(each).encode()
            channel.basic_publish(
                "amq.topic",
                f"{TOPIC_PREFIX}.omps.release.{topic}",
                body,
                pika.BasicProperties(message_id="id", headers={"sent-at": "2026-03-02T10:15:04+00:00"}),
                mandatory=True,
            )
