# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring port, as its clients see it."""

from __future__ import annotations

import re
import socket

import requests


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def has_ipv6() -> bool:
    """Return whether this machine has IPv6 on loopback."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Seen:
    """The monitoring port of a worker, as a probe and Prometheus see it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._base = f"http://127.0.0.1:{port}"

    def ready(self) -> bool:
        try:
            return requests.get(f"{self._base}/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def reasons(self) -> list[str]:
        return requests.get(f"{self._base}/ready", timeout=5).json()["reasons"]

    def warnings(self) -> list[str]:
        return requests.get(f"{self._base}/ready", timeout=5).json().get("warnings", [])

    def misses(self, part: str) -> bool:
        told = any(reason.startswith(f"{part}: ") for reason in self.reasons())
        return told and not self.ready() and self.metric(f'omps_worker_part_up{{part="{part}"}}') == 0

    def live(self) -> bool:
        return requests.get(f"{self._base}/live", timeout=5).status_code == 200

    def metric(self, sample: str) -> float | None:
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.page(), re.MULTILINE)
        return float(found[1]) if found else None

    def page(self) -> str:
        return requests.get(f"{self._base}/metrics", timeout=5).text
