# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry (CNR) client: query a package, push a release, make a package public.

The protocol is that of Quay with FEATURE_APP_REGISTRY and of the reference servers (PyPI cnr-server, appr). Its
pitfalls, as observed on them, and how this client deals with them:

* For reads, wrong credentials are not an error: the caller is anonymous. Only a login checks credentials.
* The listing of a namespace with credentials ends after 100 packages, so each package is queried on its own. The status
  for a missing package is 404 for callers with rights in the namespace, and 403 for all others.
* ``content.digest`` is the sha256 of the uncompressed tar, so a query shows which content is released.
* A push may be stored although its answer is lost, late or an error; see ``ambiguous``.
* changevisibility answers 200 with ``null`` for a missing package.

See ``failures`` for which failures are faults of the build and which are faults of the site.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

from omps_worker.common.errors import (
    OMPSInvalidVersionFormat,
    QuayAuthorizationError,
    QuayCourierError,
    QuayPackageError,
    QuayPackageNotFound,
    RegistryError,
)
from omps_worker.common.http_client.client import Answer, HttpClient, HttpFault, printable
from omps_worker.common.model import Release
from omps_worker.common.names import is_name
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.destinations.app_registry.answers import releases_of
from omps_worker.destinations.app_registry.failures import (
    TOO_LARGE,
    failed_push,
    failure,
    is_passing,
    too_large,
    unreachable,
)
from omps_worker.destinations.refusals import AnswerSummary, Scrubber, basic_credentials, summary_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "helm"
"""The media type of operators in app registries, for historical reasons."""

PROBE = "omps-worker-probe"
"""The name of a package that does not exist, which is queried to check an organization."""

REMEMBERED = 100
"""The number of credentials, most recently used, that are removed from what the registry says."""

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,100}")


@dataclass(frozen=True, slots=True)
class PackageListing:
    """The releases of a package, as the registry lists them.

    ``exists`` is None if the package is missing or these credentials may not see it; only a push can tell. A version is
    listed twice only if the registry has two contents for it.
    """

    exists: bool | None
    releases: tuple[Release, ...] = ()


@dataclass(frozen=True, slots=True)
class LoginVerdict:
    """The result of a login. ``accepted`` is None if the registry does not say whether the credentials are valid.

    ``detail`` explains the result. ``response`` is the registry's JSON, {} if it sent none.
    """

    accepted: bool | None
    detail: str
    response: Any = field(default_factory=dict)


