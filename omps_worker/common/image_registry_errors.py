# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of image registries and of the catalogs in them; a part of the tree that ``errors`` shows."""

from __future__ import annotations

from omps_worker.common.error_base import WorkerError


class ImageRegistryError(WorkerError):
    """The image registry's answer is the problem; ``details["registry_response"]`` holds it as JSON, or {}."""


class CatalogError(ImageRegistryError):
    """The image registry cannot be reached, its answer is invalid, or it refuses.

    Transient, except if the registry refuses what is pushed for its content, or if an image cannot be used at all.

    ``ambiguous``: the registry may have stored the manifest or blob nevertheless, so query it before writing again.
    ``blobs_unknown``: the registry refuses a manifest because it does not find one of its blobs.
    """

    ambiguous = False
    blobs_unknown = False


class CatalogAuthorizationError(ImageRegistryError):
    """The image registry does not permit the operation with these credentials.

    Transient: once the credentials are renewed or have the permission, the same work succeeds. Only a check reports it
    as permanent, because waiting does not help: somebody has to change the configuration or a permission.
    """

    transient = True


class CatalogConflict(ImageRegistryError):
    """Another program changed the tag of the catalog during the update. Nothing was overwritten."""

    transient = True


class CatalogPackageNotFound(ImageRegistryError):
    """The catalog does not have the package, or this bundle of it."""


class CatalogNotOurs(ImageRegistryError):
    """The image at the catalog's tag was not written by omps-worker, or the file of a package in it is damaged.

    It is not updated, and retrying does not help: only another name of the catalog, or a deliberate replacement of the
    image, does; for a damaged package its deletion, which the message names.
    """
