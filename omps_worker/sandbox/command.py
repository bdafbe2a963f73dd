# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker sandbox``: run a sandbox until it is interrupted, for experiments and development."""

from __future__ import annotations

import os
import shlex
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from omps_worker.common.error_details import system_reason
from omps_worker.common.errors import StorageError
from omps_worker.common.text import one_line
from omps_worker.sandbox import operators
from omps_worker.sandbox.broker import RabbitNode
from omps_worker.sandbox.installed import path_export
from omps_worker.sandbox.site import CATALOG, SandboxSite, broker_directory
from omps_worker.sandbox.story import IN_CATALOG, tell

OPERATOR, VERSION = "my-operator", "0.1.0"
"""The operator whose manifests are meant to be changed."""

GUIDE = """\
The sandbox is running. Press Ctrl-C to stop it, or send SIGTERM.

  broker          {amqp_url}
  Koji            {hub_url}
  app registry    {registry_url}
  image registry  {images_url}
  catalog         {catalog_image}
  files           {directory}

Set up another terminal:

{path}  export FEDORA_MESSAGING_CONF={config}

Then try these commands there:

  # Test the configuration and the services:
  omps-worker check

  # Show what the worker would do with a build, then publish the build:
  omps-worker explain {nvr}
  omps-worker push {nvr}

  # Show what a cluster finds in the catalog:
  omps-worker catalog show {catalog}

  # Publish your own manifests to the catalog. These are an example that you can edit or replace; once they are
  # published, other content needs another version:
  cd {manifests}
  python3 -m zipfile -c ../{operator}.zip *
  omps-worker push-zip ../{operator}.zip --catalog {catalog}
  omps-worker catalog show {catalog} {operator}

  # Read the bundle image that this made, without a login (skopeo is a package of your distribution):
  skopeo inspect --tls-verify=false docker://{bundle}
  skopeo copy --src-tls-verify=false docker://{bundle} dir:../bundle
  layer=$(skopeo inspect --tls-verify=false --format '{{{{index .Layers 0}}}}' docker://{bundle})
  tar -xvf ../bundle/${{layer#sha256:}} -C ../bundle

  # Start the worker, and send it messages about builds from a third terminal; the second is about a bundle image:
  omps-worker run
  fedora-messaging publish {message}
  fedora-messaging publish {bundle_message}

  # Let the worker serve /live, /ready and /metrics. Only `run` may read this file: two programs cannot use one port.
  (cat "$FEDORA_MESSAGING_CONF"; printf '[monitoring]\\nport = 9100\\n') > {monitored}
  omps-worker --config {monitored} run

  # Inspect the broker, or disturb it:
  {rabbitmqctl} list_queues

These builds are in Koji; the message about each is in {messages}:
"""


def keep_running(directory: Path | None) -> int:
    """Start a sandbox, print how to use it, and keep it running until SIGINT or SIGTERM; return 0.

    ``directory`` takes its files and is kept; without it, a temporary directory is used and removed. Raises
    StorageError if a file cannot be written there or a sandbox is running there, and BrokerUnavailable if RabbitMQ does
    not start; trying again does not help.
    """
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            if directory is None:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="omps-worker-sandbox-")))
            directory.mkdir(parents=True, exist_ok=True)
            directory = directory.resolve()
            _refuse_another_in(directory)
            print("Starting RabbitMQ, Koji, an app registry and an image registry on loopback …", flush=True)
            site = stack.enter_context(SandboxSite(directory))
            scenes = tell(site)
            messages, manifests = directory / "messages", directory / OPERATOR
            _write_manifests(manifests)
            for scene in scenes:
                site.save(scene.message, messages / f"{scene.nvr}.json")
            bundle = next(scene for scene in scenes if list(scene.endings) == [IN_CATALOG])
            guide = GUIDE.format(
                path=path_export(),
                amqp_url=site.amqp_url,
                hub_url=site.koji.hub_url,
                registry_url=site.registry.url,
                images_url=site.images.url,
                catalog_image=site.catalog_image,
                catalog=CATALOG,
                operator=OPERATOR,
                manifests=shlex.quote(str(manifests)),
                bundle=f"{site.images.host}/{CATALOG}/{OPERATOR}-bundle:v{VERSION}",
                directory=directory,
                config=shlex.quote(str(site.config)),
                nvr=scenes[0].nvr,
                monitored=shlex.quote(str(directory / "monitored.toml")),
                messages=messages,
                rabbitmqctl=shlex.quote(str(_rabbitmqctl(site))),
                message=shlex.quote(str(messages / f"{scenes[0].nvr}.json")),
                bundle_message=shlex.quote(str(messages / f"{bundle.nvr}.json")),
            )
            print(*map(one_line, guide.split("\n")), sep="\n")
            for scene in scenes:
                print(f"  {scene.nvr:42} {scene.title}")
            print(flush=True)
            while not stop.wait(3600):
                pass
    except OSError as error:
        if error.filename is None:
            raise
        reason = "it is not a directory" if isinstance(error, FileExistsError) else system_reason(error)
        message = f"The sandbox cannot use {os.fsdecode(error.filename)}: {reason}."
        raise StorageError(message, transient=False) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _refuse_another_in(directory: Path) -> None:
    """Raise StorageError if a sandbox is running there: both would write the same files."""
    running = RabbitNode.join(broker_directory(directory))
    if running is not None:
        running.close()
        message = f"A sandbox is running in {directory} already: stop it, or choose another directory."
        raise StorageError(message, transient=False)


def _write_manifests(directory: Path) -> None:
    """Write the manifests of an operator that a user may change, unless they are there."""
    directory.mkdir(exist_ok=True)
    for name, text in operators.flat_operator(OPERATOR, version=VERSION).items():
        if not (directory / name).exists():
            (directory / name).write_text(text)


def _rabbitmqctl(site: SandboxSite) -> Path:
    """Write a script that runs ``rabbitmqctl`` against the broker of ``site``, and return its path."""
    command, environment = site.node.rabbitmqctl_command()
    words = ["exec", "env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    script = site.directory / "rabbitmqctl"
    script.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    script.chmod(0o700)
    return script
