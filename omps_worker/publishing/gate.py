# SPDX-License-Identifier: GPL-3.0-or-later
"""The Greenwave client, which asks whether a build has passed its gates.

The protocol is the one that OMPS used: ``POST {url}/api/v1.0/decision`` with the decision context, the product version
and the NVR as a ``koji_build``. The answer has the key ``policies_satisfied``, and a build passes only if it is
``true``. ``GET {url}/api/v1.0/about`` returns the version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from omps_worker.common.errors import GreenwaveError, GreenwaveUnsatisfiedError
from omps_worker.common.http_client.client import Answer, HttpClient, HttpFault, printable
from omps_worker.common.observer import NO_OBSERVER, Observer

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that do not mean that the request itself was wrong."""

_FAULTS_OF_THE_QUESTION = frozenset({400, 422})
"""Statuses after which the same request would fail again. A missing permission or policy is not among them: the site
can fix it."""


class GateSettings(Protocol):
    """The settings of a gate; see ``settings.models.GreenwaveSettings``."""

    @property
    def url(self) -> str:
        """The base URL."""
        ...

    @property
    def context(self) -> str:
        """The decision context."""
        ...

    @property
    def product_version(self) -> str:
        """The product version."""
        ...


class Greenwave:
    """A client for one Greenwave server and one kind of decision. Threads may share it.

    ``timeout`` is the deadline for a whole call, in seconds. ``observer`` is notified of each call.
    """

    def __init__(
        self,
        url: str,
        context: str,
        product_version: str,
        *,
        timeout: float,
        ca_bundle: Path | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._url = url.rstrip("/")
        self._context = context
        self._product_version = product_version
        self._http = HttpClient(timeout=timeout, ca_bundle=ca_bundle, observer=observer, service="greenwave")

    @classmethod
    def of(
        cls,
        gate: GateSettings | None,
        *,
        timeout: float,
        ca_bundle: Path | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> Greenwave | None:
        """Return a client for the configured gate, or None if none is configured."""
        if gate is None:
            return None
        return cls(
            gate.url, gate.context, gate.product_version, timeout=timeout, ca_bundle=ca_bundle, observer=observer
        )

    def check(self, nvr: str) -> None:
        """Return if the build has passed the gate.

        Raises GreenwaveUnsatisfiedError if it has not: only time or a waiver can change that. Raises GreenwaveError
        if there is no decision: trying again may help.
        """
        question = {
            "decision_context": self._context,
            "product_version": self._product_version,
            "subject_identifier": nvr,
            "subject_type": "koji_build",
        }
        answer = self._ask("POST", "/api/v1.0/decision", question)
        decision = answer.json()
        details = {"greenwave_response": decision if isinstance(decision, dict) else {}}
        if answer.status != 200:
            raise GreenwaveError(
                f"Greenwave answered {answer.status} about {printable(nvr, 200)}.",
                details=details,
                transient=answer.status not in _FAULTS_OF_THE_QUESTION,
                retry_after=answer.retry_after,
            )
        if not isinstance(decision, dict) or "policies_satisfied" not in decision:
            raise GreenwaveError(
                f"Greenwave's answer about {printable(nvr, 200)} is no decision: it has no policies_satisfied.",
                details=details,
            )
        if decision["policies_satisfied"] is not True:
            summary = decision.get("summary")
            explanation = f": {printable(summary, 300)}" if isinstance(summary, str) and summary else ""
            raise GreenwaveUnsatisfiedError(
                f"Greenwave's policies are not satisfied for {printable(nvr, 200)}{explanation}", details=details
            )

    def version(self, *, timeout: float | None = None) -> str:
        """Return Greenwave's version. Raises GreenwaveError."""
        answer = self._ask("GET", "/api/v1.0/about", timeout=timeout)
        about = answer.json()
        version = about.get("version") if isinstance(about, dict) else None
        if answer.status != 200 or not isinstance(version, str):
            raise GreenwaveError(f"Greenwave answered {answer.status} without a version.")
        return printable(version, 50)

    def is_there(self) -> None:
        """Return if Greenwave answers requests, even with a refusal. Raises GreenwaveError if it does not."""
        answer = self._ask("GET", "/api/v1.0/about")
        if answer.status >= 500 or 300 <= answer.status < 400 or answer.status in _PASSING:
            raise GreenwaveError(f"Greenwave answered {answer.status}.")

    def _ask(self, method: str, path: str, question: Any = None, timeout: float | None = None) -> Answer:
        try:
            # A redirect could be followed for a GET, but not for the POST that asks for a decision.
            return self._http.request(method, self._url + path, json=question, timeout=timeout, follow=False)
        except HttpFault as fault:
            raise GreenwaveError(f"Greenwave cannot be asked: {fault}", details={"greenwave_response": {}}) from None
