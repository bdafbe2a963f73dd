# SPDX-License-Identifier: GPL-3.0-or-later
"""The meaning of failures: the broker cannot be reached, closes a connection, or refuses a request."""

from __future__ import annotations

import ast
import re
import ssl
from collections.abc import Iterator

import pika
from pika import exceptions as pika_errors
from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.credentials import ExternalCredentials

from omps_worker.broker.connection.parameters import CONNECT_SECONDS, place
from omps_worker.common.errors import BrokerError, BrokerRefused, BrokerUnavailable
from omps_worker.common.text import one_line

_ACCESS_REFUSED, _NOT_ALLOWED = 403, 530

# RabbitMQ's texts, from 3.10 to 4. They differ between versions only in some brackets.
_NO_VIRTUAL_HOST = re.compile(
    r"NOT_ALLOWED - (vhost .* not found|access to vhost '.*' refused for user '[^']*')", re.DOTALL
)
_NEGOTIATED = re.compile("NOT_ALLOWED - negotiated ")
_LIMIT = re.compile(r"limit (?:in .* )?(?:of )?\(?\d+\)?(?: is reached)?$", re.DOTALL)
_BACKEND = re.compile("backend .* returned an error", re.DOTALL)
_PASSING = re.compile(
    "(?:due to timeout|stopped by supervisor|down or inaccessible|has crashed and failed to restart)$"
)
_ARGUMENT = re.compile(r"invalid (?:property|arg(?:ument)?) '(?P<key>[^']{1,80})'")
_RAISE_LIMIT = "Raise this limit on the broker, or free some of what it counts; the program tries again until then."

_BEFORE_OPEN = (
    pika_errors.ProbableAuthenticationError,
    pika_errors.ProbableAccessDeniedError,
    pika_errors.IncompatibleProtocolError,
)
"""pika's errors for a connection that ended before it was open.

Their types are guesses. Their text contains the actual reason.
"""

_CLOSED = re.compile(r"ConnectionClosedByBroker: \((?P<code>\d+)\) (?P<text>.*)", re.DOTALL)
_ALERT = re.compile(r"\[SSL: (?P<name>[A-Z0-9_]*ALERT[A-Z0-9_]*)\]")


