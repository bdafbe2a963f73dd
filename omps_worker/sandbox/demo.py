# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: run a few builds through a worker on a sandbox, and show the outcome of each.

Nothing is simulated in the worker: a real broker carries the messages, and the installed command runs in its own
process. At the end, the outcomes are compared with the expected ones.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omps_worker.common.model import BuildState, OperatorKind
from omps_worker.common.text import one_line, table
from omps_worker.sandbox import operators
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.site import QUEUE, ResultWatch, SandboxSite

SECONDS = 50
"""How many seconds the builds may take, once the sandbox is running."""

IGNORED = "ignored"
_COLOURS = {"published": "32", "unchanged": "36", "skipped": "33", "failed": "31", IGNORED: "90"}


@dataclass(frozen=True, slots=True)
class Scene:
    """One build of the demo: what it is, the message about it, and its expected outcome."""

    title: str
    nvr: str
    message: BusMessage
    status: str
    detail: str
    """The expected release, reason or error."""


def play(*, colours: bool, say: Callable[[str], object] = print) -> int:
    """Run the demo, printing with ``say``; return the exit code, 0 if every outcome was the expected one."""
    if shutil.which("rabbitmq-server") is None and not Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        print("error: the demo needs RabbitMQ; install the package rabbitmq-server", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="omps-worker-demo-") as directory:
        say("Starting RabbitMQ, Koji and an app registry on loopback …")
        try:
            with SandboxSite(Path(directory)) as site:
                return _Demonstration(site, colours, say).run()
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def story(site: SandboxSite) -> list[Scene]:
    """Add the builds to the site's Koji, and return their scenes."""
    koji = site.koji

    def scene(title: str, status: str, detail: str, **build: Any) -> Scene:
        made = koji.add_build(**build)
        return Scene(title, made["nvr"], koji.message(made), status, detail)

    otter = {"name": "otter-cache-operator-container", "owner": "jdoe"}
    first = operators.zip_of(operators.nested_operator(versions=("0.9.0", "1.0.0")))
    second = operators.zip_of(operators.nested_operator(versions=("0.9.0", "1.0.0", "1.1.0")))
    flat = operators.zip_of(operators.flat_operator())
    return [
        scene(
            "an operator with two versions, each in its own directory",
            "published", "community/otter-cache 1.0.0",
            version="1.0.0", release="1", manifests=first, **otter,
        ),
        scene(
            "an operator with all its files in one directory",
            "published", "partners/lantern 1.4.2",
            name="partner-lantern-container", version="1.4.2", release="3", manifests=flat,
            owner="asmith",
        ),
        scene(
            "a rebuild of the first operator, with the same manifests",
            "unchanged", "community/otter-cache 1.0.0",
            version="1.0.0", release="2", manifests=first, **otter,
        ),
        scene(
            "the first operator with a new version",
            "published", "community/otter-cache 2.0.0",
            version="1.1.0", release="1", manifests=second, **otter,
        ),
        scene(
            "a bundle image, which app registries do not take",
            "skipped", "bundle build",
            name="heron-operator-bundle-container", version="2.0.1", release="1",
            manifests=operators.zip_of(operators.bundle_tree()), kind=OperatorKind.BUNDLE, owner="jdoe",
        ),
        scene(
            "an image that is not an operator",
            "skipped", "not an operator image",
            name="kestrel-operator-container", version="5.1", release="9", owner="asmith",
        ),
        scene(
            "an operator with a damaged archive",
            "failed", "OMPSUploadedFileError",
            name="magpie-operator-container", version="0.3.0", release="1", manifests=first[: len(first) // 2],
            owner="jdoe",
        ),
        scene(
            "a build that failed in Koji",
            IGNORED, "the build is not complete",
            name="wren-operator-container", version="1.0.0", release="1", state=BuildState.FAILED,
            owner="jdoe",
        ),
        scene(
            "an operator that the mapping excludes",
            IGNORED, "a rule of the mapping excludes it",
            name="playground-finch-container", version="0.1", release="1", manifests=flat,
            owner="jdoe",
        ),
    ]  # fmt: skip


class _Demonstration:
    """One run of the demo."""

    def __init__(self, site: SandboxSite, colours: bool, say: Callable[[str], object]) -> None:
        self._site = site
        self._colours = colours
        self._say = say
        self._outcomes: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Send the message of each scene, check the outcomes, and return the exit code."""
        scenes = story(self._site)
        self._say(f"RabbitMQ, Koji and the registry are running. {len(scenes)} builds are about to finish:")
        for scene in scenes:
            self._say(f"  {scene.nvr:42} {scene.title}")
        watch = ResultWatch(self._site)
        worker = self._site.worker("run")
        try:
            self._say("\nThe worker is listening. Koji announces the builds one by one (→). Their outcomes (✓ ✗ ·):")
            self._started = time.monotonic()
            # One at a time, because the outcome of some builds depends on the builds before them.
            for scene in scenes:
                self._send(scene, worker)
                self._wait_for_outcome(scene, watch, worker)
            code = self._stop(worker)
            return self._conclude(scenes, watch, code)
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            if worker.stdout:
                worker.stdout.close()
            watch.close()

    def _send(self, scene: Scene, worker: subprocess.Popen[str]) -> None:
        connection = self._site.connect()
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            self._wait(lambda: self._alive(worker) and self._has_consumer(channel), "the worker's queue")
            self._line("90", "→", scene.nvr, scene.message.routing_key)
            self._site.send(channel, scene.message)
        finally:
            connection.close()

    def _alive(self, worker: subprocess.Popen[str]) -> bool:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker exited with code {worker.returncode}; its log:\n{self._log()}")
        return True

    @staticmethod
    def _has_consumer(channel: Any) -> bool:
        probe = channel.connection.channel()
        try:
            return bool(probe.queue_declare(QUEUE, passive=True).method.consumer_count)
        except Exception:
            return False
        finally:
            if probe.is_open:
                probe.close()

    def _wait_for_outcome(self, scene: Scene, watch: ResultWatch, worker: subprocess.Popen[str]) -> None:
        def has_outcome() -> bool:
            watch.poll(self._record)
            if self._alive(worker) and scene.nvr in self._outcomes:
                return True
            # The worker acks an ignored message and publishes no result. That it was acked shows when the worker
            # has stopped: the queue must then be empty.
            return scene.status == IGNORED and watch.depth(QUEUE) == 0

        self._wait(has_outcome, f"the outcome of {scene.nvr}")
        if scene.nvr not in self._outcomes:
            self._outcomes[scene.nvr] = (IGNORED, scene.detail)
            self._line(_COLOURS[IGNORED], "·", scene.nvr, f"ignored: {scene.detail}")

    def _record(self, result: Mapping[str, Any]) -> None:
        status, package = result["status"], f"{result['organization']}/{result['repo']}"
        release = f"{package} {result['version']}" if result["version"] else package
        detail = result["error"]["name"] if result["error"] else result["reason"] or release
        self._outcomes[result["nvr"]] = (status, detail)
        text = f"{detail}: {result['error']['message']}" if result["error"] else detail
        self._line(_COLOURS[status], "✗" if status == "failed" else "✓", result["nvr"], f"{status}: {text}")

    def _conclude(self, scenes: list[Scene], watch: ResultWatch, code: int) -> int:
        self._say("\nOutcome of each build:")
        rows, faults = [], []
        for scene in scenes:
            status, detail = self._outcomes[scene.nvr]
            as_expected = (status, detail) == (scene.status, scene.detail)
            rows.append((scene.nvr, status, detail, "as expected" if as_expected else "UNEXPECTED"))
            if not as_expected:
                faults.append(f"{scene.nvr}: expected {scene.status}, {scene.detail}")
        self._say(table(["build", "status", "detail", ""], rows))
        self._say("\nReleases in the registry:")
        self._say(table(["package", "release", "digest", "visible to"], self._releases()))
        self._say("\nResult messages on the bus:")
        self._say(table(["topic", "build"], [(topic, result["nvr"]) for topic, result in watch.results]))
        unacked, parked = watch.depth(QUEUE), watch.depth(f"{QUEUE}.failed")
        expected_parked = sum(scene.status == "failed" for scene in scenes)
        self._say(f"\nMessages parked in the failed queue {QUEUE}.failed: {parked}. The worker's exit code: {code}.")
        if parked != expected_parked:
            faults.append(f"expected {expected_parked} parked message(s)")
        if unacked:
            faults.append(f"{unacked} message(s) were not acked")
        if code:
            faults.append(f"the worker's log:\n{self._log()}")
        if self._releases() != _expected_releases(scenes, self._releases()):
            faults.append("the releases in the registry are not the published ones")
        for fault in faults:
            self._say(f"UNEXPECTED: {fault}")
        self._say("Everything went as expected." if not faults else "Not everything went as expected.")
        return 1 if faults else 0

    def _releases(self) -> list[tuple[str, str, str, str]]:
        registry = self._site.registry
        return [
            (
                f"{organization}/{repository}",
                release.version,
                release.digest[:12],
                "everyone" if registry.is_public(organization, repository) else organization,
            )
            for organization, repository in sorted(registry.packages())
            for release in registry.releases(organization, repository)
        ]

    def _stop(self, worker: subprocess.Popen[str]) -> int:
        worker.send_signal(signal.SIGTERM)
        try:
            return worker.wait(timeout=30)
        except subprocess.TimeoutExpired:
            return -1

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        pause = threading.Event()
        while not condition():
            if time.monotonic() - self._started > SECONDS:
                raise RuntimeError(f"timed out waiting for {what}; the worker's log:\n{self._log()}")
            pause.wait(0.05)

    def _line(self, colour: str, mark: str, nvr: str, text: str) -> None:
        line = one_line(f"{time.monotonic() - self._started:5.1f} s  {mark} {nvr:42} {text}")
        self._say(f"\x1b[{colour}m{line}\x1b[0m" if self._colours else line)

    def _log(self) -> str:
        path = self._site.directory / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""


def _expected_releases(scenes: list[Scene], held: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    published = {scene.detail for scene in scenes if scene.status == "published"}
    missing = published - {f"{package} {version}" for package, version, _, _ in held}
    return [row for row in held if f"{row[0]} {row[1]}" in published] + [
        (release, "missing", "", "") for release in sorted(missing)
    ]
