# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the files in ``deploy/``."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import certifi
import yaml

from omps_worker.configuration import loading
from omps_worker.configuration.settings import file
from omps_worker.configuration.settings.models import Settings
from tests.support.sources import ROOT

DEPLOY = ROOT / "deploy"
DEFINITIONS = DEPLOY / "rabbitmq/definitions.json"
KUBERNETES = DEPLOY / "kubernetes"
SYSTEMD = DEPLOY / "systemd"

BROKER = {"OMPS_WORKER_AMQP_URL": "amqps://omps-worker:secret@rabbitmq.example.com/%2F"}
"""The environment variables from the broker's Secret."""


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents in a Kubernetes file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def definitions() -> dict[str, Any]:
    """Return the broker's definitions."""
    loaded: dict[str, Any] = json.loads(DEFINITIONS.read_text(encoding="utf-8"))
    return loaded


def mounted(config: Path, mapping: Path, root: Path, *, api: bool = False) -> tuple[Settings, Any]:
    """Load the configuration as in a pod. ``root`` stands for /etc/omps-worker, where its files are mounted."""
    for path in set(re.findall(r'"/etc/omps-worker/([^"]+)"', config.read_text(encoding="utf-8"))):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(_content(path))
        # The mode with which the manifests mount them.
        (root / path).chmod(0o440)
    (root / "mapping").mkdir(exist_ok=True)
    (root / "mapping/mapping.yaml").write_text(mapping.read_text(encoding="utf-8"))
    text = config.read_text(encoding="utf-8").replace("/etc/omps-worker/", f"{root}/")
    (root / "config.toml").write_text(text)
    if api:
        return file.load(root / "config.toml", environment=BROKER, api=True), None
    return loading.load(root / "config.toml", environment=BROKER)


def _content(path: str) -> str:
    if path.endswith(".pem"):
        return Path(certifi.where()).read_text(encoding="utf-8")
    return "basic c2VjcmV0" if path.endswith(".token") else "secret"


def documented_commands(page: str, command: str) -> list[list[str]]:
    """Return the lines in a page's code blocks that begin with ``command``, split like a shell."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(command)]
