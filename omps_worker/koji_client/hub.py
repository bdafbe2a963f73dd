# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to Koji's hub over XML-RPC, with limits, and the meaning of their failures.

Importing this module imports koji, which takes about 0.2 s: import it only where it is needed.
"""

from __future__ import annotations

import http.client
import sys
import threading
from pathlib import Path
from typing import Any

import koji  # type: ignore[import-untyped]
import requests
import urllib3.exceptions

from omps_worker.common.errors import KojiError
from omps_worker.common.http_client.client import (
    PROXY_WANTS_CREDENTIALS,
    REDIRECTS,
    HttpFault,
    address_of,
    body_of,
    deadline,
    fault_of,
    new_session,
    not_followed,
    printable,
    redirect_target,
    refused_by_proxy,
    seconds_of,
)
from omps_worker.common.http_client.session import Deadline
from omps_worker.common.observer import NO_OBSERVER, Observer, status_label
from omps_worker.common.tracebacks import drop_tracebacks, empty_frames

ANSWER_BYTES = 16 * 1024 * 1024
"""The largest answer of the hub, in bytes; the description of a build has about 8 KB."""

TEXT_LIMIT = 300
"""The number of characters of the hub's own text that an error quotes."""

_HUB_URL_HINT = "is hub_url right? It usually ends in /kojihub."
_TRACEBACK = "Traceback (most recent call last)"

FAULT, UNREADABLE = "fault", "unreadable"
"""Results of calls in addition to HTTP statuses and HttpFaults: an XML-RPC fault, or an answer that is not XML-RPC."""

_OPTIONS = {"anon_retry": False, "offline_retry": False, "max_retries": 0, "retry_interval": 1}
"""Without these options, koji's client makes 31 attempts, retries forever while the hub is offline, and waits up to 12
hours."""

_NETWORK = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class HubRefusal(Exception):
    """The hub understood the call and refused it; the text is the hub's.

    ``lacking`` is True if the hub does not have the call, or the call does not have the argument.
    """

    def __init__(self, text: str, *, lacking: bool = False) -> None:
        super().__init__(text)
        self.lacking = lacking


