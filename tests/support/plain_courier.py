# SPDX-License-Identifier: GPL-3.0-or-later
"""operator-courier as it comes, to compare with."""

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
    """What operator-courier made of a tree."""

    accepted: bool
    verdict: Lists
    """Its errors and warnings, sorted; empty where it came to none."""
    content: Mapping[str, Any]
    """What it would have pushed; see ``content``."""
    crashed: bool = False
    """It ended with an exception that is none of its own."""


def push(directory: Path, repository: str) -> bytes:
    """The tar.gz that it would have pushed; only the request to the registry is left out.

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
    """Let it build, verify and pack the tree."""
    try:
        verified = api.build_and_verify(str(directory), repository=repository)
        blob = push(directory, repository)
    except OpCourierBadBundle as error:
        return Answer(False, ordered(error.validation_info), {})
    except Exception:
        return Answer(False, {}, {}, crashed=True)
    return Answer(True, ordered(verified.validation_dict), content(packed_files(blob)))


def ordered(verdict: Mapping[str, list[str]]) -> Lists:
    """A verdict, whatever order the files were looked at in."""
    return {kind: sorted(messages) for kind, messages in verdict.items()}


def content(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    """What packed files mean: bytes as they are, and in ``bundle.yaml`` the documents, in any order."""
    if set(files) != {"bundle.yaml"}:
        return files
    data = _load(files["bundle.yaml"].decode())["data"]
    documents = {kind: _load(text) or [] for kind, text in data.items()}
    return {kind: sorted(repr(document) for document in found) for kind, found in documents.items()}


def _load(text: str) -> Any:
    # Tuples come from !!omap and travel as !!python/tuple; only PyYAML's own parser takes surrogates.
    return yaml.load(text, Loader=yaml.FullLoader if "\\uD" in text else yaml.CFullLoader)
