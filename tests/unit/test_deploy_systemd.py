# SPDX-License-Identifier: GPL-3.0-or-later
"""``deploy/systemd`` fits the program. ``make check-deploy`` has systemd itself look at the same files."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from omps_worker.broker.consuming.signals import GRACE_SECONDS
from omps_worker.cli import main
from omps_worker.configuration.settings.models import WorkerSettings
from omps_worker.monitoring.readiness import STILL_SECONDS
from tests.support.deploying import SYSTEMD

UNITS = ("omps-worker.service", "omps-worker-api.service")
USAGE = 2


def service(unit: str) -> dict[str, list[str]]:
    """The settings of the section [Service]; each may stand there several times."""
    found = defaultdict(list)
    text = (SYSTEMD / unit).read_text(encoding="utf-8")
    section = re.search(r"^\[Service\]\n(.*?)^\[Install\]$", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    for line in section[1].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_may_take_longer_to_stop_than_the_work_in_hand(unit: str) -> None:
    patience = WorkerSettings.model_fields["shutdown_timeout"].get_default(call_default_factory=True).seconds
    # The REST API's processes have ten seconds more than their work, together.
    assert float(service(unit)["TimeoutStopSec"][0]) > patience + 10 + GRACE_SECONDS


@pytest.mark.parametrize("unit", UNITS)
def test_what_a_person_must_mend_is_not_tried_again_and_everything_else_is(unit: str) -> None:
    settings = service(unit)
    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == [str(USAGE)]


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_that_gives_no_sign_of_life_is_started_anew_and_leaves_no_secrets(unit: str) -> None:
    settings = service(unit)
    assert settings["Type"] == ["notify"]
    assert 10 <= float(settings["WatchdogSec"][0]) <= STILL_SECONDS
    assert settings["LimitCORE"] == ["0"]
    assert settings["Restart"] == ["on-failure"]  # which a watchdog's end is


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_may_speak_and_listen_on_both_kinds_of_addresses(unit: str) -> None:
    (families,) = service(unit)["RestrictAddressFamilies"]
    assert {"AF_INET", "AF_INET6"} <= set(families.split())
    assert not [key for key in service(unit) if key.startswith("IPAddress")]


@pytest.mark.parametrize(("unit", "command"), [(UNITS[0], "run"), (UNITS[1], "api")])
def test_what_is_started_is_a_command_that_there_is(unit: str, command: str) -> None:
    (started,) = service(unit)["ExecStart"]
    program, option, config, name = started.split()
    assert (program.rpartition("/")[2], option, name) == ("omps-worker", "--config", command)
    assert config.startswith("/etc/fedora-messaging/")
    assert name in main.commands


def test_only_the_worker_reloads_as_sighup_would_end_the_rest_api() -> None:
    assert service("omps-worker.service")["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert "ExecReload" not in service("omps-worker-api.service")


def test_both_services_are_equally_protected_and_have_their_own_temporary_files() -> None:
    worker, api = (service(unit) for unit in UNITS)
    assert worker["ProtectSystem"] == ["strict"]
    assert {worker[key][0] for key in ("PrivateTmp", "NoNewPrivileges", "ProtectHome", "RestrictSUIDSGID")} == {"yes"}
    assert worker["CapabilityBoundingSet"] == [""]
    assert worker["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert {"MemoryMax", "TasksMax"} <= set(worker)
    own = {"ExecStart", "ExecReload", "MemoryMax", "TasksMax", "StateDirectory", "StateDirectoryMode"}
    for unit in (worker, api):
        for key in own & set(unit):
            del unit[key]
    assert worker == api


def test_the_user_of_the_services_is_made() -> None:
    made = re.findall(r"^u (\S+) ", (SYSTEMD / "omps-worker.sysusers.conf").read_text(), re.MULTILINE)
    assert [service(unit)["User"] for unit in UNITS] == [made, made]
