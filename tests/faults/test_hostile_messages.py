# SPDX-License-Identifier: GPL-3.0-or-later
"""A real worker on a real broker, and messages of every kind: each is accounted for, exactly once.

All of them go through one worker at once; then each test asks what became of its own.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pika.spec import BasicProperties

from omps_worker.broker.connection import header_values
from omps_worker.broker.connection.header_values import RawValue
from omps_worker.sandbox.operators import zip_of
from omps_worker.sandbox.site import QUEUE
from tests.support.hostile import CPU_SECONDS, CSV, FLAT, GOOD, MEGABYTES, told_error
from tests.support.rabbit import SharedRabbit
from tests.support.site import TestSite, edit
from tests.support.waiting import wait_until

TOPIC = "org.example.prod.buildsys.build.state.change"
COMPONENT = "hostile-operator-container"

Text = bytes | Callable[[], bytes]


def state_change(**fields: Any) -> bytes:
    return json.dumps({"attribute": "state", "old": 0, "new": 1, "name": COMPONENT, "owner": "jdoe", **fields}).encode()


def amqp10(content: bytes) -> bytes:
    return b"\0\x53\x75\xb0" + struct.pack(">I", len(content)) + content


PARKED: dict[str, Text] = {
    "nothing": b"",
    "a space": b" ",
    "a NUL": b"\0",
    "noise": bytes(range(256)),
    "text": b"hostile",
    "html": b"<!DOCTYPE html><html></html>",
    "XML": b'<?xml version="1.0"?><build id="1"/>',
    "YAML": b"attribute: state\nnew: 1\n",
    "cut off": state_change(build_id=1)[:-3],
    "two documents": state_change(build_id=1) * 2,
    "a comma too many": b'{"attribute": "state",}',
    "single quotes": b"{'attribute': 'state'}",
    "UTF-16": state_change(build_id=1).decode().encode("utf-16"),
    "Latin-1": '{"attribute": "é"}'.encode("latin-1"),
    "brackets a hundred thousand deep": b"[" * 100_000,
    "mappings a hundred thousand deep": b'{"msg":' * 100_000,
    "a million lists": lambda: b"[" + b"[]," * 1_000_000 + b"[]]",
    "six hundred thousand mappings": lambda: b"[" + b'{"":0},' * 590_000 + b"{}]",
    "five megabytes": lambda: b'"' + b"x" * (5 * 2**20) + b'"',
    "a gzip bomb": lambda: gzip.compress(bytes(2**27), 9),
    "gzip cut off": gzip.compress(state_change(build_id=1))[:-9],
    "gzip twice": gzip.compress(b"{}") * 2,
    "gzip of noise": b"\x1f\x8b\x08\0" + bytes(range(200)),
    "AMQP 1.0 cut off": amqp10(state_change(build_id=1))[:-1],
    "AMQP 1.0 of four gigabytes": b"\0\x53\x75\xb0\xff\xff\xff\xff{}",
    "AMQP 1.0 of nothing": amqp10(b""),
    "AMQP 1.0 of a number": b"\0\x53\x77\x54\x07",
    "AMQP 1.0 of ten thousand sections": amqp10(b"") * 10_000,
    "a string of a string that is no JSON": json.dumps(json.dumps("{")).encode(),
    "a build without a name": state_change(name=None),
    "a build of version only": state_change(name=None, version="1", release="1"),
    **{
        f"a build whose id is {value!r}"[:50]: state_change(build_id=value, name=None)
        for value in (0, -1, 2**31, 2**63, 1.5, True, None, "", "x", "1 ", "٣", [1], {"id": 1}, "1" * 100)
    },
    **{
        f"a build whose NVR is {value!r}"[:50]: state_change(nvr=value, name=None)
        for value in ("", "a", "a-b", "-", "--", "a\nb-1-1", "\u202ea-1-1", "a" * 600 + "-1-1", 7, [], {}, ["a-1-1"])
    },
}

IGNORED: dict[str, Text] = {
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "no number": b"NaN",
    "a number of ten thousand digits": b"9" * 10_000,
    "a text": b'"hostile"',
    "a list": b"[]",
    "a list of builds": b"[" + state_change(build_id=1) + b"]",
    "a mapping": b"{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a surrogate pair": b'{"attribute": "\\ud800"}',
    "a megabyte of keys": lambda: json.dumps({f"k{n}": n for n in range(80_000)}).encode(),
    "strings in strings": lambda: json.dumps(json.dumps(json.dumps({}))).encode(),
    "msg in msg": b'{"msg": ' * 50 + b"{}" + b"}" * 50,
    **{
        f"an attribute {value!r}": json.dumps({"attribute": value, "new": 1}).encode()
        for value in (None, "", "State", "volume_id", 1, [], {}, ["state"])
    },
    **{
        f"a state {value!r}": state_change(new=value, build_id=1)
        for value in (None, 0, 2, 3, 4, 5, -1, True, "1", "complete", "FAILED", [], [1], {}, {"new": 1}, 1e400)
    },
    "a component that no rule wants": state_change(build_id=1, name="hostile"),
}

KOJI_DOES_NOT_KNOW: dict[str, dict[str, Any]] = {
    "an id": {"build_id": 2**31 - 1},
    "an id as text": {"build_id": "2147483646"},
    "an NVR": {"nvr": f"{COMPONENT}-9-9"},
    "a name that moves the cursor": {"build_id": 2**31 - 5, "name": "\x1b[2J"},
    "an NVR of paths": {"nvr": "../../etc-operator-container-1-1", "name": None},
    "an NVR of XML": {"nvr": "<a>&b;]]>-operator-container-1-1", "name": None},
    "an NVR of quotes": {"nvr": "';DROP TABLE build;---operator-container-1-1", "name": None},
    "an NVR of emoji": {"nvr": "😀-operator-container-1-1", "name": None},
    "an NVR of half a kilobyte": {"nvr": "x" * 480 + "-operator-container-1-1", "name": None},
    "a name of half a kilobyte": {"name": "x" * 490 + "-operator-container", "version": "1", "release": "1"},
    "a time that does not exist": {"build_id": 2**31 - 2, "completion_time": "9999-99-99"},
    "a time beyond all": {"build_id": 2**31 - 3, "completion_ts": 1e300},
    "a task of nonsense": {"build_id": 2**31 - 4, "task": {"request": [[], {}]}, "request": "x"},
}


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"t": value}
    return value


def raw(kind: bytes, form: str, *values: Any) -> RawValue:
    return RawValue(kind + struct.pack(form, *values))


LONG = "n" * 255
UTF8 = "\u202e😀é"
PROPERTIES: dict[str, dict[str, Any]] = {
    "no id": {"message_id": None},
    "an empty id": {"message_id": ""},
    "an id of 255 bytes": {"message_id": LONG},
    "an id that is no UTF-8": {"message_id": b"\xff\xfe"},
    "an id of control characters": {"message_id": "\0\n\x1b[2J"},
    "an id that is no uuid": {"message_id": "../../etc/passwd"},
    "the same id again": {"message_id": "the-same"},
    "the same id and again": {"message_id": "the-same"},
    "a content type of nonsense": {"content_type": LONG},
    "a content type that is no UTF-8": {"content_type": b"\xff"},
    "gzip, it says": {"content_encoding": "gzip"},
    "an encoding of nonsense": {"content_encoding": UTF8},
    "an encoding that is no UTF-8": {"content_encoding": b"\xff\xfe"},
    "AMQP 1.0, it says": {"type": "amqp-1.0"},
    "a type that is no UTF-8": {"type": b"\x80"},
    "priority 255": {"priority": 255},
    "delivery mode 1": {"delivery_mode": 1},
    "an expiration of a day": {"expiration": "86400000"},
    "a user": {"user_id": "guest"},
    "an answer wanted in our queue": {"reply_to": QUEUE},
    "an answer wanted directly": {"reply_to": "amq.rabbitmq.reply-to.hostile"},
    "a correlation": {"correlation_id": LONG},
    "an application": {"app_id": UTF8},
    "a cluster": {"cluster_id": "hostile"},
    "the time zero": {"timestamp": 0},
    "the end of time": {"timestamp": 2**64 - 1},
    "all of them at once": {
        "content_type": LONG,
        "content_encoding": LONG,
        "priority": 9,
        "correlation_id": LONG,
        "reply_to": LONG,
        "message_id": LONG,
        "type": LONG,
        "app_id": LONG,
        "cluster_id": LONG,
        "timestamp": 2**63,
    },
}

HEADERS: dict[str, dict[Any, Any]] = {
    "none at all": {},
    "an empty name": {"": "x"},
    "a name of 255 bytes": {LONG: "x"},
    "a name that is no UTF-8": {b"\xff\xfe": "x"},
    "a name of control characters": {"\0\n\x1b": "x"},
    "null": {"x": None},
    "true": {"x": True},
    "a byte": {"x": raw(b"b", ">b", -1)},
    "an unsigned byte": {"x": raw(b"B", ">B", 255)},
    "a short": {"x": raw(b"s", ">h", -1)},
    "an unsigned short": {"x": raw(b"u", ">H", 65535)},
    "an int": {"x": raw(b"I", ">i", -1)},
    "an unsigned int": {"x": raw(b"i", ">I", 2**32 - 1)},
    "a long": {"x": raw(b"l", ">q", -(2**63))},
    "a float": {"x": raw(b"f", ">f", 1.5)},
    "a double": {"x": 2.5},
    "a decimal": {"x": Decimal("1.25")},
    "a decimal of 255 places": {"x": raw(b"D", ">BI", 255, 2**32 - 1)},
    "a text": {"x": UTF8},
    "a text that is no UTF-8": {"x": RawValue(b"S" + struct.pack(">I", 2) + b"\xff\xfe")},
    "bytes": {"x": RawValue(b"x" + struct.pack(">I", 3) + b"\0\xff\x80")},
    "a time": {"x": datetime(2019, 6, 1, tzinfo=timezone.utc)},
    "a time in milliseconds": {"x": raw(b"T", ">Q", 1_600_000_000_000)},
    "a time beyond all": {"x": raw(b"T", ">Q", 2**64 - 1)},
    "an array of everything": {"x": [None, True, 1, 2.5, "x", [], {}, datetime(2019, 6, 1, tzinfo=timezone.utc)]},
    "tables thirty deep": {"x": deep(30)},
    "tables eighty deep": {"x": deep(80)},
    "a hundred kilobytes": {"x": "y" * 100_000},
    "three thousand headers": {f"header-{n}": n for n in range(3000)},
    "a CC to our queue": {"CC": [QUEUE + ".nowhere"]},
    "a CC of nonsense": {"CC": ["\0", UTF8, ""]},
    "a BCC to our failed queue": {"BCC": [QUEUE + ".nowhere.failed"]},
    "a delivery count": {"x-delivery-count": 19},
    "a delivery count of text": {"x-delivery-count": "hostile"},
    "deaths that never were": {
        "x-death": [
            {"queue": QUEUE, "count": 2**62, "reason": "rejected", "time": datetime(2019, 6, 1), "routing-keys": ["a"]}
        ],
        "x-first-death-queue": "hostile",
    },
    "deaths of nonsense": {"x-death": "hostile", "x-first-death-reason": 7},
    "a schema that is a table": {"fedora_messaging_schema": {"a": []}, "fedora_messaging_severity": "x"},
    "a stream offset": {"x-stream-offset": "last"},
    "a match for all": {"x-match": "all", "x-message-ttl": 1, "x-delay": 1},
}
WRONG: tuple[Any, ...] = (
    "",
    "hostile",
    UTF8,
    "x" * 1000,
    0,
    -1,
    2**62,
    2.5,
    True,
    None,
    [],
    ["community"],
    {},
    {"a": []},
    "9" * 400,
    datetime(2019, 6, 1, tzinfo=timezone.utc),
    raw(b"T", ">Q", 2**64 - 1),
    RawValue(b"x\0\0\0\2\xff\xfe"),
)
OURS = (
    "attempt",
    "first-seen",
    "targets",
    "topic",
    "exchange",
    "error",
    "error-message",
    "parked-at",
    "replayed-at",
    "cc",
)
for name in OURS:
    for number, wrong in enumerate(WRONG):
        HEADERS[f"omps-{name} of nonsense, {number}"] = {f"omps-{name}": wrong}


ALL_ROWS: dict[str, dict[str, Any]] = {
    **PROPERTIES,
    **{f"header {name}": {"headers": table} for name, table in HEADERS.items()},
}
UNREAD = ("error", "parked-at", "cc", "exchange", "first-seen", "replayed-at")
"""Headers of ours that hardly matter before a message is parked."""
GOOD_ROWS = [name for name in ALL_ROWS if not any(f"omps-{header}" in name for header in UNREAD)]

HEAVY = {
    "values": "more: [" + "{}," * 240_000 + "]\n",
    "too many values": "more: [" + "{}," * 260_000 + "]\n",
    "texts": 'more: "😀' + "a\\n" * 3_300_000 + '"\n',
    "tags": "more: [!!str a, " + "".join(f"{{a{n}: b}}," for n in range(30_000)) + "]\n",
    "collisions": "more: {" + "".join(f"{n * (2**61 - 1)}: 0," for n in range(1, 50_000)) + "}\n",
    "laughs": "more: &a " + "y" * 2**20 + "\nagain: [" + "*a, " * 5000 + "]\n",
    "zeros": "#" * (18 * 2**20),
}
"""What is as costly as is let in, and a little more."""


@dataclass
class Sent:
    """A message, and what became of it."""

    body: bytes
    properties: dict[str, Any] = field(default_factory=dict)
    build: int | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    parked: list[BasicProperties] = field(default_factory=list)
    waiting: list[BasicProperties] = field(default_factory=list)


@dataclass
class Aftermath:
    """What became of everything."""

    sent: dict[str, Sent]
    results: list[dict[str, Any]]
    log: str
    megabytes: float
    """The most that the worker ever had in memory."""
    cpu_seconds: float
    """For all that is heavy."""
    left: int
    exit_code: int
    heavy: dict[str, Sent] = field(default_factory=dict)
    good: list[dict[str, Any]] = field(default_factory=list)

    @property
    def everybody(self) -> list[Sent]:
        return [*self.sent.values(), *self.heavy.values()]


def memory_of(process: int) -> float:
    """The most that a process ever had in memory, in megabytes."""
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def cpu_of(process: int) -> float:
    """The seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def everything(site: TestSite) -> dict[str, Sent]:
    sent: dict[str, Sent] = {}
    for table in (PARKED, IGNORED):
        for name, body in table.items():
            sent[f"body {name}"] = Sent(body() if callable(body) else body)
    for name, fields in KOJI_DOES_NOT_KNOW.items():
        sent[f"unknown {name}"] = Sent(state_change(**fields))
    for number, (name, properties) in enumerate(ALL_ROWS.items()):
        sent[f"bad, {name}"] = Sent(b"{hostile %d" % number, properties)
        if name in GOOD_ROWS:
            build = site.koji.add_build(COMPONENT, "1", str(number), manifests=GOOD)
            sent[f"good, {name}"] = Sent(state_change(build_id=build["id"]), properties, build["id"])
    return sent


