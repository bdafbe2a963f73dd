# SPDX-License-Identifier: GPL-3.0-or-later
"""Koji's hub over XML-RPC: bounded calls, and what the many ways to fail mean.

Importing this module imports koji, which takes about 0.2 s: import it where it is needed.
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
from omps_worker.common.observer import SILENT, Observer, status_label
from omps_worker.common.tracebacks import empty_frames, let_go

ANSWER_BYTES = 16 * 1024 * 1024
"""How large an answer of the hub may be; a build is described in about 8 KB."""

TEXT_LIMIT = 300
"""How many characters of the hub's own words an error quotes."""

_USUAL = "is hub_url right? It usually ends in /kojihub."
_TRACEBACK = "Traceback (most recent call last)"

FAULT, UNREADABLE = "fault", "unreadable"
"""How a call may end beside with a status or an HttpFault: a fault of XML-RPC, or no XML-RPC at all."""

_OPTIONS = {"anon_retry": False, "offline_retry": False, "max_retries": 0, "retry_interval": 1}
"""Without these, koji's client tries 31 times, for ever when the hub is offline, and waits 12 hours."""

_NETWORK = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class HubRefusal(Exception):
    """The hub understood the call and refuses what it was asked; the text is the hub's.

    ``lacking``: because it has no such call, or the call no such argument.
    """

    def __init__(self, text: str, *, lacking: bool = False) -> None:
        super().__init__(text)
        self.lacking = lacking


class Hub:
    """Calls to one hub. One kept session per thread; may be shared by threads.

    ``timeout`` is the deadline in seconds of a whole call. ``observer`` hears of each.
    """

    def __init__(self, url: str, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = SILENT) -> None:
        self._url = url
        self._timeout = timeout
        self._ca_bundle = ca_bundle
        self._observer = observer
        self._thread = threading.local()

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """What the hub answers; it may be of any type and hold anything.

        Raises Refusal, and KojiError when there is no answer: trying again may help.
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
                # A subclass of GenericError: it comes for "offline", lock-out and a database outage.
                text = _quoted(_said(error))
                let_go(error)
                raise KojiError(f"Koji's hub is offline: {text}") from None
            except (koji.GenericError, koji.Fault) as error:
                call.result = FAULT
                text = _said(error)
                lacking = _lacks(error, text)
                let_go(error)
                if isinstance(error, koji.ParameterError) or type(error) is koji.GenericError:
                    raise HubRefusal(_quoted(text), lacking=lacking) from None
                # Fault 1 is an exception that the hub did not handle: a database that is restarted, a statement
                # that took too long. What it will answer the next time is not known.
                raise KojiError(f"Koji's hub could not answer {method}: {_quoted(text)}") from None
            except requests.exceptions.HTTPError as error:
                call.result = status_label(error.response.status_code)
                raise self._for_status(error) from None
            except HttpFault as fault:
                call.result = fault.kind
                raise KojiError(f"Koji's hub: {fault}") from None
            except Exception as error:
                # The peer's bytes drive koji's parser: it raises what it likes.
                if clock.expired or isinstance(error, _NETWORK):
                    found = fault_of(error, clock, self._url)
                    call.result = found.kind
                    raise KojiError(f"Koji's hub: {found}") from None
                call.result = UNREADABLE
                what = f"something that is no XML-RPC ({type(error).__name__})"
                raise _misplaced(
                    KojiError(f"Koji's hub at {address_of(self._url)} answered with {what}; {_USUAL}")
                ) from None

    def _session(self) -> _HubSession:
        session: _HubSession | None = getattr(self._thread, "session", None)
        if session is None:
            session = self._thread.session = _HubSession(self._url, self._ca_bundle)
        return session

    def _for_status(self, error: requests.exceptions.HTTPError) -> Exception:
        response = error.response
        if response.status_code == 400:
            # What the hub's WSGI layer says about a control character in an argument.
            return HubRefusal("bad request")
        if response.status_code == PROXY_WANTS_CREDENTIALS:
            return KojiError(f"Koji's hub: {refused_by_proxy(self._url, response.status_code)}")
        message = f"Koji's hub at {address_of(self._url)} answered with status {response.status_code}"
        retry_after = seconds_of(response.headers.get("Retry-After"))
        if response.status_code in (404, 405):
            return _misplaced(KojiError(f"{message}; {_USUAL}", retry_after=retry_after))
        return KojiError(f"{message}.", retry_after=retry_after)


def _misplaced(error: KojiError) -> KojiError:
    error.misplaced = True
    return error


def _lacks(error: Exception, said: str) -> bool:
    """Whether this is how a hub says that it has no such call, or the call no such argument.

    Every hub since 2012 does it like that (kojihub/kojixmlrpc.py, HandlerRegistry.get; koji/util.py,
    call_with_argcheck). What it says may be a whole traceback, where the site has set KojiDebug.
    """
    return isinstance(error, koji.ParameterError) or "Invalid method: " in said


def _said(error: Exception) -> str:
    """What the hub gives as the reason of a fault: it should be text, and may be of any type and depth."""
    reason = getattr(error, "faultString", None) or next(iter(error.args), "")
    return reason if isinstance(reason, str) else "it gives no reason that is text"


def _quoted(text: str) -> str:
    """What an error quotes of the hub's words: of a traceback, which sites with KojiDebug send, the last line."""
    if _TRACEBACK in text:
        text = text.rstrip().rpartition("\n")[2]
    return printable(text, TEXT_LIMIT)


class _HubSession(koji.ClientSession):  # type: ignore[misc]
    """koji's client on a session of ours, reading no more than ``ANSWER_BYTES``."""

    rsession: requests.Session | None

    def __init__(self, url: str, ca_bundle: Path | None) -> None:
        # Before koji's own: it opens the session, and turns unknown attributes into calls.
        self.ca_bundle = ca_bundle
        self.clock = Deadline(0)
        super().__init__(url, opts=_OPTIONS)

    def new_session(self) -> None:
        """Replace the requests session; koji does so after each failure."""
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
