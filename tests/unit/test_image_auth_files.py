# SPDX-License-Identifier: GPL-3.0-or-later
"""Auth files of docker and podman: which entry counts, and that no program is executed."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.image_registry.auth_file import AuthFile
from omps_worker.destinations.catalog.image_registry.image_name import Repository


def entry(name: str, password: str = "s3cr3t") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def found(document: object, host: str = "registry.example.com", path: str = "community/catalog") -> str | None:
    credentials = AuthFile.parse(json.dumps(document)).find(Repository("https", host, path))
    return credentials.username if credentials else None


@pytest.mark.parametrize(
    "key",
    [
        "registry.example.com",
        "registry.example.com/",
        "Registry.example.com",
        "registry.example.com:443",
        "https://registry.example.com",
        "https://registry.example.com/",
        "https://registry.example.com/v1/",
        "https://registry.example.com/v2/",
        "http://registry.example.com/v1",
        "registry.example.com/v2/",
        "registry.example.com/community",
        "registry.example.com/community/catalog",
    ],
)
def test_every_form_of_a_key_is_understood(key: str) -> None:
    assert found({"auths": {key: entry("robot")}}) == "robot"
    assert found({key: entry("robot")}) == "robot", "the form of .dockercfg"


@pytest.mark.parametrize(
    "key",
    [
        "registry.example.com:5000",
        "example.com",
        "registry.example.com.evil.com",
        "registry.example.com/comm",
        "registry.example.com/community/catalogs",
        "registry.example.com/community/catalog/more",
        "community/catalog",
        "*.example.com",
        "",
    ],
)
def test_the_entry_of_another_place_is_none(key: str) -> None:
    assert found({"auths": {key: entry("robot")}}) is None


def test_the_most_specific_entry_counts() -> None:
    auths = {
        "registry.example.com": entry("host"),
        "registry.example.com/community/catalog": entry("repository"),
        "registry.example.com/community": entry("namespace"),
    }
    assert found({"auths": auths}) == "repository"
    assert found({"auths": auths}, path="community/other") == "namespace"
    assert found({"auths": auths}, path="other") == "host"


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_has_many_names(key: str) -> None:
    assert found({"auths": {key: entry("robot")}}, host="docker.io") == "robot"


def test_user_name_and_password_may_stand_there_openly() -> None:
    assert found({"auths": {"registry.example.com": {"username": "robot", "password": "s3cr3t"}}}) == "robot"


def test_a_password_may_have_any_character() -> None:
    password = "a:b ü\t\\"
    text = json.dumps({"auths": {"registry.example.com": entry("robot", password)}})
    credentials = AuthFile.parse(text).find(Repository("https", "registry.example.com", "x"))
    assert credentials.password.get_secret_value() == password
    decoded = base64.b64decode(credentials.authorization.get_secret_value().partition(" ")[2]).decode()
    assert decoded == f"robot:{password}"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"credHelpers": {"registry.example.com": "evil"}}, "docker-credential-evil keeps it, and is not executed"),
        ({"credsStore": "evil", "auths": {"registry.example.com": {}}}, "is not executed"),
        ({"credHelpers": {"registry.example.com": ["x", "\n"]}}, "is not executed"),
        ({"auths": {"registry.example.com": {"identitytoken": "hush"}}}, "has an identitytoken"),
        ({"auths": {"registry.example.com": {"auth": "hush!"}}}, "not base64"),
        ({"auths": {"registry.example.com": {"auth": "aHVzaA=="}}}, "USER:PASSWORD"),
        ({"auths": {"registry.example.com": {"auth": "OmE="}}}, "USER:PASSWORD"),
        ({"auths": {"registry.example.com": {"auth": "/////w=="}}}, "not base64"),
        ({"auths": {"registry.example.com": {"username": "a:b", "password": "hush"}}}, "colon"),
        ({"auths": {"registry.example.com": "hush"}}, "not an object"),
    ],
)
def test_an_entry_that_cannot_be_used_says_why_and_nothing_else(document: object, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        found(document)
    assert "hush" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert found(document, host="other.example.com") is None


def test_credentials_in_the_file_count_more_than_a_program() -> None:
    document = {
        "auths": {"registry.example.com": entry("robot")},
        "credsStore": "x",
        "credHelpers": {"registry.example.com": "y"},
    }
    assert found(document) == "robot"


@pytest.mark.parametrize("text", ["", "[]", "null", "hush", '{"auths": []}', '{"auths": "hush"}', "[" * 10**5])
def test_what_is_no_auth_file_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not a JSON object|has auths)") as caught:
        AuthFile.parse(text)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"auths": {}},
        {"auths": {"registry.example.com": {}}},
        {"HttpHeaders": {"a": "b"}},
        {"credsStore": "desktop"},
    ],
)
def test_a_file_without_entries_means_anonymous(document: object) -> None:
    assert found(document) is None


def test_representations_show_no_password() -> None:
    text = json.dumps({"auths": {"registry.example.com": entry("robot")}})
    parsed = AuthFile.parse(text)
    assert "s3cr3t" not in repr(parsed) + repr(parsed.find(Repository("https", "registry.example.com", "x")))


KEYS = st.sampled_from(
    ["auths", "auth", "username", "password", "credHelpers", "credsStore", "identitytoken"]
) | st.sampled_from(
    ["registry.example.com", "https://registry.example.com/v1/", "registry.example.com/community", "a//b", "://", "/"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_whatever_the_file_has_it_is_read_or_refused(document: object) -> None:
    said: str | None = None
    try:
        found(document)
    except ValueError as error:
        said = str(error)
    assert said is None or said.isprintable()
