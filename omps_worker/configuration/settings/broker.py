# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the configuration that is fedora-messaging's own: queues, bindings, TLS, monitoring."""

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
"""How many bytes the queue's name may have, so that ``<queue>.retry.<delay>`` is still a queue's name."""

RESERVED_PROPERTIES = ("product", "information", "version")
"""Client properties that say which program is connected; fedora-messaging reserves them, too."""


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """The queue to consume from."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """What to declare it with: the contract's arguments and those of the configuration."""


def contract_arguments(queue: str) -> dict[str, Any]:
    """The arguments that the contract gives to ``<queue>``; the configuration cannot change them."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": f"{queue}.failed",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _must_be_durable(value: bool) -> bool:
    if not value:
        raise ValueError("must be true: the queue has to outlive a restart of the broker")
    return value


def _must_not_vanish(value: bool) -> bool:
    if value:
        raise ValueError("must be false: the queue has to outlive the worker and be shared by replicas")
    return value


class QueueSettings(Table):
    """A queue, as fedora-messaging describes it; omitted keys get durable defaults."""

    durable: Annotated[Flag, AfterValidator(_must_be_durable)] = Field(default=True, description="Must be true.")
    auto_delete: Annotated[Flag, AfterValidator(_must_not_vanish)] = Field(default=False, description="Must be false.")
    exclusive: Annotated[Flag, AfterValidator(_must_not_vanish)] = Field(default=False, description="Must be false.")
    arguments: Arguments = Field(
        default_factory=dict, description="Further arguments; those that omps-worker needs are added."
    )


class BindingSettings(Table):
    """A binding of the queue to an exchange."""

    queue: ShortName | None = Field(default=None, description="The queue; omitted: the one that is configured.")
    exchange: ShortName = Field(description="The exchange that carries Koji's messages.")
    routing_keys: tuple[ShortName, ...] = Field(
        min_length=1, description="Topics, with * for one word and # for any number of them."
    )


class ExchangeSettings(Table):
    """An exchange, as fedora-messaging describes it; it is never declared."""

    type: Text = "topic"
    durable: Flag = True
    auto_delete: Flag = False
    arguments: Arguments = Field(default_factory=dict)


class QosSettings(Table):
    """fedora-messaging's prefetch."""

    prefetch_count: Number = Field(default=8, ge=1, le=65535, description="Used when consumer_config.prefetch is not.")
    prefetch_size: Number = Field(default=0, ge=0, le=0, description="Must be 0: RabbitMQ knows no other.")


class MonitoringSettings(Table):
    """Where /live, /ready and /metrics listen."""

    address: Text = Field(default="127.0.0.1", description='The address; "" and "::" mean all.')
    port: Port = Field(default=9100, description="The port.")


class TlsSettings(Table):
    """Certificates for connections to the broker; used with amqps URLs."""

    ca_cert: CertificatesPath | None = Field(
        default=None, description="Certificates that the broker's must be signed by; omitted: the system's."
    )
    certfile: FilePath | None = Field(default=None, description="Our certificate; goes with keyfile.")
    keyfile: FilePath | None = Field(default=None, description="Its private key.")

    @classmethod
    def together(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """A certificate and its key go together."""
        certificate, key = table.get("certfile"), table.get("keyfile")
        if certificate is not None and key is None:
            yield ("keyfile",), "is missing: certfile needs the key that belongs to it"
        elif key is not None and certificate is None:
            yield ("certfile",), "is missing: keyfile needs the certificate that it belongs to"
        elif isinstance(certificate, (str, Path)) and isinstance(key, (str, Path)):
            certificate, key = reading.directory / certificate, reading.directory / key
            if certificate.is_file() and key.is_file() and not _fit(certificate, key):
                yield (
                    ("certfile",),
                    "does not go with keyfile: both must be in PEM form, belong together, and have no passphrase",
                )


def _fit(certificate: Path, key: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=lambda: "-")
    except (OSError, ValueError):
        return False
    return True


def _properties(value: dict[str, Any]) -> dict[str, Any]:
    for key, item in value.items():
        if key in RESERVED_PROPERTIES:
            raise ValueError(f"must not have the key {key}: it tells which program is connected")
        if not isinstance(item, str) and not (isinstance(item, list) and all(isinstance(part, str) for part in item)):
            raise ValueError(f"must only have values that are text or lists of texts: {key} has another")
    return value


ClientProperties = Annotated[dict[str, Any], AfterValidator(_properties)]
"""What the broker's lists show about this client."""


def topology_faults(table: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """What is wrong about queues and bindings taken together; ``table`` is the whole file."""
    queues = table.get("queues")
    if not isinstance(queues, Mapping) or not queues:
        return
    if len(queues) > 1:
        yield ("queues",), f"must be exactly one queue, but there are {len(queues)}: the worker consumes from one"
    for name, settings in queues.items():
        if fault := queue_name_fault(name):
            yield ("queues", name), fault
        arguments = settings.get("arguments") if isinstance(settings, Mapping) else None
        for key, wanted in contract_arguments(name).items():
            given = arguments.get(key, wanted) if isinstance(arguments, Mapping) else wanted
            if type(given) is not type(wanted) or given != wanted:
                yield ("queues", name, "arguments", key), f"must be {wanted!r}, which is added by itself: leave it out"
    bindings = table.get("bindings")
    for index, binding in enumerate(bindings if isinstance(bindings, (list, tuple)) else ()):
        queue = binding.get("queue") if isinstance(binding, Mapping) else None
        if isinstance(queue, str) and queue and queue not in queues:
            yield ("bindings", index, "queue"), "is not the queue in [queues]: leave it out to bind that one"


def queue_name_fault(name: str) -> str | None:
    """Why ``name`` cannot be the worker's queue; None if it can."""
    if not name:
        return "the queue must have a name: an anonymous one vanishes with its messages"
    if not name.isprintable():
        return "the queue's name must not contain control characters"
    if name.startswith("amq."):
        return "the queue's name must not start with amq.: RabbitMQ keeps those for itself"
    if len(name.encode()) > QUEUE_NAME_LIMIT:
        return f"the queue's name must have at most {QUEUE_NAME_LIMIT} bytes, so that .retry.<delay> can be appended"
    return None
