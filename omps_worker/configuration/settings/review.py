# SPDX-License-Identifier: GPL-3.0-or-later
"""What a valid configuration should still be told about."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.settings import Settings
from omps_worker.configuration.settings.fields import is_local
from omps_worker.configuration.settings.organizations import OrganizationSettings
from omps_worker.configuration.settings.tables import dotted

_LOSING_ARGUMENTS = ("x-expires", "x-max-length", "x-max-length-bytes", "x-message-ttl")


def review(settings: Settings, file: str) -> tuple[Fault, ...]:
    """What is allowed but probably not meant."""
    return tuple(Fault(file, key, reason) for key, reason in _doubts(settings))


def _doubts(settings: Settings) -> Iterator[tuple[str, str]]:
    worker = settings.worker
    if settings.has_broker:
        yield from _broker_doubts(settings)
    if worker.registry.url.startswith("http:") and not is_local(worker.registry.url):
        yield "consumer_config.registry.url", "tokens go over plain http, readable for everybody on the way: use https"
    if {"cnr", "api"} & set(urlsplit(worker.registry.url).path.split("/")):
        yield "consumer_config.registry.url", "should be the base URL alone: /cnr/api/v1/… is appended to it"
    if worker.prefetch < worker.concurrency:
        yield "consumer_config.prefetch", "is less than concurrency: some workers will always be idle"
    if worker.catch_up.period > 0 and worker.catch_up.window < 2 * worker.catch_up.period:
        yield "consumer_config.catch_up.window", "is less than twice the period: builds may fall in between"
    if worker.ca_bundle and worker.ca_bundle.is_dir() and not any(_hashed(worker.ca_bundle)):
        yield "consumer_config.ca_bundle", "has no hashed certificates: run `openssl rehash` on the directory"
    for name, organization in worker.organizations.items():
        key = dotted(("consumer_config", "organizations", name))
        if organization.public and not organization.has_oauth:
            yield f"{key}.public", "is true without an oauth_token: what is pushed stays as private as it was"
        for source in ("token_file", "password_file", "oauth_token_file"):
            yield from _open_secret(f"{key}.{source}", getattr(organization, source))
        if organization.has_token and not _has_basic_token(organization):
            yield key, 'its token is not of the form "basic …", the only one that app registries understand'


def _open_secret(key: str, path: Path | None) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError):
        if path is not None and path.stat().st_mode & stat.S_IROTH:
            yield key, "can be read by everybody on this machine: chmod o-r, or mode 0440 where it is mounted"


def _has_basic_token(organization: OrganizationSettings) -> bool:
    try:
        return organization.authorization().get_secret_value().lower().startswith("basic ")
    except SettingsError:
        # That it is not there has been told as a fault.
        return True


def _broker_doubts(settings: Settings) -> Iterator[tuple[str, str]]:
    if not settings.bindings:
        yield "bindings", "are none: the queue gets only what somebody else binds to it"
    for index, binding in enumerate(settings.bindings):
        for place, routing_key in enumerate(binding.routing_keys):
            if reason := _odd_routing_key(routing_key):
                yield dotted(("bindings", index, "routing_keys", place)), f"{routing_key!r} {reason}"
    tls = settings.tls
    yield from _open_secret("consumer_config.broker.password_file", settings.worker.broker.password_file)
    yield from _open_secret("tls.keyfile", tls.keyfile)
    if settings.amqp_url.get_secret_value().startswith("amqp:") and (tls.ca_cert or tls.certfile):
        yield "tls", "is not used: amqp_url does not start with amqps"
    management = settings.worker.broker.management_url
    if management and management.startswith("http:") and not is_local(management):
        yield "consumer_config.broker.management_url", "the broker's password goes over plain http: use https"
    if tls.certfile and settings.worker.broker.password is not None:
        yield "consumer_config.broker", "has a password that is not used: the certificate in [tls] logs in"
    for key in _LOSING_ARGUMENTS:
        if key in settings.queue.arguments:
            yield (
                dotted(("queues", settings.queue.name, "arguments", key)),
                "can make the broker drop or park messages unread",
            )
    for key in ("callback", "log_config"):
        if getattr(settings, key) is not None:
            yield key, "is not used by omps-worker"


def _odd_routing_key(routing_key: str) -> str | None:
    """Why a routing key is hardly one that somebody meant; None: it may be."""
    if routing_key != routing_key.strip():
        return "has a blank at one of its ends, which the broker takes for a part of it"
    for word in routing_key.split("."):
        if len(word) > 1 and ("*" in word or "#" in word):
            return (
                f"has {word!r}, which is no wildcard to AMQP: * is one word and # any number of them, each by itself "
                "between dots; it matches hardly anything"
            )
    return None


def _hashed(directory: Path) -> Iterator[Path]:
    return directory.glob("[0-9a-f]" * 8 + ".[0-9]*")
