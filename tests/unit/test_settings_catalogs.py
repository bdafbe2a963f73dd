# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogs in the configuration: their images, ways to log in, files that change, changes to manifests."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from omps_worker.common.errors import SettingsError
from omps_worker.configuration.settings.catalogs import CatalogSettings
from omps_worker.configuration.settings.review import review
from omps_worker.destinations.catalog.image_registry.auth_file import Credentials
from omps_worker.destinations.catalog.image_registry.image_name import Repository
from tests.support.configuration import faults, settings

HERE = "consumer_config.catalogs.community"
IMAGE = "https://registry.example.com/community/catalog:latest"
CANARY = "CANARY7f3a"

CATALOG = Repository("https", "registry.example.com", "community/catalog")
BUNDLES = Repository("https", "registry.example.com", "community/etcd-bundle")
ELSEWHERE = Repository("https", "osbs.example.com", "acme/acme-bundle")


def catalog(directory: Path, table: dict[str, object], environment: dict[str, str] | None = None) -> CatalogSettings:
    changes = {HERE: {"image": IMAGE, **table}}
    return settings(directory, changes, environment=environment).worker.catalogs["community"]


def login(credentials: Credentials | None) -> str | None:
    return credentials and f"{credentials.username}:{credentials.password.get_secret_value()}"


def auth_file(**logins: str) -> str:
    entries = {host: {"auth": base64.b64encode(text.encode()).decode()} for host, text in logins.items()}
    return json.dumps({"auths": entries})


def test_a_catalog_needs_only_its_image(tmp_path: Path) -> None:
    found = catalog(tmp_path, {})
    assert (found.name, str(found.image.image("etcd"))) == (
        "community",
        "registry.example.com/community/catalog:latest",
    )
    assert (found.format, found.public, found.timeout) == ("docker", False, 30.0)
    assert found.credentials(CATALOG) is None
    assert found.oauth() is None
    assert not found.transformations


@pytest.mark.parametrize(
    ("image", "bundles"),
    [
        ("https://registry.example.com/community/catalog:latest", "registry.example.com/community/etcd-bundle"),
        ("https://registry.example.com/a/b/{package}-catalog:latest", "registry.example.com/a/b/etcd-bundle"),
        ("http://localhost:5000/catalog:{package}", "localhost:5000/etcd-bundle"),
    ],
)
def test_bundle_images_go_beside_the_catalog(tmp_path: Path, image: str, bundles: str) -> None:
    found = catalog(tmp_path, {"image": image})
    assert str(found.bundle_images.repository("etcd")) == bundles
    assert found.bundle_images.scheme == found.image.scheme


def test_bundle_images_may_go_elsewhere(tmp_path: Path) -> None:
    found = catalog(tmp_path, {"bundles": "https://other.example.com/{package}/bundle"})
    assert str(found.bundle_images.repository("etcd")) == "other.example.com/etcd/bundle"


