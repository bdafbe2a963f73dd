# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release where answers are lost, late or lies, and where somebody else pushes too."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pydantic import SecretStr

from omps_worker.common.errors import PackageBusy, QuayAuthorizationError, QuayCourierError, QuayPackageError
from omps_worker.common.locks import package_lock
from omps_worker.common.locks.package_lock import PackageLock, ProcessLock
from omps_worker.common.model import Bundle
from omps_worker.destinations import Released
from omps_worker.destinations.app_registry.client import AppRegistry
from omps_worker.destinations.app_registry.package import Credentials, PackageLocation
from omps_worker.destinations.app_registry.releases import Releaser, WantedRelease
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.app_registry.store import tar_digest
from omps_worker.sandbox.faults import Fault
from tests.support.blobs import tar_gz
from tests.support.late_lock import LateLock
from tests.support.waiting import wait_until

PUSH = "POST /cnr/api/v1/packages/.*"
LOOK = "GET /cnr/api/v1/packages/.*"
TIMEOUT = 1.0


def bundle(content: str) -> Bundle:
    blob = tar_gz(content)
    return Bundle("etcd", blob, tar_digest(blob), ("etcd.package.yaml",), True, None)


OURS, THEIRS = bundle("ours"), bundle("theirs")


class RacySite:
    """Makes releases of community/etcd, and counts what it costs."""

    def __init__(self, registry: SandboxRegistry) -> None:
        self.registry = registry
        self.faults = registry.faults
        registry.add_organization("community")
        self.place = PackageLocation("community", "etcd", Credentials(SecretStr(registry.add_robot("community"))))
        self.use(ProcessLock(TIMEOUT))

    def use(self, lock: PackageLock) -> None:
        self._releaser = Releaser(AppRegistry(self.registry.url, timeout=TIMEOUT), lock, "1.0.0")

    def release(self, what: Bundle = OURS, version: str | None = None, **options) -> Released | None:
        return self._releaser.release(WantedRelease(what, self.place, version, **options))

    def somebody_pushes(self, version: str) -> None:
        self.registry.add_release("community", "etcd", version, THEIRS.blob)

    @property
    def held(self) -> list[tuple[str, str]]:
        names = {OURS.digest: "ours", THEIRS.digest: "theirs"}
        return [(entry.version, names[entry.digest]) for entry in self.registry.releases("community", "etcd")]

    @property
    def pushes(self) -> int:
        return sum(entry.method == "POST" for entry in self.registry.log)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(package_lock, "STORING_SECONDS", 0.2)
    with SandboxRegistry(racy=True) as registry:
        yield RacySite(registry)


@pytest.mark.parametrize("fault", [{"drop_answer": True}, {"truncate": True}, {"status": 502, "effect": True},
                                   {"status": 500, "effect": True}, {"body": "<html>?</html>"}])  # fmt: skip
def test_a_push_that_was_stored_whatever_was_answered_is_found_at_once(site, fault):
    site.faults.add(Fault(PUSH, **fault))
    assert site.release() == Released("1.0.0", created=True)
    assert site.release() == Released("1.0.0", created=False)
    assert site.pushes == 1


@pytest.mark.parametrize("version", [None, "1.0.0"])
def test_a_push_that_a_proxy_sent_twice_is_ours_though_the_answer_is_a_conflict(site, version):
    answer = {"error": {"code": "package-exists", "message": "package exists already", "details": {}}}
    site.faults.add(Fault(PUSH, status=409, body=answer, effect=True))
    assert site.release(version=version, new_release=True) == Released("1.0.0", created=True)
    assert site.pushes == 1


def test_a_conflict_that_is_none_leads_to_a_fresh_look_and_no_gap(site):
    site.faults.add(Fault(PUSH, status=409))
    assert site.release() == Released("1.0.0", created=True)


def test_a_version_that_is_taken_and_not_listed_is_given_up(site):
    conflicts = site.faults.add(Fault(PUSH, status=409, times=None))
    with pytest.raises(QuayCourierError) as asked_for:
        site.release(version="1.0.0")
    assert not asked_for.value.transient
    assert site.faults.fired(conflicts) == 2
    with pytest.raises(QuayCourierError) as incremented:
        site.release()
    assert incremented.value.transient
    assert site.faults.fired(conflicts) < 20


