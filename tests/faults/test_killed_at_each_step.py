# SPDX-License-Identifier: GPL-3.0-or-later
"""``kill -9`` at every step between taking a message and its ack: the next worker makes it good.

The step is certain, because what the worker needs for it is held back until the worker is dead.
"""

from __future__ import annotations

import random
import signal
import threading

import pytest

from omps_worker.manifests import archive
from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.books import COMPONENT, PACKAGE, crew_of, otter
from tests.support.proxy import Proxy
from tests.support.site import edit
from tests.support.waiting import wait_until

PUBLISHER_SENDS_RESULT = b"omps.release."
PUBLISHER_SENDS_RETRY = b"omps-worker.retry.100ms\x01"
CONSUMER_ACKS = b"\x00\x00\x00\x0d\x00\x3c\x00\x50"


@pytest.fixture
def build(quick):
    return quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())


def rescue(crew, books, build):
    """Another worker comes, and everything is in order after it."""
    crew.start()
    books.wait_for("published")
    books.wait_until_idle()
    crew.stop_all()
    books.balance([build])


@pytest.mark.parametrize(
    ("server", "request_line", "after"),
    [
        pytest.param("koji", "POST /kojihub", 0, id="asking Koji"),
        pytest.param("koji", "GET /kojiroot", 0, id="download"),
        pytest.param("registry", "GET /cnr/api", 0, id="look"),
        pytest.param("registry", "GET /cnr/api", 1, id="verify"),
        pytest.param("registry", "POST /api/v1/repository", 0, id="publish"),
    ],
)
def test_killed_while_waiting_for_an_answer(quick, crew, books, build, server, request_line, after):
    faults = getattr(quick, server).faults
    held = faults.add(Fault(request_line, hold=threading.Event(), drop=True, after=after))
    victim = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: faults.fired(held), 30, request_line)
    victim.kill()
    victim.wait()
    held.hold.set()
    rescue(crew, books, build)


@pytest.mark.parametrize("stored", [False, True], ids=["never stored", "stored, answer not sent"])
def test_killed_inside_the_push(quick, crew, books, build, stored):
    gate = threading.Event()
    fault = Fault("POST /cnr/", hold_answer=gate) if stored else Fault("POST /cnr/", hold=gate, drop=True)
    quick.registry.faults.add(fault)
    victim = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.registry.faults.fired(fault), 30, "the push")
    if stored:
        wait_until(lambda: quick.registry.releases("community", PACKAGE), 10, "the release")
    victim.kill()
    victim.wait()
    gate.set()
    rescue(crew, books, build)


def test_killed_in_the_middle_of_the_download(quick, crew, books, build):
    drip = quick.koji.faults.add(Fault("GET /kojiroot", drip=0.02))
    victim = crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.koji.faults.fired(drip), 30, "the download")
    victim.kill()
    victim.wait()
    rescue(crew, books, build)


@pytest.mark.parametrize("step", ["extract", "validate"])
def test_killed_while_it_works_on_the_files(quick, crew, books, step, tmp_path, monkeypatch):
    versions = tuple(f"1.0.{number}" for number in range(60))
    # So large that it is unpacked on disk, where it can be seen.
    manifests = {**operators.nested_operator(PACKAGE, versions=versions), "notes.txt": "x" * (archive.IN_MEMORY + 1)}
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=operators.zip_of(manifests))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    victim = crew.start()
    quick.publish(quick.koji.message(build))
    files = {"extract": 1, "validate": len(manifests)}[step]

    def extracted():
        return sum(path.is_file() for path in scratch.glob("omps-worker-*/manifests/**/*"))

    wait_until(lambda: extracted() >= files, 30, "extracted files")
    victim.send_signal(signal.SIGSTOP)
    assert not any(request.target.startswith("/cnr/api") for request in quick.registry.log)
    victim.kill()
    victim.wait()
    assert list(scratch.glob("omps-worker-*")), "the next one finds them"
    rescue(crew, books, build)
    assert not list(scratch.iterdir())


@pytest.fixture
def through(quick, shared_rabbit):
    """The way of the quick site's workers to the broker."""
    port = shared_rabbit.node.port
    with Proxy(port) as proxy:
        edit(quick.config, f":{port}/", f":{proxy.port}/")
        yield proxy


@pytest.mark.parametrize("passed_on", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("pattern", "koji_away"),
    [
        pytest.param(PUBLISHER_SENDS_RESULT, False, id="result"),
        pytest.param(PUBLISHER_SENDS_RESULT, True, id="result of a try that failed"),
        pytest.param(PUBLISHER_SENDS_RETRY, True, id="copy for the next try"),
        pytest.param(CONSUMER_ACKS, False, id="ack"),
        pytest.param(CONSUMER_ACKS, True, id="ack of a message that is tried again"),
    ],
)
def test_killed_while_the_outcome_is_recorded(quick, through, crew, books, build, pattern, koji_away, passed_on):
    if koji_away:
        quick.koji.fail_calls("offline", 1)
    victim = crew.start()
    catch = through.catch(pattern, passed_on=passed_on)
    # An ack has no answer; a message that the broker confirmed has arrived whole.
    moment = catch.answered if passed_on and pattern != CONSUMER_ACKS else catch.caught
    quick.publish(quick.koji.message(build))
    wait_until(moment.is_set, 30, "the worker to record the outcome")
    victim.kill()
    victim.wait()
    rescue(crew, books, build)
    if koji_away and (passed_on or pattern != PUBLISHER_SENDS_RESULT):
        assert "retrying" in books.statuses()


@pytest.mark.parametrize("passed_on", [False, True], ids=["before", "after"])
def test_killed_while_a_failure_is_parked(quick, through, crew, books, passed_on):
    build = quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter()[:99])
    message = quick.koji.message(build)
    victim = crew.start()
    catch = through.catch(b"omps-worker.failed\x01", passed_on=passed_on)
    quick.publish(message)
    wait_until((catch.answered if passed_on else catch.caught).is_set, 30, "the copy")
    victim.kill()
    victim.wait()
    crew.start()
    wait_until(lambda: books.statuses().count("failed") == 2, 30, "the outcome of the second try")
    books.wait_until_idle()
    crew.stop_all()
    assert len({told.id for told in books.hear()}) == 1, "the same failure is the same fact"
    books.balance([], parked=[message.properties["message_id"]])


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_again_and_again(quick, books, seed):
    chance = random.Random(seed)
    builds = [quick.koji.add_build(COMPONENT, "1.0", str(number), manifests=otter(number)) for number in range(8)]

    def requests():
        return len(quick.koji.log) + len(quick.registry.log)

    with crew_of(quick) as crew:
        for number in range(4):
            victim = crew.start()
            quick.publish(*map(quick.koji.message, builds[2 * number : 2 * number + 2]))
            enough = requests() + chance.randrange(1, 12)
            wait_until(lambda: requests() >= enough, 30, "the moment")  # noqa: B023
            victim.kill()
            victim.wait()
        crew.start()
        books.wait_for("published", len(builds))
        books.wait_until_idle()
        crew.stop_all()
    books.balance(builds)
