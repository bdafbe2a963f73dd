# SPDX-License-Identifier: GPL-3.0-or-later
"""Warnings about a valid configuration that is probably a mistake."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.settings.catalogs import CatalogSettings
from omps_worker.configuration.settings.fields import is_local
from omps_worker.configuration.settings.models import Settings
from omps_worker.configuration.settings.organizations import OrganizationSettings
from omps_worker.configuration.settings.tables import dotted

_LOSING_ARGUMENTS = ("x-expires", "x-max-length", "x-max-length-bytes", "x-message-ttl")


def review(settings: Settings, file: str) -> tuple[Fault, ...]:
    """Return warnings about settings that are valid but probably a mistake."""
    return tuple(Fault(file, key, reason) for key, reason in _warnings_about(settings))


def _warnings_about(settings: Settings) -> Iterator[tuple[str, str]]:
    worker = settings.worker
    if settings.has_broker:
        yield from _broker_warnings(settings)
    if worker.registry.url.startswith("http:") and not is_local(worker.registry.url):
        yield "consumer_config.registry.url", "sends tokens over plain HTTP, where others can read them: use https"
    if {"cnr", "api"} & set(urlsplit(worker.registry.url).path.split("/")):
        yield "consumer_config.registry.url", "should be only the base URL: /cnr/api/v1/… is appended to it"
    if worker.prefetch < worker.concurrency:
        yield "consumer_config.prefetch", "is less than concurrency: some workers will always be idle"
    if worker.catch_up.period > 0 and worker.catch_up.window < 2 * worker.catch_up.period:
        yield "consumer_config.catch_up.window", "is less than twice the period: some builds may be missed"
    if worker.ca_bundle and worker.ca_bundle.is_dir() and not any(_hashed(worker.ca_bundle)):
        yield "consumer_config.ca_bundle", "has no hashed certificates: run `openssl rehash` on the directory"
    for name, organization in worker.organizations.items():
        key = dotted(("consumer_config", "organizations", name))
        if organization.public and not organization.has_oauth:
            yield f"{key}.public", "is true without an oauth_token: the visibility of repositories is not changed"
        for source in ("token_file", "password_file", "oauth_token_file"):
            yield from _open_secret(f"{key}.{source}", getattr(organization, source))
        if organization.has_token and not _has_basic_token(organization):
            yield key, 'its token does not have the form "basic …", the only one that app registries accept'
    first: dict[tuple[str, str, str | None], str] = {}
    for name, catalog in worker.catalogs.items():
        yield from _catalog_warnings(name, catalog)
        image = catalog.image
        other = first.setdefault((image.host, image.path, image.tag), name)
        if other != name:
            key = dotted(("consumer_config", "catalogs", name, "image"))
            yield key, f"is that of the catalog {other}, too: a pause of one does not hold up the other"


def _catalog_warnings(name: str, catalog: CatalogSettings) -> Iterator[tuple[str, str]]:
    key = dotted(("consumer_config", "catalogs", name))
    if catalog.public and not catalog.has_oauth:
        yield f"{key}.public", "is true without an oauth_token: the visibility of repositories is not changed"
    for source, path in catalog.secret_files:
        yield from _open_secret(f"{key}.{source}", path)
    for source, template in (("image", catalog.image), ("bundles", catalog.bundle_images)):
        plain = template.scheme == "http" and not is_local(f"http://{template.host}")
        if plain and catalog.has_login and (source == "image" or catalog.bundles is not None):
            yield f"{key}.{source}", "sends passwords over plain HTTP, where others can read them: use https"


def _open_secret(key: str, path: Path | None) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError):
        if path is not None and path.stat().st_mode & stat.S_IROTH:
            yield key, "can be read by every user of this machine: run chmod o-r, or mount it with mode 0440"


def _has_basic_token(organization: OrganizationSettings) -> bool:
    try:
        return organization.authorization().get_secret_value().lower().startswith("basic ")
    except SettingsError:
        # A missing token is already reported as a fault.
        return True


def _broker_warnings(settings: Settings) -> Iterator[tuple[str, str]]:
    if not settings.bindings:
        yield "bindings", "has no entries: the queue receives only what is bound to it elsewhere"
    for index, binding in enumerate(settings.bindings):
        for place, routing_key in enumerate(binding.routing_keys):
            if reason := _routing_key_suspicion(routing_key):
                yield dotted(("bindings", index, "routing_keys", place)), f"{routing_key!r} {reason}"
    tls = settings.tls
    yield from _open_secret("consumer_config.broker.password_file", settings.worker.broker.password_file)
    yield from _open_secret("tls.keyfile", tls.keyfile)
    if settings.amqp_url.get_secret_value().startswith("amqp:") and (tls.ca_cert or tls.certfile):
        yield "tls", "is not used: amqp_url does not start with amqps"
    management = settings.worker.broker.management_url
    if management and management.startswith("http:") and not is_local(management):
        yield "consumer_config.broker.management_url", "sends the broker's password over plain HTTP: use https"
    if tls.certfile and settings.worker.broker.password is not None:
        yield (
            "consumer_config.broker",
            "has a password that is not used: the worker logs in with the certificate in [tls]",
        )
    for key in _LOSING_ARGUMENTS:
        if key in settings.queue.arguments:
            yield (
                dotted(("queues", settings.queue.name, "arguments", key)),
                "can make the broker drop messages, or park them unread",
            )
    for key in ("callback", "log_config"):
        if getattr(settings, key) is not None:
            yield key, "is not used by omps-worker"


def _routing_key_suspicion(routing_key: str) -> str | None:
    """Return why a routing key is probably a mistake, or None."""
    if routing_key != routing_key.strip():
        return "begins or ends with a space, which the broker treats as a part of it"
    for word in routing_key.split("."):
        if len(word) > 1 and ("*" in word or "#" in word):
            return (
                f"has {word!r}, which is not a wildcard in AMQP: * matches one word and # any number of words, each "
                "alone between dots; it matches almost nothing"
            )
    return None


def _hashed(directory: Path) -> Iterator[Path]:
    return directory.glob("[0-9a-f]" * 8 + ".[0-9]*")
