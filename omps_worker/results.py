# SPDX-License-Identifier: GPL-3.0-or-later
"""The message classes for results, for fedora-messaging's tools.

The classes are registered in the entry point group ``fedora.messages``. Where this package is installed, the tools
therefore show summaries, links and notifications for the result topics. The worker does not publish through
fedora-messaging; ``messages.reporting`` writes the same headers and bodies.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fedora_messaging import message

from omps_worker.common.model import CATALOG, Status
from omps_worker.messages.reasons import how_to_publish
from omps_worker.messages.result_schema import body_schema

REGISTRY_HEADER = "omps-registry"
"""The header with the base URL of the registry, which is not in the body."""


class ReleaseResultV1(message.Message):
    """The base class of all results. A subclass names its status, and writes its own summary."""

    def __init_subclass__(cls, status: Status, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.body_schema = body_schema(status)

    @property
    def app_name(self) -> str:
        """The name of the application that publishes the message."""
        return "omps-worker"

    @property
    def summary(self) -> str:
        """A summary on one line, suitable as the subject of an email."""
        return self._sentence()

    @property
    def url(self) -> str | None:
        """The page of the package, or of the catalog image, in the registry; None if it is not known."""
        image = self._catalog().get("image")
        if isinstance(image, str):
            host, _, path = image.rpartition(":")[0].partition("/")
            return f"https://{host}/repository/{quote(path)}"
        registry = self._headers.get(REGISTRY_HEADER)
        organization, repository = self.body.get("organization"), self.body.get("repo")
        if not isinstance(registry, str) or not organization or not repository:
            return None
        return f"{registry}/application/{quote(organization, safe='')}/{quote(repository, safe='')}"

    @property
    def packages(self) -> list[str]:
        """The component of the build."""
        build = self.body.get("build")
        return [build["name"]] if build else []

    @property
    def usernames(self) -> list[str]:
        """The owner of the build."""
        build = self.body.get("build")
        return [build["owner"]] if build and build.get("owner") else []

    def __str__(self) -> str:
        lines = [self.summary, ""]
        for key in ("nvr", "organization", "repo", "version", "digest", "reason", "attempt", "next_attempt_at"):
            value = self.body.get(key)
            if value is not None:
                lines.append(f"{key.replace('_', ' ')}: {value}")
        lines += self._catalog_lines()
        if self.body.get("superseded_by"):
            lines.append(f"superseded by: {self.body['superseded_by']}")
        if self.body.get("held_by"):
            lines.append(f"held by: {self.body['held_by']} of the mapping; {how_to_publish(self.body.get('nvr'))}")
        lines += [f"warning: {warning}" for warning in self.body.get("warnings") or ()]
        source = self.body.get("source") or {}
        if "file" in source:
            lines += [f"file: {source['file']} (sha256 {source['sha256']})"]
        error = self.body.get("error")
        if error:
            lines += [f"error: {error['name']}: {error['message']}"]
            lines += ["trying again can help" if error["transient"] else "trying again cannot help"]
            if error["details"]:
                lines += ["", json.dumps(error["details"], indent=2, sort_keys=True)]
        return "\n".join(lines)

    def _sentence(self) -> str:
        return f"{self._subject()}: {self.body.get('status')}"

    def _subject(self) -> str:
        file = (self.body.get("source") or {}).get("file")
        return str(self.body.get("nvr") or self._package() or file or "a build")

    def _cause(self) -> str:
        return (self.body.get("error") or {}).get("name") or self.body.get("reason") or "unknown error"

    def _catalog(self) -> dict[str, Any]:
        catalog = self.body.get("catalog")
        return catalog if isinstance(catalog, dict) else {}

    def _catalog_lines(self) -> list[str]:
        catalog = self._catalog()
        lines = [f"catalog: {catalog['name']}"] if catalog else []
        if catalog.get("image"):
            digest = f" ({catalog['digest']})" if catalog.get("digest") else ""
            lines.append(f"image: {catalog['image']}{digest}")
        lines += [f"channel {name}: {head}" for name, head in sorted(catalog.get("channels", {}).items())]
        lines += [f"dropped: {name}" for name in catalog.get("dropped", ())]
        return lines + [f"in no channel: {name}" for name in catalog.get("unpublished", ())]

    def _package(self) -> str:
        name = self._catalog().get("name")
        place = f"{CATALOG}{name}" if name else self.body.get("organization")
        return "/".join(part for part in (place, self.body.get("repo")) if part)

    def _release(self) -> str:
        return " ".join(part for part in (self._package(), self.body.get("version")) if part)


class ReleasePublishedV1(ReleaseResultV1, status=Status.PUBLISHED):
    """The content of a build was published as a release."""

    def _sentence(self) -> str:
        return f"{self._subject()} was published as {self._release()}"


class ReleaseUnchangedV1(ReleaseResultV1, status=Status.UNCHANGED):
    """The content of a build was already released."""

    severity = message.DEBUG

    def _sentence(self) -> str:
        return f"{self._subject()} is already released as {self._release()}"


class ReleaseSkippedV1(ReleaseResultV1, status=Status.SKIPPED):
    """A build matched a rule, but there was nothing to publish."""

    severity = message.DEBUG

    def _sentence(self) -> str:
        return f"{self._subject()} was skipped: {self.body.get('reason')}"


class ReleaseFailedV1(ReleaseResultV1, status=Status.FAILED):
    """A build was not published, and will not be without intervention."""

    severity = message.ERROR

    def _sentence(self) -> str:
        package = self._package()
        return f"{self._subject()} could not be published{' to ' + package if package else ''}: {self._cause()}"


class ReleaseRetryingV1(ReleaseResultV1, status=Status.RETRYING):
    """A build is not published yet; the worker retries it automatically."""

    severity = message.WARNING

    def _sentence(self) -> str:
        return f"{self._subject()} will be retried at {self.body.get('next_attempt_at')}: {self._cause()}"


class ReleaseDeletedV1(ReleaseResultV1, status=Status.DELETED):
    """A release was deleted from the registry, or a package or a bundle from a catalog."""

    def _sentence(self) -> str:
        return f"{self._release()} was deleted"
