# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on a catalog in processes of their own, which share nothing but the registry and, perhaps, a directory of locks.

The processes come from a fork server, which has loaded the code and has no threads.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from omps_worker.common.errors import WorkerError
from omps_worker.common.locks.file import FileLock
from omps_worker.common.locks.package_lock import HeldPackage, KeyedLock, Lockable, ProcessLock
from omps_worker.common.model import Target
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import ReleaseJob
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.sandbox import operators
from tests.support.catalog_places import catalog_at, contents_of, destination_of

SECONDS = 60.0
"""How long a process may take."""

TRIES = 200
"""How often a process tries a release that fails for the time being, as retries do."""


class NoLock(KeyedLock):
    """A lock that lets everybody in at once."""

    @contextmanager
    def lock(self, lockable: Lockable) -> Iterator[HeldPackage]:
        with ProcessLock(SECONDS).lock(lockable) as hold:
            yield hold


@dataclass(frozen=True)
class Work:
    """Releases to one catalog, one after the other. ``locks``: a directory; None: without a lock."""

    url: str
    image: str
    locks: Path | None
    operators: tuple[operators.Files, ...]
    timeout: float = 20.0

    def do(self) -> None:
        catalog = catalog_at(self.url, self.image, timeout=self.timeout)
        lock = NoLock() if self.locks is None else FileLock(self.locks, SECONDS)
        destination = destination_of(catalog, ImageRegistryClient(lambda _: None, timeout=20), lock)
        target = Target(None, catalog=catalog.name)
        for files in self.operators:
            with tempfile.TemporaryDirectory() as directory:
                content = destination.prepare(target, contents_of(files, Path(directory)), None, PushRequest())
            job = ReleaseJob(target, content, None, PushRequest())
            for left in reversed(range(TRIES)):
                try:
                    destination.release(job)
                    break
                except WorkerError as error:
                    if not error.transient or not left:
                        raise

    def start(self) -> BaseProcess:
        """Begin the work in a process."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=self.do, daemon=True)
        process.start()
        return process