def as_broker_error(error: BaseException, node: pika.URLParameters) -> BrokerError:
    """Return the BrokerError for a failure to connect or for a lost connection.

    It is BrokerRefused only if the broker itself named a cause that an operator has to fix in the configuration or on
    the broker: a login, a virtual host. Everything else is BrokerUnavailable, because it passes without a change of the
    configuration: a connection lost at any point, a node that restarts, a limit that is reached.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, BrokerError):
            return cause
    reply = next(filter(None, map(_broker_reply, causes)), None)
    if reply is not None:
        return _error_of_reply(*reply, node)
    for cause in causes:
        if isinstance(cause, pika_errors.AuthenticationError):
            return BrokerRefused(
                f"The broker ({place(node)}) does not offer a login {_login_method(node)}. Compare amqp_url and [tls] "
                "with the authentication mechanisms that the broker is configured for."
            )
    return BrokerUnavailable(f"The broker ({place(node)}) cannot be reached: {_reason(causes, node)}.")


def _error_of_reply(code: int, text: str, node: pika.URLParameters) -> BrokerError:
    """Return the error for a connection that the broker closed, or did not let us open, with this code and text."""
    sentence = one_line(text)
    if code == _ACCESS_REFUSED:
        return BrokerRefused(
            f"The broker ({place(node)}) refuses the login {_login_method(node)}: {sentence} Check user and password "
            "in amqp_url or [consumer_config.broker], or the certificate in [tls]."
        )
    if code == _NOT_ALLOWED and _NO_VIRTUAL_HOST.fullmatch(text):
        return BrokerRefused(
            f"The broker ({place(node)}) does not have this virtual host, or does not let this user into it: "
            f"{sentence}. Check the virtual host at the end of amqp_url, and the user's permissions."
        )
    if code == _NOT_ALLOWED and _NEGOTIATED.match(text):
        return BrokerRefused(
            f"The broker ({place(node)}) rejects a connection parameter: {sentence}. Check the end of amqp_url."
        )
    advice = f" {_RAISE_LIMIT}" if code == _NOT_ALLOWED and _LIMIT.search(text) else ""
    return BrokerUnavailable(f"The broker ({place(node)}) cannot be used now: {sentence.rstrip('.')}.{advice}")


def refusal_error(
    error: pika_errors.ChannelClosedByBroker, what: str, advice: str, rights: str | None = None
) -> BrokerError:
    """Return the error for a channel that the broker closed because of ``what``.

    ``advice`` says what to do about the usual cause of this error. If the broker names another cause, that cause's own
    advice is used. ``rights`` replaces ``advice`` if the user lacks a permission. Conditions that pass, such as a queue
    whose node is down or a limit that is reached, are BrokerUnavailable; everything else is BrokerRefused.
    """
    text = str(error.reply_text)
    summary = f"The broker refuses {what}: {one_line(text).rstrip('.')}."
    if error.reply_code == _ACCESS_REFUSED:
        if _BACKEND.search(text):
            return BrokerUnavailable(summary)
        return BrokerRefused(f"{summary} {advice if rights is None else rights}")
    if _LIMIT.search(text):
        return BrokerUnavailable(f"{summary} {_RAISE_LIMIT}")
    if _PASSING.search(text):
        return BrokerUnavailable(summary)
    if (found := _ARGUMENT.search(text)) is not None:
        return BrokerRefused(
            f"{summary} This broker does not support the argument {found['key']} for this type of queue, or not with "
            "this value. If the argument is set in [queues], remove it there."
        )
    return BrokerRefused(f"{summary} {advice}")


def write_advice(topic: str) -> str:
    """Return the advice for a message with this topic that the broker refuses."""
    return (
        "The exchange must exist, and the user needs permission to write to it. If topic permissions are set, they "
        f"must allow topics like {one_line(topic)[:255]}: compare them with topic_prefix."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and every exception that pika wrapped in it."""
    yield error
    inner = [*error.args, getattr(error, "exception", None), *reversed(getattr(error, "exceptions", ()))]
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from _causes(cause)


def _broker_reply(cause: BaseException) -> tuple[int, str] | None:
    """Return the code and text with which the broker closed the connection, or None if the broker did not close it."""
    if isinstance(cause, pika_errors.ConnectionClosedByBroker):
        return cause.reply_code, str(cause.reply_text)
    if isinstance(cause, _BEFORE_OPEN) and cause.args:
        found = _CLOSED.fullmatch(str(cause.args[0]))
        if found is not None:
            try:
                return int(found["code"]), str(ast.literal_eval(found["text"]))
            except (SyntaxError, ValueError):
                return int(found["code"]), found["text"]
    return None


def _login_method(node: pika.URLParameters) -> str:
    if isinstance(node.credentials, ExternalCredentials):
        return "by certificate"
    return f"as {one_line(str(getattr(node.credentials, 'username', '')))!r}"


def _reason(causes: list[BaseException], node: pika.URLParameters) -> str:
    for cause in causes:
        if isinstance(cause, pika_errors.ConnectionClosed):
            return one_line(str(cause.reply_text))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({one_line(cause.verify_message)})"
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "the port does not speak TLS: is it the port for amqp:// instead of amqps://?"
        if isinstance(cause, AMQPConnectorStackTimeout):
            return f"there was no answer in AMQP within {node.stack_timeout or CONNECT_SECONDS:g} s"
        if isinstance(cause, _BEFORE_OPEN) and (alert := _ALERT.search(str(cause.args[0] if cause.args else ""))):
            return f"it aborted the TLS handshake ({alert['name']}): does it accept the certificate in [tls]?"
        if isinstance(cause, pika_errors.IncompatibleProtocolError):
            return "the connection was lost before the broker sent anything: it is starting, or speaks no AMQP 0-9-1"
        if isinstance(cause, _BEFORE_OPEN):
            return "the connection was lost during the login"
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(cause.strerror)
    return one_line(str(causes[-1])) or type(causes[-1]).__name__
