# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML-RPC hub of the sandbox's Koji: the read-only calls, answered as a real hub answers them."""

from __future__ import annotations

import threading
import xml.parsers.expat
import xmlrpc.client
from collections.abc import Callable, Mapping
from typing import Any

import koji  # type: ignore[import-untyped]
import koji.util  # type: ignore[import-untyped]
from koji import xmlrpcplus

from omps_worker.sandbox.build_system import records
from omps_worker.sandbox.build_system.records import BuildRecord
from omps_worker.sandbox.http_server import Response

KOJI_VERSION = "1.35.3"
"""The version that the hub reports."""

OUTAGES = {
    "offline": "Planned outage: database upgrade, back at 18:00 UTC",
    "lockout": "Server disabled for maintenance",
    "database": "database outage",
}
"""The outages in which a running hub refuses every call, each with its message.

Clients see each of them as ServerOffline; the HTTP status is 200.
"""


class DatabaseError(Exception):
    """A database error, which a hub passes on to the client as a fault with code 1: a bad value, or a failure."""


class SandboxHub:
    """The builds of the hub, and the calls that return them. ``lock`` guards both."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.builds: dict[int, BuildRecord] = {}
        self.calls: list[str] = []
        self._outage: tuple[str, int | None] | None = None
        self._broken: dict[str, str] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "getAPIVersion": lambda: 1,
            "getKojiVersion": lambda: KOJI_VERSION,
            "getBuild": self._get_build,
            "findBuildID": self._build_id,
            "getBuildLogs": self._get_build_logs,
            "getPackageID": self._get_package_id,
            "getTaskInfo": self._get_task_info,
            "listArchives": self._list_archives,
            "listBuilds": self._list_builds,
        }

    def find(self, build: int | str) -> BuildRecord | None:
        """Return the build with this id or NVR, or None."""
        if isinstance(build, int):
            return self.builds.get(build)
        return next((record for record in self.builds.values() if record.nvr == build), None)

    def fail_calls(self, outage: str, times: int | None) -> None:
        """Refuse the next ``times`` requests (None: all until ``recover``). ``outage`` is a key of OUTAGES."""
        with self.lock:
            self._outage = (OUTAGES[outage], times)

    def break_call(self, method: str, reason: str) -> None:
        """Let each call of ``method`` fail with a database error ``reason`` until ``recover``."""
        with self.lock:
            self._broken[method] = reason

    def remove_call(self, method: str) -> None:
        """Remove a call, like a hub that has never had it."""
        with self.lock:
            del self._methods[method]

    def recover(self) -> None:
        """End the outage and all database errors."""
        with self.lock:
            self._outage = None
            self._broken.clear()

    def answer(self, request: bytes) -> Response:
        """Return the response to one XML-RPC request. Faults have status 200; what is not XML gets 400."""
        try:
            params, method = xmlrpcplus.loads(request)
        except (xml.parsers.expat.ExpatError, xmlrpc.client.ResponseError, ValueError):
            return Response(400, b"Bad Request\n", "text/plain")
        try:
            with self.lock:
                self._refuse_in_an_outage()
                text = xmlrpcplus.dumps((self._dispatch(method, params),), methodresponse=1)
        except Exception as error:
            text = xmlrpcplus.dumps(_fault(error))
        return Response(200, text.encode(), "text/xml", {"Koji-Version": KOJI_VERSION})

    def _refuse_in_an_outage(self) -> None:
        if self._outage is None:
            return
        text, times = self._outage
        if times is not None:
            self._outage = (text, times - 1) if times > 1 else None
        raise koji.ServerOffline(text)

    def _dispatch(self, method: str, params: Any) -> Any:
        if method in ("multiCall", "system.multicall"):
            return [self._one_of_many(call) for call in params[0]]
        self.calls.append(method)
        if method not in self._methods:
            raise koji.GenericError(f"Invalid method: {method}")
        if method in self._broken:
            raise DatabaseError(self._broken[method])
        arguments, options = koji.decode_args(*params)
        return koji.util.call_with_argcheck(self._methods[method], arguments, options)

    def _one_of_many(self, call: Mapping[str, Any]) -> Any:
        try:
            return [self._dispatch(call["methodName"], call["params"])]
        except Exception as error:
            fault = _fault(error)
            return {"faultCode": fault.faultCode, "faultString": fault.faultString, "traceback": []}

    def _build_id(self, X: Any, strict: bool = False) -> int | None:  # noqa: N803  the API's name
        if isinstance(X, bool):
            raise DatabaseError("operator does not exist: integer = boolean")
        if isinstance(X, int):
            return X
        data = koji.parse_NVR(X) if isinstance(X, str) else X
        if not isinstance(data, dict):
            raise koji.GenericError(f"Invalid type for argument: {X!r} (type {type(X)})")
        if not {"name", "version", "release"} <= set(data):
            raise koji.GenericError("did not provide name, version, and release")
        record = self.find("{name}-{version}-{release}".format_map(data))
        if record is None and strict:
            raise koji.GenericError(f"No matching build found: {X!r}")
        return None if record is None else record.id

    def _record(self, build: Any, strict: bool) -> BuildRecord | None:
        build_id = self._build_id(build, strict)
        record = None if build_id is None else self.builds.get(build_id)
        if record is None and strict:
            raise koji.GenericError(f"No such build: {build}")
        return record

    def _get_build(self, buildInfo: Any, strict: bool = False) -> dict[str, Any] | None:  # noqa: N803
        record = self._record(buildInfo, strict)
        return None if record is None else record.row()

    def _get_build_logs(self, build: Any) -> list[dict[str, Any]]:
        record = self._record(build, strict=True)
        return [] if record is None else record.logs()

    def _get_package_id(self, name: str, strict: bool = False) -> int | None:
        for record in self.builds.values():
            if record.name == name:
                return record.package_id
        if strict:
            raise koji.GenericError(f"Invalid package name: {name}")
        return None

    def _get_task_info(self, task_id: Any, request: bool = False, strict: bool = False) -> Any:
        if isinstance(task_id, list):
            return [self._get_task_info(one, request, strict) for one in task_id]
        for record in self.builds.values():
            if record.task is not None and record.task.id == task_id:
                return record.task.row(request=request)
        if strict:
            raise koji.GenericError(f"No such task: {task_id}")
        return None

    def _list_archives(self, buildID: Any = None, type: Any = None, filename: Any = None, queryOpts: Any = None) -> Any:  # noqa: N803
        if type is not None and type not in records.BTYPE_IDS:
            raise koji.GenericError(f"unsupported archive type: {type}")
        rows = [
            row
            for record in self.builds.values()
            for row in record.archives
            if record.imported
            and buildID in (None, record.id)
            and type in (None, row["btype"])
            and filename in (None, row["filename"])
        ]
        return _queried(rows, queryOpts)

    def _list_builds(self, packageID: Any = None, *, type: Any = None, queryOpts: Any = None, **filters: Any) -> Any:  # noqa: N803
        unknown = set(filters) - set(records.FILTERS)
        if unknown:
            raise koji.ParameterError(f"listBuilds() got an unexpected keyword argument '{unknown.pop()}'")
        if type is not None and type not in records.BTYPE_IDS:
            raise koji.GenericError(f"unsupported build type: {type}")
        filters = {**filters, "packageID": packageID, "type": type}
        # A hub guarantees no order unless the caller asks for one.
        found = [record for record in reversed(self.builds.values()) if records.matches(record, filters)]
        return _queried([record.listed() for record in found], queryOpts)


def _queried(rows: list[dict[str, Any]], options: Mapping[str, Any] | None) -> Any:
    """Apply the hub's query options: order (columns; a minus reverses), offset, limit, countOnly."""
    options = options or {}
    for column in reversed((options.get("order") or "").split(",")):
        if column:
            key = column.removeprefix("-")
            if any(key not in row for row in rows):
                raise DatabaseError(f"Invalid order: {key}")
            rows.sort(key=lambda row: (row[key] is not None, row[key]), reverse=column.startswith("-"))
    start, limit = options.get("offset") or 0, options.get("limit")
    rows = rows[start:] if limit is None else rows[start : start + limit]
    return len(rows) if options.get("countOnly") else rows


def _fault(error: Exception) -> xmlrpc.client.Fault:
    if isinstance(error, koji.GenericError):
        return xmlrpc.client.Fault(error.faultCode, str(error))
    return xmlrpc.client.Fault(1, f"{type(error)}: {error}")
