# SPDX-License-Identifier: GPL-3.0-or-later
"""How to connect to the broker, how long to wait in between, and what its refusals mean."""

from __future__ import annotations

import logging
import platform
import random
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
from pika import exceptions as pika_errors
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.credentials import ExternalCredentials

from omps_worker import __version__
from omps_worker.broker import header_values
from omps_worker.errors import BrokerError, BrokerRefused, BrokerUnavailable, Fault, SettingsError
from omps_worker.text import one_line

if TYPE_CHECKING:
    from omps_worker.settings import Settings

CONNECT_SECONDS = 15.0
"""How long one try to connect may take, name look-up, TLS and login included."""

FIRST_DELAY, LONGEST_DELAY = 0.25, 30.0
"""Seconds between tries to connect: they double from the first to the longest."""

_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530
_LOGIN_REFUSED = (
    pika_errors.AuthenticationError,
    pika_errors.ProbableAuthenticationError,
)


def parameters(settings: Settings, purpose: str) -> pika.URLParameters:
    """What pika needs to connect; ``purpose`` tells the connections apart in the broker's lists."""
    try:
        found = pika.URLParameters(settings.amqp_url.get_secret_value())
    except (TypeError, ValueError):
        # The exception's text would show parts of the URL, which holds the password.
        fault = Fault(
            "configuration", "amqp_url", "must be like amqps://user:password@host:5671/virtual-host?heartbeat=60"
        )
        raise SettingsError([fault]) from None
    client_properties = {
        **settings.client_properties,
        "product": "omps-worker",
        "version": __version__,
        "platform": f"Python {platform.python_version()}",
        "connection_name": f"omps-worker {settings.queue.name} {purpose}",
    }
    if found.ssl_options is not None:
        tls = settings.tls
        context = _trusting(tls.ca_cert)
        if tls.certfile is not None and tls.keyfile is not None:
            context.load_cert_chain(tls.certfile, tls.keyfile)
            found.credentials = ExternalCredentials()
        found.ssl_options = pika.SSLOptions(context, found.host)
    return prepared(found, client_properties)


def prepared(found: pika.URLParameters, client_properties: dict[str, Any]) -> pika.URLParameters:
    """``found`` with one bounded try to connect, and header values that survive.

    pika logs each failure to connect several times, with tracebacks; who connects says it in one
    line. So pika is kept quiet, unless everything is being debugged.
    """
    header_values.install()
    chatter = logging.getLogger("pika")
    if chatter.getEffectiveLevel() > logging.DEBUG:
        chatter.setLevel(logging.CRITICAL)
    found.client_properties = client_properties
    found.connection_attempts = 1
    found.socket_timeout = CONNECT_SECONDS
    found.stack_timeout = CONNECT_SECONDS
    return found


def place(where: pika.URLParameters) -> str:
    """Where that is, for people: host, port and virtual host, no password."""
    return one_line(f"{where.host}:{where.port}, virtual host {where.virtual_host}")


def named(error: BaseException, where: pika.URLParameters) -> BrokerError:
    """A failure to connect, or the loss of a connection, as an error of ours."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, BrokerError):
            return cause
        code = cause.reply_code if isinstance(cause, pika_errors.ConnectionClosedByBroker) else None
        if isinstance(cause, _LOGIN_REFUSED) or code == _ACCESS_REFUSED:
            return BrokerRefused(
                f"The broker ({place(where)}) refuses the login. Check user and password in amqp_url, "
                "or the certificate in [tls]."
            )
        if isinstance(cause, pika_errors.ProbableAccessDeniedError) or code == _NOT_ALLOWED:
            return BrokerRefused(
                f"The broker ({place(where)}) does not let this user into the virtual host, or there is none of "
                "that name. Check the end of amqp_url, and the user's permissions."
            )
    return BrokerUnavailable(f"The broker ({place(where)}) cannot be reached: {_reason(causes)}.")


def declined(
    error: pika_errors.ChannelClosedByBroker, what: str, advice: str, rights: str | None = None
) -> BrokerRefused:
    """The broker closed a channel because of ``what``; ``advice`` says what to do about it.

    ``rights`` says it instead where the user may not.
    """
    if rights is not None and error.reply_code == _ACCESS_REFUSED:
        advice = rights
    return BrokerRefused(f"The broker refuses {what}: {one_line(str(error.reply_text))}. {advice}")


def may_write(topic: str) -> str:
    """What to do where the broker refuses a message with this topic."""
    return (
        "The exchange must exist, and the user needs to write to it, where topic permissions are set also topics like "
        f"{one_line(topic)[:255]}: compare topic_prefix with them."
    )


class Backoff:
    """How long to wait before the next try: doubling, capped, with jitter so that replicas spread."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY

    def reset(self) -> None:
        """Start over, after something worked."""
        self._delay = FIRST_DELAY

    def next(self) -> float:
        """Seconds to wait now."""
        delay, self._delay = self._delay, min(self._delay * 2, LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  no secret


def _trusting(certificates: Path | None) -> ssl.SSLContext:
    if certificates is None:
        return ssl.create_default_context()
    if certificates.is_dir():
        return ssl.create_default_context(capath=certificates)
    return ssl.create_default_context(cafile=certificates)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what pika wrapped in it, in one way or another."""
    yield error
    inner = [*error.args, getattr(error, "exception", None), *reversed(getattr(error, "exceptions", ()))]
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from _causes(cause)


def _reason(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, pika_errors.ConnectionClosed):
            return one_line(str(cause.reply_text))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({one_line(cause.verify_message)})"
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "the port does not speak TLS: is it that of amqp:// instead of amqps://?"
        if isinstance(cause, AMQPConnectorStackTimeout):
            return f"nobody spoke AMQP there within {CONNECT_SECONDS:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(cause.strerror)
    return one_line(str(causes[-1])) or type(causes[-1]).__name__
