# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import ipaddress
import socket
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.common.errors import BrokerUnavailable
from omps_worker.sandbox import broker
from omps_worker.sandbox.broker import RabbitNode
from tests.support.configuration import settings
from tests.support.waiting import wait_until


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker.example.com")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "broker.pem", directory / "broker.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def access(directory: Path, url: str, ca_cert: Path | None) -> BrokerAccess:
    changes = {"amqp_url": url, **({"tls": {"ca_cert": str(ca_cert)}} if ca_cert else {})}
    return BrokerAccess.of(settings(directory, changes), "test")


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, port)):
        return True
    return False


def test_a_broker_must_show_a_certificate_that_is_trusted_and_its_own(tmp_path):
    certificate_file, key_file = certificate(tmp_path)
    (port,) = broker._free_ports(1)
    config = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "listeners.ssl.2": f"127.0.0.2:{port}",
        "ssl_options.certfile": str(certificate_file),
        "ssl_options.cacertfile": str(certificate_file),
        "ssl_options.keyfile": str(key_file),
    }
    with RabbitNode(config=config):
        for host in ("127.0.0.1", "127.0.0.2"):
            wait_until(partial(listens, host, port), 30, "the listener for TLS, which RabbitMQ 4.3 starts last")
        url = f"amqps://guest:guest@127.0.0.1:{port}/"
        access(tmp_path, url, certificate_file).connect().close()

        with pytest.raises(BrokerUnavailable, match="certificate is not trusted"):
            access(tmp_path, url, None).connect()

        elsewhere = url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(BrokerUnavailable, match="certificate is not trusted"):
            access(tmp_path, elsewhere, certificate_file).connect()
