# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a catalog: look, upload, lock, look again, merge, tag, verify.

::

    look ► upload bundles by digest ► LOCK ► look again ► superseded? ► merge, validate ► tag bundles
         ► upload layer, configuration, manifest by digest ► mark ► HEAD: unchanged? ► PUT tag ► GET: ours? ► UNLOCK

No registry has a conditional PUT, so the lock protects a catalog from other workers. The HEAD right before the PUT
protects it from other programs, but for the milliseconds between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from omps_worker.common.errors import CatalogAuthorizationError, CatalogConflict, CatalogError, WorkerError
from omps_worker.common.http_client.client import deadline
from omps_worker.common.locks.package_lock import HeldPackage, PackageLock, held_too_long
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.destinations.catalog.content import MadeBundle
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.image import Format, Image, digest_tag
from omps_worker.destinations.catalog.images.layers import Layer
from omps_worker.destinations.catalog.ledger import CatalogState, read_state
from omps_worker.destinations.catalog.merge import Merged

ROUNDS = 10
"""How many times an update starts again because another program changed the catalog in the meantime."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an update does to a package, decided by what the catalog has.

    ``merged`` is None if a newer build supersedes the content. ``bundles`` are the bundle images of the package that
    the worker makes, by the name of the bundle.
    """

    merged: Merged | None
    bundles: Mapping[str, MadeBundle] = field(default_factory=dict[str, MadeBundle])


Decide = Callable[[CatalogState], Change]
"""Decides about an update, with or without the lock. May raise WorkerErrors."""


@dataclass(frozen=True, slots=True)
class Updated:
    """The result of an update. ``created`` are the names of the bundles whose images this update pushed."""

    state: CatalogState
    change: Change
    digest: str | None
    """The digest of the catalog's manifest after the update."""
    written: bool
    created: frozenset[str] = frozenset()


class CatalogUpdates:
    """Updates one package at a time in catalog images. Safe to use from several threads."""

    def __init__(self, lock: PackageLock, observer: Observer = NO_OBSERVER) -> None:
        self._lock = lock
        self._observer = observer

    def plan(self, client: ImageRegistryClient, image: ImageName, package: str, decide: Decide) -> Updated:
        """Return what ``update`` would do now. Changes nothing; ``created`` are the images that it would push."""
        state = read_state(client, image, package)
        change = decide(state)
        missing = [name for name, each in change.bundles.items() if not _is_there(client, each)]
        # The digest that the catalog would get is not known: nothing is made.
        digest = state.digest if change.merged is None or unchanged(state, change) else None
        return Updated(state, change, digest, written=False, created=frozenset(missing))

    def update(
        self,
        client: ImageRegistryClient,
        image: ImageName,
        package: str,
        decide: Decide,
        image_format: Format,
        *,
        start_over: bool = False,
    ) -> Updated:
        """Update ``package`` as ``decide`` says.

        Raises CatalogError and CatalogAuthorizationError of the registry, CatalogConflict if other programs keep
        changing the catalog (both transient), and what the lock and ``decide`` raise. After a transient error, doing it
        again is safe: it finds what is done.
        """
        state = read_state(client, image, package, start_over=start_over)
        change = decide(state)
        if change.merged is None or unchanged(state, change):
            return Updated(state, change, state.digest, written=False)
        created = self._upload_bundles(client, change)
        with self._locked(image) as hold:
            for _ in range(ROUNDS):
                state = read_state(client, image, package, writing=True, start_over=start_over)
                change = decide(state)
                if change.merged is None or unchanged(state, change):
                    return Updated(state, change, state.digest, written=False, created=frozenset(created))
                created |= self._upload_bundles(client, change)
                _tag_bundles(client, change.bundles.values())
                data = change.merged.package.data() if change.merged.package is not None else None
                catalog, layer = state.catalog.changed(package, data, state.files)
                made = catalog.image(image_format)
                _upload_image(client, image, made, layer)
                if self._put_tag(client, image, made, state, hold):
                    return Updated(state, change, made.digest, written=True, created=frozenset(created))
        raise CatalogConflict(
            f"Failed to write {image}: other programs changed the catalog {ROUNDS} times in a row.",
            details={"registry_response": {}},
        )

    def _locked(self, image: ImageName) -> _Locked:
        return _Locked(self._lock, image, self._observer)

    def _upload_bundles(self, client: ImageRegistryClient, change: Change) -> set[str]:
        """Push the bundle images that are missing, by digest; return the names of those that were pushed."""
        created = set()
        with self._observer.timing("push"):
            for name, each in change.bundles.items():
                if client.digest(ImageName(each.repository, each.image.digest), writing=True) is None:
                    client.push_blob(each.repository, each.layer.blob)
                    client.push_blob(each.repository, each.image.config)
                    _put(client, ImageName(each.repository, each.image.digest), each.image)
                    created.add(name)
        return created

    def _put_tag(
        self, client: ImageRegistryClient, image: ImageName, made: Image, state: CatalogState, hold: HeldPackage
    ) -> bool:
        """Move the tag to the new manifest, and verify it. Return False if another program moved it before."""
        end = hold.begin_push()
        seconds = end - time.monotonic()
        if seconds <= 0:
            raise held_too_long(str(image))
        try:
            if client.digest(image, writing=True) != state.digest:
                hold.end_push()
                return False
        except WorkerError:
            hold.end_push()
            raise
        try:
            with deadline(seconds), self._observer.timing("push"):
                client.put_manifest(image, made.manifest, made.format.manifest_type)
        except CatalogError as error:
            if not error.ambiguous:
                hold.end_push()
                raise
            if not _is_at(client, image, made):
                raise
        except WorkerError:
            hold.end_push()
            raise
        else:
            if not _is_at(client, image, made):
                hold.end_push()
                return False
        hold.end_push()
        return True


