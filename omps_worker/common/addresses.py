# SPDX-License-Identifier: GPL-3.0-or-later
"""How messages name an address, where it redirects to, and the proxy on the way: without a URL's secrets."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from requests.utils import get_environ_proxies, select_proxy

from omps_worker.common.text import printable


def redirect_target(url: str, location: str) -> str:
    """The address that a ``Location`` header in the answer of ``url`` means; empty if it is none."""
    try:
        target = urljoin(url, location)
        return target if urlsplit(target).scheme else ""
    except ValueError:
        return ""


def not_followed(url: str, target: str) -> str:
    """What to say of a redirect from ``url`` to ``target``, an address from outside, that is not followed."""
    return f"{place_of(url)} redirects to {address_of(target).removesuffix('/')}, which is not followed"


def place_of(url: str) -> str:
    """Scheme, host and port of ``url``, for people: without a password, path or query."""
    try:
        parts = urlsplit(url)
        return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", 200)
    except ValueError:
        return "an address that cannot be read"


def address_of(url: str) -> str:
    """``url`` for people who are to look there themselves: without a password, query or fragment."""
    try:
        return f"{place_of(url)}{printable(urlsplit(url).path, 1500)}"
    except ValueError:
        return "an address that cannot be read"


def route_to(url: str) -> str:
    """``place_of`` ``url``, and the proxy through which the environment leads there, if there is one."""
    proxy = _proxy_to(url)
    return place_of(url) if proxy is None else f"{place_of(url)} (through the proxy {proxy})"


def _proxy_to(url: str) -> str | None:
    try:
        proxy = select_proxy(url, get_environ_proxies(url))
        return None if not proxy else place_of(proxy if "://" in proxy else f"http://{proxy}")
    except Exception:
        # Whatever the environment holds: this is only asked when a call has failed already.
        return "of the environment, whose address cannot be read"
