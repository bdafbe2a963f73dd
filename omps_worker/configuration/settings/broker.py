# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the configuration that belong to fedora-messaging: queues, bindings, TLS, monitoring."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from omps_worker.configuration.settings.fields import (
    TOPIC_LIMIT,
    Arguments,
    CertificatesPath,
    FilePath,
    Flag,
    Number,
    Port,
    ShortName,
    Text,
)
from omps_worker.configuration.settings.tables import Location, Reading, Table

QUEUE_NAME_LIMIT = TOPIC_LIMIT - len(".retry.") - 32
"""The maximum length of the queue's name in bytes: ``<queue>.retry.<delay>`` must be a valid name, too."""

RESERVED_PROPERTIES = ("product", "information", "version")
"""Client properties that identify the program; fedora-messaging reserves them, too."""


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """The queue to consume from."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """The arguments for its declaration: the required ones and those of the configuration."""


def contract_arguments(queue: str) -> dict[str, Any]:
    """Return the required arguments of ``<queue>``, which the configuration cannot change."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": f"{queue}.failed",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _must_be_true(value: bool) -> bool:
    if not value:
        raise ValueError("must be true: the queue must survive a restart of the broker")
    return value


def _must_be_false(value: bool) -> bool:
    if value:
        raise ValueError("must be false: the queue must survive the worker, and replicas share it")
    return value


class QueueSettings(Table):
    """A queue in fedora-messaging's format; omitted keys get durable defaults."""

    durable: Annotated[Flag, AfterValidator(_must_be_true)] = Field(default=True, description="Must be true.")
    auto_delete: Annotated[Flag, AfterValidator(_must_be_false)] = Field(default=False, description="Must be false.")
    exclusive: Annotated[Flag, AfterValidator(_must_be_false)] = Field(default=False, description="Must be false.")
    arguments: Arguments = Field(
        default_factory=dict, description="Additional arguments; omps-worker adds the ones that it needs."
    )


class BindingSettings(Table):
    """A binding of the queue to an exchange."""

    queue: ShortName | None = Field(default=None, description="The queue; if omitted, the one in [queues].")
    exchange: ShortName = Field(description="The exchange that carries Koji's messages.")
    routing_keys: tuple[ShortName, ...] = Field(
        min_length=1, description="Topics; * matches one word, # any number of words."
    )


class ExchangeSettings(Table):
    """An exchange in fedora-messaging's format; it is never declared."""

    type: Text = "topic"
    durable: Flag = True
    auto_delete: Flag = False
    arguments: Arguments = Field(default_factory=dict)


class QosSettings(Table):
    """fedora-messaging's prefetch."""

    prefetch_count: Number = Field(
        default=8, ge=1, le=65535, description="Used if consumer_config.prefetch is not set."
    )
    prefetch_size: Number = Field(default=0, ge=0, le=0, description="Must be 0: RabbitMQ supports no other value.")


class MonitoringSettings(Table):
    """The address of /live, /ready and /metrics."""

    address: Text = Field(default="127.0.0.1", description='The address to listen on; "" and "::" mean all addresses.')
    port: Port = Field(default=9100, description="The port to listen on; 0 lets the system choose.")


class TlsSettings(Table):
    """Certificates for connections to the broker; used with amqps URLs."""

    ca_cert: CertificatesPath | None = Field(
        default=None,
        description="The certificates of the authorities that may sign the broker's; if omitted, the system's.",
    )
    certfile: FilePath | None = Field(default=None, description="The client certificate; requires keyfile.")
    keyfile: FilePath | None = Field(default=None, description="The private key of certfile.")

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that certfile and keyfile are given together and match."""
        certificate, key = table.get("certfile"), table.get("keyfile")
        if certificate is not None and key is None:
            yield ("keyfile",), "is missing: certfile requires its private key"
        elif key is not None and certificate is None:
            yield ("certfile",), "is missing: keyfile requires its certificate"
        elif isinstance(certificate, (str, Path)) and isinstance(key, (str, Path)):
            certificate, key = reading.directory / certificate, reading.directory / key
            if certificate.is_file() and key.is_file() and not _match(certificate, key):
                yield (
                    ("certfile",),
                    "does not match keyfile: both must be in PEM format, belong together, and have no passphrase",
                )


def _match(certificate: Path, key: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "-")
    except (OSError, ValueError):
        return False
    return True


def _properties(value: dict[str, Any]) -> dict[str, Any]:
    for key, item in value.items():
        if key in RESERVED_PROPERTIES:
            raise ValueError(f"must not have the key {key}: omps-worker sets it to identify itself")
        if not isinstance(item, str) and not (isinstance(item, list) and all(isinstance(part, str) for part in item)):
            raise ValueError(f"must only have values that are text or lists of text: {key} has another")
    return value


ClientProperties = Annotated[dict[str, Any], AfterValidator(_properties)]
"""Additional properties that the broker's list of connections shows."""


def topology_faults(table: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Yield the faults of queues and bindings taken together; ``table`` is the whole file."""
    queues = table.get("queues")
    if not isinstance(queues, Mapping) or not queues:
        return
    if len(queues) > 1:
        yield ("queues",), f"must have exactly one queue, but there are {len(queues)}: the worker consumes from one"
    for name, settings in queues.items():
        if fault := queue_name_fault(name):
            yield ("queues", name), fault
        arguments = settings.get("arguments") if isinstance(settings, Mapping) else None
        for key, wanted in contract_arguments(name).items():
            given = arguments.get(key, wanted) if isinstance(arguments, Mapping) else wanted
            if type(given) is not type(wanted) or given != wanted:
                yield (
                    ("queues", name, "arguments", key),
                    f"must be {wanted!r}, which omps-worker sets itself: remove this key",
                )
    bindings = table.get("bindings")
    for index, binding in enumerate(bindings if isinstance(bindings, (list, tuple)) else ()):
        queue = binding.get("queue") if isinstance(binding, Mapping) else None
        if isinstance(queue, str) and queue and queue not in queues:
            yield ("bindings", index, "queue"), "is not the queue in [queues]: remove this key to bind that queue"


def queue_name_fault(name: str) -> str | None:
    """Return why ``name`` is not a valid name for the worker's queue, or None if it is."""
    if not name:
        return "the queue must have a name: an anonymous queue is deleted together with its messages"
    if not name.isprintable():
        return "the queue's name must not contain control characters"
    if name.startswith("amq."):
        return "the queue's name must not start with amq., which RabbitMQ reserves"
    if len(name.encode()) > QUEUE_NAME_LIMIT:
        return f"the queue's name must have at most {QUEUE_NAME_LIMIT} bytes, so that .retry.<delay> can be appended"
    return None
