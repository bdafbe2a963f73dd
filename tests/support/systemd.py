# SPDX-License-Identifier: GPL-3.0-or-later
"""The receiving end of ``sd_notify``, in place of systemd."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.waiting import wait_until


class Systemd:
    """The socket of a supervisor, and the notifications received on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        while (news := self._socket.recv(4096)) != b"end":
            self.heard.append(news.decode())

    def environment(self, seconds: float | None = 0.15, **more: str) -> dict[str, str]:
        watched = {} if seconds is None else {"WATCHDOG_USEC": str(int(seconds * 1e6))}
        return {"NOTIFY_SOCKET": self.address, **watched, **more}

    @property
    def signs(self) -> int:
        return self.heard.count("WATCHDOG=1")

    def wait_for(self, news: str) -> None:
        wait_until(lambda: news in self.heard, 30, news)

    def wait_for_a_sign(self) -> None:
        before = self.signs
        wait_until(lambda: self.signs > before, 30, "a sign of life")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"end", "\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._thread.join()
        self._socket.close()


@contextmanager
def listening(address: str) -> Iterator[Systemd]:
    systemd = Systemd(address)
    try:
        yield systemd
    finally:
        systemd.close()
