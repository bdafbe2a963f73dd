# SPDX-License-Identifier: GPL-3.0-or-later
"""Translating OMPS's keys into those of omps-worker."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.omps.document import BLANK, Document
from omps_worker.configuration.omps.file import OmpsConfiguration
from omps_worker.configuration.omps.values import BoundName, TableWithLines, Unreadable, Value, Variable
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.fields import ENVIRONMENT_NAME
from omps_worker.configuration.settings.models import Limits
from omps_worker.configuration.settings.tables import dotted

WORKER = "consumer_config"
QUEUE = "omps-worker"

TRANSLATED = frozenset(
    {
        "DEFAULT_RELEASE_VERSION",
        "GREENWAVE",
        "KOJIHUB_URL",
        "KOJIROOT_URL",
        "LOG_LEVEL",
        "MAX_CONTENT_LENGTH",
        "ORGANIZATIONS",
        "REQUEST_TIMEOUT",
        "ZIPFILE_MAX_UNCOMPRESSED_SIZE",
    }
)
"""The keys that have a counterpart."""

WITHOUT_COUNTERPART = {
    "CA_URL": "name a file of certificates in consumer_config.ca_bundle; the container image still reads CA_URL",
    "DEBUG": 'consumer_config.log_level = "DEBUG" logs more; no reply ever shows a traceback',
    "LOG_FORMAT": 'logs have two formats, consumer_config.log_format = "text" or "json"',
    "QUAY_ORGANIZATIONS": "only early versions of OMPS had it; set username and password_env of each organization",
    "SECRET_KEY": "nothing is signed with it",
    "TESTING": "it was for the tests of OMPS",
    "WORKERS_NUM": "set it in the environment of `omps-worker api`; concurrency is the number of pushes per process",
    "WORKER_TIMEOUT": "set it in the environment of `omps-worker api`, for uploads; each call has a separate timeout",
}
"""The keys of OMPS that have no counterpart in the configuration, and what to do instead."""

UNKNOWN = "neither OMPS nor omps-worker has such a key"
"""The reason for all other keys."""

_ORGANIZATION = {
    "public": True,
    "package_name_suffix": "-suffix",
    "replace_registry": [],
    "csv_annotations": [],
}
"""The keys of an organization that stay the same, with examples."""

_GREENWAVE = {"url": "https://greenwave.example.com", "context": "omps_push", "product_version": "example-4"}
_HEADER = (
    'This variable must hold the Authorization header that clients of OMPS sent, "basic …"; '
    "docs/migrating-from-omps.md says how to get one. For the REST API alone, remove this key: clients send their own."
)


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in OMPS's file."""

    line: int
    name: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.name}"

    def of(self, key: object, table: TableWithLines) -> SourceLine:
        """Return the place of ``key`` in the table at this place."""
        part = f".{dotted((key,))}" if isinstance(key, str) else f"[{key}]"
        return SourceLine(table.lines[key], self.name + part)


@dataclass(frozen=True, slots=True)
class Translation:
    """A configuration for omps-worker."""

    document: Document
    variables: tuple[str, ...]
    """The environment variables that must hold its tokens."""


def translate(configuration: OmpsConfiguration, *, with_secrets: bool = False) -> Translation:
    """Translate a configuration of OMPS into an equivalent one for omps-worker.

    The result contains no token unless ``with_secrets`` is true. Raises SettingsError with every fault: what is
    unreadable, and what omps-worker would refuse.
    """
    translator = _Translator(configuration, with_secrets)
    try:
        translator.write()
    except RecursionError:
        raise SettingsError([Fault(configuration.file, "", "is nested too deeply to be a configuration")]) from None
    return Translation(translator.document, tuple(translator.environment))