def test_a_push_that_is_stored_after_its_sender_gave_up_is_not_repeated(site):
    stored = threading.Event()
    push = site.faults.add(Fault(PUSH, hold=stored))
    with ThreadPoolExecutor() as threads:
        first = threads.submit(site.release)
        wait_until(lambda: site.faults.fired(push), what="the push")
        again = threads.submit(site.release)
        with pytest.raises(QuayCourierError) as caught:
            first.result(10)
        assert caught.value.transient
        stored.set()
        assert again.result(10) == Released("1.0.0", created=False)
    assert site.pushes == 1


def test_a_push_that_is_never_stored_is_repeated_when_it_can_no_longer_be_stored(site):
    site.faults.add(Fault(PUSH, status=504))
    begun = time.monotonic()
    with pytest.raises(QuayCourierError):
        site.release()
    assert time.monotonic() - begun < TIMEOUT
    assert site.release() == Released("1.0.0", created=True)
    assert time.monotonic() - begun > TIMEOUT
    assert site.pushes == 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 429}])
def test_an_answer_after_which_nothing_more_can_happen_is_not_waited_out(site, fault):
    site.faults.add(Fault(PUSH, **fault))
    begun = time.monotonic()
    with pytest.raises(QuayCourierError):
        site.release()
    assert site.release() == Released("1.0.0", created=True)
    assert time.monotonic() - begun < TIMEOUT


def test_a_refusal_leaves_nothing_to_wait_for(site):
    good, site.place = site.place, replace(site.place, credentials=Credentials(SecretStr("basic d3Jvbmc6d3Jvbmc=")))
    with pytest.raises(QuayAuthorizationError):
        site.release()
    site.place = good
    begun = time.monotonic()
    assert site.release() == Released("1.0.0", created=True)
    assert time.monotonic() - begun < TIMEOUT


LISTED_WITHOUT_DIGEST = {"status": 200, "body": [{"release": "1.0.0", "content": {}}]}


@pytest.mark.parametrize(
    ("push", "look"),
    [
        ({"status": 502, "effect": True}, None),
        ({"status": 502, "effect": True}, LISTED_WITHOUT_DIGEST),
        ({}, LISTED_WITHOUT_DIGEST),
        ({"status": 409}, {"status": 503}),
    ],
    ids=["found", "found without an answer, but no digest", "found, but no digest", "taken"],
)
def test_a_push_whose_fate_is_known_leaves_nothing_to_wait_for(site, push, look):
    site.use(ProcessLock(30.0, patience=5.0))
    site.faults.add(Fault(PUSH, **push))
    if look:
        site.faults.add(Fault(LOOK, after=1, **look))
    with contextlib.suppress(QuayCourierError, QuayPackageError):
        site.release()
    assert site.release(THEIRS).created, "who would have to wait for a mark would give up at once"


def test_a_look_that_fails_before_the_push_pushes_nothing(site):
    site.faults.add(Fault(LOOK, status=503))
    with pytest.raises(QuayPackageError):
        site.release()
    assert site.pushes == 0


def test_a_push_that_was_accepted_is_believed_when_nobody_can_look(site):
    site.faults.add(Fault(LOOK, status=503, after=1))
    released = site.release()
    assert released == Released("1.0.0", created=True)
    assert (released.listed, released.made_at) == (False, None)


@pytest.mark.parametrize("fault", [None, {"drop_answer": True}, {"status": 500, "effect": True}])
def test_a_release_has_one_time_at_which_it_was_made_whoever_finds_it(site, fault):
    if fault:
        site.faults.add(Fault(PUSH, **fault))
    made = site.release()
    assert made.listed
    assert (
        made.made_at == site.release().made_at == site.registry.releases("community", "etcd")[0].manifest["created_at"]
    )


