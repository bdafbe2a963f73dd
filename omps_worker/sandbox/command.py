# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker sandbox``: a site that stays, for trying things and for development."""

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
The sandbox is up; Ctrl-C or SIGTERM ends it.

  broker     {amqp_url}
  Koji       {hub_url}
  registry   {registry_url}
  files      {directory}

In another terminal, from here on:

{path}  export FEDORA_MESSAGING_CONF={config}
  omps-worker check                       is everything reachable?
  omps-worker explain {nvr}
  omps-worker push {nvr}
  omps-worker run                         listen, and then from a third terminal:
  fedora-messaging publish {message}
  {rabbitmqctl} list_queues               look at its broker, or make it ill

Builds that its Koji knows, with the message about each in {messages}:
"""


def keep_running(directory: Path | None) -> int:
    """Start a site, say how to use it, and keep it until SIGINT or SIGTERM; then 0."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            if directory is None:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omps-worker-sandbox-")))
            directory.mkdir(parents=True, exist_ok=True)
            directory = directory.resolve()
            print("Starting …", flush=True)
            site = stack.enter_context(SandboxSite(directory))
            scenes = story(site)
            messages = directory / "messages"
            for scene in scenes:
                site.save(scene.message, messages / f"{scene.nvr}.json")
            guide = GUIDE.format(
                path=_path_wanted(),
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
    """A script that is ``rabbitmqctl`` for the broker of ``site``."""
    command, environment = site.node.rabbitmqctl_command()
    words = ["exec", "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    script = site.directory / "rabbitmqctl"
    script.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return script


def _path_wanted() -> str:
    """The line that a shell needs to find the commands beside this Python; none if it finds them already."""
    here = Path(sys.executable).parent
    found = shutil.which("omps-worker")
    if found is not None and Path(found).parent.samefile(here):
        return ""
    return f"  export PATH={shlex.quote(str(here))}:$PATH\n"
