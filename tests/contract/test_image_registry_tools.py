# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in the real registry, read by the tools that people use, and written by them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from omps_worker.destinations.catalog.image_registry.auth_file import AuthFile
from omps_worker.destinations.catalog.image_registry.client import ImageRegistryClient
from omps_worker.destinations.catalog.image_registry.image_name import ImageName, Repository
from omps_worker.sandbox.build_system.bundle_image import push_bundle
from omps_worker.sandbox.image_registry.server import SandboxImageRegistry
from tests.support.docker_registry import PASSWORD, USER
from tests.support.images import FILES, Place, SmallImage, docker_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with docker_place(tmp_path_factory.mktemp("registry"), "basic") as made:
        yield made


def run(directory: Path, *command: str) -> str:
    """What a tool says; it keeps everything in ``directory``."""
    environment = {**os.environ, "HOME": str(directory), "XDG_RUNTIME_DIR": str(directory), "TMPDIR": str(directory)}
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def logged_in(directory: Path, name: str) -> Path:
    """An auth file as skopeo writes it when it logs in for that host, or host and path."""
    path = directory / "auth.json"
    login = ["skopeo", "login", "--authfile", str(path), "--tls-verify=false", "-u", USER, "-p", PASSWORD, name]
    run(directory, *login)
    return path


@pytest.mark.parametrize("oci", [False, True], ids=["docker", "oci"])
def test_skopeo_and_umoci_read_an_image(place: Place, tmp_path: Path, oci: bool) -> None:
    image, written = place.image(), SmallImage(oci=oci)
    written.push(place.client(), image)
    login = "--authfile", str(logged_in(tmp_path, place.host))

    told = json.loads(run(tmp_path, "skopeo", "inspect", "--tls-verify=false", *login, f"docker://{image}"))
    assert (told["Digest"], told["RepoTags"]) == (written.digest, ["latest"])
    assert told["Labels"]["a-label"] == "a value"

    source = f"docker://{image.repository}@{written.digest}"
    copy = "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", *login
    run(tmp_path, *copy, source, f"oci:{tmp_path}/layout:latest")
    run(tmp_path, "umoci", "unpack", "--rootless", "--image", f"{tmp_path}/layout:latest", f"{tmp_path}/unpacked")
    for name, content in FILES.items():
        assert (tmp_path / "unpacked/rootfs" / name).read_bytes() == content


@pytest.mark.parametrize("written_as", ["v2s2", "oci"])
def test_what_skopeo_writes_is_read(place: Place, tmp_path: Path, written_as: str) -> None:
    image, target, written = place.image(), place.image(), SmallImage()
    written.push(place.client(), image)
    login = "--authfile", str(logged_in(tmp_path, place.host))
    options = "--src-tls-verify=false", "--dest-tls-verify=false", "--format", written_as, *login
    run(tmp_path, "skopeo", "--insecure-policy", "copy", *options, f"docker://{image}", f"docker://{target}")

    client = place.client()
    found = client.look(target)

    assert client.blob(target.repository, found.layers[0], max_bytes=10**6) == written.layer
    assert json.loads(client.blob(target.repository, found.config, max_bytes=10**6))["config"]["Labels"]["extra"] == ""


@pytest.mark.parametrize("manifest_list", [True, False], ids=["list", "single"])
def test_skopeo_reads_the_bundle_of_the_sandbox_without_a_login(tmp_path: Path, manifest_list: bool) -> None:
    with SandboxImageRegistry(login="token") as images:
        images.accounts.public = ["*"]
        pullspec = push_bundle(images, "heron", "2.0.1", manifest_list=manifest_list)
        copy = "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false"
        run(tmp_path, *copy, f"docker://{pullspec}", f"dir:{tmp_path}/bundle")
        told = json.loads(run(tmp_path, "skopeo", "inspect", "--tls-verify=false", f"docker://{pullspec}"))
    assert (pullspec.partition("@")[2], told["RepoTags"]) == (told["Digest"], ["2.0.1", "2.0.1-1", "latest"])
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text(encoding="utf-8"))
    assert ("manifests" in manifest, "layers" in manifest) == (manifest_list, not manifest_list)


@pytest.mark.parametrize("path", ["", "/community", "/community/catalog"])
def test_the_file_that_a_login_leaves_is_read(place: Place, tmp_path: Path, path: str) -> None:
    text = logged_in(tmp_path, place.host + path).read_text(encoding="utf-8")
    repository = Repository("http", place.host, "community/catalog")
    auth_file = AuthFile.parse(text)

    assert auth_file.find(repository).password.get_secret_value() == PASSWORD
    other = auth_file.find(Repository("http", place.host, "communities/catalog"))
    assert (other is None) == bool(path)
    client = ImageRegistryClient(auth_file.find, timeout=20)
    image = ImageName(repository, "latest")
    SmallImage().push(client, image)
    assert client.digest(image) == SmallImage().digest
