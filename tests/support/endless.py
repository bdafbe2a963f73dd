# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP responses that never end."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from tests.support.peer import Conversation

RETRY_AFTER = (
    "",
    "0",
    "-1",
    "60",
    "1e99",
    "9" * 400,
    "soon",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 99 Foo 2019",
    "\xe9",
    "\xb2",
)
"""Values of Retry-After, most of them invalid."""


def endless(head: bytes, piece: bytes) -> Callable[[Conversation], None]:
    def script(conversation: Conversation) -> None:
        conversation.read_request()
        conversation.send(head)
        while not conversation.stopping.is_set():
            conversation.send(piece)

    return script


OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "an endless body": endless(OK + b"\r\n", bytes(65536)),
    "an endless chunked body": endless(
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65536) + b"\r\n"
    ),
    "endless tiny chunks": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
    "an endless chunk size": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "endless trailers": endless(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 1000),
    "endless headers": endless(OK, b"a: b\r\n" * 1000),
    "an endless header": endless(OK + b"a: ", b"b" * 65536),
    "an endless status line": endless(b"HTTP/1.1 200 ", b"O" * 65536),
    "endless interim answers": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "an endless gzip bomb": endless(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(bytes(2**24), 9)),
    "no HTTP": endless(b"SSH-2.0-OpenSSH_9.2p1\r\n", bytes(65536)),
}
