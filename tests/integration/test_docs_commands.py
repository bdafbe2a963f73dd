# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of docs/commands.md, typed one after the other on one site, give what the page says."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest
import requests

from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.commands_page import examples, fits
from tests.support.site import results_of
from tests.support.waiting import wait_until
from tests.support.watching import result, tell, watching

LANTERN = "6f1c1cb4-6a37-4b7e-9a0c-1b1a7e3a6d21"
DAMAGED = "a8e4d7f0-52c9-4c39-8d1f-90b7b1f5c3e2"
"""The ids of two messages that are parked."""
ELSEWHERE = {"sandbox", "demo"}
"""What needs a site of its own; test_sandbox_commands.py looks at their examples."""
OMPS_CONFIGURATION = """\
class ProdConfig:
    KOJIHUB_URL = "https://koji.example.com/kojihub"
    KOJIROOT_URL = "https://koji.example.com/kojifiles"
    REQUEST_TIMEOUT = 28
"""


@pytest.fixture
def site(site):
    """A site as `omps-worker sandbox` has it: with a catalog."""
    with site.images:
        site.add_catalog()
        yield site


@pytest.fixture
def story(site, tmp_path, monkeypatch):
    """A site with two builds and the files that the examples name, and messages for the worker."""
    monkeypatch.chdir(tmp_path)
    lantern = operators.zip_of(operators.flat_operator("lantern"))
    otter = operators.zip_of(operators.nested_operator("otter-cache"))
    site.koji.add_build("otter-cache-operator-container", "1.1.0", "1", manifests=otter)
    build = site.koji.add_build("lantern-operator-container", "1.4.2", "1", manifests=lantern)
    message = site.koji.message(build)
    message = message._replace(properties={**message.properties, "message_id": LANTERN})
    damaged = message._replace(properties={**message.properties, "message_id": DAMAGED}, body=b"{")
    site.save(message, Path("lantern.json"))
    Path("lantern.zip").write_bytes(lantern)
    Path("omps.py").write_text(OMPS_CONFIGURATION)
    with site.config.open("a") as file:
        file.write("\n[consumer_config.api]\nport = 0\n")
    return [message, damaged]


def outputs(site, messages):
    """What each example prints, by the command's words."""
    for words, (line, _) in examples().items():
        if words == "run":
            yield words, log_of_a_run(site, messages)
        elif words == "api":
            yield words, log_of_the_api(site, shlex.split(line))
        elif words == "watch":
            yield words, seen_by_a_watcher(site, shlex.split(line))
        elif words not in ELSEWHERE:
            ran = site.command(*shlex.split(line))
            assert ran.code == 0, ran.err
            yield words, ran.out


def log_of_a_run(site, messages):
    """The worker's, while the registry refuses everything."""
    refusal = Fault("POST /cnr/.*", status=422, times=None)
    site.registry.faults.add(refusal)
    with site.watching() as watch, site.running():
        for count, message in enumerate(messages, 1):
            site.publish(message)
            wait_until(lambda: watch.depth(f"{QUEUE}.failed") == count, what="the message to be parked")  # noqa: B023
        results_of(watch, 1)
    site.registry.faults.clear()
    return site.log


def seen_by_a_watcher(site, arguments):
    with watching(site, *arguments[1:]) as watcher:
        nvr = "otter-cache-operator-container-1.1.0-1"
        tell(site, result(organization="partners"), result(component="otter-cache", nvr=nvr))
        assert watcher.ended() == 0
    return "\n".join(watcher.out)


def log_of_the_api(site, arguments):
    log = site.directory / "api.log"
    process = site.worker(*arguments, log=log)
    try:
        wait_until(lambda: answers(log.read_text()) or process.poll() is not None, 30, "the REST API to answer")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
    return log.read_text()


def answers(log):
    """Whether the REST API that writes this log answers yet."""
    port = re.search(r"listens on \S+, port (\d+)", log)
    try:
        return bool(port) and requests.get(f"http://127.0.0.1:{port[1]}/v2/about", timeout=10).ok
    except requests.ConnectionError:
        return False


def test_the_examples_give_what_they_say(site, story):
    typed = set()
    for words, real in outputs(site, story):
        typed.add(words)
        assert fits(examples()[words][1], real), f"`{words}` now prints:\n{real}"
    assert typed == set(examples()) - ELSEWHERE
