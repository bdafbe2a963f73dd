# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the work on one build between preparation and release."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from omps_worker.common.model import Attempt, Build, Outcome, Status, Target
from omps_worker.common.observer import Observer
from omps_worker.common.push_request import PushRequest
from omps_worker.destinations import Content


@dataclass(frozen=True, slots=True)
class PreparedTarget:
    """A target and the content that is ready to be released to it."""

    target: Target
    content: Content


@dataclass
class BuildWork:
    """The work on one build, or on one archive without a build.

    ``seconds`` holds the time spent so far, by stage.
    """

    build: Build | None
    attempt: Attempt
    request: PushRequest
    observer: Observer
    seconds: dict[str, float] = field(default_factory=dict)
    url: str | None = None
    """The URL of the build's archive; None before the download."""

    @property
    def nvr(self) -> str | None:
        """The NVR of the build; None for an archive without a build."""
        return self.build.nvr if self.build else None

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that adds the time spent in it to ``seconds[name]`` and reports it."""
        return self.observer.timing(name, self.seconds)

    def outcome(self, status: Status, target: Target | None, **known: object) -> Outcome:
        """Return an Outcome of this work for ``target``; ``known`` are further fields of Outcome."""
        outcome = Outcome(
            status=status,
            organization=target.organization if target else None,
            repo=target.repository if target else None,
            nvr=self.nvr,
            build=self.build,
            target=target,
            seconds=dict(self.seconds),
        )
        return replace(outcome, **known)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PreparedBuild:
    """A build or an archive with at least one target left to release to. The contents are held in memory.

    ``parts`` has one item for each target: the Outcome if the target is done, else what is to be released.
    """

    work: BuildWork
    parts: Sequence[Outcome | PreparedTarget]

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that the releases go to, each as ``organization/repository``."""
        ready = [part for part in self.parts if isinstance(part, PreparedTarget)]
        return tuple(part.target.package(part.content.package_name) for part in ready)

    def with_request(self, **fields: object) -> PreparedBuild:
        """Return a copy with other values for some fields of its PushRequest."""
        work = replace(self.work, request=replace(self.work.request, **fields))  # type: ignore[arg-type]
        return replace(self, work=work)


def outcomes_or_prepared(work: BuildWork, parts: Sequence[Outcome | PreparedTarget]) -> PreparedBuild | list[Outcome]:
    """Return the outcomes if all parts have one, else a PreparedBuild with what is left to release."""
    done = [part for part in parts if isinstance(part, Outcome)]
    return done if len(done) == len(parts) else PreparedBuild(work, parts)
