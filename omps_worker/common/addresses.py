# SPDX-License-Identifier: GPL-3.0-or-later
"""Formatting addresses, redirects and proxies for messages, without a URL's secrets."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from requests.utils import get_environ_proxies, select_proxy

from omps_worker.common.text import printable


def redirect_target(url: str, location: str) -> str:
    """Return the absolute address of a ``Location`` header in the response of ``url``, or "" if it is invalid."""
    try:
        target = urljoin(url, location)
        return target if urlsplit(target).scheme else ""
    except ValueError:
        return ""


def not_followed(url: str, target: str) -> str:
    """Return the message about a redirect from ``url`` to ``target`` that is not followed."""
    return f"{place_of(url)} redirects to {address_of(target).removesuffix('/')}, which is not followed"


def place_of(url: str) -> str:
    """Return scheme, host and port of ``url`` for people: without a password, path or query."""
    try:
        parts = urlsplit(url)
        return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", 200)
    except ValueError:
        return "an invalid address"


def address_of(url: str) -> str:
    """Return ``url`` for people who want to open it: without a password, query or fragment."""
    try:
        return f"{place_of(url)}{printable(urlsplit(url).path, 1500)}"
    except ValueError:
        return "an invalid address"


def route_to(url: str) -> str:
    """Return ``place_of(url)`` and the proxy that the environment sets for it, if there is one."""
    proxy = _proxy_to(url)
    return place_of(url) if proxy is None else f"{place_of(url)} (through the proxy {proxy})"


def _proxy_to(url: str) -> str | None:
    try:
        proxy = select_proxy(url, get_environ_proxies(url))
        return None if not proxy else place_of(proxy if "://" in proxy else f"http://{proxy}")
    except Exception:
        # The environment may hold anything, and this runs only after a call has failed.
        return "in the environment, which has an invalid address"
