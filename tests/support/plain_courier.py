# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain operator-courier, for comparisons."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from operatorcourier import api
from operatorcourier.errors import OpCourierBadBundle
from operatorcourier.push import PushCmd

from tests.support.trees import packed_files

Lists = dict[str, list[str]]


@dataclass(frozen=True)
class Answer:
    """operator-courier's result for a tree."""

    accepted: bool
    verdict: Lists
    """Its errors and warnings, sorted; empty if there is no verdict."""
    content: Mapping[str, Any]
    """The content that it would have pushed; see ``content``."""
    crashed: bool = False
    """Whether it ended with an exception that is not one of its own."""


def push(directory: Path, repository: str) -> bytes:
    """Return the tar.gz that it would have pushed. Only the request to the registry is left out.

    Raises what operator-courier raises.
    """
    pushed: list[str] = []

    class Catching(PushCmd):
        def _push_to_registry(
            self, namespace: str, repository: str, release: str, bundle: str, auth_token: str
        ) -> None:
            pushed.append(bundle)

    with mock.patch.object(api, "PushCmd", Catching):
        api.build_verify_and_push("organization", repository, "1.0.0", "basic x", source_dir=str(directory))
    return base64.b64decode(pushed[0])


def ask(directory: Path, repository: str) -> Answer:
    """Let operator-courier build, verify and pack the tree."""
    try:
        verified = api.build_and_verify(str(directory), repository=repository)
        blob = push(directory, repository)
    except OpCourierBadBundle as error:
        return Answer(False, ordered(error.validation_info), {})
    except Exception:
        return Answer(False, {}, {}, crashed=True)
    return Answer(True, ordered(verified.validation_dict), content(packed_files(blob)))


def ordered(verdict: Mapping[str, list[str]]) -> Lists:
    """Return a verdict that does not depend on the order in which the files were read."""
    return {kind: sorted(messages) for kind, messages in verdict.items()}


def content(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    """Return the content of packed files for comparison: the bytes, or for a ``bundle.yaml`` its documents, sorted."""
    if set(files) != {"bundle.yaml"}:
        return files
    data = _load(files["bundle.yaml"].decode())["data"]
    documents = {kind: _load(text) or [] for kind, text in data.items()}
    return {kind: sorted(repr(document) for document in found) for kind, found in documents.items()}


def _load(text: str) -> Any:
    # Tuples come from !!omap and are dumped as !!python/tuple. Only PyYAML's own parser accepts surrogates.
    return yaml.load(text, Loader=yaml.FullLoader if "\\uD" in text else yaml.CFullLoader)
