# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the configuration: every key, its default and its valid values.

The file has fedora-messaging's format; the section ``[consumer_config]`` is our own. ``settings.file.load`` finds,
reads and checks it. Durations are floats of seconds, sizes are bytes, paths are absolute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr

from omps_worker.common.errors import Fault
from omps_worker.common.limits import FILES, VALUES
from omps_worker.common.names import catalog_name_fault, organization_name_fault
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
from omps_worker.configuration.settings.catalogs import CatalogSettings
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
    "CatalogSettings",
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
    """The Koji instance that has the builds."""

    hub_url: HttpUrl = Field(description="The URL of Koji's hub, such as https://koji.example.com/kojihub.")
    root_url: HttpUrl = Field(description="The URL of Koji's files, such as https://koji.example.com/kojifiles.")
    timeout: PositiveDuration = Field(default=_duration("30s"), description="How long one call or download may take.")
    instance: Name | None = Field(
        default=None, description="The name of this Koji: messages that name another are ignored. Without it, none are."
    )


class RegistrySettings(Table):
    """The app registry that releases are pushed to."""

    url: HttpUrl = Field(
        description="The base URL of the app registry; /cnr/api/v1/… and /api/v1/… are appended to it."
    )
    timeout: PositiveDuration = Field(default=_duration("30s"), description="How long one call may take.")