class AppRegistry:
    """A client for one app registry. Any number of threads may share it.

    ``url`` is the base URL to which /cnr/api/v1/… and /api/v1/… are appended. ``timeout`` is the deadline for a whole
    call, in seconds. ``observer`` is notified of each call. Errors contain the registry's own text, but never a
    credential. Their ``details["quay_response"]`` is the registry's JSON, or {} if it sent none.
    """

    def __init__(
        self, url: str, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = NO_OBSERVER
    ) -> None:
        self.url = url.rstrip("/")
        self._client = partial(HttpClient, timeout=timeout, ca_bundle=ca_bundle, observer=observer, service="registry")
        self._http = self._client()
        self._sent: dict[SecretStr, None] = {}
        self._lock = threading.Lock()

    def version(self) -> str:
        """Return the name and version of the registry's protocol, e.g. ``cnr-api 0.2.7``. Raises QuayPackageError."""
        what = "Failed to ask the registry for its version"
        answer = self._ask(what, "GET", "/cnr/version", {}, QuayPackageError)
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict):
            for name, number in value.items():
                if name.endswith("-api") and isinstance(number, str):
                    return printable(self._scrubber().text(f"{name} {number}"), 100)
        summary = self._summary(answer)
        if answer.status == 200:
            raise failure(QuayPackageError, f"{what}: this is not an app registry", answer, summary)
        raise failure(QuayPackageError, what, answer, summary)

    def is_there(self) -> None:
        """Return if the registry answers requests, even with a refusal. Raises QuayPackageError if it does not."""
        what = "Failed to reach the registry"
        answer = self._ask(what, "GET", "/cnr/version", {}, QuayPackageError)
        if is_passing(answer.status):
            raise failure(QuayPackageError, what, answer, self._summary(answer))

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
        """Query one package and return the listing of its releases.

        Raises QuayPackageError if the registry cannot be reached, fails or gives an unusable answer, or if an image
        repository has that name. Raises QuayAuthorizationError for status 401. All these errors are transient. Only a
        name that no package can have is a permanent failure.
        """
        self._remember(authorization)
        what = f"Failed to look at {_printable_package(organization, repository)}"
        path = f"/cnr/api/v1/packages/{_path(what, organization, repository)}"
        answer = self._ask(what, "GET", path, _headers(authorization), QuayPackageError)
        value = answer.json()
        if answer.status == 200:
            releases = releases_of(value)
            if releases is not None:
                return PackageListing(True, releases)
        elif answer.status == 404 and isinstance(value, dict):
            return PackageListing(False)
        elif answer.status == 403:
            return PackageListing(None)
        summary = self._summary(answer)
        if answer.status == 401:
            raise failure(QuayAuthorizationError, what, answer, summary, transient=True)
        if answer.status == 200:
            raise failure(
                QuayPackageError, f"{what}: the answer is not a list of releases", answer, summary, transient=True
            )
        # A 404 without the registry's JSON comes from something in front of the registry.
        raise failure(QuayPackageError, what, answer, summary, transient=True)

    def has_rights(self, organization: str, authorization: SecretStr | None) -> bool:
        """Return whether the registry tells these credentials which packages of the organization are missing.

        It does so only for callers with rights in the organization; robots that may only create packages do not count.
        Raises the same errors as ``look``.
        """
        return self.look(organization, PROBE, authorization).exists is False

    def push(
        self,
        organization: str,
        repository: str,
        version: str,
        blob: bytes,
        authorization: SecretStr | None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Push ``blob``, a tar.gz, as a release. Give up after ``timeout`` seconds, by default the client's timeout.

        Raises QuayAuthorizationError, which is transient, if these credentials may not push, and QuayCourierError
        otherwise. That error is transient unless the registry refuses the release itself. Its ``conflict`` is True if
        the version exists, ``ambiguous`` if the release may have been stored anyway, and ``pending`` if it may still be
        stored later. A push is never repeated automatically.
        """
        if not _VERSION.fullmatch(version):
            # The reference server accepts "1.0.0\n" and can then no longer list the package.
            raise OMPSInvalidVersionFormat(f"{version[:100]!a} is not a valid version of a release.")
        self._remember(authorization)
        what = f"Failed to push {_printable_package(organization, repository)} {version}"
        path = f"/cnr/api/v1/packages/{_path(what, organization, repository)}"
        body = _body_of(version, blob)
        answer = self._ask(what, "POST", path, _headers(authorization), QuayCourierError, body, timeout)
        value = answer.json()
        if answer.status in (200, 201) and isinstance(value, dict) and value.get("status") == "ok":
            return
        summary = self._summary(answer)
        if answer.status in (401, 403):
            raise failure(QuayAuthorizationError, what, answer, summary, transient=True)
        if answer.status == TOO_LARGE:
            what += too_large(blob)
        raise failed_push(what, answer, summary)

    def foresee(self, organization: str, repository: str, version: str, blob: bytes) -> None:
        """Raise the QuayCourierError of a push of ``blob`` if the push would be too large. Changes nothing.

        The limit is usually that of a proxy, which knows only the path and the number of bytes. A GET with as many
        meaningless bytes therefore shows whether the proxy accepts them. Limits that cannot be found in this way are
        left to the push.
        """
        what = f"A push of {_printable_package(organization, repository)} {version} would fail"
        length = len(json.dumps(_body_of(version, blob)))
        ignored = {"ignored": "x" * (length - len(json.dumps({"ignored": ""})))}
        try:
            # Not every server reads the body of a GET or announces that it closes the connection, so the connection
            # must not be shared with a push.
            with closing(self._client()) as client:
                answer = client.request(
                    "GET", self.url + "/cnr/version", headers={"Connection": "close"}, json=ignored, follow=False
                )
        except HttpFault as fault:
            log.debug("whether the registry accepts %d bytes is not known: %s", length, fault)
            return
        if answer.status == TOO_LARGE:
            raise failed_push(what + too_large(blob), answer, self._summary(answer))

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Make a package public. Does nothing if the package is public already.

        Raises QuayPackageError, which is transient: this is safe to retry.
        """
        self._remember(oauth_token)
        what = f"Failed to make {_printable_package(organization, repository)} public"
        path = f"/api/v1/repository/{_path(what, organization, repository)}/changevisibility"
        headers = {"Authorization": f"Bearer {oauth_token.get_secret_value()}"}
        answer = self._ask(what, "POST", path, headers, QuayPackageError, {"visibility": "public"})
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict) and value.get("success") is True:
            return
        summary = self._summary(answer)
        if answer.status == 200 and answer.body.strip() == b"null":
            raise QuayPackageError(
                f"{what}: there is no such repository.", details={"quay_response": {}}, transient=True
            )
        if answer.status == 200:
            raise failure(QuayPackageError, f"{what}: the answer does not confirm it", answer, summary, transient=True)
        hints = {
            401: "the oauth_token is not accepted; has it expired?",
            402: "the registry requires a plan that includes it",
            403: "the oauth_token has expired, is wrong, or lacks the scope repo:admin there",
            404: "this registry does not support it, or there is no such repository",
        }
        hint = hints.get(answer.status)
        raise failure(QuayPackageError, f"{what}: {hint}" if hint else what, answer, summary, transient=True)

    def is_public(self, organization: str, repository: str, oauth_token: SecretStr) -> bool | None:
        """Return whether the package is public; None if the registry does not say. Raises QuayPackageError."""
        self._remember(oauth_token)
        what = f"Failed to find out who may see {_printable_package(organization, repository)}"
        path = f"/api/v1/repository/{_path(what, organization, repository)}"
        headers = {"Authorization": f"Bearer {oauth_token.get_secret_value()}"}
        value = self._ask(what, "GET", path, headers, QuayPackageError).json()
        public = value.get("is_public") if isinstance(value, dict) else None
        return public if isinstance(public, bool) else None

    def delete(self, organization: str, repository: str, version: str, authorization: SecretStr | None) -> None:
        """Delete one release, whatever the format of its version. The package stays, even without releases.

        Raises QuayPackageNotFound if there is no such release, QuayAuthorizationError if these credentials may not
        delete it, and QuayPackageError otherwise.
        """
        self._remember(authorization)
        what = f"Failed to delete {_printable_package(organization, repository)} {printable(version, 100)}"
        release = f"{_path(what, organization, repository)}/{_segment(what, version)}/{MEDIA_TYPE}"
        answer = self._ask(what, "DELETE", f"/cnr/api/v1/packages/{release}", _headers(authorization), QuayPackageError)
        value = answer.json()
        if answer.status in (200, 204) and (isinstance(value, dict) or not answer.body):
            return
        summary = self._summary(answer)
        if answer.status in (401, 403):
            raise failure(QuayAuthorizationError, what, answer, summary, transient=True)
        if answer.status == 404 and isinstance(value, dict):
            raise failure(QuayPackageNotFound, what, answer, summary)
        raise failure(QuayPackageError, what, answer, summary)

    def check_credentials(self, authorization: SecretStr) -> LoginVerdict:
        """Log in with the user name and password in an Authorization value, and return whether they are accepted.

        A read cannot find that out: with wrong credentials the caller is anonymous. Raises QuayPackageError if the
        registry cannot be reached or fails.
        """
        self._remember(authorization)
        credentials = basic_credentials(authorization)
        if credentials is None:
            return LoginVerdict(False, "it is not of the form “basic <base64 of user:password>”")
        what = "Failed to log in to the registry"
        body = {"user": {"username": credentials[0], "password": credentials[1]}}
        answer = self._ask(what, "POST", "/cnr/api/v1/users/login", {}, QuayPackageError, body)
        summary = self._summary(answer)
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict) and isinstance(value.get("token"), str):
            return LoginVerdict(True, f"logged in as {printable(credentials[0], 100)}")
        if answer.status == 401:
            return LoginVerdict(False, summary.text, summary.response)
        if answer.status == 429:
            return LoginVerdict(None, "the registry accepts no more logins for now (429)")
        if answer.status >= 500:
            raise failure(QuayPackageError, what, answer, summary)
        if answer.status == 404:
            return LoginVerdict(None, "this registry has no login: it cannot check credentials, or does not use them")
        return LoginVerdict(None, f"the registry answered {answer.status}: {summary.text}")

    def _remember(self, credential: SecretStr | None) -> None:
        """Remember a credential that is sent to the registry, which may repeat it in the answer to another call."""
        if credential is not None:
            with self._lock:
                self._sent.pop(credential, None)
                self._sent[credential] = None
                if len(self._sent) > REMEMBERED:
                    del self._sent[next(iter(self._sent))]

    def _summary(self, answer: Answer) -> AnswerSummary:
        """Return a summary of an answer, without any credential that was sent to the registry recently."""
        return summary_of(answer, self._scrubber())

    def _scrubber(self) -> Scrubber:
        with self._lock:
            return Scrubber(*self._sent)

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        headers: dict[str, str],
        error_type: type[RegistryError],
        body: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        try:
            # A redirect could be followed for a query but not for a push, so the query would show another registry.
            url = self.url + path
            return self._http.request(method, url, headers=headers, json=body, timeout=timeout, follow=False)
        except HttpFault as fault:
            raise unreachable(error_type, what, fault, self._scrubber()) from None


def _body_of(version: str, blob: bytes) -> dict[str, str]:
    return {"blob": base64.b64encode(blob).decode(), "release": version, "media_type": MEDIA_TYPE}


def _headers(authorization: SecretStr | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization.get_secret_value()}


def _printable_package(organization: str, repository: str) -> str:
    return printable(f"{organization}/{repository}", 300)


def _path(what: str, organization: str, repository: str) -> str:
    for name in (organization, repository):
        if not is_name(name):
            raise QuayPackageError(f"{what}: {name[:100]!a} is not a valid name of an organization or a repository.")
    return f"{quote(organization, safe='')}/{quote(repository, safe='')}"


def _segment(what: str, version: str) -> str:
    # Quoting does not change dots, so such a version would lead to another path.
    if version in {"", ".", ".."} or len(version) > 255 or not version.isprintable():
        raise QuayPackageNotFound(f"{what}: {version[:100]!a} is not a valid version of a release.")
    return quote(version, safe="")
