# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates of a catalog: look, upload, lock, look again, merge, tag, verify.

::

    look ► upload bundles by digest ► LOCK ► look again ► superseded? ► merge, validate ► tag bundles
         ► upload layer, configuration, manifest by digest ► mark ► HEAD: unchanged? ► PUT tag ► GET: ours? ► UNLOCK

No registry has a conditional PUT, so the lock protects a catalog from other workers. The HEAD right before the PUT
protects it from other programs, but for the milliseconds between the two.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from omps_worker.common.errors import (
    CatalogAuthorizationError,
    CatalogConflict,
    CatalogError,
    PackageValidationError,
    WorkerError,
)
from omps_worker.common.http_client.client import deadline
from omps_worker.common.locks.package_lock import HeldPackage, PackageLock, held_too_long
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.destinations.catalog.content import MadeBundle
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName
from omps_worker.destinations.catalog.images.catalog_image import CatalogLayers
from omps_worker.destinations.catalog.images.image import Format, Image
from omps_worker.destinations.catalog.ledger import CatalogState, deletion, read_state
from omps_worker.destinations.catalog.merge import Merged
from omps_worker.destinations.catalog.packages import rules
from omps_worker.destinations.catalog.uploads import BundleUploads, is_at, missing, push_image, stored_after

log = logging.getLogger(__name__)

ROUNDS = 10
"""How many times an update starts again because another program changed the catalog in the meantime."""


@dataclass(frozen=True, slots=True)
class CatalogImage:
    """The image of a catalog and how it is written.

    ``catalog`` is the name in the configuration. ``seconds``: how long a call to its registry may take.
    """

    catalog: str
    client: ImageRegistryClient
    name: ImageName
    format: Format
    seconds: float


@dataclass(frozen=True, slots=True)
class Change:
    """What an update does to a package, decided by what the catalog has.

    ``merged`` is None if a newer build supersedes the content. ``bundles`` are the bundle images of the package that
    the worker makes, by the name of the bundle.
    """

    merged: Merged | None
    bundles: Mapping[str, MadeBundle] = field(default_factory=dict[str, MadeBundle])


class Edit(Protocol):
    """An intended change of one package, which depends on what the catalog holds. May raise WorkerErrors."""

    @property
    def package(self) -> str:
        """The name of the package."""
        ...

    @property
    def starts_over(self) -> bool:
        """Whether an image that the worker did not write counts as an empty catalog."""
        ...

    @property
    def takes_damaged(self) -> bool:
        """Whether the edit can be made to a package whose file cannot be read."""
        ...

    @property
    def advice(self) -> str:
        """What to do about an image that the worker did not write, if it does not; empty: nothing."""
        ...

    def change(self, state: CatalogState) -> Change:
        """Return the change to a catalog in this state. Raises PackageValidationError if there can be none."""
        ...

    def superseded(self, state: CatalogState) -> bool:
        """Return whether a newer build supersedes the content. It is asked while the catalog is locked."""
        ...


@dataclass(frozen=True, slots=True)
class Updated:
    """The result of an update. ``created`` are the names of the bundles whose images this update pushed."""

    state: CatalogState
    """The catalog before the update."""
    change: Change
    digest: str | None
    """The digest of the catalog's manifest after the update."""
    written: bool
    created: frozenset[str] = frozenset()
    seen: bool = True
    """Whether the catalog could be read after it was written."""


@dataclass(frozen=True, slots=True)
class _Intended:
    """What an update would do to the catalog that was seen without the lock."""

    state: CatalogState
    change: Change


class _Put(enum.Enum):
    """What became of the tag."""

    SEEN = "written and read again"
    UNSEEN = "written, but it cannot be read at the moment"
    FOREIGN = "another program has written it"


