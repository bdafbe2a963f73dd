# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding, reading and checking the configuration file.

It is found as fedora-messaging finds it, and has the same keys. But it is read by our own rules: fedora-messaging
replaces sections as a whole, checks little, and silently consumes from an anonymous queue if none is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.file_text import MISSING, text_of
from omps_worker.configuration.settings.broker_login import has_password
from omps_worker.configuration.settings.models import Settings
from omps_worker.configuration.settings.review import review
from omps_worker.configuration.settings.tables import Lenience, Reading, faults_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH_VARIABLE = "FEDORA_MESSAGING_CONF"
URL_VARIABLE = "OMPS_WORKER_AMQP_URL"
DEFAULT_PATH = Path("/etc/fedora-messaging/config.toml")

_NO_BROKER: Mapping[str, Any] = {
    "amqp_url": "amqp://",
    "topic_prefix": "omps-worker",
    "queues": {"omps-worker": {}},
}
"""Values for keys that the REST API does not need without a broker."""


def find(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the configuration: ``path``, or FEDORA_MESSAGING_CONF, or the default path."""
    return path or Path(environment.get(PATH_VARIABLE) or DEFAULT_PATH)


def load(path: Path | None = None, *, environment: Mapping[str, str] = os.environ, api: bool = False) -> Settings:
    """Load the configuration in ``path``, or where ``find`` finds it.

    ``api``: load it for the REST API, which works without a broker and without a mapping, and with the tokens of its
    clients. Raises SettingsError with every fault; trying again does not help.
    """
    path = find(path, environment).absolute()
    return check(read(path), path, environment=environment, api=api)


def check(
    table: Mapping[str, Any],
    path: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    api: bool = False,
    lenience: Lenience = Lenience.NONE,
) -> Settings:
    """Validate ``table``, which was read from ``path``, and return it as Settings.

    ``lenience``: which faults of environment variables and other files are ignored. If a missing ``amqp_url`` may be in
    one of them, the settings have no broker. Raises SettingsError with every fault.
    """
    file = str(path)
    reading = Reading(path.parent, environment, api, lenience=lenience)
    table, faults = _with_lower_case_keys(table, file)
    # A variable that was set from a file often ends with a line break.
    from_environment = environment.get(URL_VARIABLE, "").rstrip("\r\n")
    table.setdefault("consumer_config", {})
    if from_environment:
        table["amqp_url"] = from_environment
        _use_its_password(table, from_environment)
    _use_qos(table)
    without_broker = "amqp_url" not in table and (api or not reading.counts_as_fault(absent=True))
    if without_broker:
        table = {**(_NO_BROKER if api else {"amqp_url": _NO_BROKER["amqp_url"]}), **table}
    elif api:
        table.setdefault("queues", _NO_BROKER["queues"])
    settings = None
    try:
        settings = Settings.model_validate(table, context=reading)
    except ValidationError as error:
        faults += faults_of(error, file)
    if settings is None or faults:
        raise SettingsError([_with_variable(fault, bool(from_environment)) for fault in faults])
    if without_broker:
        settings = settings.without_broker()
    elif not from_environment and path.is_file():
        settings.reread_url_from(path, partial(_url_in, path))
    settings.set_source(file, review(settings, file))
    return settings


def _url_in(path: Path) -> str | None:
    """Return amqp_url as it is in the file now, or None if the file has none. Raises SettingsError."""
    url = next((value for key, value in read(path).items() if key.lower() == "amqp_url"), None)
    return url if isinstance(url, str) else None


def _use_its_password(table: dict[str, Any], url: str) -> None:
    """Let a password in the environment's URL override ``password_file`` and ``password_env``."""
    worker = table["consumer_config"]
    broker = worker.get("broker") if isinstance(worker, Mapping) else None
    if isinstance(broker, Mapping) and has_password(url):
        kept = {key: value for key, value in broker.items() if key not in ("password_file", "password_env")}
        table["consumer_config"] = {**worker, "broker": kept}


def read(path: Path) -> dict[str, Any]:
    """Read ``path`` as TOML. Raises SettingsError if that fails."""
    missing = f"{MISSING}: create it, or name another with --config or {PATH_VARIABLE}"
    text = text_of(path, missing)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at the end, line {len(text.splitlines())}"
        fault = f"is not TOML: {str(error).replace('at end of document', end)}"
    except (RecursionError, ValueError):
        fault = "is not readable TOML: it is nested too deeply, or a number is too long"
    raise SettingsError([Fault(str(path), "", fault)])


def _with_lower_case_keys(table: Mapping[str, Any], file: str) -> tuple[dict[str, Any], list[Fault]]:
    lowered: dict[str, Any] = {}
    faults = []
    for key, value in table.items():
        if key.lower() in lowered:
            faults.append(Fault(file, key.lower(), "is given twice, differing only in case (A, a)"))
        lowered[key.lower()] = value
    return lowered, faults


def _use_qos(table: dict[str, Any]) -> None:
    worker, qos = table["consumer_config"], table.get("qos")
    if isinstance(worker, dict) and isinstance(qos, dict) and "prefetch" not in worker:
        count = qos.get("prefetch_count")
        if type(count) is int and 1 <= count <= 65535:
            table["consumer_config"] = {**worker, "prefetch": count}


def _with_variable(fault: Fault, from_environment: bool) -> Fault:
    if fault.key == "amqp_url":
        if from_environment:
            return Fault("environment", URL_VARIABLE, fault.reason)
        if fault.reason.startswith("is missing"):
            reason = (
                "is missing: set it to the URL of the broker (amqps://user:password@host/vhost), "
                f"or set {URL_VARIABLE} in the environment"
            )
            return Fault(fault.file, fault.key, reason)
    return fault
