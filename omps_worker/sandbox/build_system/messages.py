# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that Koji's plugins publish about a build, in each dialect that can reach RabbitMQ."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from omps_worker.common.model import BuildState

FEDORA_PREFIX = "org.fedoraproject.prod"
"""The topic prefix of Fedora's production hub."""
PROTON_PREFIX = "VirtualTopic.eng.brew"
"""The topic prefix of Red Hat's hub. The plugin's default is ``topic://koji``."""

DIALECTS = (
    "fedora",
    "fedora-2023",
    "protonmsg",
    "protonmsg-wrapped",
    "protonmsg-string",
    "protonmsg-no-extra",
    "protonmsg-old",
    "amqp10",
)
"""``fedora``: the current plugin koji-fedoramessaging; ``fedora-2023``: the same, without task and URLs.

The others come from Koji's own plugin, in this order: its plain body; wrapped in ``msg`` by a bridge; as a JSON
string; without ``extra`` (because it exceeded the size limit); from before Koji 1.16 (``extra`` is text, and there is
no NVR and no ``build_id``); and left in AMQP 1.0 encoding by RabbitMQ's plugin.
"""


class BusMessage(NamedTuple):
    """A message as it is published to the exchange ``amq.topic``."""

    routing_key: str
    properties: dict[str, Any]
    """The properties, including ``headers``, with the names that pika's BasicProperties uses."""
    body: bytes


def build_message(
    build: Mapping[str, Any], task: Mapping[str, Any] | None, dialect: str, topic_prefix: str | None, old: int | None
) -> BusMessage:
    """Return the message that is published when ``build`` (a reply to ``getBuild``) enters its current state.

    ``task`` is the reply to ``getTaskInfo(request=True)``, ``old`` the previous state.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"{dialect!r} is not one of {', '.join(DIALECTS)}")
    if dialect.startswith("fedora"):
        body = _fedora_body(build, task, old)
        if dialect == "fedora-2023":
            for key in ("task", "url", "base_url"):
                del body[key]
        schema = "koji_fedoramessaging.build.BuildStateChangeV1"
        prefix = FEDORA_PREFIX if topic_prefix is None else topic_prefix
        return _fedora_message(f"{prefix}.buildsys.build.state.change", schema, 20, body)
    return _proton_message(build, dialect, PROTON_PREFIX if topic_prefix is None else topic_prefix, old)


def tag_message(build: Mapping[str, Any], tag: str, topic_prefix: str | None) -> BusMessage:
    """Return the message that koji-fedoramessaging publishes when ``build`` is tagged."""
    body = {
        "base_url": "http://127.0.0.1",
        "tag": tag,
        "name": build["name"],
        "version": build["version"],
        "release": build["release"],
        "user": "kojiadmin",
        "owner": build["owner_name"],
        "tag_id": 1,
        "build_id": build["id"],
        "instance": "primary",
    }
    prefix = FEDORA_PREFIX if topic_prefix is None else topic_prefix
    return _fedora_message(f"{prefix}.buildsys.tag", "koji_fedoramessaging.tag.TagV1", 10, body)


def promotion_message(build: Mapping[str, Any], dialect: str, topic_prefix: str | None) -> BusMessage:
    """Return the message that is published when ``build`` (a reply to ``getBuild``), a draft until now, is promoted.

    Fedora's plugin does not support promotions: its message does not name the build.
    """
    if dialect.startswith("fedora"):
        prefix = FEDORA_PREFIX if topic_prefix is None else topic_prefix
        body = {"base_url": "http://127.0.0.1", "instance": "primary"}
        properties = {"content_type": "application/json", "message_id": str(uuid.uuid4()), "headers": {}}
        return BusMessage(f"{prefix}.buildsys.build.promote", properties, json.dumps(body).encode())
    prefix = PROTON_PREFIX if topic_prefix is None else topic_prefix
    releases = {
        "draft_release": f"{build['release']},draft_{build['id']}",
        "target_release": build["release"],
    }
    headers = {
        "type": "BuildPromote",
        "build_id": build["id"],
        "name": build["name"],
        "version": build["version"],
        "release": build["release"],
        **releases,
        "user": build["promoter_name"],
    }
    user = {"id": build["promoter_id"], "name": build["promoter_name"], "status": 0, "usertype": 0}
    return _proton(
        f"{prefix}.build.promote", headers, {**releases, "build": _proton_build(build, dialect), "user": user}, dialect
    )


def _fedora_message(topic: str, schema: str, severity: int, body: dict[str, Any]) -> BusMessage:
    headers = {
        "fedora_messaging_schema": schema,
        "fedora_messaging_schema_package": "koji_fedoramessaging_messages",
        "sent-at": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
        "fedora_messaging_severity": severity,
        "priority": 0,
        f"fedora_messaging_user_{body['owner']}": True,
        f"fedora_messaging_rpm_{body['name']}": True,
    }
    properties = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "message_id": str(uuid.uuid4()),
        "headers": headers,
    }
    return BusMessage(topic, properties, json.dumps(body).encode())


def _fedora_body(build: Mapping[str, Any], task: Mapping[str, Any] | None, old: int | None) -> dict[str, Any]:
    completed = build["completion_time"]
    return {
        "base_url": "http://127.0.0.1",
        "name": build["name"],
        "version": build["version"],
        "release": build["release"],
        "epoch": build["epoch"],
        "attribute": "state",
        "old": old,
        "new": build["state"],
        "build_id": build["id"],
        "task_id": build["task_id"],
        "owner": build["owner_name"],
        "files_base_url": "http://127.0.0.1/kojifiles/work",
        "url": f"http://127.0.0.1/koji/buildinfo?buildID={build['id']}",
        "task": None if task is None else _fedora_task(task, build["owner_name"]),
        "request": None if task is None else task["request"],
        "creation_time": build["creation_time"].replace(" ", "T"),
        "completion_time": None if completed is None else completed.replace(" ", "T"),
        "instance": "primary",
    }


def _fedora_task(task: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return the task as the plugin sends it: whole seconds, the owner's name for the id, and some keys dropped."""
    dropped = ("weight", "start_ts", "create_ts", "completion_ts")
    return {
        **{key: value for key, value in task.items() if key not in dropped},
        "create_time": float(int(task["create_ts"])),
        "start_time": float(int(task["start_ts"])),
        "owner": owner,
        "host_name": None,
        "url": f"http://127.0.0.1/koji/taskinfo?taskID={task['id']}",
        "result": None,
        "children": [],
    }


