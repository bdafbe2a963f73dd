# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs over texts from outside takes a time that grows as they do, for the worst of texts as well.

The inputs are as long as they may be. Each takes a fraction of a second; what tries every way, or looks at the whole
for each part of it, would take minutes.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from pika.spec import BasicProperties

from omps_worker.broker import copies
from omps_worker.broker.delivery import Delivery, DeliveryTag
from omps_worker.common import text
from omps_worker.common.errors import KojiError, MessageError, OMPSInvalidVersionFormat
from omps_worker.common.model import BuildFacts
from omps_worker.configuration.mapping import file as mapping_file
from omps_worker.destinations import refusals, versions
from omps_worker.destinations.catalog.bundles.extraction import SafeNames
from omps_worker.destinations.catalog.grammars.csv_types import check_types
from omps_worker.destinations.catalog.grammars.go_structs import Mismatch
from omps_worker.destinations.catalog.grammars.go_yaml import GoReader
from omps_worker.manifests import yaml_edit
from omps_worker.manifests.transformations import Replacement, Transformations, apply
from omps_worker.messages import events
from tests.support.trees import tree_below

SECONDS = 5.0
"""Of processor time, on the slowest of machines."""

NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)
BODY, MANIFESTS, ANSWER = 4 * 10**6, 8 * 10**6, 64 * 1024
STARS = "".join(f'  - {{match: {{nvr: "{"*a" * 60}*b{number}"}}, publish: []}}\n' for number in range(50))


def message(**build: Any) -> bytes:
    return json.dumps({"attribute": "state", "new": 1, "info": {"build_id": 1, **build}}).encode()


def decoded(body: bytes) -> Callable[[], object]:
    return lambda: events.decode(body)


def annotated(manifest: str) -> Callable[[], object]:
    return lambda: yaml_edit.with_texts(manifest, ("metadata", "annotations"), {"a": "b"})


def parked(headers: dict[str, Any], name: str = "k" * 255) -> Callable[[], object]:
    delivery = Delivery(DeliveryTag(1, 1), name, name, False, BasicProperties(headers=headers), b"", None)
    return lambda: copies.parked_copy(delivery, KojiError("x" * 900), ["a/b"], NOW)


def quantity(text: str) -> Callable[[], object]:
    container = {"resources": {"limits": {"cpu": text}}}
    deployment = {"spec": {"template": {"spec": {"containers": [container]}}}}
    return lambda: check_types({"spec": {"install": {"spec": {"deployments": [deployment]}}}})


def objects_before(text: str) -> Callable[[], object]:
    """Many small JSON objects in one file, and a large one."""
    return lambda: GoReader().all('{"a": 1}\n' * 990 + json.dumps({"b": text}, ensure_ascii=False), 1000)


def numbers_of(names: SafeNames, files: list[str]) -> set[str]:
    return {names.of_part(name) for name in files}


def nested_texts() -> bytes:
    document = json.dumps({"msg": "x" * 10**6})
    for _ in range(3):
        document = json.dumps(document)
    return document.encode()


