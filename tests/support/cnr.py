# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the real reference server (PyPI cnr-server 0.2.7.post2) on loopback, in a separate process.

It was released for Python 2. Eight repairs, all for differences between Python 2 and 3, make it run unchanged. It
answers one request at a time, because its file locks are not atomic, and has no authentication.

    with CnrServer(directory) as server:
        requests.get(server.url + "/cnr/version")
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from types import TracebackType
from typing import Any


class CnrServer:
    """The server, with its storage in ``directory``. It ends when this process ends, in any way."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> CnrServer:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cnr", str(self._directory)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self._end()
            raise AssertionError("the cnr-server did not start; run python -m tests.support.cnr DIRECTORY to see why")
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            # The server ends at the end of its standard input. communicate closes all pipes and waits.
            self._process.communicate(timeout=15)
            self._process = None


class Python2Dict(dict[str, Any]):
    """A dict like Python 2's: keys and values are lists, and there is ``iteritems``."""

    def keys(self) -> list[str]:  # type: ignore[override]
        return list(super().keys())

    def values(self) -> list[Any]:  # type: ignore[override]
        return list(super().values())

    def iteritems(self) -> Any:
        return iter(super().items())


def repaired_app(storage: Path) -> Any:
    """Return the repaired Flask application."""
    os.environ["APP_ENV"] = "production"
    stub = types.ModuleType("cnr.models.db_base")
    stub.CnrDB = type("CnrDB", (), {})  # type: ignore[attr-defined]
    sys.modules["cnr.models.db_base"] = stub  # the real module contains a print statement

    import cnr.utils

    cnr.utils.basestring = str

    import cnr.models.blob_base
    import cnr.models.kv.filesystem as filesystem
    import cnr.models.kv.models_index_base as index
    import cnr.models.package_base as package
    import semantic_version
    from cnr.exception import InvalidRelease

    store_bytes = filesystem.FilesystemClient.set
    filesystem.FilesystemClient.set = lambda self, key, data, nx=None: store_bytes(
        self, key, data.encode() if isinstance(data, str) else data, nx
    )
    filesystem.filesystem_client.base_path = str(storage)

    index.ModelsIndexBase._fetch_data = lambda self, key: python2(self._fetch_raw_data(key))
    packages_data = index.ModelsIndexBase.packages_data.fget

    def python2_packages_data(self: Any) -> Any:
        if not isinstance(packages_data(self), Python2Dict):
            self._packages = python2(json.dumps(self._packages))
        return self._packages

    index.ModelsIndexBase.packages_data = property(python2_packages_data)

    blob_base = cnr.models.blob_base.BlobBase
    b64blob = blob_base.b64blob.fget
    blob_base.b64blob = property(lambda self: text(b64blob(self)))

    def check_release(_cls: Any, release: Any) -> None:
        try:
            semantic_version.Version(release)
        except ValueError as error:
            raise InvalidRelease(str(error), {"version": release}) from None

    select_version = package.select_version

    def select(releases: Any, query: str, stable: bool = False) -> Any:
        try:
            return select_version(releases, query, stable)
        except ValueError as error:
            raise InvalidRelease(str(error), {"release": query}) from None

    package.PackageBase.check_release = classmethod(check_release)
    package.select_version = select

    from cnr.api.app import create_app
    from cnr.api.info import info_app
    from cnr.api.registry import registry_app

    info_app.before_request_funcs.clear()
    registry_app.before_request_funcs.clear()
    return create_app()


def python2(document: bytes | str) -> Any:
    return json.loads(document, object_pairs_hook=Python2Dict)


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, repaired_app(Path(sys.argv[1])), threaded=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
