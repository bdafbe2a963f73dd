# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest with which a regular expression of the configuration comes to no end, at a real worker."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from omps_worker.sandbox import operators
from tests.support.books import COMPONENT, otter
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit
from tests.support.waiting import wait_until

RULE = r"replace_registry = [{ old = 'quay\.io/(([a-z0-9]+[._-]?)+)/', new = 'registry.test/\1/', regexp = true }]"
EVIL = {name: f"# quay.io/{'a' * 34}!\n{text}" for name, text in operators.nested_operator("heron").items()}


def children(process) -> list[str]:
    """The processes that the worker has begun, and that still run."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def test_a_worker_lives_and_can_be_stopped_while_an_expression_comes_to_no_end(quick, books):
    port = free_port()
    edit(quick.config, "[consumer_config.organizations.partners]", f"{RULE}\n[consumer_config.organizations.partners]")
    edit(quick.config, "[consumer_config]", f"[monitoring]\nport = {port}\n[consumer_config]")
    evil = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=operators.zip_of(EVIL))
    good = quick.koji.add_build(COMPONENT, "1.0", "2", manifests=otter(2))
    with quick.running() as worker:
        quick.publish(quick.koji.message(evil))
        wait_until(lambda: children(worker), 30, "the expression to run")
        begun = time.monotonic()
        quick.publish(quick.koji.message(good))
        health = Seen(port)
        for _ in range(5):
            assert health.live()
        assert time.monotonic() - begun < 5
        assert children(worker)
        os.kill(worker.pid, signal.SIGTERM)
        books.wait_for("failed", seconds=90)
        assert worker.wait(30) == 0, quick.log
    (failed,) = [told.body for told in books.told if told.status == "failed"]
    assert failed["error"]["name"] == "RegistryReplacementError"
    for part in ("organizations.community", "quay", "more than 10 seconds"):
        assert part in failed["error"]["message"]