def _proton_message(build: Mapping[str, Any], dialect: str, prefix: str, old: int | None) -> BusMessage:
    info = _proton_build(build, dialect)
    body = {"attribute": "state", "old": old, "new": build["state"], "info": info, "btypes": {}}
    topic = f"{prefix}.build.{BuildState(build['state']).name.lower()}"
    headers = {
        "type": "BuildStateChange",
        "name": build["name"],
        "version": build["version"],
        "release": build["release"],
        "attribute": "state",
        "old": None if old is None else BuildState(old).name,
        "new": BuildState(build["state"]).name,
    }
    return _proton(topic, headers, body, dialect)


def _proton_build(build: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    info = dict(build)
    if dialect == "protonmsg-no-extra":
        del info["extra"]
    elif dialect == "protonmsg-old":
        del info["nvr"], info["build_id"]
        info["extra"] = json.dumps(info["extra"])
    return info


def _proton(topic: str, headers: dict[str, Any], body: Any, dialect: str) -> BusMessage:
    properties: dict[str, Any] = {"headers": headers}
    if dialect == "protonmsg-wrapped":
        body = {"topic": f"/topic/{topic}", "headers": headers, "msg": body}
    elif dialect == "protonmsg-string":
        body = json.dumps(body)
    content = json.dumps(body).encode()
    if dialect == "amqp10":
        properties["type"] = "amqp-1.0"
        content = amqp10_value(content)
    return BusMessage(topic, properties, content)


def amqp10_value(text: bytes) -> bytes:
    """Return an amqp-value section that contains a string (AMQP 1.0, part 3.2.8)."""
    if len(text) < 256:
        return b"\x00\x53\x77\xa1" + struct.pack(">B", len(text)) + text
    return b"\x00\x53\x77\xb1" + struct.pack(">I", len(text)) + text
