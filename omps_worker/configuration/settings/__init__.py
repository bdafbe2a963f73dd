# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration, as models: every key, its default and what it may be.

The file is fedora-messaging's; ours is its section ``[consumer_config]``. ``settings_file.load``
finds, reads and checks it. Durations are floats of seconds, sizes are bytes, paths are absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr

from omps_worker.common.errors import Fault
from omps_worker.common.limits import VALUES
from omps_worker.common.names import organization_name_fault
from omps_worker.configuration.settings import naming
from omps_worker.configuration.settings.broker import (
    BindingSettings,
    ClientProperties,
    DeclaredQueue,
    ExchangeSettings,
    MonitoringSettings,
    QosSettings,
    QueueSettings,
    TlsSettings,
    contract_arguments,
    topology_faults,
)
from omps_worker.configuration.settings.broker_login import BrokerSettings, BrokerUrl, login_faults
from omps_worker.configuration.settings.fields import (
    AmqpUrl,
    AnyPath,
    CertificatesPath,
    Flag,
    HttpUrl,
    LogLevel,
    Name,
    Number,
    Port,
    ReleaseVersion,
    ShortName,
    TopicPrefix,
    path_fault,
)
from omps_worker.configuration.settings.organizations import OrganizationSettings
from omps_worker.configuration.settings.tables import Lenience, Location, Reading, Table
from omps_worker.configuration.settings.units import Duration, PositiveDuration, Size

__all__ = [
    "ApiSettings",
    "BrokerSettings",
    "CatchUpSettings",
    "GreenwaveSettings",
    "KojiSettings",
    "Limits",
    "OrganizationSettings",
    "RegistrySettings",
    "RetrySettings",
    "Settings",
    "WorkerSettings",
]

LONGEST_DELAY = (2**32 - 1) / 1000
"""The longest retry delay in seconds: RabbitMQ's x-message-ttl has 32 bits of milliseconds."""


def _duration(text: str) -> Duration:
    return Duration.parse(text)


class KojiSettings(Table):
    """Where the builds are."""

    hub_url: HttpUrl = Field(description="The URL of Koji's hub, such as https://koji.example.com/kojihub.")
    root_url: HttpUrl = Field(description="The URL of Koji's files, such as https://koji.example.com/kojifiles.")
    timeout: PositiveDuration = Field(default=_duration("30s"), description="How long one call or download may take.")
    instance: Name | None = Field(
        default=None, description="The name of this Koji: messages that name another are ignored. Without it, none is."
    )


class RegistrySettings(Table):
    """Where the releases go."""

    url: HttpUrl = Field(
        description="The base URL of the app registry; /cnr/api/v1/… and /api/v1/… are appended to it."
    )
    timeout: PositiveDuration = Field(default=_duration("30s"), description="How long one call may take.")


