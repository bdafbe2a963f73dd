# SPDX-License-Identifier: GPL-3.0-or-later
"""A complete site for experiments: broker, Koji, app registry, image registry, and a configuration for them.

Everything is on loopback, on ports that the operating system chooses, with all files in one directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pika

from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.broker import RabbitNode
from omps_worker.sandbox.build_system.messages import BusMessage
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry

TOPIC_PREFIX = "org.example.sandbox"
QUEUE = "omps-worker"

CATALOG = "community"
"""The name of the catalog in the configuration and in the mapping."""

CATALOG_PATH, CATALOG_TAG = "community/catalog", "latest"
"""Where the image registry has the catalog's image."""

MAPPING = """\
version: 1
rules:
  - match: {component: "playground-*"}        # deliberately not published
    publish: []
  - match: {component: "*-operator-container", owner: [jdoe, asmith]}
    publish:
      %(operators)s
  - match: {component: "*-operator-bundle-container"}
    publish:
      %(bundles)s
  - match: {component: "partner-*-container"}
    publish:
      - organization: partners
        version: csv
"""

_ORGANIZATION, _CATALOG = "- organization: community", f"- catalog: {CATALOG}"
_PUBLISHED_TO_BOTH = {"operators": f"{_ORGANIZATION}\n      {_CATALOG}", "bundles": _CATALOG}
_PUBLISHED_TO_ORGANIZATIONS = {"operators": _ORGANIZATION, "bundles": _ORGANIZATION}

CONFIGURATION = """\
amqp_url = {amqp_url}
topic_prefix = "{topic_prefix}"

[queues.{queue}]
durable = true
auto_delete = false
exclusive = false
arguments = {{}}

[[bindings]]
queue = "{queue}"
exchange = "amq.topic"
routing_keys = ["#.buildsys.build.state.change", "#.build.complete", "#.build.promote"]

[consumer_config]
mapping = "mapping.yaml"

[consumer_config.koji]
hub_url = {hub_url}
root_url = {root_url}

[consumer_config.registry]
url = {registry_url}

[consumer_config.organizations.community]      # public: everyone can see its packages
token_file = "secrets/community"
oauth_token_file = "secrets/community-oauth"
public = true

[consumer_config.organizations.partners]       # private
token_file = "secrets/partners"
"""

CATALOG_CONFIGURATION = """
[consumer_config.catalogs.{name}]           # everyone can pull its images
image = {image}
username = "{name}+push"
password_file = "secrets/{name}-images"
"""


Site = TypeVar("Site", bound="SandboxSite")