class _Locked:
    """Locks a catalog; only the wait for the lock is timed. The key is that of ``host/path:tag``."""

    def __init__(self, lock: PackageLock, image: ImageName, observer: Observer) -> None:
        directory, _, name = image.repository.path.rpartition("/")
        self._hold = lock.hold(image.repository.host, directory, f"{name}:{image.reference}")
        self._observer = observer

    def __enter__(self) -> HeldPackage:
        with self._observer.timing("lock"):
            return self._hold.__enter__()

    def __exit__(self, *error: object) -> bool | None:
        return self._hold.__exit__(*error)  # type: ignore[arg-type]


def unchanged(state: CatalogState, change: Change) -> bool:
    """Return whether the catalog already has the package as the change would leave it."""
    merged = change.merged
    if merged is None or merged.superseded:
        return True
    if merged.package is None or state.package is None:
        return merged.package is state.package
    return merged.package.digest == state.package.digest


def _is_there(client: ImageRegistryClient, bundle: MadeBundle) -> bool:
    """Return whether a bundle image is in the registry, as far as its readers know."""
    try:
        return client.digest(ImageName(bundle.repository, bundle.image.digest)) is not None
    except CatalogAuthorizationError:
        # Some registries hide from readers whether a repository exists; it is made by the first push.
        return False


def _tag_bundles(client: ImageRegistryClient, bundles: Iterable[MadeBundle]) -> None:
    """Tag each bundle image with its version, and with its digest for registries that remove untagged images."""
    for each in bundles:
        for tag in (each.planned.bundle.tag, digest_tag(each.image.digest)):
            name = ImageName(each.repository, tag)
            if client.digest(name, writing=True) != each.image.digest:
                _put(client, name, each.image)


def _upload_image(client: ImageRegistryClient, image: ImageName, made: Image, layer: Layer | None) -> None:
    if layer is not None:
        client.push_blob(image.repository, layer.blob)
    client.push_blob(image.repository, made.config)
    _put(client, image.at(made.digest), made)


def _put(client: ImageRegistryClient, name: ImageName, made: Image) -> None:
    """Store a manifest, also if the answer to the first attempt is unclear."""
    try:
        client.put_manifest(name, made.manifest, made.format.manifest_type)
    except CatalogError as error:
        if not error.ambiguous or not _is_at(client, name, made):
            raise


def _is_at(client: ImageRegistryClient, name: ImageName, made: Image) -> bool:
    found = client.look(name, writing=True)
    return found is not None and found.digest == made.digest