class _Translator:
    def __init__(self, configuration: OmpsConfiguration, with_secrets: bool) -> None:
        self.document = Document()
        self.environment: dict[str, str] = {}
        """A sample value of each environment variable, for validating the result."""
        self._configuration = configuration
        self._with_secrets = with_secrets
        self._faults: list[Fault] = []
        self._notes: list[tuple[int, str]] = []
        self._origins: dict[str, SourceLine] = {}
        """The place in OMPS's file of each of our keys."""

    def write(self) -> None:
        """Write the document. Raises SettingsError with every fault."""
        if not set(self._configuration.keys) & {*TRANSLATED, *WITHOUT_COUNTERPART}:
            reason = "sets none of OMPS's keys: is it the right file and section?"
            raise SettingsError([Fault(self._configuration.file, self._configuration.section or "", reason)])
        self._broker()
        self._top()
        self._services()
        self._limits()
        self._organizations()
        self._without_counterpart()
        self._check()
        self._preface()

    def _broker(self) -> None:
        document = self.document
        document.blank(
            "amqp_url",
            "amqps://rabbitmq.example.com/%2F",
            "the URL of the broker. OMPS had no broker; only the REST API works without one.",
        )
        document.blank("topic_prefix", "org.example.prod", "the prefix of result topics.")
        document.table("queues", QUEUE)
        document.blank_entry(
            "bindings",
            {"exchange": "amq.topic", "routing_keys": ["org.example.prod.buildsys.build.state.change"]},
            "the exchange and the topics of Koji's messages, as its plugin publishes them.",
        )

    def _top(self) -> None:
        self.document.table(WORKER)
        self.document.comment(
            "The file that says which build goes where; OMPS left that to its clients. See docs/mapping.md."
        )
        self.document.put("mapping", "mapping.yaml")
        self._key("DEFAULT_RELEASE_VERSION", "default_release_version", "1.0.0")
        self._key("LOG_LEVEL", "log_level", "INFO")

    def _services(self) -> None:
        document = self.document
        document.table(WORKER, "koji")
        for old, new, example in (
            ("KOJIHUB_URL", "hub_url", "https://koji.example.com/kojihub"),
            ("KOJIROOT_URL", "root_url", "https://koji.example.com/kojifiles"),
        ):
            if not self._key(old, new, example):
                document.blank(new, example, f"OMPS's configuration has no {old}.")
        self._key("REQUEST_TIMEOUT", "timeout", "30s", _duration)
        document.table(WORKER, "registry")
        document.blank("url", "https://quay.example.com", "the URL of the app registry. OMPS supported only quay.io.")
        self._key("REQUEST_TIMEOUT", "timeout", "30s", _duration)
        greenwave = self._binding("GREENWAVE")
        if greenwave and (table := self._table(greenwave.value, _place(greenwave))):
            document.table(WORKER, "greenwave")
            self._entries(table, _place(greenwave), _GREENWAVE)

    def _limits(self) -> None:
        upload = self._binding("MAX_CONTENT_LENGTH")
        larger = upload is not None and type(upload.value) is int and upload.value > Limits().archive_bytes
        if larger or self._binding("ZIPFILE_MAX_UNCOMPRESSED_SIZE"):
            self.document.table(WORKER, "limits")
            if larger:
                self.document.comment(
                    "The limit of uploads. It also applies to archives from Koji, which OMPS did not limit."
                )
                self._key("MAX_CONTENT_LENGTH", "archive_bytes", "10MiB", _size)
            self._key("ZIPFILE_MAX_UNCOMPRESSED_SIZE", "uncompressed_bytes", "20MiB", _size)
        if upload:
            self.document.table(WORKER, "api")
            self._key("MAX_CONTENT_LENGTH", "max_content_length", "2MiB", _size)

    def _organizations(self) -> None:
        given = self._binding("ORGANIZATIONS")
        organizations = self._table(given.value, _place(given)) if given else None
        if not given or organizations is None:
            return
        entries: dict[str, tuple[SourceLine, TableWithLines]] = {}
        for name, value in organizations.items():
            place = _place(given).of(name, organizations)
            if not isinstance(name, str):
                self._fault(place, "has a name that is not text")
            elif (entry := self._table(value, place)) is not None:
                entries[name] = place, entry
        tokens = [entry.get("oauth_token") for _, entry in entries.values()]
        taken = {variable.name for variable in tokens if isinstance(variable, Variable)}
        for name, (place, entry) in entries.items():
            self.document.table(WORKER, "organizations", name)
            self.document.comment(_HEADER)
            self._reference("token_env", _variable(name, "TOKEN", taken), "basic ZXhhbXBsZQ==")
            if entry.get("oauth_token"):
                self._oauth_token(name, entry["oauth_token"], place.of("oauth_token", entry), taken)
            self._entries(entry, place, _ORGANIZATION, ("oauth_token",))

    def _oauth_token(self, organization: str, token: Value, place: SourceLine, taken: set[str]) -> None:
        if isinstance(token, Variable) and ENVIRONMENT_NAME.fullmatch(token.name):
            self._reference("oauth_token_env", token.name, "example")
        elif self._with_secrets and not isinstance(token, (Unreadable, Variable)):
            self._put("oauth_token", token, place)
        else:
            self.document.comment(f"Set this variable to the oauth_token of OMPS ({place}).")
            self._reference("oauth_token_env", _variable(organization, "OAUTH_TOKEN", taken), "example")

    def _reference(self, key: str, variable: str, example: str) -> None:
        self.document.put(key, variable)
        self.environment[variable] = example

    def _entries(
        self, table: TableWithLines, place: SourceLine, known: Mapping[str, object], done: Container[str] = ()
    ) -> None:
        """Copy the ``known`` keys of ``table`` into the current table of the document."""
        self._origins[dotted(self.document.path)] = place
        for key, value in table.items():
            if key in known and value is not None:
                self._put(key, value, place.of(key, table), known[key])
            elif key not in known and key not in done:
                self._note(place.of(key, table), UNKNOWN)

    def _key(self, old: str, new: str, example: object, convert: Callable[[Value], Value] | None = None) -> bool:
        """Copy OMPS's key ``old`` under the name ``new``, if it is set. Return whether it is."""
        binding = self._binding(old)
        if binding is None:
            return False
        self._put(new, convert(binding.value) if convert else binding.value, _place(binding), example)
        return True

    def _put(self, name: str, value: Value, place: SourceLine, example: object = None) -> None:
        if isinstance(value, Variable) and example is not None:
            self.document.blank(name, example, f"OMPS read it from the environment variable {value.name}.")
            return
        unwritable = list(_unwritable(value, place.line))
        for line, reason in unwritable:
            self._fault(SourceLine(line, place.name), reason)
        if not unwritable:
            self.document.put(name, value)
            self._origins[dotted((*self.document.path, name))] = place

    def _binding(self, key: str) -> BoundName | None:
        binding = self._configuration.keys.get(key)
        return None if binding is None or binding.value is None else binding

    def _table(self, value: Value, place: SourceLine) -> TableWithLines | None:
        if isinstance(value, TableWithLines):
            return value
        line, reason = next(_unwritable(value, place.line), (place.line, "must be a table: {…}"))
        self._fault(SourceLine(line, place.name), reason)
        return None

    def _without_counterpart(self) -> None:
        for key, binding in self._configuration.keys.items():
            if key in WITHOUT_COUNTERPART or (key not in TRANSLATED and binding.reach is None):
                self._note(_place(binding), WITHOUT_COUNTERPART.get(key, UNKNOWN))
        for line in self._configuration.foreign:
            self._note(SourceLine(line, "a base class"), "is not in the file, so the keys that it sets are not known")

    def _check(self) -> None:
        """Check the result: nothing is written that omps-worker would refuse."""
        if not self._faults:
            try:
                settings = settings_file.check(
                    self.document.whole, settings_file.DEFAULT_PATH, environment=self.environment, api=True
                )
            except SettingsError as error:
                file = self._configuration.file
                self._faults += [Fault(file, self._origin_of(fault.key), fault.reason) for fault in error.faults]
            else:
                self._notes += [
                    (0, f"{self._origin_of(warning.key)}: {warning.reason}") for warning in settings.warnings
                ]
        if self._faults:
            raise SettingsError(list(dict.fromkeys(self._faults)))

    def _preface(self) -> None:
        document, source = self.document, self._configuration
        what = f"section {source.section} of {source.file}" if source.section else source.file
        document.preface(f"The configuration of omps-worker, made from {what}.")
        document.preface(
            f"Fill in everything that is marked {BLANK}. `omps-worker check` then tests the configuration."
        )
        if self._notes:
            document.preface("")
            document.preface("Omitted keys and warnings:")
            for _, note in sorted(self._notes):
                document.preface(f"* {note}", "  ")

    def _fault(self, place: SourceLine, reason: str) -> None:
        self._faults.append(Fault(self._configuration.file, str(place), reason))

    def _note(self, place: SourceLine, text: str) -> None:
        self._notes.append((place.line, f"{place}: {text}"))

    def _origin_of(self, key: str) -> str:
        """Return the place in OMPS's file that a fault of ``key`` comes from."""
        starts = (start for start in self._origins if key == start or key.startswith((f"{start}.", f"{start}[")))
        start = max(starts, key=len, default=None)
        return key if start is None else f"{self._origins[start]}{key[len(start) :]}"


