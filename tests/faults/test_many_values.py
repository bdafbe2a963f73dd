# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest manifests that are let in fit into the memory of a worker, and larger ones are refused with the key."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from omps_worker.common.errors import PackageValidationError
from omps_worker.common.limits import FLAT_SHARE, VALUES
from omps_worker.configuration.settings.models import Limits
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Annotation, Replacement, Transformations
from omps_worker.sandbox import operators

MEGABYTES = 380.0
"""What leaves room, of the 450 of docs/configuration.md, for what the other threads of a worker have in hand."""

CHANGES = Transformations("-dev", (Replacement("quay.io", "registry.example.com"),), (Annotation("a", "b"),))
TREES = {"flat": operators.flat_operator("otter"), "nested": operators.nested_operator("otter")}
KINDS = {
    "texts": lambda count: "[" + ",".join(["a"] * count) + "]",
    "lists": lambda count: "[" + ",".join(["[]"] * count) + "]",
    "mappings": lambda count: "[" + ",".join(["{a: b}"] * (count // 3)) + "]",
    "numbers": lambda count: "[" + ",".join(map(str, range(count))) + "]",
}
PREPARE = """
import re, sys
from pathlib import Path
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.configuration.settings.models import Limits
from tests.faults.test_many_values import CHANGES
place = Path(sys.argv[1])
ArchiveContents(place / "archive.zip", place, Limits()).prepared(CHANGES)
# Of this program alone: what getrusage tells includes the process that it was started from.
print(int(re.search("VmHWM:[ \\t]*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def archive_of(place: Path, shape: str, values: str) -> Path:
    """An operator of that shape, with ``values`` in the spec of its first CSV."""
    files = dict(TREES[shape])
    name = next(name for name in files if "clusterserviceversion" in name)
    files[name] = files[name].replace("\nspec:\n", f"\nspec:\n  more: {values}\n", 1)
    assert files[name] != TREES[shape][name]
    archive = place / "archive.zip"
    archive.write_bytes(operators.zip_of(files))
    return archive


def refusal(place: Path, shape: str, count: int, limits: Limits) -> str:
    archive = archive_of(place, shape, KINDS["texts"](count))
    with pytest.raises(PackageValidationError) as caught:
        ArchiveContents(archive, place, limits).prepared(Transformations())
    return caught.value.message


@pytest.mark.parametrize(("shape", "kind"), [("flat", "lists"), ("nested", "numbers")])
def test_as_many_values_as_may_be_are_no_burden(tmp_path, shape, kind):
    most = VALUES if shape == "nested" else VALUES // FLAT_SHARE
    archive_of(tmp_path, shape, KINDS[kind](most - 1000))
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "archive.zip").write_bytes((tmp_path / "archive.zip").read_bytes())
        ran = subprocess.run([sys.executable, "-c", PREPARE, scratch], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < MEGABYTES


@pytest.mark.parametrize("shape", TREES)
def test_more_values_are_refused_with_the_key_that_raises_the_limit(tmp_path, shape):
    limits = Limits(values=4000)
    told = refusal(tmp_path, shape, 4000 if shape == "nested" else 1000, limits)
    assert "more than 4000 values" in told if shape == "nested" else "at most 1000 values are accepted" in told
    assert told.endswith(("that is this worker's limit, values in [consumer_config.limits]", "limits]."))


def test_a_higher_limit_lets_them_in_whatever_is_changed(tmp_path):
    archive = archive_of(tmp_path, "flat", KINDS["texts"](300_000))
    with pytest.raises(PackageValidationError):
        ArchiveContents(archive, tmp_path, Limits()).prepared(CHANGES)
    taken = ArchiveContents(archive, tmp_path, Limits(values=1_300_000)).prepared(CHANGES)
    assert taken.package_name == "otter-dev"


def test_a_higher_limit_holds_for_the_files_that_are_changed_too(tmp_path):
    archive = archive_of(tmp_path, "nested", KINDS["texts"](VALUES + 1000))
    taken = ArchiveContents(archive, tmp_path, Limits(values=2 * VALUES)).prepared(CHANGES)
    assert taken.nested


def test_what_is_beside_the_manifests_counts_and_is_let_in(tmp_path):
    """A quarter of a million values in a file that is none of them were refused."""
    files = {**TREES["nested"], "1.0.0/notes.yaml": "- a\n" * 250_001}
    archive = tmp_path / "archive.zip"
    archive.write_bytes(operators.zip_of(files))
    assert ArchiveContents(archive, tmp_path, Limits()).prepared(Transformations()).nested
