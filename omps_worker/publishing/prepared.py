# SPDX-License-Identifier: GPL-3.0-or-later
"""The work on one build between its steps: what is known so far, and what is left to release."""

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
    """What is to be released to ``target``."""

    target: Target
    content: Content


@dataclass
class BuildWork:
    """One build under way, or one archive without a build."""

    build: Build | None
    attempt: Attempt
    request: PushRequest
    observer: Observer
    seconds: dict[str, float] = field(default_factory=dict)
    url: str | None = None
    """Where the build's archive is, once it was downloaded."""

    @property
    def nvr(self) -> str | None:
        """The build's."""
        return self.build.nvr if self.build else None

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Add the time spent inside to ``seconds[name]``, and tell of it."""
        return self.observer.timing(name, self.seconds)

    def outcome(self, status: Status, target: Target | None, **known: object) -> Outcome:
        """An Outcome of this work for ``target``."""
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
    """A build, or an archive, of which at least one target is left to release to; it holds the contents in memory."""

    work: BuildWork
    parts: Sequence[Outcome | PreparedTarget]

    @property
    def packages(self) -> tuple[str, ...]:
        """Where the releases go, each as ``organization/repository``."""
        ready = [part for part in self.parts if isinstance(part, PreparedTarget)]
        return tuple(part.target.package(part.content.package_name) for part in ready)

    def asked_again(self, **wishes: object) -> PreparedBuild:
        """The same with other wishes, which are fields of Request."""
        work = replace(self.work, request=replace(self.work.request, **wishes))  # type: ignore[arg-type]
        return replace(self, work=work)


def left_to_release(work: BuildWork, parts: Sequence[Outcome | PreparedTarget]) -> PreparedBuild | list[Outcome]:
    """Return the outcomes if all parts have one, else what is left to release."""
    done = [part for part in parts if isinstance(part, Outcome)]
    return done if len(done) == len(parts) else PreparedBuild(work, parts)
