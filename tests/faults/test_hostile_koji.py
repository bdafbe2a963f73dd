# SPDX-License-Identifier: GPL-3.0-or-later
"""A Koji that answers with anything: a hub of wrong types and exploding XML, a file server of lies."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from koji import xmlrpcplus

from omps_worker.sandbox.faults import Fault
from tests.support.endless import ENDLESS, RETRY_AFTER
from tests.support.hostile import ARCHIVE, DONE, GOOD, SKIPPED, Target, target
from tests.support.peer import Conversation, Peer

HUB = "POST /kojihub"
FILE = "GET /kojiroot/.*"
KOJI = "KojiError"
MISSING = "KojiManifestsArchiveNotFound"
UNKNOWN = "KojiNVRBuildNotFound"


@pytest.fixture(scope="module")
def site() -> Iterator[Target]:
    with target(timeout=4.0) as made:
        made.builds._pause = lambda seconds: None
        yield made


@pytest.fixture(scope="module")
def hasty() -> Iterator[Target]:
    """A site that waits for half a second."""
    with target(timeout=4.0) as made:
        made.builds._pause = lambda seconds: None
        with waiting_less(made, 0.5):
            yield made


@contextmanager
def waiting_less(site: Target, seconds: float) -> Iterator[None]:
    settings, before = site.builds._settings, site.builds._settings.timeout
    for timeout in (seconds, before):
        settings.timeout = site.builds._files._timeout = timeout
        site.builds.__dict__.pop("_hub", None)
        if timeout == seconds:
            yield


def answer(value: Any) -> bytes:
    return xmlrpcplus.dumps((value,), methodresponse=1).encode()


def response(inside: str, head: str = '<?xml version="1.0"?>') -> bytes:
    return f"{head}<methodResponse><params><param><value>{inside}</value></param></params></methodResponse>".encode()


def fault(code: object, text: str) -> bytes:
    value = f"<struct><member><name>faultCode</name><value>{code}</value></member>"
    value += f"<member><name>faultString</name><value><string>{text}</string></value></member></struct>"
    return f'<?xml version="1.0"?><methodResponse><fault><value>{value}</value></fault></methodResponse>'.encode()


def entities(form: str) -> bytes:
    lines = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
    declared = {
        "laughs": lines,
        "quadratic": f'<!ENTITY a8 "{"x" * 2**20}">',
        "outside": '<!ENTITY a8 SYSTEM "file:///etc/passwd">',
        "parameter": '<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;',
    }[form]
    inside = "&a8;" * (200 if form == "quadratic" else 1) if form != "parameter" else ""
    return response(f"<string>{inside}</string>", f'<?xml version="1.0"?><!DOCTYPE x [{declared}]>')


BODIES: dict[str, Callable[[], bytes] | bytes] = {
    "nothing": b"",
    "html": b"<!DOCTYPE html><html><title>Login</title><body>please</body></html>",
    "text": b"OK",
    "JSON": b'{"id": 1}',
    "noise": random.Random(1).randbytes(2000),
    "zeros": bytes(1000),
    "XML of another kind": b'<?xml version="1.0"?><rss/>',
    "XML cut off": answer({"id": 1})[:-40],
    "XML twice": answer({"id": 1}) * 2,
    "a request": xmlrpcplus.dumps((1,), "getBuild").encode(),
    "no value": b'<?xml version="1.0"?><methodResponse><params></params></methodResponse>',
    "an empty response": b'<?xml version="1.0"?><methodResponse/>',
    "two values": b'<?xml version="1.0"?><methodResponse><params><param><value><int>1</int></value></param>'
    b"<param><value><int>2</int></value></param></params></methodResponse>",
    "an unknown type": response("<hostile>1</hostile>"),
    "an int that is none": response("<int>hostile</int>"),
    "an int of ten thousand digits": response(f"<int>{'9' * 10_000}</int>"),
    "a boolean that is none": response("<boolean>2</boolean>"),
    "a date that is none": response("<dateTime.iso8601>yesterday</dateTime.iso8601>"),
    "base64 that is none": response("<base64>é</base64>"),
    "a member without a value": response("<struct><member><name>id</name></member></struct>"),
    "a value without a name": response("<struct><member><value>1</value></member></struct>"),
    "a name that is a struct": response("<struct><member><value><struct/></value><value>1</value></member></struct>"),
    "arrays a hundred thousand deep": lambda: response(
        "<array><data><value>" * 100_000 + "</value></data></array>" * 100_000
    ),
    "structs that never close": lambda: response("<struct><member><name>a</name><value>" * 50_000),
    "a million elements": lambda: response("<array><data>" + "<value><nil/></value>" * 300_000 + "</data></array>"),
    "a billion laughs": entities("laughs"),
    "entities that blow up quadratically": lambda: entities("quadratic"),
    "an entity from a file": entities("outside"),
    "an entity from elsewhere": entities("parameter"),
    "an encoding that does not exist": b'<?xml version="1.0" encoding="hostile"?><methodResponse/>',
    "UTF-16": answer({"id": 1}).decode().encode("utf-16"),
    "more than sixteen megabytes": lambda: response("<string>" + "x" * 17 * 2**20 + "</string>"),
    "a fault without a code": fault("", "hostile"),
    "a fault with a text for a code": fault("<string>hostile</string>", "hostile"),
    "a fault of many lines": fault("<int>1000</int>", "&lt;type 'exceptions.Hostile'>: here\n\tand there\n" * 500),
    "a fault of a megabyte": lambda: fault("<int>1</int>", "x" * 2**20),
    "a fault that nobody knows": fault("<int>-32768</int>", "<b>hostile</b>".replace("<", "&lt;")),
}


def content(body: Callable[[], bytes] | bytes) -> bytes:
    return body if isinstance(body, bytes) else body()


@pytest.mark.parametrize("call", range(3), ids=["getBuild", "getTaskInfo", "listArchives"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_whatever_the_hub_sends_the_fault_is_kojis(site: Target, body: Callable[[], bytes] | bytes, call: int) -> None:
    build = site.add()
    site.koji.faults.clear()
    site.koji.faults.add(Fault(HUB, body=content(body), after=call))
    told = site.attack_with(build)
    # An odd task only means that the target is not known, and without a row the archive is not verified.
    assert told <= ({KOJI, UNKNOWN} if call == 0 else {KOJI, *DONE})


STATUSES = (
    199,
    201,
    204,
    206,
    300,
    301,
    302,
    303,
    307,
    308,
    400,
    401,
    403,
    404,
    407,
    408,
    410,
    413,
    418,
    429,
    451,
    500,
    502,
    503,
    504,
    599,
    999,
)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("call", [HUB, FILE], ids=["hub", "files"])
def test_every_status_is_understood(site: Target, call: str, status: int) -> None:
    for headers in (
        {},
        {"Location": "file:///etc/passwd"},
        {"Location": "//[", "Retry-After": RETRY_AFTER[status % 11]},
    ):
        site.koji.faults.clear()
        body = b"" if status in (199, 204) else "<html><title>hostile</title></html>"
        site.koji.faults.add(Fault(call, status=status, body=body, headers=headers, times=None))
        build = site.add()
        assert site.attack_with(build) <= {KOJI, UNKNOWN, MISSING}
    site.koji.faults.clear()


@pytest.mark.parametrize("value", RETRY_AFTER, ids=ascii)
def test_nonsense_about_when_to_come_back_is_ignored(site: Target, value: str) -> None:
    site.koji.faults.add(Fault(HUB, status=503, headers={"Retry-After": value}))
    (outcome,) = site.process(site.add())
    assert outcome.error is not None
    assert outcome.error.name == KOJI
    assert outcome.error.retry_after is None or 0 <= outcome.error.retry_after <= 24 * 3600


WRONG: dict[str, Any] = {
    "null": None,
    "empty": "",
    "text": "hostile",
    "path": "../../../etc/passwd",
    "lines": "a\nb\r\nSet-Cookie: c",
    "percent": "%2e%2e%2f",
    "space": " ",
    "dots": "..",
    "long": "x" * 100_000,
    "zero": 0,
    "minus one": -1,
    "float": 1.5,
    "true": True,
    "list": [],
    "list of null": [None],
    "struct": {},
    "bytes": xmlrpcplus.xmlrpc_client.Binary(b"\xff\x00"),
    "date": xmlrpcplus.DateTime("99999999T99:99:99"),
    "unicode": "\u202egnp.\U0001f600",
}

BUILD_FIELDS = (
    "id",
    "nvr",
    "name",
    "version",
    "release",
    "state",
    "owner_name",
    "task_id",
    "extra",
    "completion_ts",
    "volume_name",
    "epoch",
)


@pytest.mark.parametrize("field", BUILD_FIELDS)
def test_a_build_with_any_field_of_another_type(site: Target, field: str) -> None:
    for wrong in WRONG.values():
        build = site.add()
        site.koji.faults.clear()
        site.koji.faults.add(Fault(HUB, body=answer({**build, field: wrong})))
        assert site.attack_with(build) <= {KOJI, UNKNOWN, MISSING, SKIPPED, "ignored", *DONE}
    build = site.add()
    site.koji.faults.clear()
    site.koji.faults.add(Fault(HUB, body=answer({key: value for key, value in build.items() if key != field})))
    assert site.attack_with(build) <= {KOJI, SKIPPED, *DONE}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_build_that_is_something_else(site: Target, wrong: Any) -> None:
    build = site.add()
    for call in range(3):
        site.koji.faults.clear()
        site.koji.faults.add(Fault(HUB, body=answer(wrong), after=call))
        assert site.attack_with(build) <= {KOJI, UNKNOWN, *DONE}


EXTRA_PLACES = (
    ("typeinfo",),
    ("typeinfo", "operator-manifests"),
    ("typeinfo", "operator-manifests", "archive"),
    ("osbs_build",),
    ("osbs_build", "subtypes"),
    ("operator_manifests_archive",),
)


@pytest.mark.parametrize("place", EXTRA_PLACES, ids=".".join)
def test_an_extra_of_other_types(site: Target, place: tuple[str, ...]) -> None:
    for wrong in WRONG.values():
        build = site.add()
        inner = build["extra"]
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = wrong
        site.koji.faults.clear()
        site.koji.faults.add(Fault(HUB, body=answer(build)))
        assert site.attack_with(build) <= {KOJI, MISSING, SKIPPED, *DONE}


ROW_FIELDS = ("filename", "size", "checksum", "checksum_type", "metadata_only", "btype", "id")


@pytest.mark.parametrize("field", ROW_FIELDS)
def test_an_archive_with_any_field_of_another_type(site: Target, field: str) -> None:
    for wrong in (*WRONG.values(), 99):
        build = site.add()
        row = {"filename": "operator_manifests.zip", "size": len(GOOD), "checksum": "0" * 32, "checksum_type": 0}
        site.koji.faults.clear()
        site.koji.faults.add(Fault(HUB, body=answer([{**row, "checksum": None, field: wrong}]), after=2))
        assert site.attack_with(build) <= {KOJI, MISSING, ARCHIVE, *DONE}


@pytest.mark.parametrize("field", ["name", "dir", "path"])
def test_a_log_with_any_field_of_another_type(site: Target, field: str) -> None:
    for wrong in WRONG.values():
        build = site.add(legacy=True)
        row = {"name": "operator_manifests.zip", "dir": ".", "path": "a/b/operator_manifests.zip"}
        site.koji.faults.clear()
        site.koji.faults.add(Fault(HUB, body=answer([{**row, field: wrong}, wrong]), after=2))
        assert site.attack_with(build) <= {KOJI, MISSING}


FILES: dict[str, tuple[Fault, set[str]]] = {
    "nothing": (Fault(FILE, body=b"", times=None), {KOJI}),
    "one byte less": (Fault(FILE, body=GOOD[:-1], times=None), {KOJI}),
    "one byte more": (Fault(FILE, body=GOOD + b"x", times=None), {KOJI}),
    "as many other bytes": (Fault(FILE, body=bytes(len(GOOD)), times=None), {KOJI}),
    "html": (Fault(FILE, body="<html><title>Login</title></html>", times=None), {KOJI}),
    "twelve megabytes": (Fault(FILE, body=bytes(12 * 2**20), times=None), {KOJI}),
    "a gigabyte, it says": (Fault(FILE, headers={"Content-Length": str(2**30)}, times=None), {KOJI}),
    "compressed, it says": (Fault(FILE, headers={"Content-Encoding": "gzip"}, times=None), {KOJI}),
    "a gzip bomb": (
        Fault(FILE, body=gzip.compress(bytes(2**26), 9), headers={"Content-Encoding": "gzip"}, times=None),
        {KOJI},
    ),
    "encodings nobody asked for": (
        Fault(FILE, headers={"Content-Encoding": "br, deflate, zstd"}, times=None),
        set(DONE),
    ),
    "half of it": (Fault(FILE, truncate=True, times=None), {KOJI}),
    "a closed connection": (Fault(FILE, drop=True, times=None), {KOJI}),
    "a header of a megabyte": (Fault(FILE, headers={"X-Hostile": "x" * 2**20}, times=None), {KOJI}),
    "two hundred headers": (Fault(FILE, headers={f"X-{n}": "y" for n in range(200)}, times=None), {KOJI}),
    "a header that begins a new one": (Fault(FILE, headers={"X": "y\r\n\r\n<html>"}, times=None), {KOJI}),
    "cookies": (Fault(FILE, headers={"Set-Cookie": "a=b; Domain=.127.0.0.1"}, times=None), set(DONE)),
    "a redirect to a file": (Fault(FILE, status=302, headers={"Location": "file:///etc/passwd"}, times=None), {KOJI}),
    "a redirect to ftp": (Fault(FILE, status=302, headers={"Location": "ftp://127.0.0.1/x"}, times=None), {KOJI}),
    "a redirect to data": (Fault(FILE, status=302, headers={"Location": "data:,hostile"}, times=None), {KOJI}),
    "a redirect to nowhere": (Fault(FILE, status=302, headers={"Location": ""}, times=None), {KOJI}),
    "a redirect to nobody": (Fault(FILE, status=302, headers={"Location": "http://127.0.0.1:9/"}, times=None), {KOJI}),
    "a redirect to port 99999": (
        Fault(FILE, status=302, headers={"Location": "http://127.0.0.1:99999/"}, times=None),
        {KOJI},
    ),
    "a redirect to a password": (
        Fault(FILE, status=302, headers={"Location": "http://u:p@127.0.0.1:9/"}, times=None),
        {KOJI},
    ),
    "a redirect to itself": (Fault(FILE, status=302, headers={"Location": "?"}, times=None), {KOJI}),
    "a redirect of a megabyte": (
        Fault(FILE, status=302, headers={"Location": "/" + "x" * 60_000}, times=None),
        {KOJI, MISSING},
    ),
    "a redirect with odd letters": (
        Fault(FILE, status=302, headers={"Location": "http://\xe9\x01/\x00"}, times=None),
        {KOJI},
    ),
}


@pytest.mark.parametrize(("lie", "allowed"), FILES.values(), ids=FILES)
def test_a_file_server_that_lies_is_found_out(site: Target, lie: Fault, allowed: set[str]) -> None:
    site.koji.faults.clear()
    site.koji.faults.add(lie)
    told = site.attack(GOOD)
    site.koji.faults.clear()
    assert told <= allowed


@pytest.mark.parametrize("call", ["hub", "files"])
@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_an_answer_without_an_end_is_given_up(hasty: Target, script: Callable[[Conversation], None], call: str) -> None:
    build = hasty.add()
    with Peer(script) as peer:
        redirect = Fault(FILE, status=302, headers={"Location": peer.url}, times=None)
        if call == "files":
            hasty.koji.faults.add(redirect)
            told = hasty.attack_with(build)
        else:
            with target_at(hasty, peer.url):
                told = hasty.attack_with(build)
        hasty.koji.faults.clear()
    assert told <= {KOJI, ARCHIVE}


class target_at:  # noqa: N801 - reads as a function
    """While it is entered, the site's hub is elsewhere."""

    def __init__(self, site: Target, url: str) -> None:
        self._site, self._url = site, url

    def __enter__(self) -> None:
        settings = self._site.builds._settings
        self._before = settings.hub_url
        settings.hub_url = self._url
        self._site.builds.__dict__.pop("_hub", None)

    def __exit__(self, *_: object) -> None:
        self._site.builds._settings.hub_url = self._before
        self._site.builds.__dict__.pop("_hub", None)


@pytest.mark.parametrize(
    "slow",
    [
        Fault(FILE, drip=0.02),
        Fault(FILE, delay=2),
        Fault(HUB, drip=0.02),
        Fault(HUB, delay=2),
        Fault(FILE, headers={"Content-Length": "hostile"}),
        Fault(FILE, headers={"Content-Length": "-1"}),
    ],
    ids=[
        "a dripping file",
        "a late file",
        "a dripping hub",
        "a late hub",
        "a length of nonsense",
        "a length below zero",
    ],
)
def test_an_answer_that_takes_too_long_is_given_up(hasty: Target, slow: Fault) -> None:
    build = hasty.add()
    hasty.koji.faults.add(slow)
    assert hasty.attack_with(build) == {KOJI}
    hasty.koji.faults.clear()
