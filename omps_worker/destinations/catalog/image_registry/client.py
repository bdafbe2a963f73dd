# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for image registries (docker's registry API, version 2, and the distribution specification of OCI).

Traps, as measured on the reference registry, and what the client does about them:

* While a tag is being written, reading it may answer 500. A 404 alone does not say that a tag is missing: ``look``.
* No registry has a conditional PUT. What protects a tag from two writers is a lock, which is not here.
* A PUT may be stored although its answer is lost, late or an error: ``CatalogError.ambiguous``.
* A manifest is refused if one of its blobs is missing, so blobs come first and a tag never names half an image.
* Registries list tags in pages, and may send the bytes of blobs from elsewhere, and lead a HEAD there, too.

The reference registry is distribution 2.8.2. What 3.1.1 does differently (read in registry/handlers and
registry/storage of distribution/distribution, not tried): schema 1 is gone; an upload that is continued at the wrong
place is 416; a tag can be deleted by its name; the list of no tags is null still, and [] after 3.1.1; and since
3.1.0, files are replaced in one step, so that no read answers 500 while a tag is written, and no blob that is sent
twice is missing for a moment. The same in both: missing tags and repositories are 404 with a code; a read needs the
scope pull, a write pull and push; and giving an upload up needs delete, which the worker does not ask for.

Which failures are transient: see ``failures``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from omps_worker.common.errors import CatalogError
from omps_worker.common.http_client.client import Answer, deadline, is_failure
from omps_worker.common.observer import NO_OBSERVER, Observer
from omps_worker.destinations.catalog.image_registry.answers import (
    LISTS,
    MANIFESTS,
    Descriptor,
    Manifest,
    Unreadable,
    digest_of,
    error_codes,
    manifest_of,
    named_digest,
    tags_of,
)
from omps_worker.destinations.catalog.image_registry.auth import Access, Keychain
from omps_worker.destinations.catalog.image_registry.calls import RegistryCalls, next_page, upload_address
from omps_worker.destinations.catalog.image_registry.challenges import challenges_of, merged, scope_of
from omps_worker.destinations.catalog.image_registry.failures import DENIED, unreadable, unusable
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository, is_digest

TAG_PAGES = 1000
"""The maximum number of pages of a list of tags."""

TAGS = 100_000
"""The maximum number of tags of a repository."""

LIST_CALLS = 4
"""How many times as long as one call a whole list of tags may take."""

_ACCEPT = ", ".join(sorted(MANIFESTS | LISTS))
_MISSING = 404


