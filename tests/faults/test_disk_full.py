# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full: the build waits in the retry queues until there is space again."""

from __future__ import annotations

import resource

from omps_worker.sandbox import operators
from tests.support.books import COMPONENT, PACKAGE
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit
from tests.support.waiting import wait_until

TOO_SMALL = 20_000
"""Bytes by which a file of the worker may grow while its disk is "full": enough for its log, not for the archive."""


def test_a_full_disk_delays_a_release_until_there_is_space(quick, crew, books, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    files = operators.nested_operator(PACKAGE, versions=tuple(f"1.0.{number}" for number in range(60)))
    manifests = operators.zip_of(files)
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=manifests)
    port = free_port()
    edit(quick.config, "[consumer_config]\n", f"[monitoring]\nport = {port}\n[consumer_config]\n")
    seen = Seen(port)
    worker = crew.start()
    # A limit on the size of files fails a write just as a full disk does, and needs no privileges.
    _, most = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    limit = TOO_SMALL + (quick.directory / "worker.log").stat().st_size
    assert len(manifests) > limit
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (limit, most))
    quick.publish(quick.koji.message(build))
    wait_until(lambda: "retrying" in books.statuses(), 30, "a try")
    assert worker.poll() is None
    assert any(reason.startswith("machine: Temporary files cannot be written") for reason in seen.reasons())
    assert seen.live(), "a restart would not help"
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (most, most))
    books.wait_for("published")
    wait_until(lambda: not seen.reasons(), 20, "the worker to be ready again")
    crew.stop_all()
    assert {told.body["error"]["name"] for told in books.told if told.status == "retrying"} == {"StorageError"}
    assert list(scratch.iterdir()) == []
    books.balance([build])