INPUTS: dict[str, Callable[[], object]] = {
    "a time of dots": decoded(message(completion_time="." * BODY)),
    "a time of digits": decoded(message(completion_time="." + "1" * BODY)),
    "a name of dashes": decoded(message(build_id=None, nvr="-" * 512)),
    "names of dashes": decoded(message(nvr="-" * BODY)),
    "a number without end": decoded(b'{"attribute": "state", "new": ' + b"1" * BODY + b"}"),
    "numbers that are just short enough": decoded(b"[" + (b"1" * 4299 + b",") * 900 + b"1" * 5000 + b"]"),
    "texts in texts": decoded(nested_texts()),
    "quotes": decoded(json.dumps('"' * (BODY // 2 - 10)).encode()),
    "globs of stars": lambda: mapping_file.parse(f"version: 1\nrules:\n{STARS}", "mapping.yaml", ["o"]).resolve(
        BuildFacts(component="c", nvr="a" * 512, owner="o", target="t")
    ),
    "a version of digits": lambda: versions.is_valid("1" * BODY + ".0.0"),
    "a version of dots": lambda: versions.is_valid("1." * (BODY // 2)),
    "a version too large to count": lambda: versions.checked("1" * 5000 + ".0.0", "from outside"),
    "titles that do not end": lambda: refusals._TITLE.search("<title>" * (ANSWER // 7)),
    "titles that do not begin": lambda: refusals._TITLE.search(("<title" + " " * 200) * (ANSWER // 206)),
    "comments above the first key": annotated(
        "metadata:\n  annotations:\n" + "    # c\n" * (MANIFESTS // 8) + "    x: 1\n"
    ),
    "comments behind a key": annotated("metadata:\n  annotations:\n    ? a\n" + "    # :\n" * (MANIFESTS // 8)),
    "blanks at the end": annotated("metadata:\n  annotations:\n    x: 1\n" + " " * MANIFESTS),
    "keys on one line": annotated("metadata: {annotations: {" + "".join(f"k{n}: v, " for n in range(60_000)) + "}}"),
    "anchors": lambda: yaml_edit._BLOCK_HEADER_COMMENT.match("&a " * (MANIFESTS // 3)),
    "an anchor and blanks": lambda: yaml_edit._BLOCK_HEADER_COMMENT.match("&a" + " " * MANIFESTS),
    "anchors and tags": lambda: yaml_edit._BLOCK_HEADER_COMMENT.match("&!" * (MANIFESTS // 2)),
    "half comments": lambda: yaml_edit._COMMENT.sub("", " #" * (MANIFESTS // 2)),
    "a line of line breaks": lambda: text.one_line("\n" * MANIFESTS),
    "parts whose names get numbers": lambda: numbers_of(SafeNames(()), ["a.yaml"] * 10**5),
    "parts whose names are taken": lambda: numbers_of(
        SafeNames(f"a.{number}.yaml" for number in range(50_000)), ["a.yaml", "a.1.yaml"] * 10_000
    ),
    "parts whose long names become the same": lambda: numbers_of(
        SafeNames(()), ["x" * 246 + f"{number:06}.yaml" for number in range(50_000)]
    ),
    "a quantity of digits": quantity("1" * MANIFESTS + "z"),
    "a quantity of dots": quantity("." * MANIFESTS),
    "a quantity of suffixes": quantity("1" + "Ei" * (MANIFESTS // 2)),
    "a quantity of digits behind an exponent": quantity("1e" + "0" * MANIFESTS),
    "objects before a large one": objects_before("y" * MANIFESTS),
    "objects before blanks": lambda: GoReader().all('{"a": 1}\n' * 990 + " " * MANIFESTS, 1000),
    "objects before one with an escape": objects_before("\n" * (MANIFESTS // 2) + "\x01"),
    "headers that just fill a frame": parked({f"{number:04x}": True for number in range(18_700)}),
    "headers that cannot be encoded": parked({f"{number:04x}": float("nan") for number in range(9_000)}),
}


@pytest.mark.parametrize("what", INPUTS)
def test_it_takes_no_time(what, caplog):
    caplog.set_level("CRITICAL")
    began = time.process_time()
    with contextlib.suppress(MessageError, OMPSInvalidVersionFormat, yaml_edit.CannotEdit, Mismatch):
        INPUTS[what]()
    assert time.process_time() - began < SECONDS


def test_plain_replacements_take_no_time_either(tmp_path):
    (tmp_path / "a.yaml").write_text("a" * MANIFESTS)
    began = time.process_time()
    apply(
        tree_below(tmp_path),
        Transformations(replacements=(Replacement("a" * 500 + "b", "c"), Replacement("b" + "a" * 500, "c"))),
    )
    assert time.process_time() - began < SECONDS


def test_headers_that_fill_a_frame_are_encoded_a_few_times_and_not_once_for_each_that_is_left_out(monkeypatch, caplog):
    caplog.set_level("CRITICAL")
    encoded = []
    size = copies._size

    def counted(properties: BasicProperties) -> int:
        encoded.append(len(properties.headers or {}))
        return size(properties)

    monkeypatch.setattr(copies, "_size", counted)
    parked({f"{number:04x}": True for number in range(18_700)})()
    assert sum(count > 1 for count in encoded) < 10
