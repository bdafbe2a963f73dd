# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what an update of a catalog costs: CPU time of the worker, calls, and bytes that are read and sent.

Catalogs of two sizes show what grows with the catalog. The registry is the sandbox's, in a process of its own. Sizes of
manifests are those of the community's operators: about 20 kB of catalog and 130 kB of files for each bundle. The
comparison is a program that keeps the whole catalog in one layer: it reads the layer, adds the bundle, and writes it.

    python -m benchmarks.catalogs [--json] [--repeat N] [BUNDLES ...]
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import random
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from benchmarks.report import show
from omps_worker.common.errors import SettingsError
from omps_worker.common.http_client.client import Answer
from omps_worker.common.locks.package_lock import ProcessLock
from omps_worker.common.model import Build, BuildState, OperatorKind, Target
from omps_worker.common.push_request import PushRequest
from omps_worker.configuration.settings.models import Limits
from omps_worker.destinations import ReleaseJob
from omps_worker.destinations.catalog.bundle_builds import BundleContent
from omps_worker.destinations.catalog.catalog_contents import read_catalog
from omps_worker.destinations.catalog.content import TreeContent
from omps_worker.destinations.catalog.destination import CatalogDestination
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, ImageTemplate
from omps_worker.destinations.catalog.images.image import Format, LayerReference, image_of
from omps_worker.destinations.catalog.images.layers import Layer, layer_of
from omps_worker.destinations.catalog.merge import Graph, Overwrite, add_bundle
from omps_worker.destinations.catalog.packages.package_file import PackageFile
from omps_worker.destinations.catalog.uploads import BundleUploads
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Transformations
from omps_worker.sandbox import operators
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry

BUNDLES = (54, 501)
"""The sizes of the catalogs that are measured, in bundles."""

VERSIONS = 5
"""How many bundles a package of the catalog has, as in the community's repository."""

DESCRIPTION, FILES = 15_000, 90_000
"""How many bytes of text a CSV has beside the sample operator's, and a further file of the bundle."""

CPU, BUILT_CPU = 25.0, 15.0
"""The targets in milliseconds: for an update, and for a bundle image that is built and pushed."""

READS = 3
"""The target for a release that changes nothing: so many calls, all of them reads."""

_Sink = Callable[[bytes], object]

_TARGET = Target(None, catalog="bench", graph="semver")


@dataclass(frozen=True)
class _Catalog:
    """The catalog that is measured."""

    name: str
    image: ImageTemplate
    bundle_images: ImageTemplate
    format: str = "docker"
    public: bool = False
    transformations: Transformations = field(default_factory=Transformations)
    timeout: float = 30.0

    def oauth(self) -> SecretStr | None:
        return None


