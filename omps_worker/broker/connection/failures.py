# SPDX-License-Identifier: GPL-3.0-or-later
"""What it means when the broker cannot be reached, drops a connection, or refuses something."""

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

# What RabbitMQ says, from 3.10 to 4; its sentences are the same but for some brackets.
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
_RAISE_LIMIT = "Somebody has to raise that limit of the broker or to free some of it; until then it is tried again."

_BEFORE_OPEN = (
    pika_errors.ProbableAuthenticationError,
    pika_errors.ProbableAccessDeniedError,
    pika_errors.IncompatibleProtocolError,
)
"""What pika makes of the end of a connection that was not open yet: a guess, whose text tells what it was."""

_CLOSED = re.compile(r"ConnectionClosedByBroker: \((?P<code>\d+)\) (?P<text>.*)", re.DOTALL)
_ALERT = re.compile(r"\[SSL: (?P<name>[A-Z0-9_]*ALERT[A-Z0-9_]*)\]")


def named(error: BaseException, where: pika.URLParameters) -> BrokerError:
    """A failure to connect, or the loss of a connection, as an error of ours.

    BrokerRefused only where the broker said something that a person has to mend, in the configuration
    or in the broker's: a login, a virtual host. All else passes by itself, so that it is waited
    for: a connection lost at any point, a node that is being restarted, a limit that is reached.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, BrokerError):
            return cause
    said = next(filter(None, map(_said, causes)), None)
    if said is not None:
        return _spoken(*said, where)
    for cause in causes:
        if isinstance(cause, pika_errors.AuthenticationError):
            return BrokerRefused(
                f"The broker ({place(where)}) does not offer to log in {_by(where)}. Compare amqp_url and [tls] with "
                "the mechanisms that it is set up for."
            )
    return BrokerUnavailable(f"The broker ({place(where)}) cannot be reached: {_reason(causes, where)}.")


def _spoken(code: int, text: str, where: pika.URLParameters) -> BrokerError:
    """What the broker said when it closed the connection, or let none be opened."""
    sentence = one_line(text)
    if code == _ACCESS_REFUSED:
        return BrokerRefused(
            f"The broker ({place(where)}) refuses the login {_by(where)}: {sentence} Check user and password "
            "in amqp_url or [consumer_config.broker], or the certificate in [tls]."
        )
    if code == _NOT_ALLOWED and _NO_VIRTUAL_HOST.fullmatch(text):
        return BrokerRefused(
            f"The broker ({place(where)}) does not let this user into the virtual host, or there is none of "
            f"that name: {sentence}. Check the end of amqp_url, and the user's permissions."
        )
    if code == _NOT_ALLOWED and _NEGOTIATED.match(text):
        return BrokerRefused(f"The broker ({place(where)}) does not agree: {sentence}. Check the end of amqp_url.")
    advice = f" {_RAISE_LIMIT}" if code == _NOT_ALLOWED and _LIMIT.search(text) else ""
    return BrokerUnavailable(f"The broker ({place(where)}) cannot be used now: {sentence.rstrip('.')}.{advice}")


def declined(
    error: pika_errors.ChannelClosedByBroker, what: str, advice: str, rights: str | None = None
) -> BrokerError:
    """The broker closed a channel because of ``what``; ``advice`` says what to do about it.

    ``rights`` says it instead where the user may not. The advice is for what this error usually is; where
    the broker names another cause, that one's own is given. What passes by itself, such as a queue whose
    node is down, or a limit that is reached, is BrokerUnavailable; else BrokerRefused.
    """
    text = str(error.reply_text)
    told = f"The broker refuses {what}: {one_line(text).rstrip('.')}."
    if error.reply_code == _ACCESS_REFUSED:
        if _BACKEND.search(text):
            return BrokerUnavailable(told)
        return BrokerRefused(f"{told} {advice if rights is None else rights}")
    if _LIMIT.search(text):
        return BrokerUnavailable(f"{told} {_RAISE_LIMIT}")
    if _PASSING.search(text):
        return BrokerUnavailable(told)
    if (found := _ARGUMENT.search(text)) is not None:
        return BrokerRefused(
            f"{told} This broker does not know {found['key']} for such a queue, or not with that value: "
            "take it out of the arguments in [queues], if it stands there."
        )
    return BrokerRefused(f"{told} {advice}")


def may_write(topic: str) -> str:
    """What to do where the broker refuses a message with this topic."""
    return (
        "The exchange must exist, and the user needs to write to it, where topic permissions are set also topics like "
        f"{one_line(topic)[:255]}: compare topic_prefix with them."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what pika wrapped in it, in one way or another."""
    yield error
    inner = [*error.args, getattr(error, "exception", None), *reversed(getattr(error, "exceptions", ()))]
    for cause in inner:
        if isinstance(cause, BaseException):
            yield from _causes(cause)


def _said(cause: BaseException) -> tuple[int, str] | None:
    """The code and the sentence with which the broker closed the connection; None: it closed nothing."""
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


def _by(where: pika.URLParameters) -> str:
    if isinstance(where.credentials, ExternalCredentials):
        return "by certificate"
    return f"as {one_line(str(getattr(where.credentials, 'username', '')))!r}"


def _reason(causes: list[BaseException], where: pika.URLParameters) -> str:
    for cause in causes:
        if isinstance(cause, pika_errors.ConnectionClosed):
            return one_line(str(cause.reply_text))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({one_line(cause.verify_message)})"
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "the port does not speak TLS: is it that of amqp:// instead of amqps://?"
        if isinstance(cause, AMQPConnectorStackTimeout):
            return f"nobody spoke AMQP there within {where.stack_timeout or CONNECT_SECONDS:g} s"
        if isinstance(cause, _BEFORE_OPEN) and (alert := _ALERT.search(str(cause.args[0] if cause.args else ""))):
            return f"it broke off TLS ({alert['name']}): does it accept the certificate in [tls]?"
        if isinstance(cause, pika_errors.IncompatibleProtocolError):
            return "the connection was lost before the broker said a word: it is starting, or speaks no AMQP 0-9-1"
        if isinstance(cause, _BEFORE_OPEN):
            return "the connection was lost in the middle of the login"
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(cause.strerror)
    return one_line(str(causes[-1])) or type(causes[-1]).__name__
