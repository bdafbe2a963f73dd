# SPDX-License-Identifier: GPL-3.0-or-later
"""The app registry (CNR) client: look at a package, push a release, make a package public.

The protocol is that of Quay with FEATURE_APP_REGISTRY and of the reference servers (PyPI
cnr-server, appr). Its traps, as observed on them, and what is made of them here:

* Wrong credentials are no error for reads: the caller is anonymous. Only a login tells.
* A namespace listing with credentials ends after 100 packages, so packages are looked at one by
  one. A package that is missing is 404 only for those with rights on the namespace, else 403.
* ``content.digest`` is the sha256 of the uncompressed tar: a look tells what is released.
* A push may be stored although its answer is lost, late or an error: ``ambiguous``.
* changevisibility answers 200 with ``null`` for a package that is missing.

Whose fault is it? See ``registry_failures``.
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
from omps_worker.common.observer import SILENT, Observer
from omps_worker.destinations.app_registry.answers import (
    AnswerSummary,
    Scrubber,
    basic_credentials,
    releases_of,
    summary_of,
)
from omps_worker.destinations.app_registry.failures import (
    TOO_LARGE,
    failed_push,
    failure,
    is_passing,
    too_large,
    unreachable,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "helm"
"""The media type under which operators travel, for whatever historical reason."""

PROBE = "omps-worker-probe"
"""The name of a package that nobody has, at which organizations are looked."""

REMEMBERED = 100
"""How many credentials are looked for in what the registry says: those that came last."""

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,100}")


@dataclass(frozen=True, slots=True)
class PackageListing:
    """What a look shows.

    ``exists`` None: the registry says only that the package is missing, or not ours to see; a
    push will tell. One version is listed twice only if the registry holds two contents of it.
    """

    exists: bool | None
    releases: tuple[Release, ...] = ()


@dataclass(frozen=True, slots=True)
class LoginVerdict:
    """Whether the registry knows a credential; ``accepted`` None: it does not tell. See ``detail``.

    ``response`` is the registry's JSON, {} if it sent none.
    """

    accepted: bool | None
    detail: str
    response: Any = field(default_factory=dict)


class AppRegistry:
    """One app registry; safe for any number of threads.

    ``url`` is the base to which /cnr/api/v1/… and /api/v1/… are appended, ``timeout`` the
    seconds that one call may take as a whole, ``observer`` who hears of each. Errors hold the
    registry's own words, never a credential, and in ``details["quay_response"]`` its JSON, or {}
    if it sent none.
    """

    def __init__(self, url: str, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = SILENT) -> None:
        self.url = url.rstrip("/")
        self._client = partial(HttpClient, timeout=timeout, ca_bundle=ca_bundle, observer=observer, service="registry")
        self._http = self._client()
        self._sent: dict[SecretStr, None] = {}
        self._lock = threading.Lock()

    def version(self) -> str:
        """Name and version of the protocol it speaks, e.g. ``cnr-api 0.2.7``; raises QuayPackageError."""
        what = "Failed to ask the registry for its version"
        answer = self._ask(what, "GET", "/cnr/version", {}, QuayPackageError)
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict):
            for name, number in value.items():
                if name.endswith("-api") and isinstance(number, str):
                    return printable(self._scrubber().text(f"{name} {number}"), 100)
        told = self._said(answer)
        if answer.status == 200:
            raise failure(QuayPackageError, f"{what}: this is no app registry", answer, told)
        raise failure(QuayPackageError, what, answer, told)

    def is_there(self) -> None:
        """Return if it answers requests, whatever it says to this one; raises QuayPackageError."""
        what = "Failed to reach the registry"
        answer = self._ask(what, "GET", "/cnr/version", {}, QuayPackageError)
        if is_passing(answer.status):
            raise failure(QuayPackageError, what, answer, self._said(answer))

    def look(self, organization: str, repository: str, authorization: SecretStr | None) -> PackageListing:
        """The releases of one package.

        Raises QuayPackageError if the registry cannot be reached, is in trouble or answers what is no
        answer, or if an image repository has that name, and QuayAuthorizationError where it answers
        401: all transient. Permanent is only that the name can be none of a package.
        """
        self._remember(authorization)
        what = f"Failed to look at {_shown(organization, repository)}"
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
        told = self._said(answer)
        if answer.status == 401:
            raise failure(QuayAuthorizationError, what, answer, told, transient=True)
        if answer.status == 200:
            raise failure(QuayPackageError, f"{what}: that is no list of releases", answer, told, transient=True)
        # A 404 without the registry's JSON comes from something in front of it.
        raise failure(QuayPackageError, what, answer, told, transient=True)

    def has_rights(self, organization: str, authorization: SecretStr | None) -> bool:
        """Whether the registry tells these credentials which packages of the organization are missing.

        Only who has rights there is told so; robots that may do no more than create packages are not. Raises the same
        as ``look``.
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
        """Store ``blob``, a tar.gz, as a release; give up after ``timeout`` seconds, if given.

        Raises QuayAuthorizationError, transient, if these credentials may not, and QuayCourierError
        otherwise: transient unless the registry refuses the release for what it is; with ``conflict`` if
        it has that version; with ``ambiguous`` if the release may have been stored all the same, and
        with ``pending`` if that may happen yet. A push is never sent twice by itself.
        """
        if not _VERSION.fullmatch(version):
            # The reference server takes "1.0.0\n" and can then no longer list the package.
            raise OMPSInvalidVersionFormat(f"{version[:100]!a} is no version of a release.")
        self._remember(authorization)
        what = f"Failed to push {_shown(organization, repository)} {version}"
        path = f"/cnr/api/v1/packages/{_path(what, organization, repository)}"
        body = _body_of(version, blob)
        answer = self._ask(what, "POST", path, _headers(authorization), QuayCourierError, body, timeout)
        value = answer.json()
        if answer.status in (200, 201) and isinstance(value, dict) and value.get("status") == "ok":
            return
        told = self._said(answer)
        if answer.status in (401, 403):
            raise failure(QuayAuthorizationError, what, answer, told, transient=True)
        if answer.status == TOO_LARGE:
            what += too_large(blob)
        raise failed_push(what, answer, told)

    def foresee(self, organization: str, repository: str, version: str, blob: bytes) -> None:
        """Return unless a push of ``blob`` is known to be too large; changes nothing.

        Raises the QuayCourierError with which it would end. The limit is most of the time that of a proxy, which
        knows only the path and the number of bytes: so as many bytes, which mean nothing, go along with a GET. What
        cannot be found out that way is left to the push.
        """
        what = f"A push of {_shown(organization, repository)} {version} would fail"
        length = len(json.dumps(_body_of(version, blob)))
        ignored = {"ignored": "x" * (length - len(json.dumps({"ignored": ""})))}
        try:
            # Not every server reads the body of a GET, or says that it closes a connection: none is shared with a push.
            with closing(self._client()) as client:
                answer = client.request(
                    "GET", self.url + "/cnr/version", headers={"Connection": "close"}, json=ignored, follow=False
                )
        except HttpFault as fault:
            log.debug("whether %d bytes are too many is not known: %s", length, fault)
            return
        if answer.status == TOO_LARGE:
            raise failed_push(what + too_large(blob), answer, self._said(answer))

    def publish(self, organization: str, repository: str, oauth_token: SecretStr) -> None:
        """Let everybody see a package; does nothing to one that is public already.

        Raises QuayPackageError, which is transient: trying again repeats nothing.
        """
        self._remember(oauth_token)
        what = f"Failed to make {_shown(organization, repository)} public"
        path = f"/api/v1/repository/{_path(what, organization, repository)}/changevisibility"
        headers = {"Authorization": f"Bearer {oauth_token.get_secret_value()}"}
        answer = self._ask(what, "POST", path, headers, QuayPackageError, {"visibility": "public"})
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict) and value.get("success") is True:
            return
        told = self._said(answer)
        if answer.status == 200 and answer.body.strip() == b"null":
            raise QuayPackageError(
                f"{what}: there is no such repository.", details={"quay_response": {}}, transient=True
            )
        if answer.status == 200:
            raise failure(QuayPackageError, f"{what}: it is not known to be", answer, told, transient=True)
        hints = {
            401: "the oauth_token is not accepted; has it expired?",
            402: "the registry wants a plan that covers it",
            403: "the oauth_token has expired, is wrong, or lacks the scope repo:admin there",
            404: "this registry cannot do that, or knows no such repository",
        }
        hint = hints.get(answer.status)
        raise failure(QuayPackageError, f"{what}: {hint}" if hint else what, answer, told, transient=True)

    def is_public(self, organization: str, repository: str, oauth_token: SecretStr) -> bool | None:
        """Whether everybody may see the package; None if the registry does not tell. Raises QuayPackageError."""
        self._remember(oauth_token)
        what = f"Failed to ask who may see {_shown(organization, repository)}"
        path = f"/api/v1/repository/{_path(what, organization, repository)}"
        headers = {"Authorization": f"Bearer {oauth_token.get_secret_value()}"}
        value = self._ask(what, "GET", path, headers, QuayPackageError).json()
        public = value.get("is_public") if isinstance(value, dict) else None
        return public if isinstance(public, bool) else None

    def delete(self, organization: str, repository: str, version: str, authorization: SecretStr | None) -> None:
        """Delete one release, whatever form its version has; the package stays, also without any.

        Raises QuayPackageNotFound if there is no such release, QuayAuthorizationError if these
        credentials may not, and QuayPackageError otherwise.
        """
        self._remember(authorization)
        what = f"Failed to delete {_shown(organization, repository)} {printable(version, 100)}"
        release = f"{_path(what, organization, repository)}/{_segment(what, version)}/{MEDIA_TYPE}"
        answer = self._ask(what, "DELETE", f"/cnr/api/v1/packages/{release}", _headers(authorization), QuayPackageError)
        value = answer.json()
        if answer.status in (200, 204) and (isinstance(value, dict) or not answer.body):
            return
        told = self._said(answer)
        if answer.status in (401, 403):
            raise failure(QuayAuthorizationError, what, answer, told, transient=True)
        if answer.status == 404 and isinstance(value, dict):
            raise failure(QuayPackageNotFound, what, answer, told)
        raise failure(QuayPackageError, what, answer, told)

    def check_credentials(self, authorization: SecretStr) -> LoginVerdict:
        """Whether the registry would know who sends this Authorization value.

        A read cannot tell: with wrong credentials the caller is merely anonymous. So this logs in
        with the user name and password inside. Raises QuayPackageError if the registry cannot be
        reached or is in trouble.
        """
        self._remember(authorization)
        credentials = basic_credentials(authorization)
        if credentials is None:
            return LoginVerdict(False, "it is not of the form “basic <base64 of user:password>”")
        what = "Failed to log in to the registry"
        body = {"user": {"username": credentials[0], "password": credentials[1]}}
        answer = self._ask(what, "POST", "/cnr/api/v1/users/login", {}, QuayPackageError, body)
        told = self._said(answer)
        value = answer.json()
        if answer.status == 200 and isinstance(value, dict) and isinstance(value.get("token"), str):
            return LoginVerdict(True, f"logged in as {printable(credentials[0], 100)}")
        if answer.status == 401:
            return LoginVerdict(False, told.text, told.response)
        if answer.status == 429:
            return LoginVerdict(None, "the registry takes no more logins for now (429)")
        if answer.status >= 500:
            raise failure(QuayPackageError, what, answer, told)
        if answer.status == 404:
            return LoginVerdict(None, "this registry has no login: it cannot tell, or asks nobody who they are")
        return LoginVerdict(None, f"the registry answered {answer.status}: {told.text}")

    def _remember(self, credential: SecretStr | None) -> None:
        """Note what is sent to the registry: it may repeat it in the answer to another call."""
        if credential is not None:
            with self._lock:
                self._sent.pop(credential, None)
                self._sent[credential] = None
                if len(self._sent) > REMEMBERED:
                    del self._sent[next(iter(self._sent))]

    def _said(self, answer: Answer) -> AnswerSummary:
        """What an answer says, without any credential that the registry was sent lately."""
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
        failure: type[RegistryError],
        body: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        try:
            # Where a look is led elsewhere, a push would not be: what it shows is not what will be.
            url = self.url + path
            return self._http.request(method, url, headers=headers, json=body, timeout=timeout, follow=False)
        except HttpFault as fault:
            raise unreachable(failure, what, fault, self._scrubber()) from None


def _body_of(version: str, blob: bytes) -> dict[str, str]:
    return {"blob": base64.b64encode(blob).decode(), "release": version, "media_type": MEDIA_TYPE}


def _headers(authorization: SecretStr | None) -> dict[str, str]:
    return {} if authorization is None else {"Authorization": authorization.get_secret_value()}


def _shown(organization: str, repository: str) -> str:
    return printable(f"{organization}/{repository}", 300)


def _path(what: str, organization: str, repository: str) -> str:
    for name in (organization, repository):
        if not is_name(name):
            raise QuayPackageError(f"{what}: {name[:100]!a} is no name of an organization or a repository.")
    return f"{quote(organization, safe='')}/{quote(repository, safe='')}"


def _segment(what: str, version: str) -> str:
    # Quoted, a dot is still a dot: such a version would lead elsewhere.
    if version in {"", ".", ".."} or len(version) > 255 or not version.isprintable():
        raise QuayPackageNotFound(f"{what}: {version[:100]!a} is no version of a release.")
    return quote(version, safe="")
