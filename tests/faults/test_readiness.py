# SPDX-License-Identifier: GPL-3.0-or-later
"""``/ready`` and ``/metrics`` tell the truth within ten seconds, whatever goes away, and however."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.faults import Fault
from tests.support.monitoring import Seen, free_port
from tests.support.proxy import Proxy
from tests.support.site import TestSite, edit
from tests.support.waiting import wait_until

SECONDS = 10.0
"""What is promised."""

LANTERN = operators.zip_of(operators.flat_operator("lantern"))

PARTS = ("broker", "koji", "koji_files", "registry")


class RequestMiddleware:
    """Broker, Koji and registry, each behind a proxy."""

    def __init__(self, site: TestSite, stack: ExitStack) -> None:
        self.proxies = {}
        for part, url in zip(
            PARTS, (site.amqp_url, site.koji.hub_url, site.koji.root_url, site.registry.url), strict=True
        ):
            port = urlsplit(url).port
            proxy = self.proxies[part] = stack.enter_context(Proxy(port))
            edit(site.config, f'"{url}"', f'"{url.replace(f":{port}", f":{proxy.port}", 1)}"')

    def take_away(self, part: str, how: str) -> None:
        proxy = self.proxies[part]
        if how == "killed":
            proxy.refusing = True
            proxy.cut()
        else:
            proxy.silent.set()

    def bring_back(self, part: str) -> None:
        proxy = self.proxies[part]
        proxy.refusing = False
        proxy.silent.clear()
        # What a frozen peer swallowed will never be answered.
        proxy.cut()


@pytest.fixture
def surroundings(site: TestSite) -> Iterator[RequestMiddleware]:
    with ExitStack() as stack:
        yield RequestMiddleware(site, stack)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def worker(site: TestSite, surroundings: RequestMiddleware, port: int) -> Iterator[subprocess.Popen[str]]:
    edit(
        site.config,
        "[consumer_config]",
        f'[monitoring]\nport = {port}\n[consumer_config]\nshutdown_timeout = "2s"',
    )
    with site.running() as process:
        yield process


@pytest.fixture
def seen(worker: subprocess.Popen[str], port: int) -> Seen:
    seen = Seen(port)
    wait_until(seen.ready, what="the worker to be ready")
    return seen


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_what_goes_away_is_told_within_ten_seconds_and_so_is_its_return(how, surroundings, seen):
    for part in PARTS:
        surroundings.take_away(part, how)
    for part in PARTS:
        wait_until(lambda part=part: seen.misses(part), SECONDS, f"{part} to be missed")
    assert seen.metric("omps_worker_ready") == 0
    assert seen.live(), "a restart would not help"

    for part in PARTS:
        surroundings.bring_back(part)
    wait_until(seen.ready, SECONDS, "the worker to be ready again")
    assert seen.metric("omps_worker_ready") == 1
    assert [seen.metric(f'omps_worker_part_up{{part="{part}"}}') for part in PARTS] == [1] * len(PARTS)


def test_a_worker_ends_in_time_though_nobody_answers(surroundings, seen, worker):
    for part in PARTS:
        surroundings.take_away(part, "frozen")
    wait_until(lambda: seen.misses("broker"), SECONDS, "the broker to be missed")
    worker.send_signal(signal.SIGTERM)
    # Its patience, the two seconds until a hanging thread is torn away, and those of its last words.
    worker.wait(15)


def test_a_long_absence_of_the_broker_does_not_make_the_return_slower(surroundings, seen, site):
    surroundings.take_away("broker", "killed")
    tried = surroundings.proxies["broker"].accepted
    wait_until(lambda: surroundings.proxies["broker"].accepted > tried + 14, 60, "many tries to connect")
    surroundings.bring_back("broker")
    wait_until(seen.ready, SECONDS, "the worker to be ready")
    assert site.consumers() == 1


def test_a_file_server_that_fails_downloads_alone_is_not_well_from_the_first_build_on(seen, site: TestSite):
    build = site.koji.add_build("lantern-operator-container", "1.0", "1", manifests=LANTERN)
    site.koji.faults.add(Fault("GET .*zip", status=502, times=None))
    site.publish(site.koji.message(build))
    wait_until(lambda: seen.misses("koji_files"), SECONDS, "the file server to be missed")
    assert any("answers 502 to the download of" in reason for reason in seen.reasons())
    site.koji.faults.clear()
    wait_until(seen.ready, SECONDS, "the worker to be ready again, before the build is tried again")


def test_an_organization_that_fails_is_named_and_when_all_do_the_worker_is_not_ready(seen, site: TestSite):
    def up(organization: str) -> float | None:
        return seen.metric(f'omps_worker_organization_up{{organization="{organization}"}}')

    wait_until(lambda: (up("community"), up("partners")) == (1, 1), SECONDS, "both to be looked at")
    site.registry.faults.add(Fault("GET /cnr/api/v1/packages/community/", status=500, times=None))
    wait_until(lambda: up("community") == 0, SECONDS, "the organization to be missed")
    assert (seen.ready(), up("partners")) == (True, 1), "what is for the other one is published"
    (warning,) = seen.warnings()
    assert warning.startswith("organization community: Failed to look at community/")

    secret: Path = site.directory / "secrets" / "partners"
    good = secret.read_text()
    edit(secret, good, "basic d3Jvbmc6d3Jvbmc=\n")
    wait_until(lambda: seen.misses("organizations"), SECONDS, "nothing to be publishable")
    assert not seen.misses("registry")

    site.registry.faults.clear()
    wait_until(seen.ready, SECONDS, "one of them to be enough")
    edit(secret, "basic d3Jvbmc6d3Jvbmc=\n", good)
    wait_until(lambda: not seen.warnings(), SECONDS, "both to be well again")


def test_a_broken_edit_of_the_mapping_is_no_good_state(seen, site: TestSite):
    mapping: Path = site.directory / "mapping.yaml"
    good = mapping.read_text()
    edit(mapping, good, "version: 1\nrules: 7\n")
    wait_until(lambda: not seen.ready(), SECONDS, "the broken mapping to be told")
    assert any(reason.startswith("mapping: the last edit of the file is invalid") for reason in seen.reasons())
    assert seen.metric('omps_worker_mapping_reloads_total{result="broken"}') == 1
    edit(mapping, "version: 1\nrules: 7\n", good.replace("version: 1\n", "version: 1\npause: [partners]\n", 1))
    wait_until(seen.ready, SECONDS, "the mended mapping to be read")
    assert seen.metric('omps_worker_mapping_reloads_total{result="good"}') == 1
    assert seen.metric("omps_worker_mapping_rules") == 4

    assert any("pauses partners" in warning for warning in seen.warnings()), "who is well may still be paused"
    paused = [
        seen.metric(f'omps_worker_organization_paused{{organization="{name}"}}') for name in ("community", "partners")
    ]
    assert paused == [0, 1]
