# SPDX-License-Identifier: GPL-3.0-or-later
"""Single calls to image registries: sent with the login that the registry wants, and with errors of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from pydantic import SecretStr

from omps_worker.common.addresses import place_of
from omps_worker.common.errors import ImageRegistryError
from omps_worker.common.http_client.client import Answer, HttpClient, HttpFault, deadline
from omps_worker.common.observer import Observer
from omps_worker.destinations.catalog.image_registry.auth import Access, Authenticator, Keychain
from omps_worker.destinations.catalog.image_registry.failures import DENIED, failure, unreachable, unreadable
from omps_worker.destinations.catalog.image_registry.image_name import Repository

ANSWER_BYTES = 4 * 1024 * 1024
"""The maximum size of an answer other than a blob, in bytes. It is the reference registry's limit of manifests."""

ADDRESS_LIMIT = 8192
"""The maximum length of an address that a registry names, in characters."""

REDIRECTS = 3
"""How many times the download of a blob may be led elsewhere: once by Quay or Docker Hub, once more by each mirror."""

_LINK = re.compile(r'<(?P<url>[^<>]*)>[^<>]*?;\s*rel\s*=\s*"?(?P<rel>[^",;<>]*)', re.IGNORECASE)
_IN_BRACKETS = re.compile(r"<[^<>]*>")


class RegistryCalls:
    """Calls to any image registry. Safe to use from several threads. Raises CatalogError where no answer comes.

    ``timeout`` limits each call in seconds, with the login that it needs. ``what`` of each method begins the message of
    an error; ``access`` is what the call needs permission for.
    """

    def __init__(self, keychain: Keychain, *, timeout: float, ca_bundle: Path | None, observer: Observer) -> None:
        self._http = HttpClient(timeout=timeout, ca_bundle=ca_bundle, observer=observer, service="image_registry")
        self.auth = Authenticator(keychain, self._http)
        self.timeout = timeout

    def call(
        self,
        what: str,
        method: str,
        url: str,
        access: Access,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        writes: bool = False,
    ) -> Answer:
        """Return the answer, whatever its status. ``writes``: whether the call may change something.

        A HEAD that is led elsewhere has an answer that is ``redirected``; no other redirect is followed.
        """

        def send(authorization: SecretStr | None) -> Answer:
            return self.exchange(what, method, url, authorization, headers=headers, data=data, writes=writes)

        return self._authorized(access, send)

    def download(
        self, what: str, url: str, access: Access, sink: Callable[[bytes], object], *, max_bytes: int
    ) -> Answer:
        """Return the answer to a GET, and pass its body to ``sink`` if the status is 200.

        Up to ``REDIRECTS`` redirects are followed, without credentials: registries keep blobs in clouds.
        """

        def send(authorization: SecretStr | None) -> Answer:
            headers = _with_login({}, authorization)
            try:
                return self._http.download(url, sink, max_bytes=max_bytes, headers=headers, redirects=REDIRECTS)
            except HttpFault as fault:
                raise unreachable(what, fault, self.auth.scrubber(), writes=False) from None

        return self._authorized(access, send)

    def exchange(
        self,
        what: str,
        method: str,
        url: str,
        authorization: SecretStr | None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        writes: bool = False,
    ) -> Answer:
        """Return the answer to a call with this login, whatever its status."""
        headers = _with_login(headers or {}, authorization)
        try:
            return self._http.request(method, url, headers=headers, data=data, max_bytes=ANSWER_BYTES, follow=False)
        except HttpFault as fault:
            if method == "HEAD" and fault.kind == "redirect":
                return Answer(307, {}, b"", redirected=True)
            raise unreachable(what, fault, self.auth.scrubber(), writes=writes) from None

    def refusal(
        self, what: str, answer: Answer, repository: Repository, *, writes: bool = False, content: bool = False
    ) -> ImageRegistryError:
        """Return the error of a call that was answered with an error status, or with one that makes no sense.

        ``writes`` and ``content`` are those of ``failures.failure``.
        """
        stranger = answer.status in DENIED and self.auth.is_anonymous(repository)
        no_login_for = repository.host if stranger else None
        scrubber = self.auth.scrubber()
        return failure(what, answer, scrubber, writes=writes, content=content, no_login_for=no_login_for)

    def close(self) -> None:
        """Close the connection that this thread keeps, if there is one."""
        self._http.close()

    def _authorized(self, access: Access, send: Callable[[SecretStr | None], Answer]) -> Answer:
        """Return the answer of the call, which is sent again once if the registry wants another login for it."""
        with deadline(self.timeout):
            if not self.auth.knows(access.repository):
                # Nothing large is sent before the registry has said how to log in.
                self._learn(access)
            authorization = self.auth.authorization(access)
            answer = send(authorization)
            if answer.status == 401 and not answer.redirected:
                renewed = self.auth.challenged(access, answer, authorization)
                if renewed is not None:
                    answer = send(renewed)
            return answer

    def _learn(self, access: Access) -> None:
        answer = self.exchange(access.what, "GET", f"{access.repository.origin}/v2/", None)
        if answer.status == 401:
            self.auth.learn(access, answer)
        elif answer.status == 200:
            self.auth.note_open(access.repository)


def upload_address(what: str, repository: Repository, answer: Answer) -> str:
    """Return where the registry wants an upload to be sent. Raises CatalogError if credentials must not go there."""
    location = answer.headers.get("Location", "")
    if not location or len(location) > ADDRESS_LIMIT or not location.isprintable() or " " in location:
        raise unreadable(what, "the registry does not say where to upload to")
    try:
        parts = urlsplit(urljoin(f"{repository.url}/blobs/uploads/", location))
    except ValueError:
        raise unreadable(what, "the registry does not say where to upload to") from None
    # A registry behind a proxy may not know that it is reached through TLS, but it is asked through TLS all the same.
    if _host_of(parts.netloc) != _host_of(urlsplit(repository.origin).netloc) or not parts.path.startswith("/"):
        raise unreadable(what, f"the registry wants uploads to be sent elsewhere, to {place_of(location)}")
    return f"{repository.origin}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def next_page(what: str, url: str, answer: Answer) -> str | None:
    """Return the address of the page of a list that follows the one at ``url``; None if there is none.

    Raises CatalogError if it is not a page of the same list: no other address is called with credentials.
    """
    header = answer.headers.get("Link")
    if not header:
        return None
    links = ((link["url"], link["rel"].lower().split()) for link in _LINK.finditer(header[:ADDRESS_LIMIT]))
    following = next((url for url, relations in links if "next" in relations), None)
    if following is None and len(header) <= ADDRESS_LIMIT and "next" not in _IN_BRACKETS.sub("", header).lower():
        return None
    try:
        parts, here = urlsplit(urljoin(url, following or "")), urlsplit(url)
    except ValueError:
        parts = here = urlsplit("")
    # A page that is not understood must not pass for the last one: what it lists would be taken for missing.
    if not following or not following.isprintable() or " " in following or not parts.query or parts.path != here.path:
        raise unreadable(what, "the address of the next page is not usable")
    return f"{here.scheme}://{here.netloc}{here.path}?{parts.query}"


def _with_login(headers: Mapping[str, str], authorization: SecretStr | None) -> dict[str, str]:
    if authorization is None:
        return dict(headers)
    return {**headers, "Authorization": authorization.get_secret_value()}


def _host_of(netloc: str) -> str:
    return netloc.rpartition("@")[2].lower().removesuffix(":443").removesuffix(":80")
