# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker takes for work that fails: as much as it has in hand, however much it has done before.

Its garbage is not collected here, so that the numbers are no matter of luck: what somebody still refers to
when the work is done adds up.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import QUEUE
from tests.support.books import COMPONENT
from tests.support.waiting import wait_until

TOPIC = "org.example.buildsys.build.state.change"
UNCOLLECTED = "import gc, runpy; gc.disable(); runpy.run_module('omps_worker', run_name='__main__', alter_sys=True)"

BODY = 6 * 2**20
TREE = operators.nested_operator("otter-cache")
PADDING = "# neither operator-courier nor the registry looks at this line\n" * 2**16


@contextmanager
def uncollected(site) -> Iterator[subprocess.Popen[str]]:
    """``omps-worker run`` whose garbage nobody collects."""
    with (site.directory / "worker.log").open("a") as log:
        worker = subprocess.Popen([sys.executable, "-c", UNCOLLECTED, "--config", site.config, "run"], stderr=log)
    try:
        wait_until(lambda: worker.poll() is not None or site.consumers(), 30, "the worker to consume")
        yield worker
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0, site.log
    finally:
        worker.kill()
        worker.wait()


def peak(worker: subprocess.Popen[str]) -> int:
    """The most bytes that the process ever had in memory."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def parked(site, count: int) -> None:
    def enough() -> bool:
        with site.channel() as channel:
            return channel.queue_declare(f"{QUEUE}.failed", passive=True).method.message_count >= count

    wait_until(enough, 60, f"{count} parked messages")


def test_messages_that_cannot_be_read_do_not_add_up(quick):
    body = b"{" * BODY
    with uncollected(quick) as worker:
        quick.publish(*[BusMessage(TOPIC, {"message_id": f"first-{n}"}, body) for n in range(16)])
        parked(quick, 16)
        before = peak(worker)
        quick.publish(*[BusMessage(TOPIC, {"message_id": f"then-{n}"}, body) for n in range(16)])
        parked(quick, 32)
        more = peak(worker) - before
    # What adds up would be sixteen of them.
    assert more < 8 * BODY


def test_builds_that_fail_do_not_add_up(quick):
    archive = operators.zip_of({**TREE, "broken.yaml": "a: [" + PADDING})
    builds = [quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=archive) for number in range(16)]
    messages = [quick.koji.message(build) for build in builds]
    with uncollected(quick) as worker:
        quick.publish(*messages[:8])
        parked(quick, 8)
        before = peak(worker)
        quick.publish(*messages[8:])
        parked(quick, 16)
        more = peak(worker) - before
    assert more < 4 * len(PADDING)