def heavy(site: TestSite) -> dict[str, bytes]:
    bodies = {}
    for number, (name, more) in enumerate(HEAVY.items()):
        build = site.koji.add_build(COMPONENT, "2", str(number), manifests=zip_of({**FLAT, CSV: FLAT[CSV] + more}))
        bodies[name] = state_change(build_id=build["id"])
    return bodies


@pytest.fixture(scope="module")
def aftermath(
    request: pytest.FixtureRequest, shared_rabbit: SharedRabbit, tmp_path_factory: pytest.TempPathFactory
) -> Aftermath:
    """One attack for all processes of a test run: the first one makes it, the others read what it found."""
    header_values.install()
    place = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        place = place.parent
    found = place / "hostile-aftermath"
    with (place / "hostile.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            with TestSite(tmp_path_factory.mktemp("hostile") / "site", amqp_url=shared_rabbit.new_vhost()) as site:
                more = '[consumer_config.retry]\ndelays = ["1h"]\n\n[consumer_config.koji]\ntimeout = 20'
                edit(site.config, "[consumer_config.koji]", more)
                made = pickle.dumps(attack(site))
            found.write_bytes(made)
        aftermath = pickle.loads(found.read_bytes())
    assert isinstance(aftermath, Aftermath)
    return aftermath


def attack(site: TestSite) -> Aftermath:
    sent = everything(site)
    attacked = heavy(site)
    good = site.koji.add_build(COMPONENT, "3", "good", manifests=GOOD)
    with site.watching() as watch:
        with site.running() as worker:
            with site.channel() as channel:
                for message in sent.values():
                    properties = {"headers": {}, **message.properties}
                    channel.basic_publish("amq.topic", TOPIC, message.body, BasicProperties(**properties))
            wait_until(lambda: watch.depth(QUEUE) == 0, 60, "the worker to take everything")
            before = cpu_of(worker.pid)
            with site.channel() as channel:
                for body in attacked.values():
                    channel.basic_publish("amq.topic", TOPIC, body)
            wait_until(lambda: watch.depth(QUEUE) == 0, 60, "the worker to take what is heavy")
            site.publish(site.koji.message(good))

            def recovered() -> bool:
                watch.poll()
                return any(result["nvr"] == good["nvr"] for _, result in watch.results)

            wait_until(recovered, 90, "a good build to be published after all that")
            megabytes, cpu_seconds = memory_of(worker.pid), cpu_of(worker.pid) - before
        watch.poll()
        results = [result for _, result in watch.results]
    found = Aftermath(sent, results, site.log, megabytes, cpu_seconds, len(site.take(QUEUE)), worker.returncode)
    by_body = {message.body: message for message in sent.values()}
    by_body |= {body: found.heavy.setdefault(name, Sent(body)) for name, body in attacked.items()}
    by_build = {message.build: message for message in sent.values() if message.build is not None}
    for result in results:
        build = by_build.get((result["build"] or {}).get("id"))
        if build is not None:
            build.results.append(result)
    for properties, body in site.take(f"{QUEUE}.failed"):
        by_body[body].parked.append(properties)
    for properties, body in site.take(f"{QUEUE}.retry.1h"):
        by_body[body].waiting.append(properties)
    found.good = [result for result in results if result["nvr"] == good["nvr"]]
    return found


def header(properties: BasicProperties, name: str) -> Any:
    return (properties.headers or {}).get(name)


@pytest.mark.parametrize("name", [f"body {name}" for name in PARKED])
def test_a_body_that_cannot_be_read_is_parked_once_and_unchanged(aftermath: Aftermath, name: str) -> None:
    (properties,) = aftermath.sent[name].parked
    assert header(properties, "omps-error") == "MessageError"
    assert 0 < len(header(properties, "omps-error-message").encode()) <= 1024


@pytest.mark.parametrize("name", [f"body {name}" for name in IGNORED])
def test_a_body_that_is_no_build_of_ours_is_ignored(aftermath: Aftermath, name: str) -> None:
    assert aftermath.sent[name].parked == []


@pytest.mark.parametrize("name", [f"unknown {name}" for name in KOJI_DOES_NOT_KNOW])
def test_a_build_that_koji_does_not_know_yet_is_tried_again(aftermath: Aftermath, name: str) -> None:
    (properties,) = aftermath.sent[name].waiting
    assert header(properties, "omps-error") == "KojiNVRBuildNotFound"
    assert aftermath.sent[name].parked == []


@pytest.mark.parametrize("name", [f"good, {name}" for name in GOOD_ROWS])
def test_a_good_build_is_published_whatever_its_message_says_beside(aftermath: Aftermath, name: str) -> None:
    message = aftermath.sent[name]
    (result,) = message.results
    assert result["status"] in ("published", "unchanged")
    assert message.parked == []


@pytest.mark.parametrize("name", [f"bad, {name}" for name in ALL_ROWS])
def test_a_bad_body_is_parked_once_whatever_its_message_says_beside(aftermath: Aftermath, name: str) -> None:
    message = aftermath.sent[name]
    (properties,) = message.parked
    assert header(properties, "omps-error") == "MessageError"
    assert isinstance(header(properties, "omps-attempt"), int)
    assert isinstance(header(properties, "omps-topic"), str)
    assert properties.expiration is None
    assert properties.user_id is None
    assert not {"CC", "BCC"} & set(properties.headers or {})
    assert properties.message_id
    kept = message.properties.get("message_id")
    assert kept in (None, "", properties.message_id)


@pytest.mark.parametrize("name", HEAVY)
def test_a_build_that_is_as_heavy_as_can_be_has_an_outcome_with_a_name(aftermath: Aftermath, name: str) -> None:
    for properties in aftermath.heavy[name].parked:
        assert header(properties, "omps-error") in ("PackageValidationError", "QuayCourierError")
    assert len(aftermath.heavy[name].parked) <= 1


def test_every_result_that_tells_of_a_failure_tells_it_well(aftermath: Aftermath) -> None:
    failed = [result for result in aftermath.results if result["error"] is not None]
    kept = [copy for message in aftermath.everybody for copy in (*message.parked, *message.waiting)]
    assert len(failed) == len(kept)
    for result in failed:
        told_error(result["error"])


def test_no_message_is_told_of_twice(aftermath: Aftermath) -> None:
    done = [result for result in aftermath.results if result["error"] is None]
    parked = [copy for message in aftermath.heavy.values() for copy in message.parked]
    assert len(done) == len(GOOD_ROWS) + len(HEAVY) - len(parked) + 1


def test_nothing_is_left_and_nobody_gave_up(aftermath: Aftermath) -> None:
    assert aftermath.left == 0
    assert aftermath.exit_code == 0
    assert [result["status"] for result in aftermath.good] in (["published"], ["unchanged"])
    assert "Traceback" not in aftermath.log


def test_a_worker_under_attack_stays_small_and_quick(aftermath: Aftermath) -> None:
    assert aftermath.megabytes < MEGABYTES
    assert aftermath.cpu_seconds < 2 * CPU_SECONDS
