# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the cost of preparing a release, compared with plain operator-courier on the same tree.

Preparing means: read the manifests, let operator-courier validate them, pack them, and compute the digest. Plain
operator-courier validates and packs (``build_verify_and_push`` without the request). Unpacking the zip is the same
work for both, and is not measured. Each run compares verdict and content of both. The exit code is 1 if they differ,
or if a target is missed.

Memory is measured in a separate process that has imported the whole worker: at rest, after preparing the operator
several times, and at its peak.

    python -m benchmarks.prepare [--json] [--repeat N] [SIZE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import omps_worker
from benchmarks.report import show
from omps_worker.common.model import Bundle
from omps_worker.configuration.settings.models import Limits
from omps_worker.manifests import archive, bundle
from omps_worker.manifests.file_tree import FilesOnDisk, FileTree
from omps_worker.manifests.operator_manifests import OperatorManifests
from omps_worker.sandbox.operators import SIZES, sized_operator, zip_of

MARKS = {"flat": 5, "nested": 10, "big flat": 15, "big nested": 20}
"""The targets: plain operator-courier's CPU time divided by the worker's."""

SETTLED_MIB, PEAK_MIB = 110, 160
"""The targets for memory, with the big nested operator."""


def prepare(tree: FileTree) -> Bundle:
    """Prepare a release from an unpacked archive, as the worker does."""
    manifests = OperatorManifests.read(tree)
    return bundle.prepare(tree, manifests, manifests.package_name)


def measure(size: str, repeat: int) -> dict[str, object]:
    """Return one row of the table: the CPU time of both, best of ``repeat`` runs."""
    # Imported here, because operator-courier's api needs distutils, which only this comparison needs.
    from operatorcourier import api

    from tests.support import plain_courier
    from tests.support.trees import packed_files

    with tempfile.TemporaryDirectory() as scratch:
        tree = _unpacked(size, Path(scratch))
        ours, made = _best(lambda: prepare(tree), 5 * repeat)
        directory = FilesOnDisk.copy_of(tree, Path(scratch, "plain")).directory
        with contextlib.redirect_stderr(io.StringIO()):
            plain, blob = _best(lambda: plain_courier.push(directory, made.package_name), repeat)
            verdict = api.build_and_verify(str(directory), repository=made.package_name).validation_dict
    equal = verdict == {"errors": [], "warnings": list(made.courier_warnings)} and plain_courier.content(
        packed_files(made.blob)
    ) == plain_courier.content(packed_files(blob))
    return {
        "operator": f"{size} ({SIZES[size]})",
        "ours, ms CPU": ours * 1000,
        "plain, ms CPU": plain * 1000,
        "times less": plain / ours,
        "mark": MARKS[size],
        "same verdict and content": equal,
        "met": equal and plain / ours >= MARKS[size],
    }


def measure_memory(size: str) -> dict[str, object]:
    """Return one row of the second table: the MiB of a complete worker that prepares this operator."""
    command = [sys.executable, "-m", "benchmarks.prepare", "--memory-of", size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return {
        "operator": size,
        "imports, MiB": found["imports"],
        "settled, MiB": found["settled"],
        "peak, MiB": found["peak"],
        "mark, MiB": f"{SETTLED_MIB} / {PEAK_MIB}",
        "met": found["settled"] < SETTLED_MIB and found["peak"] < PEAK_MIB,
    }


def memory_of(size: str) -> dict[str, float]:
    """Return the MiB of this process after importing the worker, at rest after the work, and at its peak."""
    for module in pkgutil.walk_packages(omps_worker.__path__, "omps_worker."):
        if ".sandbox" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    imports = _memory("VmRSS")
    for _ in range(5):
        with tempfile.TemporaryDirectory() as scratch:
            prepare(_unpacked(size, Path(scratch)))
    gc.collect()
    return {"imports": imports, "settled": _memory("VmRSS"), "peak": _memory("VmHWM")}


def _unpacked(size: str, scratch: Path) -> FileTree:
    zip_file = scratch / "archive.zip"
    zip_file.write_bytes(zip_of(sized_operator(size)))
    return archive.unpack(zip_file, scratch / "tree", Limits())


def _best(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """Return the fewest CPU seconds that ``work`` took in this process, and its result."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def _memory(kind: str) -> float:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{kind}:"))
    return int(kilobytes) / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="The cost of preparing a release.")
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"one of {', '.join(SIZES)}; default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument(
        "--repeat", type=int, default=2, help="runs of plain operator-courier; the worker's code runs 5 times as often"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of)))
        return 0
    sizes = options.sizes or list(SIZES)
    speed = [measure(size, options.repeat) for size in sizes]
    memory = [measure_memory(size) for size in sizes]
    if options.json:
        print(json.dumps({"speed": speed, "memory": memory}, indent=2))
    else:
        show("Preparing a release: CPU time, compared with plain operator-courier", speed)
        show("Memory of a worker that prepares the operator five times", memory)
    return 0 if all(row["met"] for row in [*speed, *memory]) else 1


if __name__ == "__main__":
    sys.exit(main())