class CatalogUpdates:
    """Updates one package at a time in catalog images. Safe to use from several threads."""

    def __init__(self, lock: PackageLock, observer: Observer = NO_OBSERVER) -> None:
        self._lock = lock
        self._observer = observer

    def plan(self, image: CatalogImage, edit: Edit) -> Updated:
        """Return what ``update`` would do now. Changes nothing; ``created`` are the images that it would push."""
        state = self._foreseen(image, edit)
        change = _decided(image, edit, state)
        if unchanged(state, change):
            return Updated(state, change, state.digest, written=False)
        created = missing(image.client, change.bundles, state.package)
        # The digest that the catalog would get is not known: nothing is made.
        return Updated(state, change, None, written=False, created=created)

    def update(self, image: CatalogImage, edit: Edit) -> Updated:
        """Update a package.

        Raises CatalogError and CatalogAuthorizationError of the registry, CatalogConflict if other programs keep
        changing the catalog (both transient), and what the lock and ``edit`` raise. After a transient error, doing it
        again is safe: it finds what is done.
        """
        uploads = BundleUploads(image.client, partial(self._observer.bundle_image_pushed, image.catalog))
        first = self._prepare(image, edit, uploads)
        if isinstance(first, Updated):
            return first
        with self._locked(image) as hold:
            begun = time.monotonic()
            for _ in range(ROUNDS):
                state = self._look(image, edit, writing=True, known=first.state if first else None)
                change = _decided(image, edit, state, first.change if first and first.state is state else None)
                if change.merged is None or unchanged(state, change):
                    return Updated(state, change, state.digest, written=False, created=frozenset(uploads.created))
                made = self._send(image, edit.package, state, change, change.merged, uploads)
                put = self._put_tag(image, made, state, hold)
                if put is not _Put.FOREIGN:
                    self._observer.catalog_updated(image.catalog, time.monotonic() - begun)
                    created, seen = frozenset(uploads.created), put is _Put.SEEN
                    return Updated(state, change, made.digest, written=True, created=created, seen=seen)
                self._observer.catalog_conflict(image.catalog)
                log.info("%s was changed by another program: starting again", image.name)
        raise CatalogConflict(
            f"Failed to write {image.name}: other programs changed the catalog {ROUNDS} times in a row.",
            details={"registry_response": {}},
        )

    def _prepare(self, image: CatalogImage, edit: Edit, uploads: BundleUploads) -> Updated | _Intended | None:
        """Do what needs no lock: send the bundles. Return the result if there is nothing to update.

        Otherwise return what would be done as far as it is known without the lock.
        """
        try:
            state = self._look(image, edit)
            change = edit.change(state)
        except PackageValidationError:
            # A build that a newer one supersedes need not fit; whether one does is decided under the lock.
            return None
        except CatalogAuthorizationError:
            # Some registries hide a repository that does not exist from all but those who may make it.
            return None
        if unchanged(state, change):
            return Updated(state, change, state.digest, written=False)
        with self._observer.timing("push"):
            uploads.push(change.bundles, state.package)
        return _Intended(state, change)

    def _send(
        self,
        image: CatalogImage,
        package: str,
        state: CatalogState,
        change: Change,
        merged: Merged,
        uploads: BundleUploads,
    ) -> Image:
        """Send all that the new catalog consists of, and return the catalog, which has no tag yet."""
        data = merged.package.data() if merged.package is not None else None
        catalog, layer = state.catalog.changed(package, data, state.files)
        made = catalog.image(image.format)
        with self._observer.timing("push"):
            uploads.push(change.bundles, state.package)
            uploads.tag(change.bundles, state.package)
            push_image(image.client, image.name, made, layer)
        return made

    def _put_tag(self, image: CatalogImage, made: Image, state: CatalogState, hold: HeldPackage) -> _Put:
        """Move the tag to the new manifest, unless another program has moved it, and read it again."""
        seconds = hold.begin_push() - time.monotonic()
        if seconds <= 0:
            raise held_too_long(str(image.name))
        try:
            with deadline(seconds), self._observer.timing("push"):
                if image.client.digest(image.name, writing=True) != state.digest:
                    hold.end_push()
                    return _Put.FOREIGN
                image.client.put_manifest(image.name, made.manifest, made.format.manifest_type)
        except CatalogError as error:
            # The deadline is not that of what follows: it only reads.
            if error.ambiguous and not stored_after(error, image.client, image.name, made):
                # The mark stays: the registry may still store it.
                raise
            hold.end_push()
            if not error.ambiguous:
                raise
            return _Put.SEEN
        except WorkerError:
            hold.end_push()
            raise
        return self._verify(image, made, hold)

    def _verify(self, image: CatalogImage, made: Image, hold: HeldPackage) -> _Put:
        try:
            ours = is_at(image.client, image.name, made)
        except WorkerError as error:
            log.warning("%s was written, but cannot be read at the moment: %s", image.name, error)
            return _Put.UNSEEN
        hold.end_push()
        return _Put.SEEN if ours else _Put.FOREIGN

    def _foreseen(self, image: CatalogImage, edit: Edit) -> CatalogState:
        """Return the state as far as those who only read can know it."""
        try:
            return self._look(image, edit)
        except CatalogAuthorizationError:
            if not image.client.has_login(image.name.repository):
                raise
            image.client.check_account(image.name.repository)
            # Asking for more could make the repository. Before it writes, an update asks.
            log.warning("%s is not there yet, or the login has no right to see it: the first push tells", image.name)
            return CatalogState(None, CatalogLayers(), {}, None)

    def _look(
        self, image: CatalogImage, edit: Edit, *, writing: bool = False, known: CatalogState | None = None
    ) -> CatalogState:
        with self._observer.timing("look"):
            return read_state(
                image.client,
                image.name,
                edit.package,
                writing=writing,
                start_over=edit.starts_over,
                known=known,
                advice=edit.advice,
                catalog=image.catalog,
                damaged_too=edit.takes_damaged,
            )

    @contextmanager
    def _locked(self, image: CatalogImage) -> Iterator[HeldPackage]:
        """Lock a catalog; only the wait for the lock is timed."""
        with ExitStack() as stack:
            with self._observer.timing("lock"):
                hold = stack.enter_context(self._lock.hold_catalog(str(image.name), image.seconds))
            yield hold


def unchanged(state: CatalogState, change: Change) -> bool:
    """Return whether the catalog already has the package as the change would leave it."""
    merged = change.merged
    if merged is None or merged.superseded:
        return True
    if merged.package is None:
        return state.package is None and state.damaged is None
    if state.package is None:
        return False
    return merged.package.digest == state.package.digest


def _decided(image: CatalogImage, edit: Edit, state: CatalogState, intended: Change | None = None) -> Change:
    """Return the change; without ``merged`` if it would do something, but a newer build supersedes it.

    ``intended``: what ``edit`` has said about this state, if it was asked. Raises PackageValidationError, with the way
    out if it is the package in the catalog that is not valid.
    """
    try:
        change = intended or edit.change(state)
    except PackageValidationError:
        if edit.superseded(state):
            return Change(None)
        if state.package is not None:
            way_out = f"delete it with `{deletion(image.catalog, edit.package)}` and publish its builds again"
            rules.check(state.package, f"The package in the catalog is not valid, {way_out}")
        raise
    return Change(None) if not unchanged(state, change) and edit.superseded(state) else change