def test_a_registry_that_lists_no_times_has_none(site):
    site.faults.add(Fault(LOOK, times=1, body=[]))
    site.faults.add(Fault(LOOK, times=None, body=[{"release": "1.0.0", "content": {"digest": OURS.digest}}]))
    assert [site.release().made_at, site.release().made_at] == [None, None]


def test_a_push_that_was_accepted_and_is_not_listed_is_tried_again(site):
    site.faults.add(Fault(LOOK, status=200, body=[], after=1))
    with pytest.raises(QuayCourierError, match="is not listed") as caught:
        site.release()
    assert caught.value.transient
    assert site.release() == Released("1.0.0", created=False)
    assert site.pushes == 1


@pytest.mark.parametrize("content", [{}, {"digest": None}, {"digest": "sha256:short"}], ids=str)
@pytest.mark.parametrize("fault", [None, {"status": 502, "effect": True}], ids=["accepted", "without an answer"])
def test_a_push_that_is_listed_without_its_digest_is_told_so_and_makes_no_second_release(site, content, fault):
    site.faults.add(Fault(LOOK, times=None, body=[{"release": "1.0.0", "content": content}], after=1))
    if fault:
        site.faults.add(Fault(PUSH, **fault))
    with pytest.raises(QuayCourierError, match=r"1\.0\.0 was pushed and is listed, but without the digest") as caught:
        site.release()
    assert "is not listed" not in caught.value.message
    assert not caught.value.transient, "the next try would push the next version"


def push_together(site: RacySite, **options) -> Released | None:
    """Release while somebody who knows no lock pushes the same version."""
    answered = threading.Event()
    push = site.faults.add(Fault(PUSH, hold_answer=answered))
    with ThreadPoolExecutor() as threads:
        released = threads.submit(site.release, **options)
        wait_until(lambda: site.faults.fired(push) and site.held, what="the push")
        site.somebody_pushes("1.0.0")
        answered.set()
        return released.result(10)


def test_a_stranger_who_pushes_the_same_version_at_the_same_time_leads_to_the_next_version(site):
    assert push_together(site) == Released("2.0.0", created=True)
    assert site.held == [("1.0.0", "ours"), ("1.0.0", "theirs"), ("2.0.0", "ours")]
    assert site.release() == Released("2.0.0", created=False), "and that is the end of it"


def test_a_version_that_was_asked_for_and_has_other_content_as_well_is_a_failure_for_good(site):
    with pytest.raises(QuayCourierError, match="other content as well") as caught:
        push_together(site, version="1.0.0")
    assert not caught.value.transient


def test_a_lock_of_the_process_gives_up_after_a_while(site):
    lock = ProcessLock(TIMEOUT, patience=0.1)
    package = (site.registry.url, "community", "etcd")
    with ThreadPoolExecutor() as threads, lock.hold(*package):

        def wait():
            with lock.hold(*package):
                pass

        with pytest.raises(PackageBusy):
            threads.submit(wait).result(10)


def test_a_lock_of_the_process_does_not_wait_for_what_it_cannot_outwait():
    lock = ProcessLock(TIMEOUT, patience=0.1)
    package = ("https://registry.example.com", "community", "etcd")
    with lock.hold(*package) as hold:
        hold.begin_push()
    with pytest.raises(PackageBusy), lock.hold(*package):
        pass


def test_who_takes_too_long_to_get_ready_does_not_push():
    lock = ProcessLock(0.02)
    with lock.hold("https://registry.example.com", "community", "etcd") as hold:
        latest = time.monotonic() + 0.05
        wait_until(lambda: time.monotonic() > latest)
        with pytest.raises(PackageBusy, match="nothing was pushed") as caught:
            hold.begin_push()
    assert caught.value.counts, "whatever took so long was tried"


def test_who_was_stopped_until_the_time_of_the_push_was_over_asks_nothing_and_does_not_push(site):
    calls = []
    site.use(LateLock(lambda: calls.append(len(site.registry.log))))
    with pytest.raises(PackageBusy, match="took too long: nothing was pushed") as caught:
        site.release()
    assert caught.value.counts
    assert calls == [len(site.registry.log)]