class _Counted(ImageRegistryClient):
    """A client that counts its calls, and the bytes of bodies in both directions."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, timeout=30)
        self.calls: list[str] = []
        self.read = self.sent = 0
        exchange, download = self._calls.exchange, self._calls.download

        def counted(what: str, method: str, url: str, authorization: Any, **options: Any) -> Answer:
            answer = exchange(what, method, url, authorization, **options)
            self.calls.append(method)
            self.read += len(answer.body)
            self.sent += len(options.get("data") or b"")
            return answer

        def counted_download(
            what: str, url: str, access: Any, sink: Callable[[bytes], object], **options: Any
        ) -> Answer:
            def take(piece: bytes) -> None:
                self.read += len(piece)
                sink(piece)

            self.calls.append("GET")
            return download(what, url, access, take, **options)

        self._calls.exchange, self._calls.download = counted, counted_download  # type: ignore[method-assign]


@dataclass
class Bench:
    """A catalog in a registry, and the destination that is measured."""

    url: str
    directory: Path

    def __post_init__(self) -> None:
        self.client = _Counted()
        self.catalog = _Catalog(
            "bench",
            ImageTemplate.parse(f"{self.url}/bench/catalog:latest", tagged=True),
            ImageTemplate.parse(f"{self.url}/bench/{{package}}-bundle", tagged=False),
        )
        self.destination = CatalogDestination(
            {"bench": self.catalog},
            lambda _: self.client,
            lambda _: NotImplemented,
            ProcessLock(),
            Limits(),
            lambda _: SettingsError([]),
        )

    def job(self, package: str, versions: Sequence[str]) -> ReleaseJob:
        """Return the release of a package with these versions."""
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            archive = Path(scratch, "archive.zip")
            archive.write_bytes(operators.zip_of(operator(package, versions)))
            contents = ArchiveContents(archive, Path(scratch), Limits())
            content = self.destination.prepare(_TARGET, contents, None, PushRequest())
        return ReleaseJob(_TARGET, content, None, PushRequest())

    def bundle_job(self, package: str, version: str) -> ReleaseJob:
        """Return the addition of one bundle, whose image is pushed as a build system would."""
        content = self.job(package, (version,)).content
        if not isinstance(content, TreeContent):
            raise TypeError("not made of package manifests")
        uploads = BundleUploads(self.client)
        uploads.push(content.bundles, None)
        (bundle,) = content.bundles.values()
        build = Build(
            1, f"{package}-{version}-1", package, version, "1", BuildState.COMPLETE, kind=OperatorKind.BUNDLE,
            bundle_image=bundle.pullspec,
        )  # fmt: skip
        return ReleaseJob(_TARGET, self.destination.prepare(_TARGET, None, build, PushRequest()), build, PushRequest())

    def measured(self, work: Callable[[], object]) -> dict[str, float]:
        """Return what ``work`` costs."""
        client = self.client
        client.calls, client.read, client.sent = [], 0, 0
        start, cpu = time.perf_counter(), time.process_time()
        work()
        return {
            "CPU, ms": (time.process_time() - cpu) * 1000,
            "wall, ms": (time.perf_counter() - start) * 1000,
            "calls": len(client.calls),
            "writes": sum(method in ("PUT", "POST") for method in client.calls),
            "read, kB": client.read / 1000,
            "sent, kB": client.sent / 1000,
        }


def operator(package: str, versions: Sequence[str]) -> operators.Files:
    """Return package manifests of the usual size; equal versions have equal files."""
    files = operators.nested_operator(package, versions=versions)
    for path, text in list(files.items()):
        if "clusterserviceversion" in path:
            words = random.Random(f"{package} {path}")
            filling = "".join(f"    {_words(words, 100)}\n" for _ in range(DESCRIPTION // 105))
            files[path] = text.replace("  description: |\n", f"  description: |\n{filling}", 1)
            schema = "".join(f"  text-{number}: {_words(words, 100)}\n" for number in range(FILES // 112))
            files[f"{path.partition('/')[0]}/data.yaml"] = (
                f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: data}}\ndata:\n{schema}"
            )
    return files


def _words(words: random.Random, length: int) -> str:
    return " ".join(words.choice(_VOCABULARY) for _ in range(length // 6))[:length].strip()


def _vocabulary(words: random.Random) -> list[str]:
    """Return words of which some are much more frequent than others, as in any text."""
    found = ["".join(words.choices("abcdefghijklmnopqrstuvwxyz", k=words.randint(2, 9))) for _ in range(400)]
    return [word for rank, word in enumerate(found, 1) for _ in range(1 + len(found) // rank)]


_VOCABULARY = _vocabulary(random.Random(1))


def measure(bundles: int, repeat: int) -> list[dict[str, object]]:
    """Return the rows for a catalog of so many bundles."""
    with _registry() as url, tempfile.TemporaryDirectory() as directory:
        bench = Bench(url, Path(directory))
        versions = [f"1.{number}.0" for number in range(VERSIONS)]
        packages = [f"operator-{number:04}" for number in range(max(bundles // VERSIONS, 1))]
        for package in packages:
            bench.destination.release(bench.job(package, versions))
        return [
            _row(
                bundles, "one more bundle, the whole catalog in one layer", repeat, None, _in_one_layer(bench, packages)
            ),
            _row(bundles, "one more bundle", repeat, CPU, lambda n: _one_more(bench, packages[n % len(packages)], n)),
            _row(bundles, "one more version of a tree", repeat, CPU + BUILT_CPU, lambda n: _tree(bench, n, versions)),
            _row(bundles, "a bundle built and pushed", repeat, BUILT_CPU, lambda n: _built(bench, n)),
            _row(bundles, "nothing changes", repeat, CPU, lambda _: _unchanged(bench, packages[-1], versions)),
        ]


def _in_one_layer(bench: Bench, packages: Sequence[str]) -> Callable[[int], dict[str, float]]:
    """Return the work of a program that keeps the catalog of the bench in one layer."""
    client, image = bench.client, ImageTemplate.parse(f"{bench.url}/bench/whole:latest", tagged=True).image("")
    kept = read_catalog(bench.client, bench.catalog.image.image(""))
    files = {f"configs/{package.name}/catalog.json": package.data() for package in kept.packages}
    _send(client, image, layer_of(files, compressed=True))

    def work(number: int) -> dict[str, float]:
        package = packages[number % len(packages)]
        content = bench.bundle_job(package, f"3.{number}.0").content
        if not isinstance(content, BundleContent):
            raise TypeError("not a bundle image")

        def update() -> None:
            manifest = client.manifest(image)
            blob = client.blob(image.repository, manifest.layers[0], max_bytes=2**30)
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))) as opened:
                found = {each.name: _content(opened, each) for each in opened.getmembers() if each.isfile()}
            path = f"configs/{package}/catalog.json"
            before = PackageFile.parse(found[path])
            merged = add_bundle(before, content.bundle, content.pullspec, Graph.SEMVER, Overwrite.NEVER)
            if merged.package is None:
                raise TypeError("nothing is left of the package")
            _send(client, image, layer_of({**found, path: merged.package.data()}, compressed=True))

        return bench.measured(update)

    return work


def _content(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = opened.extractfile(member)
    return file.read() if file is not None else b""


def _send(client: ImageRegistryClient, image: ImageName, layer: Layer) -> None:
    made = image_of([LayerReference(layer.digest, layer.size, layer.diff_id)], {}, Format.DOCKER)
    client.push_blob(image.repository, layer.blob)
    client.push_blob(image.repository, made.config)
    client.put_manifest(image, made.manifest, made.format.manifest_type)


def _one_more(bench: Bench, package: str, number: int) -> dict[str, float]:
    job = bench.bundle_job(package, f"2.{number}.0")
    return bench.measured(lambda: bench.destination.release(job))


def _tree(bench: Bench, number: int, versions: Sequence[str]) -> dict[str, float]:
    package = f"tree-{number}"
    bench.destination.release(bench.job(package, versions))
    job = bench.job(package, [*versions, "2.0.0"])
    return bench.measured(lambda: bench.destination.release(job))


def _built(bench: Bench, number: int) -> dict[str, float]:
    package = f"built-{number}"
    files = operator(package, ("1.0.0",))

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=bench.directory) as scratch:
            content = bench.destination.prepare(_TARGET, contents(Path(scratch)), None, PushRequest())
            if isinstance(content, TreeContent):
                uploads = BundleUploads(bench.client)
                uploads.push(content.bundles, None)
                uploads.tag(content.bundles, None)

    def contents(scratch: Path) -> ArchiveContents:
        archive = scratch / "archive.zip"
        archive.write_bytes(operators.zip_of(files))
        return ArchiveContents(archive, scratch, Limits())

    return bench.measured(work)


def _unchanged(bench: Bench, package: str, versions: Sequence[str]) -> dict[str, float]:
    job = bench.job(package, versions)
    return bench.measured(lambda: bench.destination.release(job))


def _row(
    bundles: int, what: str, repeat: int, mark: float | None, work: Callable[[int], Mapping[str, float]]
) -> dict[str, object]:
    runs = [work(number) for number in range(repeat)]
    found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    met = mark is None or found["CPU, ms"] <= mark
    if what == "nothing changes":
        met = met and found["calls"] <= READS and not found["writes"]
    return {"bundles": bundles, "what": what, **found, "mark, ms CPU": mark or "", "met": met}


@contextmanager
def _registry() -> Iterator[str]:
    """Run the sandbox's registry in a process of its own; yield its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    with SandboxImageRegistry() as registry:
        connection.send(registry.url)
        connection.recv()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="The cost of an update of a catalog.")
    parser.add_argument("bundles", nargs="*", type=int, metavar="BUNDLES", help=f"sizes; default: {BUNDLES}")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--repeat", type=int, default=9, help="runs, of which the median counts")
    options = parser.parse_args(arguments)
    rows = [row for bundles in options.bundles or BUNDLES for row in measure(bundles, options.repeat)]
    if options.json:
        print(json.dumps({"rows": rows}, indent=2))
    else:
        show("Updating a catalog", rows)
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