def test_a_password_comes_from_the_configuration_a_file_or_the_environment(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pässword\n")
    for table, environment in (
        ({"password": "pässword"}, {}),
        ({"password_file": "password"}, {}),
        ({"password_env": "PASSWORD"}, {"PASSWORD": "pässword"}),
    ):
        found = catalog(tmp_path, {"username": "me+robot", **table}, environment)
        assert login(found.credentials(CATALOG)) == "me+robot:pässword"
        assert found.has_login


def test_a_user_name_and_its_password_go_to_no_other_registry(tmp_path: Path) -> None:
    found = catalog(tmp_path, {"username": "me", "password": "secret"})
    assert login(found.credentials(BUNDLES)) == "me:secret"
    assert found.credentials(ELSEWHERE) is None
    assert found.credentials(Repository("http", "registry.example.com", "community/catalog")) is None


def test_an_auth_file_has_a_login_for_each_registry(tmp_path: Path) -> None:
    (tmp_path / "docker.json").write_text(
        auth_file(**{"registry.example.com": "me:a", "osbs.example.com/acme": "me:b"})
    )
    found = catalog(tmp_path, {"auth_file": "docker.json"})
    assert [login(found.credentials(each)) for each in (CATALOG, BUNDLES, ELSEWHERE)] == ["me:a", "me:a", "me:b"]
    assert found.credentials(Repository("https", "osbs.example.com", "other/image")) is None


def test_an_auth_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "docker.json"
    path.write_text(auth_file(**{"registry.example.com": "me:old"}))
    found = catalog(tmp_path, {"auth_file": "docker.json"})
    assert login(found.credentials(CATALOG)) == "me:old"
    replacement = tmp_path / "new.json"
    replacement.write_text(auth_file(**{"registry.example.com": "me:new"}))
    replacement.replace(path)
    assert login(found.credentials(CATALOG)) == "me:new"
    with caplog.at_level(logging.ERROR):
        path.write_text("{")
        assert login(found.credentials(CATALOG)) == "me:new"
    assert "consumer_config.catalogs.community.auth_file" in caplog.text


def test_an_entry_that_cannot_be_used_is_a_transient_fault_of_the_key(tmp_path: Path) -> None:
    (tmp_path / "docker.json").write_text(json.dumps({"credHelpers": {"registry.example.com": "gcloud"}}))
    found = catalog(tmp_path, {"auth_file": "docker.json"})
    with pytest.raises(SettingsError, match="is not executed") as caught:
        found.credentials(CATALOG)
    assert caught.value.transient
    assert caught.value.faults[0].key == f"{HERE}.auth_file"


@pytest.mark.parametrize(
    ("table", "key", "reason"),
    [
        ({"image": "registry.example.com/catalog:latest"}, ".image", "must begin with https:// or http://"),
        ({"image": "https://registry.example.com/catalog"}, ".image", "must end with a tag"),
        ({"image": "https://me:secret@registry.example.com/catalog:a"}, ".image", "neither a user name nor a digest"),
        ({"image": "https://registry.example.com/{name}:a"}, ".image", "placeholder other than {package}"),
        ({"image": "https://registry.example.com/UPPER:a"}, ".image", "not the path of a repository"),
        ({"image": 5}, ".image", "must be text"),
        ({"image": ""}, ".image", "must begin with https:// or http://"),
        ({"image": "https://{package}.example.com/catalog:a"}, ".image", "not a host"),
        ({"image": "https://registry.example.com:0/catalog:a"}, ".image", "the port 0"),
        ({"image": "https://registry.example.com/catalog:a/"}, ".image", "neither a tag nor a digest"),
        ({"image": f"https://registry.example.com/catalog@sha256:{64 * 'a'}"}, ".image", "nor a digest"),
        ({"image": f"https://h/{200 * 'a'}/{40 * 'b'}/c:a"}, ".image", "set bundles"),
        ({"bundles": f"https://registry.example.com/{{package}}@sha256:{64 * 'a'}"}, ".bundles", "nor a digest"),
        ({"bundles": "https://me:secret@registry.example.com/{package}"}, ".bundles", "neither a user name"),
        ({"bundles": "https://{package}.example.com/bundles"}, ".bundles", "not a host"),
        ({"bundles": "https://registry.example.com/{package}?x"}, ".bundles", "a query"),
        ({"bundles": "https://registry.example.com/{package}/Bundle"}, ".bundles", "not the path"),
        ({"image": "https://h/a/{package}:v1", "bundles": "https://h/a/{package}"}, ".bundles", "repository of image"),
        ({"image": "https://h/a/{package}:v1", "bundles": "https://H:443/a/{package}"}, ".bundles", "image"),
        ({"image": "https://h/a/{package}:v1", "bundles": "http://h/a/{package}"}, ".bundles", "image"),
        ({"image": "https://h/a/{package}-bundle:v1"}, ".image", "set bundles"),
        ({"bundles": "https://registry.example.com/bundles"}, ".bundles", "must contain {package}"),
        ({"bundles": "https://registry.example.com/{package}:tag"}, ".bundles", "must not have a tag"),
        ({"username": "u"}, "", "without a password"),
        ({"password": "p"}, ".username", "is missing"),
        ({"username": "a:b", "password": "p"}, ".username", "colon"),
        ({"username": "u", "password": "p", "auth_file": "good.json"}, "", "two kinds of login"),
        ({"username": "u", "password": "p", "password_env": "SET"}, "", "two sources of password"),
        ({"username": "u", "password_env": "UNSET"}, ".password_env", "not set"),
        ({"auth_file": "nowhere.json"}, ".auth_file", "no such file"),
        ({"auth_file": "list.json"}, ".auth_file", "is not a JSON object"),
        ({"auth_file": ""}, ".auth_file", "path"),
        ({"oauth_token": "Bearer abc"}, ".oauth_token", "Bearer"),
        ({"format": "tar"}, ".format", "must be one of"),
        ({"timeout": "0s"}, ".timeout", "longer than zero"),
        ({"imag": IMAGE}, ".imag", "did you mean image"),
        ({"package_name_suffix": "/x"}, ".package_name_suffix", "letters"),
    ],
)
def test_each_fault_names_its_key_and_no_value(tmp_path: Path, table: dict[str, object], key: str, reason: str) -> None:
    (tmp_path / "good.json").write_text("{}")
    (tmp_path / "list.json").write_text("[]")
    found = faults(tmp_path, {HERE: {"image": IMAGE, **table}}, environment={"SET": "p"})
    assert set(found) == {HERE + key}
    assert reason in found[HERE + key]
    assert "me:secret" not in str(found)


@pytest.mark.parametrize(
    "table",
    [
        {"image": "https://h/{package}/{package}-catalog:{package}", "bundles": "https://h/{package}/{package}"},
        {"image": "https://h/a/catalog:latest", "bundles": "https://h/a/{package}"},
        {"image": "https://h:5000/a/{package}:v1", "bundles": "https://h/a/{package}"},
        {"image": "https://H.example.com/a/catalog:Latest"},
    ],
)
def test_catalogs_and_bundles_may_go_to_any_repositories_that_differ(tmp_path: Path, table: dict[str, object]) -> None:
    assert faults(tmp_path, {HERE: table}) == {}


def test_two_catalogs_with_one_image_are_probably_a_mistake(tmp_path: Path) -> None:
    changes: dict[str, object] = {
        HERE: {"image": IMAGE},
        "consumer_config.catalogs.copy": {"image": IMAGE.replace("registry", "REGISTRY")},
        "consumer_config.catalogs.other": {"image": IMAGE.replace("latest", "next")},
    }
    (found,) = review(settings(tmp_path, changes), "config.toml")
    assert (found.file, found.key) == ("config.toml", "consumer_config.catalogs.copy.image")
    assert "the catalog community, too" in found.reason


def test_all_faults_are_found_at_once(tmp_path: Path) -> None:
    table = {"image": "nonsense", "bundles": "https://h/x", "username": "u", "format": "tar", "colour": "red"}
    found = faults(tmp_path, {HERE: table, "consumer_config.catalogs.a b": {"image": IMAGE}})
    assert {key.removeprefix(HERE) for key in found} == {
        ".image",
        ".bundles",
        "",
        ".format",
        ".colour",
        'consumer_config.catalogs."a b"',
    }


def test_no_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "docker.json").write_text(auth_file(**{"registry.example.com": f"me:{CANARY}"}) + "}")
    found = faults(tmp_path, {HERE: {"image": IMAGE, "auth_file": "docker.json", "oauth_token": f"Bearer {CANARY}"}})
    assert len(found) == 2
    assert CANARY not in str(found)
    shown = catalog(tmp_path, {"username": "me", "password": CANARY, "oauth_token": CANARY})
    assert CANARY not in repr(shown) + str(shown) + repr(shown.credentials(CATALOG))


def test_what_is_probably_a_mistake_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "docker.json").write_text("{}")
    (tmp_path / "docker.json").chmod(0o644)
    changes: dict[str, object] = {
        HERE: {"image": "http://registry.example.com/catalog:a", "auth_file": "docker.json", "public": True},
        "consumer_config.catalogs.local": {"image": "http://localhost:5000/c:a", "username": "u", "password": "p"},
    }
    found = {each.key: each.reason for each in review(settings(tmp_path, changes), "config.toml")}
    assert {key.removeprefix(HERE) for key in found} == {".image", ".auth_file", ".public"}
    assert "plain HTTP" in found[f"{HERE}.image"]


def test_only_the_rules_that_may_fail_name_their_catalog(tmp_path: Path) -> None:
    rules = [{"old": "a", "new": "b"}, {"old": "c+", "new": "d", "regexp": True}]
    found = catalog(tmp_path, {"replace_registry": rules, "package_name_suffix": "-x"}).transformations
    assert found.package_name_suffix == "-x"
    assert [each.key for each in found.replacements] == ["", f"{HERE}.replace_registry[1]"]
