# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how many uploads per second the REST API turns into releases, compared with plain operator-courier.

OMPS was built around plain operator-courier. It validates, packs and pushes to the same registry, in one process per
core, without a service in front, without looking up versions and without a lock. The registry and the clients run on
the same cores.

    python -m benchmarks.rest [--json] [--seconds N] [SIZE ...]

With ``--against DIRECTORY``, another checkout of this project, the benchmark compares the two checkouts instead: the
CPU time of the serving process per upload, alternately against the same registry, as the median of many rounds.

    python -m benchmarks.rest --against ../before [--rounds N] [--json] [SIZE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import requests

from benchmarks.report import show
from omps_worker.manifests.file_tree import FilesOnDisk
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.operators import SIZES, Files, sized_operator, zip_of

CLIENTS = 8

UPLOADS = {"flat": 40, "nested": 25, "big flat": 4, "big nested": 3}
"""The number of uploads in one round of a comparison."""


def measure(size: str, seconds: float) -> dict[str, object]:
    """Return one row of the table."""
    files = sized_operator(size)
    with SandboxRegistry() as registry, tempfile.TemporaryDirectory() as directory:
        tokens = {}
        for number in range(CLIENTS):
            registry.add_organization(f"organization-{number}")
            tokens[f"organization-{number}"] = registry.add_robot(f"organization-{number}")
        plain = _plain(registry.url, tokens, files, Path(directory), seconds)
        with _service(registry.url, Path(directory)) as (url, _):
            ours = _uploads(url, tokens, zip_of(files), seconds)
    return {"size": size, "plain": plain, "ours": ours, "ratio": ours / plain}


def compare(size: str, other: Path, rounds: int) -> dict[str, object]:
    """Return one row: the CPU milliseconds of one upload, for this checkout and for the other."""
    archive = zip_of(sized_operator(size))
    uploads = UPLOADS[size]
    with SandboxRegistry() as registry, contextlib.ExitStack() as stack:
        upload = {}
        for name, code in (("here", Path.cwd()), ("there", other.resolve())):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url, pid = stack.enter_context(_service(registry.url, directory, code, ("--workers", "1")))
            upload[name] = partial(_cpu_of_uploads, url, pid, archive)
        spent: dict[str, list[float]] = {name: [] for name in upload}
        for number in range(rounds + 1):
            # The order alternates as well. The first round is a warm-up.
            for name in sorted(upload, reverse=bool(number % 2)):
                # A new organization each time, because looking up versions costs more with more releases.
                organization = f"{name}-{number}"
                registry.add_organization(organization)
                seconds = upload[name](organization, registry.add_robot(organization), uploads)
                if number:
                    spent[name].append(seconds / uploads)
    here, there = (statistics.median(spent[name]) for name in ("here", "there"))
    return {"size": size, "here, ms CPU": here * 1000, "there, ms CPU": there * 1000, "share": here / there}


def _cpu_of_uploads(url: str, pid: int, archive: bytes, organization: str, token: str, uploads: int) -> float:
    """Return the CPU seconds, user and system, that the process ``pid`` takes for the uploads."""
    # The kernel's id of another process's CPU clock. The clock includes threads that have ended.
    clock = ~pid << 3 | 2
    with requests.Session() as session:
        session.trust_env = False
        begun = time.clock_gettime(clock)
        for _ in range(uploads):
            answer = session.post(
                f"{url}/v2/{organization}/zipfile",
                files={"file": ("a.zip", archive)},
                headers={"Authorization": token},
            )
            answer.raise_for_status()
        return time.clock_gettime(clock) - begun


def _uploads(url: str, tokens: Mapping[str, str], archive: bytes, seconds: float) -> float:
    """Return the uploads per second of several simultaneous clients.

    Each client uploads to its own organization, one upload after the other.
    """
    end = time.monotonic() + seconds

    def client(organization: str) -> int:
        done, session = 0, requests.Session()
        session.trust_env = False
        while time.monotonic() < end:
            answer = session.post(
                f"{url}/v2/{organization}/zipfile",
                files={"file": ("a.zip", archive)},
                headers={"Authorization": tokens[organization]},
            )
            answer.raise_for_status()
            done += 1
        return done

    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        done = sum(threads.map(client, tokens))
    return done / (time.monotonic() - begun)


@contextlib.contextmanager
def _service(
    registry: str, directory: Path, code: Path | None = None, options: Sequence[str] = ()
) -> Iterator[tuple[str, int]]:
    """Run ``omps-worker api`` as a site would, and yield its URL and process id. ``code``: the checkout to run."""
    config = directory / "config.toml"
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    config.write_text(
        f'[consumer_config.api]\nport = {port}\nmax_content_length = "8MiB"\n'
        f'[consumer_config.koji]\nhub_url = "{registry}"\nroot_url = "{registry}"\n'
        f'[consumer_config.registry]\nurl = "{registry}"\n'
    )
    environment = {**os.environ, "OMPS_WORKER_STATE_DIRECTORY": str(directory / "state")}
    command = [sys.executable, "-m", "omps_worker", "--config", str(config), "api", *options]
    service = subprocess.Popen(command, env=environment, stderr=(directory / "api.log").open("w"), cwd=code)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}/v2/about", timeout=5).raise_for_status()
                break
            time.sleep(0.05)
        yield url, service.pid
    finally:
        service.terminate()
        service.wait()


def _plain(registry: str, tokens: Mapping[str, str], files: Files, directory: Path, seconds: float) -> float:
    """Return the pushes per second of plain operator-courier, in one process per core."""
    tree = directory / "tree"
    with zipfile.ZipFile(io.BytesIO(zip_of(files))) as opened:
        opened.extractall(tree)
    name = OperatorManifests.read(FilesOnDisk(tree, files)).package_name
    cores = multiprocessing.cpu_count()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(_warm_up, range(cores))
        begun = time.monotonic()
        done = sum(
            pool.starmap(
                _push_on, [(registry, *each, tree, name, seconds) for each in list(tokens.items())[:cores]], chunksize=1
            )
        )
        return done / (time.monotonic() - begun)


def _warm_up(_number: int) -> None:
    from operatorcourier import api  # noqa: F401


def _push_on(registry: str, organization: str, token: str, tree: Path, name: str, seconds: float) -> int:
    from operatorcourier import api, push

    logging.disable(logging.CRITICAL)
    session = requests.Session()
    session.trust_env = False

    def push_to_ours(_: object, namespace: str, repository: str, release: str, blob: str, token: str) -> None:
        body = {"blob": blob, "release": release, "media_type": "helm"}
        url = f"{registry}/cnr/api/v1/packages/{namespace}/{repository}"
        session.post(url, json=body, headers={"Authorization": token}).raise_for_status()

    push.PushCmd._push_to_registry = push_to_ours
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        api.build_verify_and_push(organization, name, f"{done + 1}.0.0", token, source_dir=str(tree))
        done += 1
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure or compare, and print the results."""
    parser = argparse.ArgumentParser(description="How many uploads per second the REST API turns into releases.")
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=", ".join(SIZES))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--against", type=Path, metavar="DIRECTORY", help="compare with another checkout")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the comparison")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.against:
        rows = [compare(size, options.against, options.rounds) for size in options.sizes or ("flat", "nested")]
        if options.json:
            print(json.dumps(rows, indent=2))
        else:
            show(f"CPU time of one REST upload, compared with the checkout in {options.against}", rows)
        return 0
    rows = [measure(size, options.seconds) for size in options.sizes or SIZES]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show("Uploads per second through the REST API, compared with plain operator-courier on all cores", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
