# SPDX-License-Identifier: GPL-3.0-or-later
"""The way into the image, with the environment that OMPS's image had."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from omps_worker.sandbox.http_server import HttpServer, Response
from tests.support.certificates import self_signed
from tests.support.quay import Quay


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "omps_worker.cli.container", *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def serving(status: int, body: bytes) -> HttpServer:
    return HttpServer(lambda _request: Response(status, body, "application/x-pem-file"))


def test_it_becomes_the_command():
    ran = run("--version")
    assert (ran.returncode, ran.stdout.startswith("omps-worker")) == (0, True)
    assert run("no-such-command").returncode == 2


def test_certificates_that_the_environment_names_are_trusted_on_top_of_the_others(tmp_path: Path):
    pem, tls = self_signed(tmp_path)
    config = tmp_path / "config.toml"
    (tmp_path / "mapping.yaml").write_text("version: 1\nrules: []\n")
    with Quay(tls=tls) as quay, serving(200, pem.read_bytes()) as server:
        config.write_text(
            f'amqp_url = "amqp://127.0.0.1:1/"\ntopic_prefix = "a"\n[queues.q]\n[consumer_config.koji]\n'
            f'hub_url = "http://127.0.0.1:1"\nroot_url = "http://127.0.0.1:1"\n'
            f'[consumer_config.registry]\nurl = "{quay.url}"\n'
        )
        arguments = ("--config", str(config), "check", "--json")
        assert '"registry", "state": "failed"' in run(*arguments).stdout
        assert (
            '"registry", "state": "ok"' in run(*arguments, CA_URL=f"{server.url}/ca.crt", TMPDIR=str(tmp_path)).stdout
        )
    (file,) = tmp_path.glob("omps-worker-scratch-*/certificates.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    assert len(context.get_ca_certs()) > 50, "the usual ones are still trusted"


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"not here", "404"),
        (200, b"<html>welcome</html>", "no PEM"),
        (200, b"\xff", "no PEM"),
        (200, b"", "no PEM"),
    ],
)
def test_without_the_certificates_there_is_no_start(status, body, said):
    with serving(status, body) as server:
        ran = run("--version", CA_URL=f"{server.url}/ca.crt")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "CA_URL" in ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_server_that_is_away_is_named():
    ran = run("--version", CA_URL="http://user:secret@127.0.0.1:1/ca.crt")
    assert ran.returncode == 2
    assert "127.0.0.1:1" in ran.stderr
    assert "secret" not in ran.stderr
