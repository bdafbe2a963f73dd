# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a build from its release and is no fault of its: a token, a right, a plan. It waits."""

from __future__ import annotations

import pytest

from omps_worker.sandbox.faults import Fault
from omps_worker.sandbox.site import QUEUE
from tests.support.books import COMPONENT, PACKAGE, otter
from tests.support.waiting import wait_until

PUSH = "POST /cnr/.*"


@pytest.fixture
def build(quick):
    return quick.koji.add_build(COMPONENT, "1.0", "1", manifests=otter())


def half(secret: str) -> str:
    return secret[: len(secret) // 2] + "\n"


@pytest.mark.parametrize("name", ["community", "community-oauth"])
def test_a_token_that_was_read_while_it_was_being_written_heals_by_itself(quick, crew, books, build, name):
    file = quick.directory / "secrets" / name
    whole = file.read_text()
    crew.start()
    file.write_text(half(whole))
    quick.publish(quick.koji.message(build))
    books.wait_for("retrying")
    file.write_text(whole)
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])
    errors = {told.body["error"]["name"] for told in books.told if told.status == "retrying"}
    assert errors == {"QuayAuthorizationError" if name == "community" else "QuayPackageError"}


@pytest.mark.parametrize("broken", ["gone", "empty"])
def test_a_token_file_that_is_gone_or_empty_for_a_moment_is_not_even_noticed(quick, crew, books, build, broken):
    file = quick.directory / "secrets" / "community"
    whole = file.read_text()
    crew.start()
    if broken == "gone":
        file.unlink()
    else:
        file.write_text("")
    quick.publish(quick.koji.message(build))
    books.wait_for("published")
    file.write_text(whole)
    crew.stop_all()
    books.balance([build])
    assert books.statuses() == ["published"]


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
def test_what_the_registry_refuses_for_the_site_s_sake_waits_until_it_is_mended(quick, crew, books, build, status):
    refusal = quick.registry.faults.add(Fault(PUSH, status=status, body={"error": "No."}, times=None))
    crew.start()
    quick.publish(quick.koji.message(build))
    wait_until(lambda: quick.registry.faults.fired(refusal) > 2, 30, "further tries")
    quick.registry.faults.clear()
    books.wait_for("published")
    crew.stop_all()
    books.balance([build])


def test_an_image_repository_in_the_way_is_waited_for(quick, crew, books, build):
    quick.registry.add_image_repository("community", PACKAGE)
    crew.start()
    quick.publish(quick.koji.message(build))
    books.wait_for("retrying")
    assert "image repository with the same name" in books.told[0].body["error"]["message"]
    crew.stop_all()
    assert quick.take(f"{QUEUE}.failed") == []


@pytest.mark.parametrize("status", [413, 422])
def test_what_it_refuses_for_the_release_s_sake_is_parked_at_once(quick, crew, books, build, status):
    quick.registry.faults.add(Fault(PUSH, status=status, body={"error": "No."}, times=None))
    crew.start()
    quick.publish(quick.koji.message(build))
    books.wait_for("failed")
    crew.stop_all()
    assert books.statuses() == ["failed"]
    assert len(quick.take(f"{QUEUE}.failed")) == 1


def test_by_hand_a_refusal_is_told_at_once_and_check_names_it(quick, build):
    file = quick.directory / "secrets" / "community"
    file.write_text(half(file.read_text()))
    pushed = quick.command("push", build["nvr"], "--json")
    assert (pushed.code, pushed.json[0]["error"]["name"]) == (75, "QuayAuthorizationError")
    checked = quick.command("check", "--json")
    (finding,) = [each for each in checked.json if each["part"] == "organization community"]
    assert (finding["state"], finding["error"]) == ("failed", "QuayAuthorizationError")
    assert checked.code == 1
