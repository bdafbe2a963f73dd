# SPDX-License-Identifier: GPL-3.0-or-later
"""The health port: truthful, small, and not easily held up."""

from __future__ import annotations

import socket

import pytest
import requests

from omps_worker.common.errors import SettingsError
from omps_worker.monitoring.port import MonitoringPort, ask
from tests.support.monitoring import has_ipv6


def get(port, path):
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=5)


def test_all_is_well_until_somebody_has_a_reason():
    reasons = []
    with MonitoringPort("127.0.0.1", 0, {"/live": list, "/ready": lambda: reasons}) as monitoring:
        assert get(monitoring.port, "/ready").status_code == 200
        assert get(monitoring.port, "/ready").json() == {"ok": True, "reasons": []}
        reasons.append("not consuming")
        answer = get(monitoring.port, "/ready?verbose=1")
        assert (answer.status_code, answer.json()) == (503, {"ok": False, "reasons": ["not consuming"]})
        assert get(monitoring.port, "/live").status_code == 200
        assert get(monitoring.port, "/nothing").status_code == 404


def test_a_health_check_can_ask_by_itself():
    reasons = []
    with MonitoringPort("127.0.0.1", 0, {"/live": lambda: reasons}) as monitoring:
        assert ask("", monitoring.port)
        reasons.append("stuck")
        assert not ask("0.0.0.0", monitoring.port)
    assert not ask("127.0.0.1", monitoring.port)


def test_clients_that_say_nothing_hold_nobody_up():
    with MonitoringPort("127.0.0.1", 0, {"/live": list}) as monitoring:
        silent = [socket.create_connection(("127.0.0.1", monitoring.port)) for _ in range(20)]
        assert ask("127.0.0.1", monitoring.port)
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("address", ["", "::"])
def test_no_address_and_two_colons_mean_all_of_them_of_both_kinds(address):
    with MonitoringPort(address, 0, {"/live": list}) as monitoring:
        for host in ("127.0.0.1", *(["[::1]"] if has_ipv6() else [])):
            reply = requests.get(f"http://{host}:{monitoring.port}/live", timeout=5)
            assert reply.json() == {"ok": True, "reasons": []}
        assert ask(address, monitoring.port)


@pytest.mark.parametrize("address", ["", "::"])
def test_where_there_is_no_ipv6_they_mean_all_of_ipv4(monkeypatch, address):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with MonitoringPort(address, 0, {"/live": list}) as monitoring:
        assert ask(address, monitoring.port)
        assert ask("127.0.0.1", monitoring.port)


def test_a_port_that_is_taken_is_a_fault_of_the_configuration():
    with (
        MonitoringPort("127.0.0.1", 0, {}) as monitoring,
        pytest.raises(SettingsError, match=r"monitoring.*port [0-9]+"),
    ):
        MonitoringPort("127.0.0.1", monitoring.port, {})