class SandboxSite:
    """A sandbox site, as a context manager. ``directory`` is created if it is missing, and is kept.

    ``node`` or ``amqp_url`` name a broker to use; without them, the site starts its own. ``catalog=False``: the image
    registry is not started, and neither configuration nor mapping names a catalog, until ``add_catalog``.

    ``koji``, ``registry`` and ``images`` can be told to fail, see ``faults``.
    """

    def __init__(
        self, directory: Path, *, node: RabbitNode | None = None, amqp_url: str | None = None, catalog: bool = True
    ) -> None:
        self.directory = directory
        self._own_node = node is None and amqp_url is None
        self.node = node or RabbitNode(broker_directory(directory))
        self._amqp_url = amqp_url
        self.koji = SandboxKoji()
        self.registry = SandboxRegistry()
        self.images = SandboxImageRegistry(login="token")
        self._has_catalog = catalog
        self._parts = ExitStack()

    @property
    def config(self) -> Path:
        """The path of the configuration file."""
        return self.directory / "config.toml"

    @property
    def amqp_url(self) -> str:
        """The URL of the broker."""
        return self._amqp_url or self.node.amqp_url

    @property
    def catalog_image(self) -> str:
        """The image of the catalog: ``host/path:tag``."""
        return f"{self.images.host}/{CATALOG_PATH}:{CATALOG_TAG}"

    def __enter__(self: Site) -> Site:
        with ExitStack() as starting:
            if self._own_node:
                starting.enter_context(self.node)
            starting.enter_context(self.koji)
            starting.enter_context(self.registry)
            self._write_configuration()
            if self._has_catalog:
                starting.enter_context(self.images)
                self.add_catalog()
            self._parts = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._parts.close()

    def add_catalog(self) -> None:
        """Name a catalog in configuration and mapping. The image registry must have been started.

        Everyone may pull from the registry, as from Quay's public repositories: nobody needs a login to read.
        """
        self.images.accounts.public = ["*"]
        account = self.images.accounts.add(f"{CATALOG}+push", None, push=(f"{CATALOG}/*",))
        _write_secret(self.directory / "secrets" / f"{CATALOG}-images", account.password)
        image = f"{self.images.url}/{CATALOG_PATH}:{CATALOG_TAG}"
        with self.config.open("a") as file:
            file.write(CATALOG_CONFIGURATION.format(name=CATALOG, image=json.dumps(image)))
        (self.directory / "mapping.yaml").write_text(MAPPING % _PUBLISHED_TO_BOTH)

    def worker(self, *arguments: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start ``omps-worker ARGUMENTS`` on this site as a process.

        Its log is appended to ``log``, by default ``worker.log`` in the site's directory.
        """
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.pop("OMPS_WORKER_AMQP_URL", None)
        command = [sys.executable, "-m", "omps_worker", "--config", str(self.config), *arguments]
        with (log or self.directory / "worker.log").open("a") as output:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, env=environment)

    def connect(self) -> pika.BlockingConnection:
        """Open a connection to the broker."""
        return pika.BlockingConnection(pika.URLParameters(self.amqp_url))

    def send(self, channel: Any, message: BusMessage) -> None:
        """Publish a message as the build system does, except that it must reach a queue.

        Raises :class:`pika.exceptions.UnroutableError` if ``channel`` has confirms and no queue is bound yet. A worker
        declares its queue before it binds it, and the broker drops the messages that arrive in between.
        """
        properties = pika.BasicProperties(**message.properties)
        channel.basic_publish("amq.topic", message.routing_key, message.body, properties, mandatory=True)

    def save(self, message: BusMessage, path: Path) -> None:
        """Write a message to a file, in fedora-messaging's dump format."""
        document = {
            "topic": message.routing_key,
            "headers": message.properties.get("headers", {}),
            "id": message.properties.get("message_id"),
            "body": json.loads(message.body),
            "queue": None,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document) + "\n")

    def _write_configuration(self) -> None:
        secrets = self.directory / "secrets"
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        for organization in ("community", "partners"):
            self.registry.add_organization(organization)
            _write_secret(secrets / organization, self.registry.add_robot(organization))
        _write_secret(secrets / "community-oauth", self.registry.add_oauth_token("community"))
        (self.directory / "mapping.yaml").write_text(MAPPING % _PUBLISHED_TO_ORGANIZATIONS)
        self.config.write_text(
            CONFIGURATION.format(
                amqp_url=json.dumps(self.amqp_url),
                topic_prefix=TOPIC_PREFIX,
                queue=QUEUE,
                hub_url=json.dumps(self.koji.hub_url),
                root_url=json.dumps(self.koji.root_url),
                registry_url=json.dumps(self.registry.url),
            )
        )


def broker_directory(directory: Path) -> Path:
    """Return where a site in ``directory`` keeps the files of its own broker."""
    return directory / "broker"


def _write_secret(path: Path, secret: str) -> None:
    path.touch(mode=0o600)
    path.write_text(secret + "\n")


class ResultWatch:
    """Collects the result messages of a site in its own exclusive queue."""

    def __init__(self, site: SandboxSite) -> None:
        self._connection = site.connect()
        self._channel = self._connection.channel()
        self._queue: str = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, "amq.topic", f"{TOPIC_PREFIX}.omps.release.#")
        self.results: list[tuple[str, dict[str, Any]]] = []

    def poll(self, seen: Callable[[Mapping[str, Any]], object] | None = None) -> None:
        """Take the messages that have arrived since the last call, and call ``seen`` with each."""
        while True:
            method, _, body = self._channel.basic_get(self._queue, auto_ack=True)
            if method is None or method.routing_key is None or body is None:
                return
            result = json.loads(body)
            self.results.append((method.routing_key, result))
            if seen is not None:
                seen(result)

    def depth(self, queue: str) -> int:
        """Return how many messages are ready in ``queue``; 0 if there is no such queue."""
        channel = self._connection.channel()
        try:
            return int(channel.queue_declare(queue, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker:
            return 0
        finally:
            if channel.is_open:
                channel.close()

    def close(self) -> None:
        """Close the connection to the broker."""
        if self._connection.is_open:
            self._connection.close()