class ImageRegistryClient:
    """Reads and writes images in any image registry. Safe to use from several threads.

    ``keychain`` finds the credentials for a repository. ``timeout`` limits each call in seconds, with the login that it
    needs; a list of tags may take four times as long. Errors hold what the registry said, never a credential, and its
    JSON in ``details["registry_response"]``, or {}.

    ``writing`` of a read: ask for permission to write, too, as before an update. Some registries (Quay) then make a
    repository that does not exist; without it, they do not let anybody but an owner know that it does not exist.

    Every method raises CatalogError if the registry cannot be reached or its answer makes no sense, and
    CatalogAuthorizationError if it does not accept the credentials; further conditions are those of the method.
    """

    def __init__(
        self, keychain: Keychain, *, timeout: float, ca_bundle: Path | None = None, observer: Observer = NO_OBSERVER
    ) -> None:
        self._calls = RegistryCalls(keychain, timeout=timeout, ca_bundle=ca_bundle, observer=observer)

    def ping(self, repository: Repository) -> None:
        """Return if the repository's registry answers and is an image registry, whatever it thinks of the caller."""
        what = f"Failed to reach the image registry {repository.host}"
        answer = self._calls.exchange(what, "GET", f"{repository.origin}/v2/", None)
        if answer.status == 200:
            if answer.body.strip() and answer.json() is None:
                raise unreadable(what, "something answers there that is not an image registry")
            self._calls.auth.note_open(repository)
        elif answer.status != 401 or not challenges_of(answer.headers.get("WWW-Authenticate", "")):
            raise self._calls.refusal(what, answer, repository)

    def has_login(self, repository: Repository) -> bool:
        """Return whether there are credentials for the repository; without them, the caller is anonymous."""
        return not self._calls.auth.is_anonymous(repository)

    def check_login(self, repository: Repository) -> None:
        """Return if the registry lets these credentials read the repository, which need not exist."""
        what = f"Failed to read {repository}"
        answer = self._calls.call(what, "GET", f"{repository.url}/tags/list?n=1", self._pull(repository, what))
        if answer.status == 200 or (answer.status == _MISSING and error_codes(answer)):
            return
        raise self._calls.refusal(what, answer, repository)

    def check_account(self, repository: Repository) -> None:
        """Return if the repository's registry answers and accepts these credentials, whatever they permit.

        Docker's login asks the same. A registry without logins accepts everybody.
        """
        what = f"Failed to log in to the image registry {repository.host}"
        nothing = Access(repository, frozenset(), what)
        answer = self._calls.call(what, "GET", f"{repository.origin}/v2/", nothing)
        if answer.status in DENIED or is_failure(answer.status):
            raise self._calls.refusal(what, answer, repository)

    def check_push(self, repository: Repository) -> None:
        """Return if the registry lets these credentials write to the repository.

        Begins an upload and gives it up: no image changes. Some registries (Quay) make the repository if there is none.
        """
        what = f"Failed to begin an upload to {repository}"
        access = self._push(repository, what)
        address = self._begin_upload(what, repository, access)
        try:
            self._calls.exchange(what, "DELETE", address, self._calls.auth.authorization(access))
        except CatalogError:
            # Not all who may push may give an upload up; the registry forgets it by itself.
            return

    def look(self, image: ImageName, *, writing: bool = False) -> Manifest | None:
        """Return the manifest at a tag, perhaps an ``unsupported`` one; None if the tag certainly does not exist.

        It does not exist only if the registry itself says so twice: when the tag is read, and in the list of tags.
        Raises CatalogError, transient, if it is not certain: never treat that as an empty catalog.
        """
        what = f"Failed to read {image}"
        answer = self._get_manifest(what, image, writing=writing)
        if answer.status == 200:
            return _checked(what, answer, image.reference)
        if answer.status != _MISSING:
            raise self._calls.refusal(what, answer, image.repository)
        if not error_codes(answer):
            raise unreadable(what, "the answer 404 does not come from an image registry, but from something else")
        if image.reference in (self.tags(image.repository, writing=writing) or ()):
            raise unreadable(what, "the registry lists the tag and does not find it")
        return None

    def manifest(self, image: ImageName) -> Manifest:
        """Return the manifest, or the list of manifests, of an image that must exist. Raises CatalogError if not."""
        what = f"Failed to read {image}"
        answer = self._get_manifest(what, image)
        if answer.status != 200:
            raise self._calls.refusal(what, answer, image.repository)
        manifest = _checked(what, answer, image.reference)
        if manifest.unsupported:
            raise unreadable(what, manifest.unsupported)
        return manifest

    def digest(self, image: ImageName, *, writing: bool = False) -> str | None:
        """Return the digest of an image, unread; None if the registry does not find it now, which is not certain."""
        what = f"Failed to query {image}"
        access = self._access(image.repository, what, writing=writing)
        answer = self._calls.call(what, "HEAD", _manifest_url(image), access, headers={"Accept": _ACCEPT})
        if answer.status == _MISSING:
            return None
        if answer.status != 200:
            raise self._calls.refusal(what, answer, image.repository)
        try:
            named = named_digest(answer)
        except Unreadable as error:
            raise unreadable(what, error) from None
        if named is None:
            return _checked(what, self._get_manifest(what, image, writing=writing), image.reference).digest
        if is_digest(image.reference) and named != image.reference:
            raise unreadable(what, f"the answer names the digest {named}")
        return named

    def put_manifest(self, image: ImageName, body: bytes, media_type: str) -> str:
        """Store a manifest at a tag or at its digest, and return its digest. Its blobs must be there already.

        Raises CatalogError: permanent if the registry refuses the manifest itself; ``ambiguous`` if it may be stored.
        """
        what, digest = f"Failed to write {image}", digest_of(body)
        access = self._push(image.repository, what)
        answer = self._calls.call(
            what, "PUT", _manifest_url(image), access, headers={"Content-Type": media_type}, data=body, writes=True
        )
        self._stored(what, answer, image.repository, digest)
        return digest

    def put_image(self, image: ImageName, body: bytes, media_type: str, blobs: Sequence[bytes]) -> str:
        """Store a manifest as ``put_manifest`` does; send ``blobs``, some of its blobs, again if one is not known.

        Where several programs send the same blob, distribution before 3.1 truncates and writes again the file that
        says that the repository has it. Who stores a manifest in that moment is told that the blob is missing: 2.5 % of
        four writers, on Debian's 2.8.2. A registry may also have lost a blob that it has just confirmed.
        """
        for anyway in (False, True):
            try:
                return self.put_manifest(image, body, media_type)
            except CatalogError as error:
                if not error.blobs_unknown:
                    raise
            for blob in blobs:
                self.push_blob(image.repository, blob, anyway=anyway)
        return self.put_manifest(image, body, media_type)

    def blob(self, repository: Repository, descriptor: Descriptor, *, max_bytes: int) -> bytes:
        """Return a blob, whose size and digest are checked. See ``download_blob``."""
        content = bytearray()
        self.download_blob(repository, descriptor, content.extend, max_bytes=max_bytes)
        return bytes(content)

    def download_blob(
        self, repository: Repository, descriptor: Descriptor, sink: Callable[[bytes], object], *, max_bytes: int
    ) -> None:
        """Pass a blob in pieces to ``sink``. Only if this returns are they known to be what the digest names.

        Raises CatalogError, permanent if the blob is larger than ``max_bytes`` or lies outside the registry, and
        whatever ``sink`` raises. A registry may send the blob from elsewhere, which never sees a credential.
        """
        what = f"Failed to read a blob of {repository}"
        if descriptor.foreign:
            raise unusable(what, "it is a foreign layer, which lies outside the registry")
        if descriptor.size > max_bytes:
            raise unusable(what, f"it has {descriptor.size} bytes, more than the limit of {max_bytes}")
        received, checksum = 0, hashlib.sha256()

        def take(piece: bytes) -> None:
            nonlocal received
            received += len(piece)
            checksum.update(piece)
            sink(piece)

        url = _blob_url(repository, descriptor.digest)
        answer = self._calls.download(what, url, self._pull(repository, what), take, max_bytes=descriptor.size)
        if answer.status != 200:
            raise self._calls.refusal(what, answer, repository)
        if received != descriptor.size or f"sha256:{checksum.hexdigest()}" != descriptor.digest:
            raise unreadable(what, f"what came is not what the digest {descriptor.digest} names")

    def push_blob(self, repository: Repository, content: bytes, *, anyway: bool = False) -> bool:
        """Make sure that the repository has the blob; return whether it had to be sent.

        ``anyway``: send it even if the registry says that it has it. Raises CatalogError: permanent if the registry
        refuses the blob itself; ``ambiguous`` if it may be stored.
        """
        what, digest = f"Failed to write a blob of {repository}", digest_of(content)
        access = self._push(repository, what)
        if not anyway:
            answer = self._calls.call(what, "HEAD", _blob_url(repository, digest), access)
            # A registry that keeps its blobs elsewhere leads there, but only to those that it has.
            if answer.status == 200 or answer.redirected:
                return False
            # While another program sends the same blob, the reference registry may answer 500.
            if answer.status != _MISSING and answer.status < 500:
                raise self._calls.refusal(what, answer, repository)
        address = self._begin_upload(what, repository, access)
        url = f"{address}{'&' if urlsplit(address).query else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._calls.call(what, "PUT", url, access, headers=headers, data=content, writes=True)
        self._stored(what, answer, repository, digest)
        return True

    def tags(self, repository: Repository, *, writing: bool = False) -> tuple[str, ...] | None:
        """Return all tags of the repository, sorted; None if the registry says that there is no such repository."""
        what = f"Failed to list the tags of {repository}"
        access, url = self._access(repository, what, writing=writing), f"{repository.url}/tags/list"
        tags: set[str] = set()
        with deadline(LIST_CALLS * self._calls.timeout):
            for page in range(TAG_PAGES):
                answer = self._calls.call(what, "GET", url, access)
                if answer.status == _MISSING and page == 0 and error_codes(answer):
                    return None
                if answer.status != 200:
                    raise self._calls.refusal(what, answer, repository)
                try:
                    found = tags_of(answer)
                except Unreadable as error:
                    raise unreadable(what, error) from None
                following = next_page(what, url, answer)
                if following is None:
                    return tuple(sorted({*tags, *found}))
                before = len(tags)
                tags.update(found)
                if len(tags) == before:
                    raise unreadable(what, "the next page of the list has no further tags")
                if len(tags) > TAGS:
                    raise unreadable(what, f"the list has more than {TAGS} tags")
                url = following
            raise unreadable(what, f"the list has more than {TAG_PAGES} pages")

    def close(self) -> None:
        """Close the connection that this thread keeps, if there is one."""
        self._calls.close()

    def _get_manifest(self, what: str, image: ImageName, *, writing: bool = False) -> Answer:
        access = self._access(image.repository, what, writing=writing)
        headers = {"Accept": _ACCEPT}
        return self._calls.call(what, "GET", _manifest_url(image), access, headers=headers)

    def _begin_upload(self, what: str, repository: Repository, access: Access) -> str:
        answer = self._calls.call(what, "POST", f"{repository.url}/blobs/uploads/", access)
        if answer.status != 202:
            raise self._calls.refusal(what, answer, repository, writes=True)
        return upload_address(what, repository, answer)

    def _stored(self, what: str, answer: Answer, repository: Repository, digest: str) -> None:
        """Raise CatalogError unless the registry says that it stored these bytes.

        201 says so, as the specification demands, and 200 and 204 do if they name the digest. A 202 only promises it,
        and any other success may be the answer of something else: the error is then ``ambiguous``.
        """
        if answer.status not in (200, 201, 204):
            raise self._calls.refusal(what, answer, repository, writes=True, content=True)
        try:
            named = named_digest(answer)
        except Unreadable as error:
            raise unreadable(what, error) from None
        if named not in (None, digest):
            raise unreadable(what, f"the registry stored it as {named}, not as {digest}")
        if named is None and answer.status != 201:
            raise self._calls.refusal(what, answer, repository, writes=True)

    def _access(self, repository: Repository, what: str, *, writing: bool) -> Access:
        return self._push(repository, what) if writing else self._pull(repository, what)

    def _pull(self, repository: Repository, what: str) -> Access:
        return Access(repository, merged([scope_of(repository.path, "pull")]), what)

    def _push(self, repository: Repository, what: str) -> Access:
        return Access(repository, merged([scope_of(repository.path, "pull", "push")]), what)


def _checked(what: str, answer: Answer, reference: str) -> Manifest:
    try:
        return manifest_of(answer, reference)
    except Unreadable as error:
        raise unreadable(what, error) from None


def _manifest_url(image: ImageName) -> str:
    return f"{image.repository.url}/manifests/{image.reference}"


def _blob_url(repository: Repository, digest: str) -> str:
    return f"{repository.url}/blobs/{digest}"
