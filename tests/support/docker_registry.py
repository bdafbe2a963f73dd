# SPDX-License-Identifier: GPL-3.0-or-later
"""The real reference registry (docker-registry, of the distribution), on loopback, in a process of its own.

::

    with DockerRegistry(directory, login="basic") as registry:
        requests.get(registry.url + "/v2/")

It asks for a login in the same ways as the sandbox's registry; its tokens come from the sandbox's token server.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from omps_worker.sandbox.http_server import HttpServer
from omps_worker.sandbox.image_registry.accounts import ISSUER, SERVICE, Accounts, TokenServer
from tests.support.certificates import self_signed
from tests.support.waiting import wait_until

USER, PASSWORD = "robot", "s3cr3t/Passw0rd+x"
_HASHED = "$2b$04$abcdefghijklmnopqrstuu.u4L4JF9qMZcxVGeGBCYZM3XpBSJeI2"
"""PASSWORD, hashed by bcrypt: the registry takes nothing else, and Python has no bcrypt of its own."""

_LISTENING = re.compile(r"listening on 127\.0\.0\.1:([0-9]+)")


def program() -> str:
    """Return the path of the registry's program; AssertionError if it is not installed."""
    found = shutil.which("docker-registry") or shutil.which("registry")
    assert found, "docker-registry is not installed: run scripts/setup test"
    return found


class DockerRegistry:
    """The registry; everything that it needs and keeps is in ``directory``. It ends with its holder."""

    def __init__(self, directory: Path, *, login: str = "none", tls: bool = False) -> None:
        self.login = login
        self.directory = directory
        self.trusted: Path | None = None
        self.tokens: TokenServer | None = None
        self.log: list[str] = []
        self._tls = tls
        self._token_server: HttpServer | None = None
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> DockerRegistry:
        configuration = self.directory / "registry.yml"
        configuration.write_text(yaml.safe_dump(self._configuration()), encoding="utf-8")
        # A test run that is killed must not leave it behind.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program(), "serve", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OTEL_TRACES_EXPORTER": "none"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            wait_until(lambda: self._port or self._process.poll() is not None, 30, "docker-registry")
            assert self._port, f"docker-registry did not start: {self.log}"
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _read(self) -> None:
        for line in self._process.stderr:
            self.log.append(line)
            if found := _LISTENING.search(line):
                self._port = int(found[1])

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(15)
            self._reader.join(15)
            self._process.stderr.close()
        if self._token_server is not None:
            self._token_server.close()

    def _configuration(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": "not very"}
        if self._tls:
            directory = self.directory / "tls"
            directory.mkdir()
            self.trusted, _ = self_signed(directory)
            http["tls"] = {"certificate": str(self.trusted), "key": str(directory / "key.pem")}
        configuration = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "storage")},
                "delete": {"enabled": True},
            },
            "http": http,
        }
        if self.login == "basic":
            path = self.directory / "htpasswd"
            path.write_text(f"{USER}:{_HASHED}\n", encoding="utf-8")
            configuration["auth"] = {"htpasswd": {"realm": "a registry", "path": str(path)}}
        if self.login == "token":
            configuration["auth"] = {"token": self._token_authentication()}
        return configuration

    def _token_authentication(self) -> dict[str, Any]:
        directory = self.directory / "tokens"
        directory.mkdir()
        certificate, _ = self_signed(directory)
        accounts = Accounts()
        accounts.add(USER, PASSWORD)
        self.tokens = TokenServer(accounts, sign=_Signer(directory).sign)
        self._token_server = HttpServer(self.tokens.answer)
        self._token_server.start()
        return {
            "realm": f"{self._token_server.url}/token",
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(certificate),
        }


class _Signer:
    """Makes JSON web tokens that the registry accepts: signed by the key whose certificate it was given."""

    def __init__(self, directory: Path) -> None:
        key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate((directory / "certificate.pem").read_bytes())
        self._chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]

    def sign(self, claims: Mapping[str, Any]) -> str:
        head = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
