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
from pathlib import Path
from typing import Any

from omps_worker.common.text import one_line, table
from omps_worker.sandbox.installed import own_command
from omps_worker.sandbox.site import CATALOG, CATALOG_PATH, CATALOG_TAG, QUEUE, ResultWatch, SandboxSite
from omps_worker.sandbox.story import IGNORED, IN_CATALOG, Ending, Scene, tell

SECONDS = 50
"""How many seconds the builds may take, once the sandbox is running."""

RETRYING = "retrying"
"""The status of a result that is not the last one: on a busy machine a service may answer too late."""

_COLOURS = {"published": "32", "unchanged": "36", "skipped": "33", "failed": "31", RETRYING: "33", IGNORED: "90"}

_MARKS = {"failed": "✗", RETRYING: "…"}


def play(*, colours: bool, say: Callable[[str], object] = print) -> int:
    """Run the demo, printing with ``say``; return the exit code, 0 if every outcome was the expected one."""
    if shutil.which("rabbitmq-server") is None and not Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        print("error: the demo needs RabbitMQ; install the package rabbitmq-server", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="omps-worker-demo-") as directory:
        say("Starting RabbitMQ, Koji, an app registry and an image registry on loopback …")
        try:
            with SandboxSite(Path(directory)) as site:
                return _Demonstration(site, colours, say).run()
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


class _Demonstration:
    """One run of the demo."""

    def __init__(self, site: SandboxSite, colours: bool, say: Callable[[str], object]) -> None:
        self._site = site
        self._colours = colours
        self._say = say
        self._outcomes: dict[str, dict[str, Ending]] = {}
        """What became of each build, by its NVR, at each of its targets."""
        self._started = time.monotonic()

    def run(self) -> int:
        """Send the message of each scene, check the outcomes, and return the exit code."""
        scenes = tell(self._site)
        self._say(f"RabbitMQ, Koji and the registries are running. {len(scenes)} builds are about to finish:")
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
            if self._alive(worker) and len(self._outcomes.get(scene.nvr, {})) >= len(scene.endings):
                return True
            # The worker acks an ignored message and publishes no result. That it was acked shows when the worker
            # has stopped: the queue must then be empty.
            return scene.ignored and watch.depth(QUEUE) == 0

        self._wait(has_outcome, f"the outcome of {scene.nvr}")
        if scene.nvr not in self._outcomes:
            self._outcomes[scene.nvr] = dict(scene.endings)
            (ending,) = scene.endings.values()
            self._line(_COLOURS[IGNORED], "·", scene.nvr, f"ignored: {ending.detail}")

    def _record(self, result: Mapping[str, Any]) -> None:
        status, error, target = result["status"], result["error"], _target(result)
        release = f"{target}/{result['repo']} {result['version'] or ''}".rstrip()
        detail = error["name"] if error else result["reason"] or release
        if status != RETRYING:
            self._outcomes.setdefault(result["nvr"], {})[target] = Ending(status, detail)
        text = detail
        if error:
            text = f"{target}: {detail}: {error['message']}"
        elif result["reason"]:
            text = f"{target}: {detail}"
        self._line(_COLOURS[status], _MARKS.get(status, "✓"), result["nvr"], f"{status}: {text}")

    def _conclude(self, scenes: list[Scene], watch: ResultWatch, code: int) -> int:
        self._say("\nOutcome of each build:")
        rows, faults = [], []
        for scene in scenes:
            outcome = self._outcomes[scene.nvr]
            for target in dict.fromkeys((*scene.endings, *outcome)):
                found, expected = outcome.get(target), scene.endings.get(target)
                shown = found or Ending("no outcome", "")
                as_expected = "as expected" if found == expected else "UNEXPECTED"
                rows.append((scene.nvr, target, shown.status, shown.detail, as_expected))
                if found != expected:
                    faults.append(f"{scene.nvr} at {target}: expected {expected}")
        self._say(table(["build", "target", "status", "detail", ""], rows))
        self._say("\nReleases in the app registry:")
        self._say(table(["package", "release", "digest", "visible to"], self._releases()))
        faults += self._show_catalog(watch)
        self._say("\nResult messages on the bus:")
        told = [(topic, result["nvr"], _target(result)) for topic, result in watch.results]
        self._say(table(["topic", "build", "target"], told))
        unacked, parked = watch.depth(QUEUE), watch.depth(f"{QUEUE}.failed")
        expected_parked = sum(any(ending.status == "failed" for ending in scene.endings.values()) for scene in scenes)
        self._say(f"\nMessages parked in the failed queue {QUEUE}.failed: {parked}. The worker's exit code: {code}.")
        if parked != expected_parked:
            faults.append(f"expected {expected_parked} parked message(s)")
        if unacked:
            faults.append(f"{unacked} message(s) were not acked")
        if code:
            faults.append(f"the worker's log:\n{self._log()}")
        if self._releases() != _expected_releases(scenes, self._releases()):
            faults.append("the releases in the app registry are not the published ones")
        for fault in faults:
            self._say(f"UNEXPECTED: {fault}")
        self._say("Everything went as expected." if not faults else "Not everything went as expected.")
        self._say(
            f"\nNext: `{own_command()} sandbox` keeps these services running, and prints how to publish manifests"
            "\nof your own to the catalog and how to read their bundle image with skopeo."
        )
        return 1 if faults else 0

    def _show_catalog(self, watch: ResultWatch) -> list[str]:
        """Show what a cluster finds in the catalog; return what is wrong with it."""
        self._say(
            f"\nThe catalog {self._site.catalog_image} is a container image. Clusters read it, offer its"
            "\npackages, and install the bundle image that is the head of a channel. What they find there:"
        )
        looks: tuple[tuple[str, ...], ...] = ((CATALOG,), (CATALOG, "otter-cache"))
        commands = [self._site.worker("catalog", "show", *look) for look in looks]
        faults = []
        for look, command in zip(looks, commands, strict=True):
            text = self._output(command)
            self._say(f"\n$ omps-worker catalog show {' '.join(look)}\n{text.rstrip()}")
            if command.returncode:
                faults.append(f"catalog show ended with exit code {command.returncode}; the log:\n{self._log()}")
        told = [result["catalog"]["digest"] for _, result in watch.results if _target(result) == IN_CATALOG]
        last = next((digest for digest in reversed(told) if digest), None)
        if last is None or self._site.images.tags(CATALOG_PATH).get(CATALOG_TAG) != last:
            faults.append("the catalog is not what the last result about it says")
        return faults

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

    @staticmethod
    def _output(command: subprocess.Popen[str]) -> str:
        """Wait until a command has ended, and return its output; a command that does not end is killed."""
        try:
            return command.communicate(timeout=SECONDS)[0]
        except subprocess.TimeoutExpired:
            command.kill()
            return command.communicate()[0]

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


def _target(result: Mapping[str, Any]) -> str:
    """Return the label of the target that a result is about."""
    catalog = result["catalog"]
    return f"catalog:{catalog['name']}" if catalog else str(result["organization"])


def _expected_releases(scenes: list[Scene], held: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
    published = {
        ending.detail
        for scene in scenes
        for target, ending in scene.endings.items()
        if ending.status == "published" and target != IN_CATALOG
    }
    missing = published - {f"{package} {version}" for package, version, _, _ in held}
    return [row for row in held if f"{row[0]} {row[1]}" in published] + [
        (release, "missing", "", "") for release in sorted(missing)
    ]