def _unwritable(value: Value, line: int) -> Iterator[tuple[int, str]]:
    """Yield why ``value`` cannot be written: the line, if a more exact one is known, and the reason."""
    if isinstance(value, Unreadable):
        yield value.line, value.reason
    elif isinstance(value, Variable):
        yield value.line, "comes from an environment variable, which only tokens may: write the value itself"
    elif value is None:
        yield line, "must not be None: remove it"
    elif isinstance(value, TableWithLines):
        for key, item in value.items():
            if not isinstance(key, str):
                yield value.lines[key], "has a key that is not text"
            yield from _unwritable(item, value.lines[key])
    elif isinstance(value, list):
        for item in value:
            yield from _unwritable(item, line)


def _variable(organization: str, what: str, taken: set[str]) -> str:
    """Return the name of an environment variable for a secret of ``organization``, unique even for similar names."""
    start = "OMPS_WORKER_" + re.sub(r"[^A-Z0-9]+", "_", organization.upper()).strip("_")
    name, number = f"{start}_{what}", 2
    while name in taken:
        name, number = f"{start}_{number}_{what}", number + 1
    taken.add(name)
    return name


def _place(binding: BoundName) -> SourceLine:
    return SourceLine(binding.line, binding.name)


def _duration(value: Value) -> Value:
    return f"{value}s" if type(value) is int else value


def _size(value: Value) -> Value:
    """Return ``value`` in the largest unit that divides it evenly."""
    if type(value) is int and value > 0:
        for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
            if value % size == 0:
                return f"{value // size}{unit}"
    return value