class RetrySettings(Table):
    """When transient failures are retried."""

    delays: tuple[PositiveDuration, ...] = Field(
        default=tuple(map(_duration, ("10s", "1m", "10m", "1h"))),
        min_length=1,
        max_length=32,
        json_schema_extra={"default": ["10s", "1m", "10m", "1h"]},
        description="How long to wait before each retry; the last delay repeats.",
    )
    give_up_after: Duration = Field(
        default=_duration("24h"), description="How long after its first receipt a message is parked instead of retried."
    )

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check the delays: each is a queue, so none may occur twice or be longer than a queue can delay messages."""
        delays = table.get("delays")
        seen: set[float] = set()
        for index, written in enumerate(delays if isinstance(delays, (list, tuple)) else ()):
            try:
                delay = Duration.parse(written)
            except ValueError:
                continue
            if delay in seen:
                yield ("delays", index), "is listed twice"
            if 0 < delay < 0.001:
                yield ("delays", index), "is shorter than a millisecond"
            if delay > LONGEST_DELAY:
                yield ("delays", index), "is longer than 49 days, the maximum of RabbitMQ"
            seen.add(delay)


class Limits(Table):
    """The limits for an archive of manifests."""

    archive_bytes: Size = Field(default=10 * 2**20, description="The maximum size of the zip, downloaded or uploaded.")
    uncompressed_bytes: Size = Field(
        default=20 * 2**20, description="The maximum size of all its members together, unpacked."
    )
    files: Number = Field(
        default=FILES,
        ge=1,
        description="The maximum number of files, and of directories. For catalogs, also of the files that are made of "
        "files with several documents.",
    )
    values: Number = Field(
        default=VALUES, ge=1, description="The maximum number of YAML values in all manifests of one operator."
    )


class CatchUpSettings(Table):
    """The search for builds whose messages never arrived."""

    period: Duration = Field(default=_duration("0s"), description="How often to search while running; 0: never.")
    window: PositiveDuration = Field(default=_duration("24h"), description="How far back to search.")


class GreenwaveSettings(Table):
    """How to ask Greenwave whether a build has passed its gates."""

    url: HttpUrl = Field(description="The base URL; /api/v1.0/decision is appended to it.")
    context: Name = Field(description="The decision context.")
    product_version: Name = Field(description="The product version.")
    patience: Duration = Field(
        default=_duration("0s"),
        description="How long a build from the bus may stay unsatisfied before the failure is permanent.",
    )


class ApiSettings(Table):
    """The REST API, `omps-worker api`."""

    address: Name = Field(default="127.0.0.1", description='The address to listen on; "::" means all addresses.')
    port: Port = Field(default=8080, description="The port to listen on.")
    max_content_length: Size = Field(default=2 * 2**20, description="The largest request taken.")
    deduplicate: Flag = Field(
        default=False, description="Whether a push of content that is already released makes no new release."
    )


class WorkerSettings(Table):
    """omps-worker's own section, `[consumer_config]`."""

    mapping: AnyPath = Field(
        default="mapping.yaml", validate_default=True, description="The mapping file, which says where each build goes."
    )
    concurrency: Number = Field(default=4, ge=1, le=256, description="How many builds are worked on concurrently.")
    prefetch: Number = Field(
        default=8, ge=1, le=65535, description="How many messages the broker delivers ahead of their acks."
    )
    shutdown_timeout: PositiveDuration = Field(
        default=_duration("60s"), description="How long to wait for work in progress after SIGTERM."
    )
    default_release_version: ReleaseVersion = Field(
        default="1.0.0", description="The version of a package's first release, if versions are incremented."
    )
    ca_bundle: CertificatesPath | None = Field(
        default=None, description="Certificates that every HTTPS client trusts: a PEM file, or a directory of them."
    )
    lock: Literal["broker", "process"] = Field(
        default="broker",
        description="What serialises pushes to one package: across all replicas, or in this process only.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Logs for people or for programs.")
    log_level: LogLevel = Field(default="INFO", description="The lowest severity that is logged.")
    broker: BrokerSettings = Field(
        default_factory=BrokerSettings,
        description="Settings of the broker that amqp_url cannot hold: additional nodes, and where the password is.",
    )
    koji: KojiSettings = Field(description="The URLs of Koji: hub_url and root_url.")
    registry: RegistrySettings = Field(description="The app registry: url.")
    retry: RetrySettings = Field(default_factory=RetrySettings)
    limits: Limits = Field(default_factory=Limits)
    catch_up: CatchUpSettings = Field(default_factory=CatchUpSettings)
    greenwave: GreenwaveSettings | None = None
    api: ApiSettings = Field(default_factory=ApiSettings)
    organizations: dict[str, OrganizationSettings] = Field(
        default_factory=dict, description="The organizations to push to, by name."
    )
    catalogs: dict[str, CatalogSettings] = Field(
        default_factory=dict, description="The catalogs of bundle images to publish to, by name."
    )

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that the mapping file exists and that organizations and catalogs have valid names."""
        mapping = table.get("mapping", "mapping.yaml")
        wanted = not reading.api and reading.lenience is Lenience.NONE
        if isinstance(mapping, (str, Path)) and str(mapping) and "\0" not in str(mapping) and wanted:
            fault = path_fault(reading.directory / mapping, reading)
            if fault:
                yield ("mapping",), naming.of_file(fault, reading.directory / mapping, reading.directory)
        for key, name_fault in (("organizations", organization_name_fault), ("catalogs", catalog_name_fault)):
            names = table.get(key)
            for name in names if isinstance(names, Mapping) else ():
                if fault := name_fault(name):
                    yield (key, name), fault

    def model_post_init(self, _context: Any, /) -> None:
        """Pass the organizations and the catalogs their names."""
        for name, organization in self.organizations.items():
            organization.set_name(name)
        for name, catalog in self.catalogs.items():
            catalog.set_name(name)


class Settings(Table):
    """The configuration file: fedora-messaging's keys, and our own under [consumer_config]."""

    amqp_url: AmqpUrl = Field(
        description="The URL of the broker: amqps://user:password@host/vhost. OMPS_WORKER_AMQP_URL overrides it."
    )
    """Empty only if it was loaded for the REST API, which works without a broker."""
    client_properties: ClientProperties = Field(
        default_factory=dict,
        description="What the broker's list of connections shows in addition to the program's name.",
    )
    publish_exchange: ShortName = Field(
        default="amq.topic", description="The exchange that results are published to; it must exist."
    )
    topic_prefix: TopicPrefix = Field(description="The prefix of result topics: <topic_prefix>.omps.release.<status>.")
    publish_priority: int | None = Field(
        default=None, strict=True, ge=0, le=255, description="The priority of result messages."
    )
    passive_declares: Flag = Field(
        default=False, description="Whether queues must already exist and are only checked, not created."
    )
    exchanges: dict[str, ExchangeSettings] = Field(
        default_factory=dict,
        description="Accepted because fedora-messaging has it; the worker never declares exchanges.",
    )
    queues: dict[str, QueueSettings] = Field(
        min_length=1, description="Exactly one named, durable queue, such as [queues.omps-worker]."
    )
    bindings: tuple[BindingSettings, ...] = Field(default=(), description="Which messages the queue receives.")
    qos: QosSettings = Field(
        default_factory=QosSettings, description="prefetch_count is used if consumer_config.prefetch is not set."
    )
    callback: Name | None = Field(default=None, description="Accepted because fedora-messaging has it; not used.")
    monitoring: MonitoringSettings | None = Field(
        default=None, description="The address of /live, /ready and /metrics; without this section nothing listens."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="Certificates for amqps URLs.")
    log_config: dict[str, Any] | None = Field(
        default=None, description="Accepted because fedora-messaging has it; not used: see log_format and log_level."
    )
    worker: WorkerSettings = Field(alias="consumer_config", description="omps-worker's own configuration.")

    _file: str = PrivateAttr(default="configuration")
    _warnings: tuple[Fault, ...] = PrivateAttr(default=())
    _url: BrokerUrl | None = PrivateAttr(default=None)

    @classmethod
    def combined_faults(cls, table: Mapping[str, Any], _reading: Reading, /) -> Iterator[tuple[Location, str]]:
        """Check that there is one queue, that bindings name it, and that no argument contradicts the required ones."""
        yield from topology_faults(table)
        yield from login_faults(table)

    def model_post_init(self, _context: Any, /) -> None:
        """Find the broker's password."""
        self._url = BrokerUrl(self.amqp_url, self.worker.broker.password)

    @cached_property
    def queue(self) -> DeclaredQueue:
        """The queue to consume from, with all arguments for its declaration."""
        name, settings = next(iter(self.queues.items()))
        return DeclaredQueue(name, {**settings.arguments, **contract_arguments(name)})

    @property
    def has_broker(self) -> bool:
        """Whether a broker is configured; the REST API works without one."""
        return bool(self.amqp_url.get_secret_value())

    @property
    def file(self) -> str:
        """The path of the file that the settings were read from, for messages."""
        return self._file

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Settings that are valid but probably a mistake; for the log at startup and for `check`."""
        return self._warnings

    def set_source(self, file: str, warnings: tuple[Fault, ...]) -> None:
        """Store the path and the warnings of the review. Called once, after the file was read."""
        self._file = file
        self._warnings = warnings

    def reread_url_from(self, path: Path, renewed: Callable[[], str | None]) -> None:
        """Let ``broker_url`` read amqp_url again whenever ``path``, the file with it, has changed."""
        self._url = BrokerUrl(self.amqp_url, self.worker.broker.password, path, renewed)

    @property
    def broker_url(self) -> str:
        """amqp_url with the current login. It is a secret, for opening connections."""
        return (self._url or BrokerUrl(self.amqp_url)).now().get_secret_value()

    def further_hosts(self, port: int) -> list[tuple[str, int]]:
        """Return the additional nodes of the broker; ``port`` is the default port."""
        return self.worker.broker.further_hosts(port)

    def without_broker(self) -> Settings:
        """Return a copy of the settings without a broker."""
        return self.model_copy(update={"amqp_url": SecretStr("")})
