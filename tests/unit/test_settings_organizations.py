# SPDX-License-Identifier: GPL-3.0-or-later
"""Organizations: ways to a token, files that change, transformations."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

import pytest

from omps_worker.common.errors import SettingsError
from omps_worker.configuration.settings.organizations import OrganizationSettings
from omps_worker.configuration.settings.secrets import Secret, SecretFile, header_fault
from tests.support.configuration import GONE, faults, settings

HERE = "consumer_config.organizations.community"
CANARY = "CANARY7f3a"


def organization(
    directory: Path, table: dict[str, object], environment: dict[str, str] | None = None
) -> OrganizationSettings:
    return settings(directory, {HERE: table}, environment=environment).worker.organizations["community"]


def authorization(directory: Path, table: dict[str, object], environment: dict[str, str] | None = None) -> str:
    return organization(directory, table, environment).authorization().get_secret_value()


def test_a_token_is_the_whole_value_of_the_header(tmp_path: Path) -> None:
    assert authorization(tmp_path, {"token": "basic abc="}) == "basic abc="


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_token_in_a_file_loses_its_newline(tmp_path: Path, ending: str) -> None:
    (tmp_path / "token").write_bytes(f"basic abc={ending}".encode())
    assert authorization(tmp_path, {"token_file": "token"}) == "basic abc="


def test_a_token_may_come_from_the_environment(tmp_path: Path) -> None:
    assert authorization(tmp_path, {"token_env": "TOKEN"}, {"TOKEN": "basic abc=\n"}) == "basic abc="


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("basic file")
    both: dict[str, object] = {"token_file": "token", "token_env": "TOKEN"}
    assert authorization(tmp_path, both, {"TOKEN": "basic env"}) == "basic env"
    assert authorization(tmp_path, both, {"TOKEN": ""}) == "basic file"
    assert authorization(tmp_path, both, {}) == "basic file"


def test_a_file_that_the_environment_beats_need_not_exist(tmp_path: Path) -> None:
    both: dict[str, object] = {"token_file": "nowhere", "token_env": "TOKEN"}
    assert authorization(tmp_path, both, {"TOKEN": "basic env"}) == "basic env"


def test_a_username_with_a_password_becomes_a_basic_token(tmp_path: Path) -> None:
    expected = "basic " + base64.b64encode("me+robot:pässword".encode()).decode()
    (tmp_path / "password").write_text("pässword\n")
    user = {"username": "me+robot"}
    assert authorization(tmp_path, {**user, "password": "pässword"}) == expected
    assert authorization(tmp_path, {**user, "password_file": "password"}) == expected
    assert authorization(tmp_path, {**user, "password_env": "PASSWORD"}, {"PASSWORD": "pässword"}) == expected


def test_an_oauth_token_comes_from_the_same_kinds_of_places(tmp_path: Path) -> None:
    (tmp_path / "oauth").write_text("abc\n")
    for table, environment in (
        ({"oauth_token": "abc"}, {}),
        ({"oauth_token_file": "oauth"}, {}),
        ({"oauth_token_env": "OAUTH"}, {"OAUTH": "abc"}),
        ({"oauth_token_env": "OAUTH", "oauth_token_file": "nowhere"}, {"OAUTH": "abc"}),
    ):
        oauth = organization(tmp_path, {"token": "basic x", **table}, environment).oauth()
        assert oauth is not None
        assert oauth.get_secret_value() == "abc"
    assert organization(tmp_path, {"token": "basic x"}).oauth() is None


@pytest.mark.parametrize(
    ("table", "key", "reason"),
    [
        ({}, "", "has no login"),
        ({"public": True}, "", "has no login"),
        ({"token": "basic a", "username": "u", "password": "p"}, "", "two kinds of login"),
        ({"token_env": "SET", "password_file": "secret"}, "", "two kinds of login"),
        ({"token": "basic a", "token_file": "secret"}, "", "two sources of token"),
        ({"token": "basic a", "token_env": "SET"}, "", "two sources of token"),
        ({"username": "u", "password": "p", "password_env": "SET"}, "", "two sources of password"),
        ({"token": "basic a", "oauth_token": "o", "oauth_token_file": "secret"}, "", "two sources of oauth_token"),
        ({"username": "u"}, "", "without a password"),
        ({"password": "p"}, ".username", "is missing"),
        ({"username": "", "password": "p"}, ".username", "empty"),
        ({"username": "a:b", "password": "p"}, ".username", "colon"),
        ({"username": "u", "password": ""}, ".password", "empty"),
        ({"username": "u", "password": "a\nb"}, ".password", "control"),
        ({"token": ""}, ".token", "empty"),
        ({"token": "basic a\nb"}, ".token", "line break"),
        ({"token": "basic a\x00"}, ".token", "control"),
        ({"token": "basic ü"}, ".token", "ASCII"),
        ({"token": " basic a"}, ".token", "space"),
        ({"token": 5}, ".token", "must be text"),
        ({"token_env": "UNSET"}, ".token_env", "not set"),
        ({"token_env": "EMPTY"}, ".token_env", "is empty"),
        ({"token_env": "TWO_LINES"}, ".token_env", "line break"),
        ({"token_env": "basic abc"}, ".token_env", "name of an environment variable"),
        ({"token_file": "nowhere"}, ".token_file", "no such file"),
        ({"token_file": "."}, ".token_file", "directory"),
        ({"token_file": "blank"}, ".token_file", "empty"),
        ({"token_file": "lines"}, ".token_file", "line break"),
        ({"token_file": "binary"}, ".token_file", "UTF-8"),
        ({"token_file": "large"}, ".token_file", "more than"),
        ({"token_file": ""}, ".token_file", "path"),
        ({"token_file": "nowhere", "token_env": "UNSET"}, ".token_file", "no such file"),
        ({"token": "basic a", "oauth_token": "Bearer abc"}, ".oauth_token", "Bearer"),
        ({"token": "basic a", "oauth_token": "bearer abc"}, ".oauth_token", "Bearer"),
        ({"token": "basic a", "oauth_token_file": "bearer"}, ".oauth_token_file", "Bearer"),
        ({"token": "basic a", "oauth_token": "a b"}, ".oauth_token", "space"),
        ({"tokn": "basic a", "token": "basic a"}, ".tokn", "did you mean token"),
        ({"token": "basic a", "public": "yes"}, ".public", "true or false"),
        ({"token": "basic a", "package_name_suffix": "/x"}, ".package_name_suffix", "letters"),
        ({"token": "basic a", "replace_registry": {}}, ".replace_registry", "list"),
        ({"token": "basic a", "replace_registry": [{"old": "a"}]}, ".replace_registry[0].new", "is missing"),
        ({"token": "basic a", "replace_registry": [{"old": "", "new": ""}]}, ".replace_registry[0].old", "empty"),
        (
            {"token": "basic a", "replace_registry": [{"old": "(", "new": "", "regexp": True}]},
            ".replace_registry[0].old",
            "regular expression",
        ),
        (
            {"token": "basic a", "replace_registry": [{"old": "(a)", "new": r"\2", "regexp": True}]},
            ".replace_registry[0].new",
            "group",
        ),
        (
            {"token": "basic a", "replace_registry": [{"old": "(a)", "new": r"\g<x>", "regexp": True}]},
            ".replace_registry[0].new",
            "group",
        ),
        ({"token": "basic a", "csv_annotations": [{"name": "a"}]}, ".csv_annotations[0].value", "is missing"),
        (
            {"token": "basic a", "csv_annotations": [{"name": "a", "value": "{version}"}]},
            ".csv_annotations[0].value",
            "{package_name}",
        ),
        (
            {"token": "basic a", "csv_annotations": [{"name": "a", "value": "{package_name.__class__}"}]},
            ".csv_annotations[0].value",
            "{package_name}",
        ),
        (
            {"token": "basic a", "csv_annotations": [{"name": "a", "value": "{package_name!r}"}]},
            ".csv_annotations[0].value",
            "{package_name}",
        ),
        (
            {"token": "basic a", "csv_annotations": [{"name": "a", "value": "{"}]},
            ".csv_annotations[0].value",
            "brace",
        ),
    ],
)
def test_what_cannot_work_is_a_fault_of_its_key(
    tmp_path: Path, table: dict[str, object], key: str, reason: str
) -> None:
    for name, content in (("secret", b"basic a"), ("blank", b"\n"), ("lines", b"a\nb\n"), ("binary", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bearer").write_text("Bearer abc\n")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    environment = {"SET": "basic a", "EMPTY": "", "TWO_LINES": "a\nb"}
    found = faults(tmp_path, {HERE: table}, environment=environment)
    assert list(found) == [HERE + key]
    assert reason in found[HERE + key]


@pytest.mark.parametrize("name", ["COMMUNITY_TOKEN", "TOKEN", "_OMPS_WORKER_ORG2_TOKEN", "OMPS_WORKER_4CHAN_2_TOKEN"])
def test_a_variable_that_is_not_set_is_named(tmp_path: Path, name: str) -> None:
    found = faults(tmp_path, {HERE: {"token_env": name}, f"{HERE}.oauth_token_env": name})
    told = f"the environment variable {name} is not set, or is empty"
    assert found == {f"{HERE}.token_env": told, f"{HERE}.oauth_token_env": told}


@pytest.mark.parametrize("name", ["X1QJ8F0TZ7", "hunter_2", "A" * 25, "Passw0rd"])
def test_what_may_be_the_secret_itself_is_not_repeated(tmp_path: Path, name: str) -> None:
    found = faults(tmp_path, {HERE: {"token_env": name}})
    assert found == {f"{HERE}.token_env": "this environment variable is not set, or is empty"}
    found = faults(tmp_path, {HERE: {"token_file": name}})
    assert found == {f"{HERE}.token_file": f"there is no such file (relative paths start in {tmp_path})"}


@pytest.mark.parametrize("written", ["secrets/community", "community.token", "{}/secrets/community"])
def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path, written: str) -> None:
    (tmp_path / "secrets").mkdir()
    written = written.format(tmp_path)
    path = tmp_path / written
    key = f"{HERE}.token_file"
    assert faults(tmp_path, {HERE: {"token_file": written}}) == {key: f"there is no such file: {path}"}
    path.write_text("\n")
    assert faults(tmp_path, {HERE: {"token_file": written}}) == {key: f"the file {path} is empty"}


def test_transformations_that_can_work_are_taken(tmp_path: Path) -> None:
    read = organization(
        tmp_path,
        {
            "token": "basic a",
            "package_name_suffix": "-internal",
            "replace_registry": [
                {"old": "quay.io/(", "new": r"\1"},
                {"old": r"(?P<host>quay\.io)/", "new": r"\g<host>:443/", "regexp": True},
            ],
            "csv_annotations": [{"name": "a", "value": "{{{package_name}}}"}],
        },
    )
    assert read.package_name_suffix == "-internal"
    assert [(each.old, each.regexp) for each in read.replace_registry] == [
        ("quay.io/(", False),
        (r"(?P<host>quay\.io)/", True),
    ]
    assert read.csv_annotations[0].value == "{{{package_name}}}"


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a\n", "-a", "_x", ".a", "ü", "x" * 256])
def test_an_organization_has_a_name_that_a_registry_can_have(tmp_path: Path, name: str) -> None:
    found = faults(tmp_path, {"consumer_config.organizations": {name: {"token": "basic a"}}})
    assert len(found) == 1
    assert "name of an organization" in next(iter(found.values()))


def test_organizations_may_have_dots_dashes_and_capitals(tmp_path: Path) -> None:
    table = {name: {"token": "basic a"} for name in ("a", "redhat-operators", "A.b_c-9", "x_")}
    assert set(settings(tmp_path, {"consumer_config.organizations": table}).worker.organizations) == set(table)


def test_a_secret_that_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("basic a\n")
    changes = {"consumer_config.organizations.community": {"token_file": "token"}}
    file.chmod(0o644)
    (warning,) = settings(tmp_path, changes).warnings
    assert (warning.key, "can be read by every user" in warning.reason) == (
        "consumer_config.organizations.community.token_file",
        True,
    )
    file.chmod(0o440)
    assert settings(tmp_path, changes).warnings == ()


def test_a_secret_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("basic first\n")
    read = organization(tmp_path, {"token_file": "token"})
    file.write_text("basic second, longer\n")
    assert read.authorization().get_secret_value() == "basic second, longer"
    file.unlink()
    file.write_text("basic third\n")
    assert read.authorization().get_secret_value() == "basic third"


def test_a_secret_mounted_by_kubernetes_is_read_again_when_its_link_is_swapped(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "password").write_text(f"pass{version}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "password").symlink_to("..data/password")
    read = organization(tmp_path, {"username": "u", "password_file": "password"})
    assert base64.b64decode(read.authorization().get_secret_value().split()[1]) == b"u:pass1"
    (tmp_path / "..tmp").symlink_to("..2")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert base64.b64decode(read.authorization().get_secret_value().split()[1]) == b"u:pass2"


@pytest.mark.parametrize("broken", [None, b"", b"\n", b"a\nb", b"\xff"])
def test_a_secret_file_that_breaks_keeps_the_last_good_value_and_says_so_once(
    tmp_path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(f"basic {CANARY}")
    read = organization(tmp_path, {"token_file": "token"})
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert read.authorization().get_secret_value() == f"basic {CANARY}"
    assert len(caplog.records) == 1
    assert f"{HERE}.token_file" in caplog.text
    assert "last good value" in caplog.text
    file.write_text(f"basic {CANARY} and more")
    with caplog.at_level(logging.INFO):
        assert read.authorization().get_secret_value() == f"basic {CANARY} and more"
    assert "can be read again" in caplog.text
    assert CANARY not in caplog.text


def test_a_secret_file_that_is_written_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("basic aGFs")

    def written_meanwhile(text: str) -> None:
        if text == "basic aGFs":
            path.write_text("basic d2hv")

    file = SecretFile(path, written_meanwhile, "token_file")
    known = file.value_or_none()
    assert known is not None
    assert known.get_secret_value() == "basic d2hv"


def test_a_secret_that_was_never_there_may_be_there_at_the_next_try(tmp_path: Path) -> None:
    file = SecretFile(tmp_path / "token", header_fault, "token_file")
    secret = Secret("token", file=file)
    with pytest.raises(SettingsError, match="token_file: the file no longer exists") as caught:
        secret.get()
    assert caught.value.transient
    (tmp_path / "token").write_text("basic d2hv\n")
    assert secret.get().get_secret_value() == "basic d2hv"


def test_an_organization_without_a_token_says_so_when_it_is_asked(tmp_path: Path) -> None:
    read = settings(tmp_path, {f"{HERE}.token": GONE}, api=True).worker.organizations["community"]
    with pytest.raises(SettingsError, match="no token"):
        read.authorization()


SECRETS: dict[str, object] = {"token": f"basic {CANARY}", "oauth_token": CANARY}


def test_no_secret_is_shown(tmp_path: Path) -> None:
    read = settings(tmp_path, {HERE: SECRETS, "amqp_url": f"amqp://u:{CANARY}@localhost"})
    read.worker.organizations["community"].authorization()
    for shown in (repr(read), str(read), read.model_dump_json(), repr(read.model_dump()), f"{vars(read)}"):
        assert CANARY not in shown
    for own in (repr(read.worker.organizations["community"].authorization()), repr(read.warnings)):
        assert CANARY not in own


@pytest.mark.parametrize(
    "table",
    [
        {"token": f"basic {CANARY}\nx"},
        {"token": [CANARY]},
        {"token": {"value": CANARY}},
        {"token": f"basic {CANARY}", "token_file": CANARY},
        {"token_env": CANARY},
        {"token_env": f"basic {CANARY}"},
        {"token_file": CANARY},
        {"token_file": f"x/{CANARY}\0"},
        {"username": "u", "password": f"{CANARY}\n"},
        {"username": f"{CANARY}:{CANARY}", "password": CANARY},
        {"token": "basic a", "oauth_token": f"Bearer {CANARY}"},
        {"token": "basic a", "oauth_token": f"{CANARY} x"},
        {"token": "basic a", "public": CANARY},
        {"token": "basic a", "package_name_suffix": f"/{CANARY}"},
        {"token": "basic a", "replace_registry": CANARY},
        {"token": "basic a", "csv_annotations": [{"name": "a", "value": f"{{{CANARY}}}"}]},
        CANARY,
        [CANARY],
    ],
)
def test_no_secret_is_in_what_is_said_about_a_fault(tmp_path: Path, table: object) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, {HERE: table, "amqp_url": f"amqps//u:{CANARY}@x"})
    error: BaseException | None = caught.value
    shown = str(error) + repr(error) + repr(caught.value.faults) + repr(caught.value.details)
    while (error := error.__cause__ or error.__context__) is not None:
        shown += str(error) + repr(error) + repr(error.args)
    assert CANARY not in shown
