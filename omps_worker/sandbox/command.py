# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker sandbox``: run a sandbox until it is interrupted, for experiments and development."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from omps_worker.common.text import one_line
from omps_worker.sandbox.demo import story
from omps_worker.sandbox.site import SandboxSite

GUIDE = """\
The sandbox is running. Press Ctrl-C to stop it, or send SIGTERM.

  broker     {amqp_url}
  Koji       {hub_url}
  registry   {registry_url}
  files      {directory}

Set up another terminal:

{path}  export FEDORA_MESSAGING_CONF={config}

Then try these commands there:

  # Test the configuration and the services:
  omps-worker check

  # Show what the worker would do with a build, then publish the build:
  omps-worker explain {nvr}
  omps-worker push {nvr}

  # Start the worker, and send it a message from a third terminal:
  omps-worker run
  fedora-messaging publish {message}

  # Inspect the broker, or disturb it:
  {rabbitmqctl} list_queues

These builds are in Koji; the message about each is in {messages}:
"""


def keep_running(directory: Path | None) -> int:
    """Start a sandbox, print how to use it, and keep it running until SIGINT or SIGTERM; return 0.

    ``directory`` takes its files and is kept; without it, a temporary directory is used and removed.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            if directory is None:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omps-worker-sandbox-")))
            directory.mkdir(parents=True, exist_ok=True)
            directory = directory.resolve()
            print("Starting RabbitMQ, Koji and an app registry on loopback …", flush=True)
            site = stack.enter_context(SandboxSite(directory))
            scenes = story(site)
            messages = directory / "messages"
            for scene in scenes:
                site.save(scene.message, messages / f"{scene.nvr}.json")
            guide = GUIDE.format(
                path=_path_export(),
                amqp_url=site.amqp_url,
                hub_url=site.koji.hub_url,
                registry_url=site.registry.url,
                directory=directory,
                config=shlex.quote(str(site.config)),
                nvr=scenes[0].nvr,
                messages=messages,
                rabbitmqctl=shlex.quote(str(_rabbitmqctl(site))),
                message=shlex.quote(str(messages / f"{scenes[0].nvr}.json")),
            )
            print(*map(one_line, guide.split("\n")), sep="\n")
            for scene in scenes:
                print(f"  {scene.nvr:42} {scene.title}")
            print(flush=True)
            while not stop.wait(3600):
                pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _rabbitmqctl(site: SandboxSite) -> Path:
    """Write a script that runs ``rabbitmqctl`` against the broker of ``site``, and return its path."""
    command, environment = site.node.rabbitmqctl_command()
    words = ["exec", "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    script = site.directory / "rabbitmqctl"
    script.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return script


def _path_export() -> str:
    """Return the line that puts this Python's commands on the PATH; empty if they are found already."""
    here = Path(sys.executable).parent
    found = shutil.which("omps-worker")
    if found is not None and Path(found).parent.samefile(here):
        return ""
    return f"  export PATH={shlex.quote(str(here))}:$PATH\n"
