# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/rest.md says what the service does: its examples are run, and its tables are the program's."""

from __future__ import annotations

import json
import re

import pytest

from omps_worker.api import openapi, replies
from omps_worker.sandbox import operators
from tests.support import curl
from tests.support.api import api
from tests.support.sources import ROOT

TEXT = (ROOT / "docs/rest.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sh\n(.*?)```\n\n```json\n(.*?)```", TEXT, re.DOTALL)


def test_the_examples_give_what_they_say(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPS_WORKER_STATE_DIRECTORY", str(tmp_path / "state"))
    manifests = operators.zip_of(operators.flat_operator("lantern"))
    (tmp_path / "manifests.zip").write_bytes(manifests)
    with api(tmp_path) as server:
        server.koji.add_build("lantern-container", "1.0", "1", manifests=manifests)
        for command, said in EXAMPLES:
            for _ in range(1 + command.count("Idempotency-Key")):
                answer = curl.run(command, {"URL": server.url, "TOKEN": server.token}, tmp_path)
            got, expected = answer.json(), json.loads(said)
            if command.rstrip().endswith('/about"'):  # its numbers change with every release
                got, expected = set(got), set(expected)
            assert got == expected, command
    assert len(EXAMPLES) == 6


def test_the_table_of_errors_is_the_programs():
    told = {}
    for status, names, more in re.findall(r"^\| (\d{3}) \| (.*?) \| (\S*) ?\| ", TEXT, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = (int(status), more.strip("` ") or None)
    extras = {kind.__name__: extra for kind, extra in replies.EXTRAS.items()}
    known = {kind.__name__: (status, extras.get(kind.__name__)) for kind, status in replies.STATUSES.items()}
    of_http = {"NotFound": (404, None), "MethodNotAllowed": (405, None), "BadRequest": (400, None)}
    assert told == {**known, **of_http}


@pytest.mark.parametrize("path", sorted(openapi.document()["paths"]))
def test_every_route_is_documented(path):
    shown = re.sub(r"/\{version\}$", "[/VERSION]", path)
    shown = re.sub(r"\{(\w+)\}", lambda name: name[1].upper(), shown)
    wanted = {shown, shown + "[/VERSION]", shown.replace("/v2/", "/v1/"), shown.replace("/v2/", "/v1/") + "[/VERSION]"}
    assert any(f"{each}`" in TEXT for each in wanted)
