# SPDX-License-Identifier: GPL-3.0-or-later
"""The entry point of the container image: honours ``CA_URL`` as OMPS's image did, then becomes ``omps-worker``.

``CA_URL`` is the URL of certificates to trust in addition to the image's own. They are fetched before the start; if
that fails, the container does not start. (``omps-worker api`` itself reads ``WORKERS_NUM`` and ``WORKER_TIMEOUT``.)
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from omps_worker.common.files.scratch import ScratchDirectory
from omps_worker.common.http_client.client import HttpClient, HttpFault, place_of
from omps_worker.common.text import one_line

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The file in which Debian keeps all certificates that it trusts."""

MAX_BYTES = 1024 * 1024
FETCH_SECONDS = 30.0

USAGE = 2


class CertificatesUnavailable(Exception):
    """The certificates could not be fetched, or are not certificates; the text says why."""


def certificate_bundle(url: str, directory: Path) -> Path:
    """Write the certificates at ``url`` and the image's own to one file in ``directory``, and return its path.

    Raises CertificatesUnavailable.
    """
    try:
        answer = HttpClient(timeout=FETCH_SECONDS).request("GET", url, max_bytes=MAX_BYTES)
    except HttpFault as fault:
        raise CertificatesUnavailable(str(fault)) from None
    if answer.status != 200:
        raise CertificatesUnavailable(f"{place_of(url)} answered with status {answer.status}")
    own = SYSTEM_CERTIFICATES if SYSTEM_CERTIFICATES.is_file() else Path(DEFAULT_CA_BUNDLE_PATH)
    try:
        ssl.create_default_context().load_verify_locations(cadata=answer.body.decode())
    except (ValueError, ssl.SSLError):
        raise CertificatesUnavailable(f"the answer of {place_of(url)} contains no PEM certificates") from None
    file = directory / "certificates.pem"
    file.write_bytes(answer.body.rstrip() + b"\n" + own.read_bytes())
    return file


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the environment, then replace this process by ``omps-worker ARGUMENTS``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    url = os.environ.get("CA_URL", "").strip()
    if url:
        try:
            directory = ScratchDirectory()
            os.environ["SSL_CERT_FILE"] = str(certificate_bundle(url, directory.path))
            directory.outlive_exec()
        except (CertificatesUnavailable, OSError) as error:
            print(one_line(f"error: CA_URL: {error}"), file=sys.stderr)
            sys.exit(USAGE)
    os.execv(sys.executable, [sys.executable, "-m", "omps_worker", *arguments])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