class RetrySettings(Table):
    """When work that failed for the time being is tried again."""

    delays: tuple[PositiveDuration, ...] = Field(
        default=tuple(map(_duration, ("10s", "1m", "10m", "1h"))),
        min_length=1,
        max_length=32,
        json_schema_extra={"default": ["10s", "1m", "10m", "1h"]},
        description="How long to wait before each further try; the last one repeats.",
    )
    give_up_after: Duration = Field(
        default=_duration("24h"), description="How long after its first receipt a message is given up."
    )

    @classmethod
    def together(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Each delay is a queue: none twice, and none longer than a queue can hold back."""
        delays = table.get("delays")
        seen: set[float] = set()
        for index, written in enumerate(delays if isinstance(delays, (list, tuple)) else ()):
            try:
                delay = Duration.parse(written)
            except ValueError:
                continue
            if delay in seen:
                yield ("delays", index), "stands there twice"
            if 0 < delay < 0.001:
                yield ("delays", index), "is shorter than a millisecond"
            if delay > LONGEST_DELAY:
                yield ("delays", index), "is longer than 49 days, which RabbitMQ cannot hold back"
            seen.add(delay)


class Limits(Table):
    """How large an archive of manifests may be."""

    archive_bytes: Size = Field(default=10 * 2**20, description="The zip, as it is downloaded or uploaded.")
    uncompressed_bytes: Size = Field(default=20 * 2**20, description="All its members together, unpacked.")
    files: Number = Field(default=2000, ge=1, description="How many members it may have.")
    values: Number = Field(
        default=VALUES, ge=1, description="How many YAML values all manifests of one operator may have together."
    )


class CatchUpSettings(Table):
    """Looking for builds whose messages never came."""

    period: Duration = Field(default=_duration("0s"), description="How often to look while running; 0: never.")
    window: PositiveDuration = Field(default=_duration("24h"), description="How far back to look.")


class GreenwaveSettings(Table):
    """Asking Greenwave whether a build passed its gates."""

    url: HttpUrl = Field(description="The base URL; /api/v1.0/decision is appended to it.")
    context: Name = Field(description="The decision context.")
    product_version: Name = Field(description="The product version.")
    patience: Duration = Field(
        default=_duration("0s"), description="How long a build from the bus may stay unsatisfied before that is final."
    )


class ApiSettings(Table):
    """The REST API, `omps-worker api`."""

    address: Name = Field(default="127.0.0.1", description='The address to listen on; "::" means all.')
    port: Port = Field(default=8080, description="The port to listen on.")
    max_content_length: Size = Field(default=2 * 2**20, description="The largest request taken.")
    deduplicate: Flag = Field(
        default=False, description="Whether a push of content that is already released makes no new release."
    )


class WorkerSettings(Table):
    """Our own part of the file, `[consumer_config]`."""

    mapping: AnyPath = Field(
        default="mapping.yaml", validate_default=True, description="The mapping file: which build goes where."
    )
    concurrency: Number = Field(default=4, ge=1, le=256, description="How many builds are worked on at once.")
    prefetch: Number = Field(
        default=8, ge=1, le=65535, description="How many messages the broker hands over ahead of their acks."
    )
    shutdown_timeout: PositiveDuration = Field(
        default=_duration("60s"), description="How long a SIGTERM waits for work in hand."
    )
    default_release_version: ReleaseVersion = Field(
        default="1.0.0", description="The version of a package's first release, when it is incremented."
    )
    ca_bundle: CertificatesPath | None = Field(
        default=None, description="Certificates that every HTTPS client trusts: a PEM file, or a directory of them."
    )
    lock: Literal["broker", "process"] = Field(
        default="broker", description="What serialises pushes to one package: all replicas, or this process alone."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Logs for people or for machines.")
    log_level: LogLevel = Field(default="INFO", description="The least severity that is logged.")
    broker: BrokerSettings = Field(
        default_factory=BrokerSettings,
        description="What amqp_url does not say: further nodes, and a password elsewhere.",
    )
    koji: KojiSettings = Field(description="Where the builds are: give hub_url and root_url.")
    registry: RegistrySettings = Field(description="Where the releases go: give url.")
    retry: RetrySettings = Field(default_factory=RetrySettings)
    limits: Limits = Field(default_factory=Limits)
    catch_up: CatchUpSettings = Field(default_factory=CatchUpSettings)
    greenwave: GreenwaveSettings | None = None
    api: ApiSettings = Field(default_factory=ApiSettings)
    organizations: dict[str, OrganizationSettings] = Field(
        default_factory=dict, description="The organizations to push to, by name."
    )

    @classmethod
    def together(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """The mapping file must be there, and organizations must have names that a registry can have."""
        mapping = table.get("mapping", "mapping.yaml")
        wanted = not reading.api and reading.lenience is Lenience.NONE
        if isinstance(mapping, (str, Path)) and str(mapping) and "\0" not in str(mapping) and wanted:
            fault = path_fault(reading.directory / mapping, reading)
            if fault:
                yield ("mapping",), naming.of_file(fault, reading.directory / mapping, reading.directory)
        organizations = table.get("organizations")
        for name in organizations if isinstance(organizations, Mapping) else ():
            if fault := organization_name_fault(name):
                yield ("organizations", name), fault

    def model_post_init(self, _context: Any, /) -> None:
        """Tell the organizations their names."""
        for name, organization in self.organizations.items():
            organization.called(name)


class Settings(Table):
    """The configuration file: fedora-messaging's keys, and ours under [consumer_config]."""

    amqp_url: AmqpUrl = Field(
        description="Where the broker is: amqps://user:password@host/vhost. OMPS_WORKER_AMQP_URL beats it."
    )
    """Empty only when read for the REST API, which works without a broker."""
    client_properties: ClientProperties = Field(
        default_factory=dict, description="What the broker's lists show about this client."
    )
    publish_exchange: ShortName = Field(default="amq.topic", description="The exchange that results go to.")
    topic_prefix: TopicPrefix = Field(description="What result topics start with, before `.omps.release.<status>`.")
    publish_priority: int | None = Field(
        default=None, strict=True, ge=0, le=255, description="The priority of result messages."
    )
    passive_declares: Flag = Field(default=False, description="Whether queues must exist already and are only checked.")
    exchanges: dict[str, ExchangeSettings] = Field(
        default_factory=dict, description="Taken for fedora-messaging's sake; exchanges are never declared."
    )
    queues: dict[str, QueueSettings] = Field(
        min_length=1, description="Exactly one named, durable queue: [queues.omps-worker]."
    )
    bindings: tuple[BindingSettings, ...] = Field(
        default=(), description="Which messages the broker routes to the queue."
    )
    qos: QosSettings = Field(
        default_factory=QosSettings, description="prefetch_count is used when consumer_config.prefetch is not given."
    )
    callback: Name | None = Field(default=None, description="Taken for fedora-messaging's sake; not used.")
    monitoring: MonitoringSettings | None = Field(
        default=None, description="Where /live, /ready and /metrics listen; without the section nothing listens."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="Certificates for amqps.")
    log_config: dict[str, Any] | None = Field(
        default=None, description="Taken for fedora-messaging's sake; not used: see log_format and log_level."
    )
    worker: WorkerSettings = Field(alias="consumer_config", description="omps-worker's own configuration.")

    _file: str = PrivateAttr(default="configuration")
    _warnings: tuple[Fault, ...] = PrivateAttr(default=())
    _url: BrokerUrl | None = PrivateAttr(default=None)

    @classmethod
    def together(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """One queue, bindings that name it, arguments that do not contradict the contract."""
        yield from topology_faults(table)
        yield from login_faults(table)

    def model_post_init(self, _context: Any, /) -> None:
        """Find the broker's password."""
        self._url = BrokerUrl(self.amqp_url, self.worker.broker.password)

    @cached_property
    def queue(self) -> DeclaredQueue:
        """The queue to consume from, with all arguments to declare it with."""
        name, settings = next(iter(self.queues.items()))
        return DeclaredQueue(name, {**settings.arguments, **contract_arguments(name)})

    @property
    def has_broker(self) -> bool:
        """Whether a broker is configured; the REST API works without one."""
        return bool(self.amqp_url.get_secret_value())

    @property
    def file(self) -> str:
        """The file that it was read from, for what is said about it."""
        return self._file

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """What is allowed but probably not meant; for the log at start and for `check`."""
        return self._warnings

    def keep(self, file: str, warnings: tuple[Fault, ...]) -> None:
        """Remember the file and what the review found; called once, by who reads the file."""
        self._file = file
        self._warnings = warnings

    def follow(self, path: Path, renewed: Callable[[], str | None]) -> None:
        """Have ``broker_url`` read amqp_url again when ``path``, the file that it stands in, was renewed."""
        self._url = BrokerUrl(self.amqp_url, self.worker.broker.password, path, renewed)

    @property
    def broker_url(self) -> str:
        """amqp_url with the login that holds now: a secret, for who connects."""
        return (self._url or BrokerUrl(self.amqp_url)).now().get_secret_value()

    def further_hosts(self, port: int) -> list[tuple[str, int]]:
        """The nodes of the broker beside that of amqp_url; ``port`` is that of hosts without one."""
        return self.worker.broker.further_hosts(port)

    def without_broker(self) -> Settings:
        """The same without a broker to connect to."""
        return self.model_copy(update={"amqp_url": SecretStr("")})
