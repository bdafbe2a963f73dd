# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the outcomes of hostile input, and provide a site to attack."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema

from omps_worker.broker import copies
from omps_worker.common import error_details, errors
from omps_worker.common.model import Attempt, Build, Ignored, Outcome, Source, Status
from omps_worker.manifests.contents import ArchiveContents
from omps_worker.manifests.transformations import Transformations
from omps_worker.messages.reporting import Reporter, outcome_line
from omps_worker.messages.result_schema import body_schema
from omps_worker.sandbox import operators
from tests.support.parts import LIMITS, Parts, files_below, parts

FLAT = operators.flat_operator("lantern")
CSV, CRD, PACKAGE = "lantern.v1.4.2.clusterserviceversion.yaml", "lanterns.crd.yaml", "lantern.package.yaml"
NESTED = operators.nested_operator("otter-cache")
GOOD = operators.zip_of(FLAT)

DONE = ("published", "unchanged")
SKIPPED = "skipped"
ARCHIVE = "OMPSUploadedFileError"
MANIFESTS = "PackageValidationError"

CPU_SECONDS = 20.0
MEGABYTES = 300.0
RESULT_BYTES = 4 * 2**20
"""A result contains up to half a megabyte of file names, and JSON may need six bytes for each byte of them."""

_NEVER_TOLD = re.compile(
    r"Traceback|NoneType|has no attribute|not subscriptable|object is not|File \"|/tmp/|site-packages|object at 0x"
)
_NAMES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.WorkerError)
}
_BASES = {"WorkerError", "ContentError", "BuildSystemError", "RegistryError", "BrokerError", "UnexpectedError"}
NAMED = _NAMES - _BASES
_VALIDATORS = {status: jsonschema.Draft7Validator(body_schema(status)) for status in Status}
_REPORTER = Reporter("org.example.test", "https://registry.example.com")


def well_told(outcomes: Sequence[Outcome] | Ignored) -> set[str]:
    """Return the names of the errors, or the statuses of outcomes without one.

    Raises AssertionError if a result is not valid, or contains something that it must not.
    """
    if isinstance(outcomes, Ignored):
        return {"ignored"}
    assert outcomes
    for outcome in outcomes:
        source = Source("a-message", "a.topic")
        message = _REPORTER.message(outcome, source, Attempt())
        assert len(message.payload) < RESULT_BYTES
        body = json.loads(message.payload, parse_constant=_no_json)
        _VALIDATORS[outcome.status].validate(body)
        assert outcome_line(outcome, source, Attempt()).count("\n") == 0
        if outcome.error is not None:
            told_error(body["error"])
            header = copies.bounded(outcome.error.message, copies.MESSAGE_BYTES)
            assert header.isprintable()
            assert len(header.encode()) <= copies.MESSAGE_BYTES
    return {outcome.error.name if outcome.error else outcome.status.value for outcome in outcomes}


def told_error(error: dict[str, Any]) -> None:
    """Check that the ``error`` of a result names one of the worker's errors, in a few lines about the input."""
    assert error["name"] in NAMED, error
    assert 0 < len(error["message"]) <= errors.MESSAGE_LIMIT
    assert error["message"].count("\n") < 10, error["message"]
    assert not _NEVER_TOLD.search(error["message"]), error["message"]
    assert len(json.dumps(error["details"])) <= error_details.DETAILS_LIMIT


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


class Target(Parts):
    """A site to attack, with all temporary files in ``scratch``."""

    scratch: Path
    _count = 0

    def attack(self, manifests: bytes, **build: Any) -> set[str]:
        """Publish a build with these manifests, like ``attack_with``."""
        return self.attack_with(self.add(manifests, **build))

    def add(self, manifests: bytes | None = GOOD, **build: Any) -> dict[str, Any]:
        """Add a build to Koji."""
        self._count += 1
        return self.koji.add_build("hostile-container", "1", str(self._count), manifests=manifests, **build)

    def attack_with(self, build: dict[str, Any]) -> set[str]:
        """Publish ``build``, and return its outcomes as ``well_told`` does.

        Checks the results, the CPU time, and that no temporary file is left.
        """
        before = time.process_time()
        told = well_told(self.process(build))
        assert time.process_time() - before < CPU_SECONDS
        assert files_below(self.scratch) == []
        return told

    def prepared(self, manifests: bytes) -> str:
        """Prepare these manifests without Koji and registry; return the name of the error, or ``published``."""
        with tempfile.TemporaryDirectory() as place:
            archive = Path(place, "zip")
            archive.write_bytes(manifests)
            try:
                ArchiveContents(archive, Path(place), LIMITS).prepared(Transformations())
            except errors.WorkerError as error:
                return well_told([Outcome(Status.FAILED, error=error)]).pop()
        return Status.PUBLISHED.value

    def still_works(self) -> None:
        """Check that a good build is still published."""
        self.koji.faults.clear()
        self.registry.faults.clear()
        assert self.attack(GOOD) <= set(DONE)


@contextmanager
def target(**options: Any) -> Iterator[Target]:
    """Yield a site for many attacks, and check at the end that it still works."""
    before, scratch = tempfile.tempdir, Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        with parts(**options) as made:
            made.__class__ = Target
            assert isinstance(made, Target)
            made.scratch = scratch
            tempfile.tempdir = str(scratch)
            yield made
            made.still_works()
    finally:
        tempfile.tempdir = before
        shutil.rmtree(scratch)


def any_build(number: int = 1) -> Build:
    """Return a build as Koji describes it."""
    return Build(number, f"hostile-container-1-{number}", "hostile-container", "1", str(number), 1)


def flat_with(**files: str | bytes) -> bytes:
    """Return a good flat operator with some files replaced (``package``, ``csv``, ``crd``) or added (``extra``)."""
    names = {"package": PACKAGE, "csv": CSV, "crd": CRD, "extra": "zzz-extra.yaml"}
    return operators.zip_of({**FLAT, **{names[name]: content for name, content in files.items()}})
