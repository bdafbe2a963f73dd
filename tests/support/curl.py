# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the curl commands in the documentation, also on machines without curl. Supports only the options used there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import requests


def run(command: str, variables: Mapping[str, str], directory: Path) -> requests.Response:
    """Return the response to ``command``, with ``$NAME`` replaced and files read from ``directory``."""
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    method, url, headers, data, files = None, None, {}, None, {}
    while words:
        word = words.pop(0)
        for name, value in variables.items():
            word = word.replace(f"${name}", value)
        if word in ("-s", "-sS"):
            continue
        if not word.startswith("-"):
            assert url is None, f"two addresses in {command}"
            url = word
            continue
        value = words.pop(0)
        for name, known in variables.items():
            value = value.replace(f"${name}", known)
        if word == "-X":
            method = value
        elif word == "-H":
            header, _, content = value.partition(": ")
            headers[header] = content
        elif word in ("--retry", "--max-time"):
            pass
        elif word == "-d":
            data = value.encode()
        elif word == "-F":
            field, _, file = value.partition("=@")
            files[field] = (file, (directory / file).read_bytes())
        else:
            raise AssertionError(f"{word} is not supported here")
    assert url is not None
    method = method or ("POST" if data or files else "GET")
    session = requests.Session()
    session.trust_env = False
    return session.request(method, url, headers=headers, data=data, files=files or None, timeout=60)
