# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the peak memory of a worker: for builds that succeed, builds that fail, and the largest messages.

Each row is measured with a separate worker process on a private node, with the default configuration. Failing builds
must not take much more memory than successful ones, and no row may exceed the limit of a process in ``deploy/``.

    python -m benchmarks.memory [--builds N] [--messages N] [--message-bytes N] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.report import show
from omps_worker.common.limits import VALUES
from omps_worker.common.model import OperatorKind
from omps_worker.destinations.catalog.bundles.tree import annotations_text, bundle_labels
from omps_worker.destinations.catalog.images.image import Format, LayerReference, image_of
from omps_worker.destinations.catalog.images.layers import layer_of
from omps_worker.messages.events import BODY_LIMIT
from omps_worker.sandbox.broker import MESSAGE_BYTES, RabbitNode
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.operators import bundle_tree, sized_operator, zip_of
from omps_worker.sandbox.site import ResultWatch, SandboxSite

ALLOWED_MIB = 512
"""The memory limit of a worker in ``deploy/``."""

WORSE = 1.25
"""The most memory that failing builds may take, as a multiple of that of successful builds."""

PATIENCE_SECONDS = 600.0
SIZE = "big nested"
TOPIC = "org.example.buildsys.build.state.change"
BROKEN = {"broken.yaml": "a: [" + "# nobody closes it\n" * 2**16}
BOMB_BYTES = 256 * 2**20
"""The size of the only file of a bundle image that is too large."""
LARGE_BUNDLES = 4
"""How many of the largest bundle images that are accepted come at once."""
LARGE_FILES, COMMENT_BYTES = 19, 400_000
"""The number of large files in each of them, and the size of a comment in each: so they have the bytes they may."""


def measure(what: str, builds: int, messages: int, message_bytes: int) -> float:
    """Return the peak memory in MiB of a worker that gets this number of ``what``: builds or messages."""
    config = {"max_message_size": str(max(message_bytes, MESSAGE_BYTES))}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        node = stack.enter_context(RabbitNode(config=config))
        site = stack.enter_context(SandboxSite(directory, node=node, catalog=what in (CATALOG, BOMBS, LARGE)))
        watch = ResultWatch(site)
        stack.callback(watch.close)
        worker = site.worker("run")
        stack.callback(_end, worker)
        _wait(lambda: worker.poll() is None and _consumers(site) > 0)
        sent = _messages(site, what, builds, messages, message_bytes)
        with site.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for message in sent:
                site.send(channel, message)

        def all_reported() -> bool:
            watch.poll()
            return len(watch.results) >= len(sent) * (2 if what == CATALOG else 1)

        _wait(all_reported)
        return _peak(worker.pid)


def _end(worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=90)


def _messages(site: SandboxSite, what: str, builds: int, messages: int, message_bytes: int) -> list[BusMessage]:
    if what == UNREADABLE:
        return [BusMessage(TOPIC, {"message_id": str(n)}, b"{" * message_bytes) for n in range(messages)]
    if what == LARGEST:
        pad = "x" * (BODY_LIMIT - 200)
        bodies = [
            {"attribute": "state", "new": 1, "info": {"build_id": 10**6 + n}, "pad": pad} for n in range(messages)
        ]
        return [BusMessage(TOPIC, {"message_id": str(n)}, json.dumps(body).encode()) for n, body in enumerate(bodies)]
    if what == BOMBS:
        return [_bomb(site, number) for number in range(builds)]
    if what == LARGE:
        return [_large_bundle(site, number) for number in range(LARGE_BUNDLES)]
    made = []
    for number in range(builds):
        files = {**sized_operator(SIZE, number), **(BROKEN if what == FAILING else {})}
        build = site.koji.add_build("measured-operator-container", "1.0", str(number), manifests=zip_of(files))
        made.append(site.koji.message(build))
    return made


def _bomb(site: SandboxSite, number: int) -> BusMessage:
    """Return the message about a bundle build whose image is small in the registry, and too large when unpacked."""
    return _bundle_build(site, number, {"manifests/bundle.clusterserviceversion.yaml": bytes(BOMB_BYTES)})


def _large_bundle(site: SandboxSite, number: int) -> BusMessage:
    """Return the message about a bundle build whose files have nearly as many bytes and values as they may."""
    words = random.Random(number)
    files = {f"manifests/{name}": text.encode() for name, text in bundle_tree(version=f"1.0.{number}").items()}
    for each in range(LARGE_FILES):
        values = (f"{words.getrandbits(40):010x}" for _ in range((VALUES - VALUES // 50) // LARGE_FILES))
        text = f"kind: ConfigMap\n# {'x' * COMMENT_BYTES}\ndata: [{', '.join(values)}]\n"
        files[f"manifests/large-{each}.yaml"] = text.encode()
    labels = bundle_labels("heron", ["stable"], "stable")
    return _bundle_build(site, number, {**files, "metadata/annotations.yaml": annotations_text(labels)})


def _bundle_build(site: SandboxSite, number: int, files: Mapping[str, bytes]) -> BusMessage:
    layer = layer_of(files, compressed=True)
    image = image_of([LayerReference(layer.digest, layer.size, layer.diff_id)], {"n": str(number)}, Format.DOCKER)
    path = "osbs/measured-bundle"
    site.images.put(path, image.digest, image.manifest, image.format.manifest_type, image.config, layer.blob)
    pullspec = f"{site.images.host}/{path}@{image.digest}"
    name = "measured-operator-bundle-container"
    build = site.koji.add_build(name, "1.0", str(number), kind=OperatorKind.BUNDLE, pullspec=pullspec)
    return site.koji.message(build)


SUCCEEDING, FAILING = "builds that succeed", "builds that fail"
CATALOG, BOMBS = "builds that go to a catalog, too", "bundle images that are too large"
LARGE = "the largest bundle images that are accepted"
UNREADABLE, LARGEST = "messages that cannot be read", "the largest that can"


def _consumers(site: SandboxSite) -> int:
    with site.connect() as connection:
        try:
            return int(connection.channel().queue_declare("omps-worker", passive=True).method.consumer_count)
        except Exception:
            return 0


def _wait(done: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"the worker did not finish within {PATIENCE_SECONDS:g} s")
        time.sleep(0.1)


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="The peak memory of a worker.")
    parser.add_argument("--builds", type=int, default=12)
    parser.add_argument("--messages", type=int, default=24)
    parser.add_argument(
        "--message-bytes", type=int, default=MESSAGE_BYTES, help="size of the messages that cannot be read"
    )
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    peaks = {
        what: measure(what, chosen.builds, chosen.messages, chosen.message_bytes)
        for what in (SUCCEEDING, FAILING, CATALOG, BOMBS, LARGE, UNREADABLE, LARGEST)
    }
    marks = {what: float(ALLOWED_MIB) for what in peaks} | {FAILING: min(ALLOWED_MIB, WORSE * peaks[SUCCEEDING])}
    rows = [
        {"with": what, "peak, MiB": peak, "mark, MiB": marks[what], "met": peak < marks[what]}
        for what, peak in peaks.items()
    ]
    if chosen.json:
        print(json.dumps(rows, indent=2))
    else:
        show("The peak memory of a worker", rows)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
