# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a catalog: at most 64 layers, each with the files of the packages that belong to it.

A package belongs to the layer with the number sha256(name) mod 64. An update replaces one layer; the others are carried
over by digest. The history says which packages each layer holds, so an image of another program is recognised.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omps_worker.common.json_text import CONTAINERS, read_json
from omps_worker.common.names import PACKAGE_NAME
from omps_worker.destinations.catalog.grammars.references import digest_fault
from omps_worker.destinations.catalog.images.image import JSON_BYTES, Format, Image, LayerReference, image_of
from omps_worker.destinations.catalog.images.layers import Layer, layer_of
from omps_worker.destinations.catalog.images.unpacking import CannotUnpack, Room, unpack
from omps_worker.destinations.catalog.packages.package_file import FILE_BYTES

LAYERS = 64
"""How many layers a catalog has at most."""

CONFIGS_LABEL = "operators.operatorframework.io.index.configs.v1"
"""The label that says where in an image the catalog is."""

LAYER_BYTES = 8 * FILE_BYTES
"""How large one layer of a catalog may be, unpacked."""

_ROOT = "configs"
_FILE = "catalog.json"
_LABELS = {CONFIGS_LABEL: f"/{_ROOT}"}
_HISTORY = re.compile(r"omps-worker catalog layer ([0-9]{1,2}):((?: [a-z0-9-]{1,63})*)")


class NotOurs(ValueError):
    """An image is no catalog that this worker made; the message is a phrase."""


@dataclass(frozen=True, slots=True)
class CatalogLayer:
    """One layer of a catalog, as manifest and configuration describe it."""

    digest: str
    size: int
    diff_id: str
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogLayers:
    """What a catalog consists of: its layers by number. Knows which packages there are, not what is in them."""

    layers: Mapping[int, CatalogLayer] = field(default_factory=dict[int, CatalogLayer])

    @classmethod
    def parse(cls, manifest: bytes, config: bytes) -> CatalogLayers:
        """Read the manifest and the configuration of an image. Raises NotOurs if this worker did not make it."""
        described, configured = _json_object(manifest, "manifest"), _json_object(config, "configuration")
        if _at(configured, "config", "Labels", CONFIGS_LABEL) != _LABELS[CONFIGS_LABEL]:
            raise NotOurs(f"its label {CONFIGS_LABEL} is not /{_ROOT}")
        blobs, diff_ids = _at(described, "layers"), _at(configured, "rootfs", "diff_ids")
        history = _at(configured, "history")
        if not isinstance(blobs, list) or not isinstance(diff_ids, list) or not isinstance(history, list):
            raise NotOurs("it lists no layers")
        if not len(blobs) == len(diff_ids) == len(history) or len(blobs) > LAYERS:
            raise NotOurs("its manifest, its configuration and its history list different layers")
        layers: dict[int, CatalogLayer] = {}
        for blob, diff_id, entry in zip(blobs, diff_ids, history, strict=True):
            number, layer = _layer(blob, diff_id, entry)
            if layers and number <= max(layers):
                raise NotOurs("its layers are not in order")
            layers[number] = layer
        return cls(layers)

    @property
    def packages(self) -> tuple[str, ...]:
        """The names of all packages, sorted."""
        return tuple(sorted(package for layer in self.layers.values() for package in layer.packages))

    def layer_with(self, package: str) -> CatalogLayer | None:
        """Return the layer that a change of ``package`` replaces, which must be read first; None if there is none."""
        layer = self.layers.get(layer_number(package))
        return layer if layer and layer.packages else None

    def changed(
        self, package: str, data: bytes | None, files: Mapping[str, bytes]
    ) -> tuple[CatalogLayers, Layer | None]:
        """Return the catalog in which ``package`` has the file ``data``, or is gone if that is None.

        ``files``: the package files in the layer that is replaced, by package; none if there is no such layer. Returns
        the new layer too, which must be sent; None if the layer has become empty.
        """
        number = layer_number(package)
        held = {name: content for name, content in files.items() if name != package}
        if data is not None:
            held[package] = data
        others = {key: layer for key, layer in self.layers.items() if key != number and layer.packages}
        if not held and others:
            return CatalogLayers(others), None
        if not held:
            # An image without layers is none for some programs, so an empty catalog has a layer without packages.
            number = 0
        packed = {f"{_ROOT}/{name}/{_FILE}": content for name, content in held.items()}
        layer = layer_of(packed, (_ROOT,), compressed=True)
        made = CatalogLayer(layer.digest, layer.size, layer.diff_id, tuple(sorted(held)))
        return CatalogLayers(dict(sorted({**others, number: made}.items()))), layer

    def image(self, image_format: Format = Format.DOCKER) -> Image:
        """Return the configuration and the manifest of the catalog."""
        references = [
            LayerReference(layer.digest, layer.size, layer.diff_id, {"created_by": _history(number, layer.packages)})
            for number, layer in sorted(self.layers.items())
        ]
        return image_of(references, _LABELS, image_format)


def layer_number(package: str) -> int:
    """Return the number of the layer that a package belongs to."""
    return int.from_bytes(hashlib.sha256(package.encode()).digest(), "big") % LAYERS


def package_files(layer: CatalogLayer, blob: bytes) -> dict[str, bytes]:
    """Return the file of each package in a layer, by package. Raises NotOurs unless it holds what its history says."""
    try:
        files = unpack([blob], (_ROOT,), Room(LAYER_BYTES, 2 * LAYER_BYTES, len(layer.packages) + 1), depth=3)
    except CannotUnpack as fault:
        raise NotOurs(f"its layer {layer.digest} cannot be read: {fault}") from None
    expected = {f"{_ROOT}/{package}/{_FILE}": package for package in layer.packages}
    if files.keys() != expected.keys():
        raise NotOurs(f"its layer {layer.digest} holds other files than its history says")
    return {package: files[path] for path, package in expected.items()}


def _history(number: int, packages: tuple[str, ...]) -> str:
    return f"omps-worker catalog layer {number}:" + "".join(f" {package}" for package in packages)


def _layer(blob: Any, diff_id: Any, entry: Any) -> tuple[int, CatalogLayer]:
    created_by = _at(entry, "created_by")
    match = _HISTORY.fullmatch(created_by) if isinstance(created_by, str) else None
    if match is None:
        raise NotOurs("its history names a layer that this worker did not make")
    number, packages = int(match.group(1)), tuple(match.group(2).split())
    for package in packages:
        if not PACKAGE_NAME.fullmatch(package) or layer_number(package) != number:
            raise NotOurs(f"its layer {number} says that it holds {package}, which belongs elsewhere")
    digest, size = _at(blob, "digest"), _at(blob, "size")
    if packages != tuple(sorted(set(packages))) or number >= LAYERS:
        raise NotOurs(f"its history of layer {number} is not in order")
    if not isinstance(digest, str) or digest_fault(digest) or not isinstance(diff_id, str) or digest_fault(diff_id):
        raise NotOurs("a layer has no digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise NotOurs("a layer has no size")
    return number, CatalogLayer(digest, size, diff_id, packages)


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    if len(data) > JSON_BYTES:
        raise NotOurs(f"its {what} has more than {JSON_BYTES} bytes")
    try:
        value = read_json(data.decode(), containers=CONTAINERS)
    except ValueError:
        raise NotOurs(f"its {what} is no JSON that can be read") from None
    if not isinstance(value, dict):
        raise NotOurs(f"its {what} is no JSON object")
    return value


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