class Hub:
    """A client for one hub. Threads may share it; each thread has its own session, which is reused.

    ``timeout`` is the deadline for a whole call, in seconds. ``observer`` is notified of each call.
    """

    def __init__(
        self, url: str, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = NO_OBSERVER
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._ca_bundle = ca_bundle
        self._observer = observer
        self._thread = threading.local()

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the hub and return its answer, which may have any type and content.

        Raises HubRefusal if the hub refuses the call, and KojiError if there is no answer: trying again may help.
        """
        with self._observer.call("koji") as call, deadline(self._timeout) as clock:
            session = self._session()
            session.clock = clock
            try:
                answer = session.callMethod(method, *arguments, **options)
                call.result = "200"
                return answer
            except koji.ServerOffline as error:
                call.result = FAULT
                # A subclass of GenericError, which the hub sends if it is offline or locked, or its database is away.
                text = _excerpt(_fault_text(error))
                drop_tracebacks(error)
                raise KojiError(f"Koji's hub is offline: {text}") from None
            except (koji.GenericError, koji.Fault) as error:
                call.result = FAULT
                text = _fault_text(error)
                lacking = _lacks(error, text)
                drop_tracebacks(error)
                if isinstance(error, koji.ParameterError) or type(error) is koji.GenericError:
                    raise HubRefusal(_excerpt(text), lacking=lacking) from None
                # Fault 1 is an exception that the hub did not handle, such as a database restart or a statement that
                # took too long. The next call may succeed.
                raise KojiError(f"Koji's hub could not answer {method}: {_excerpt(text)}") from None
            except requests.exceptions.HTTPError as error:
                call.result = status_label(error.response.status_code)
                raise self._for_status(error) from None
            except HttpFault as fault:
                call.result = fault.kind
                raise KojiError(f"Koji's hub: {fault}") from None
            except Exception as error:
                # The hub's bytes go through koji's parser, which may raise any exception.
                if clock.expired or isinstance(error, _NETWORK):
                    found = fault_of(error, clock, self._url)
                    call.result = found.kind
                    raise KojiError(f"Koji's hub: {found}") from None
                call.result = UNREADABLE
                cause = type(error).__name__
                raise _misplaced(
                    KojiError(
                        f"The answer of Koji's hub at {address_of(self._url)} is not XML-RPC ({cause}); {_HUB_URL_HINT}"
                    )
                ) from None

    def _session(self) -> _HubSession:
        session: _HubSession | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = _HubSession(self._url, self._ca_bundle)
        return session

    def _for_status(self, error: requests.exceptions.HTTPError) -> Exception:
        response = error.response
        if response.status_code == 400:
            # The hub's WSGI layer answers so if an argument contains a control character.
            return HubRefusal("bad request")
        if response.status_code == PROXY_WANTS_CREDENTIALS:
            return KojiError(f"Koji's hub: {refused_by_proxy(self._url, response.status_code)}")
        message = f"Koji's hub at {address_of(self._url)} answered with status {response.status_code}"
        retry_after = seconds_of(response.headers.get("Retry-After"))
        if response.status_code in (404, 405):
            return _misplaced(KojiError(f"{message}; {_HUB_URL_HINT}", retry_after=retry_after))
        return KojiError(f"{message}.", retry_after=retry_after)


def _misplaced(error: KojiError) -> KojiError:
    error.misplaced = True
    return error


def _lacks(error: Exception, text: str) -> bool:
    """Return whether the hub says that it does not have the call, or that the call does not have the argument.

    All hubs since 2012 say it in this way (kojihub/kojixmlrpc.py, HandlerRegistry.get; koji/util.py,
    call_with_argcheck). ``text`` may be a whole traceback if the site has set KojiDebug.
    """
    return isinstance(error, koji.ParameterError) or "Invalid method: " in text


def _fault_text(error: Exception) -> str:
    """Return the hub's text for a fault. The hub should send text, but the value may have any type and depth."""
    reason = getattr(error, "faultString", None) or next(iter(error.args), "")
    return reason if isinstance(reason, str) else "the reason that it gives is not text"


def _excerpt(text: str) -> str:
    """Return the part of the hub's text to quote in errors: the last line of a traceback, as sent with KojiDebug."""
    if _TRACEBACK in text:
        text = text.rstrip().rpartition("\n")[2]
    return printable(text, TEXT_LIMIT)


class _HubSession(koji.ClientSession):  # type: ignore[misc]
    """koji's client with this package's HTTP session; it reads at most ``ANSWER_BYTES``."""

    rsession: requests.Session | None

    def __init__(self, url: str, ca_bundle: Path | None) -> None:
        # Set before koji's own initialisation, which opens the session and turns unknown attributes into calls.
        self.ca_bundle = ca_bundle
        self.clock = Deadline(0)
        super().__init__(url, opts=_OPTIONS)

    def new_session(self) -> None:
        """Replace the requests session; koji calls this after each failure."""
        if (error := sys.exc_info()[1]) is not None:
            empty_frames(error)
        if self.rsession:
            self.rsession.close()
        self.rsession = new_session(self.ca_bundle)

    def _read_xmlrpc_response(self, response: requests.Response) -> Any:
        if response.status_code != 200:
            location = response.headers.get("Location")
            message = f"{address_of(self.baseurl)} answered with status {response.status_code}; check hub_url."
            if location is not None and response.status_code in REDIRECTS:
                message = f"{not_followed(self.baseurl, redirect_target(self.baseurl, location))}; check hub_url."
            raise HttpFault("redirect", message, sent=True)
        parser, unmarshaller = koji.getparser()
        for piece in body_of(response, self.baseurl, ANSWER_BYTES, self.clock):
            parser.feed(piece)
        parser.close()
        result = unmarshaller.close()
        return result[0] if len(result) == 1 else result
