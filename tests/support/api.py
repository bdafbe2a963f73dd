# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST API as clients see it: the real server on a loopback port, with the sandbox's Koji and registry."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from omps_worker.api import openapi
from omps_worker.api.server import Server, listen
from omps_worker.api.wiring import ApiSite
from omps_worker.configuration.settings import file as settings_file
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.build_system.server import SandboxKoji
from tests.support.waiting import wait_until


class ApiServer:
    """A running API. ``token`` may push to the organization ``community``, which is not configured."""

    def __init__(self, url: str, koji: SandboxKoji, registry: SandboxRegistry, token: str, site: ApiSite) -> None:
        self.url = url
        self.koji = koji
        self.registry = registry
        self.token = token
        self.site = site

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def ask(self, method: str, path: str, *, token: str | None = "", **options: Any) -> requests.Response:
        """Send one request. With ``token`` None, it has no Authorization header."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = token or self.token
        return requests.request(method, self.url + path, headers=headers, timeout=60, **options)

    def get(self, path: str) -> requests.Response:
        return self.ask("GET", path, token=None)

    def delete(self, path: str, **options: Any) -> requests.Response:
        return self.ask("DELETE", path, **options)

    def upload(self, path: str, content: bytes, name: str = "manifests.zip", **options: Any) -> requests.Response:
        return self.ask("POST", path, files={"file": (name, io.BytesIO(content))}, **options)

    def push(self, api: str, content: bytes, repository: str, version: str | None = None, **options: Any):
        """Upload to ``community``, with either version of the API."""
        return self.upload(zip_path(api, repository, version), content, **options)

    def push_build(self, api: str, nvr: str, repository: str, version: str | None = None, **options: Any):
        return self.ask("POST", koji_path(api, repository, nvr, version), **options)

    def reset(self) -> None:
        """Remove all faults, and all packages of all organizations."""
        self.registry.faults.clear()
        self.koji.faults.clear()
        self.koji.recover()
        for key in self.registry.packages():
            self.registry._api.repositories.pop(key)

    def versions(self, repository: str, organization: str = "community") -> list[str]:
        return [release.version for release in self.registry.releases(organization, repository)]


def zip_path(api: str, repository: str, version: str | None = None, organization: str = "community") -> str:
    middle = f"{organization}/{repository}" if api == "v1" else organization
    return f"/{api}/{middle}/zipfile" + (f"/{quote(version, safe='')}" if version is not None else "")


def koji_path(api: str, repository: str, nvr: str, version: str | None = None, organization: str = "community") -> str:
    middle = f"{organization}/{repository}" if api == "v1" else organization
    return f"/{api}/{middle}/koji/{quote(nvr, safe='')}" + (f"/{quote(version, safe='')}" if version else "")


def configuration(koji: SandboxKoji, registry: SandboxRegistry, **more: Any) -> dict[str, Any]:
    """Return a configuration without a broker. ``more`` are keys of consumer_config."""
    worker: dict[str, Any] = {
        "koji": {"hub_url": koji.hub_url, "root_url": koji.root_url, "timeout": "10s"},
        "registry": {"url": registry.url, "timeout": "10s"},
        "api": {},
    }
    for key, value in more.items():
        worker[key] = {**worker.get(key, {}), **value} if isinstance(value, Mapping) else value
    return {"consumer_config": worker}


@contextmanager
def serving(site: ApiSite) -> Iterator[str]:
    """Run the real server in a thread of this process, and yield its URL."""
    listener = listen("127.0.0.1", 0)
    server = Server(site.app(), shutdown_timeout=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="api")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), what="the server to start")
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@contextmanager
def api(directory: Path, *, upload_seconds: float = 20.0, top: Mapping[str, Any] | None = None, **more: Any):
    """Run an ApiServer with a new Koji and registry. ``more`` are keys of consumer_config."""
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        registry.add_organization("community")
        token = registry.add_robot("community")
        with serve(directory, koji, registry, token, upload_seconds, top, **more) as served:
            yield served


@contextmanager
def serve(
    directory: Path,
    koji: SandboxKoji,
    registry: SandboxRegistry,
    token: str,
    upload_seconds: float = 20.0,
    top: Mapping[str, Any] | None = None,
    **more: Any,
) -> Iterator[ApiServer]:
    table = {**configuration(koji, registry, **more), **(top or {})}
    settings = settings_file.check(table, directory / "config.toml", environment={}, api=True)
    site = ApiSite(settings, upload_seconds=upload_seconds, pauses=(0.0,))
    with serving(site) as url:
        yield ApiServer(url, koji, registry, token, site)


def assert_documented(reply: requests.Response) -> None:
    """Assert that the OpenAPI document lists the reply's status, if it describes the request at all."""
    method, path = str(reply.request.method).lower(), urlsplit(str(reply.request.url)).path
    described = [
        operations[method]
        for template, operations in openapi.document()["paths"].items()
        if method in operations and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path)
    ]
    assert not described or any(str(reply.status_code) in operation["responses"] for operation in described), path
