# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images, as the configuration and pull specifications have them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omps_worker.destinations.catalog.image_registry.image_name import (
    ImageName,
    ImageTemplate,
    Repository,
    is_digest,
    is_tag,
    parse_pullspec,
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
HOSTS = st.sampled_from(
    ["registry.example.com", "localhost:5000", "10.0.0.1:443", "[::1]:5000", "r.example.com:80", "a-b"]
)
PATHS = st.lists(st.from_regex(r"[a-z0-9]{1,5}([._-][a-z0-9]{1,5})?", fullmatch=True), min_size=1, max_size=4).map(
    "/".join
)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        (
            "https://registry.example.com/a/b:latest",
            "registry.example.com/a/b:latest",
            "https://registry.example.com/v2/a/b",
        ),
        ("HTTPS://Registry.Example.COM/a:v1", "registry.example.com/a:v1", "https://registry.example.com/v2/a"),
        ("https://r.example.com:443/a:v1", "r.example.com/a:v1", "https://r.example.com/v2/a"),
        ("http://localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1", "http://localhost:5000/v2/a/b/c"),
        ("http://r.example.com:80/a:v1", "r.example.com/a:v1", "http://r.example.com/v2/a"),
        ("https://r.example.com:80/a:v1", "r.example.com:80/a:v1", "https://r.example.com:80/v2/a"),
        ("https://[::1]:5000/a:v1", "[::1]:5000/a:v1", "https://[::1]:5000/v2/a"),
        (
            "https://r.example.com/{package}/x:{package}-1",
            "r.example.com/etcd/x:etcd-1",
            "https://r.example.com/v2/etcd/x",
        ),
        ("https://docker.io/library/a:1", "docker.io/library/a:1", "https://registry-1.docker.io/v2/library/a"),
    ],
)
def test_a_name_of_the_configuration(text: str, name: str, url: str) -> None:
    template = ImageTemplate.parse(text, tagged=True)

    assert (str(template.image("etcd")), template.repository("etcd").url) == (name, url)
    assert template.for_each_package == ("{package}" in text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("registry.example.com/a:latest", "must begin with https"),
        ("ftp://registry.example.com/a:latest", "must begin with https"),
        ("https://registry.example.com/a", "must end with a tag"),
        ("https://registry.example.com:5000", "must end with a tag"),
        ("https://registry.example.com/:latest", "not the path"),
        ("https://registry.example.com:latest", "must end with a tag"),
        ("https:///a:latest", "not a host"),
        ("https://user:password@registry.example.com/a:latest", "neither a user name"),
        (f"https://registry.example.com/a@{DIGEST}", "neither a user name nor a digest"),
        ("https://registry.example.com/a:latest?x", "query"),
        ("https://registry.example.com/a:latest#x", "query"),
        ("https://registry.example.com/a:", "neither a tag"),
        ("https://registry.example.com/a:-x", "neither a tag"),
        ("https://registry.example.com/a:" + "x" * 129, "neither a tag"),
        ("https://registry.example.com/A:latest", "not the path"),
        ("https://registry.example.com/a//b:latest", "not the path"),
        ("https://registry.example.com/../b:latest", "not the path"),
        ("https://registry.example.com/a/:latest", "not the path"),
        ("https://registry.example.com/a b:latest", "not the path"),
        ("https://registry.example.com/{packag}:latest", "placeholder other than"),
        ("https://registry.example.com/{package}}:latest", "placeholder other than"),
        ("https://registry.example.com/a:{version}", "placeholder other than"),
        ("https://{package}.example.com/a:latest", "not a host"),
        ("https://registry.example.com:0/a:latest", "port"),
        ("https://registry.example.com:65536/a:latest", "port"),
        ("https://registry_x.example.com/a:latest", "not a host"),
        ("https://registry.example.com/" + "a" * 250 + ":latest", "longer than"),
        ("https://registry.example.com/" + "a" * 10**6 + ":latest", "longer than"),
        ("https://registry.example.com/a\n:latest", "not the path"),
        ("https://registry.example.com/a:latest\n", "neither a tag"),
    ],
    ids=lambda value: value[:50],
)
def test_what_is_no_name_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ImageTemplate.parse(text, tagged=True)


def test_names_of_bundles_have_no_tag() -> None:
    template = ImageTemplate.parse("https://registry.example.com/a/{package}-bundle", tagged=False)

    assert str(template.repository("etcd")) == "registry.example.com/a/etcd-bundle"
    assert str(template.image("etcd", "v1.0.0")) == "registry.example.com/a/etcd-bundle:v1.0.0"
    with pytest.raises(ValueError, match="must not have a tag"):
        ImageTemplate.parse("https://registry.example.com/a:latest", tagged=False)
    with pytest.raises(ValueError, match="has no tag"):
        template.image("etcd")


@pytest.mark.parametrize("package", ["Etcd", "../x", "a/../b", "", "a:b", "a@b", "x" * 300, "a b", "é"])
def test_a_package_of_which_no_image_can_be_named(package: str) -> None:
    template = ImageTemplate.parse("https://registry.example.com/a/{package}-bundle", tagged=False)
    with pytest.raises(ValueError):
        template.repository(package)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"registry.example.com/a/b@{DIGEST}", f"registry.example.com/a/b@{DIGEST}"),
        (f"registry.example.com/a/b:v1@{DIGEST}", f"registry.example.com/a/b@{DIGEST}"),
        ("registry.example.com:5000/a/b:v1", "registry.example.com:5000/a/b:v1"),
        ("localhost/a", "localhost/a:latest"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("a/b:1", "docker.io/a/b:1"),
    ],
)
def test_a_pull_specification(text: str, name: str) -> None:
    assert str(parse_pullspec(text)) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "registry.example.com/",
        "registry.example.com/a@sha256:abc",
        "registry.example.com/a@",
        f"registry.example.com/a@@{DIGEST}",
        f"registry.example.com/a@{DIGEST}x",
        f"registry.example.com/a@{DIGEST}\n",
        "https://registry.example.com/a:v1",
        "registry.example.com/a:v1:v2",
        "registry.example.com/a:",
        "registry.example.com/A",
        "user@registry.example.com/a",
    ],
)
def test_what_is_no_pull_specification(text: str) -> None:
    with pytest.raises(ValueError):
        parse_pullspec(text)


@given(HOSTS, PATHS, TAGS, st.booleans())
def test_every_name_survives_its_text(host: str, path: str, tag: str, digest: bool) -> None:
    image = ImageName(Repository("http", host, path), DIGEST if digest else tag)
    if "." not in host and ":" not in host:
        return
    again = parse_pullspec(str(image), scheme="http")
    assert str(again) == str(image).replace(":80/", "/")
    assert again.repository.path == path


@given(st.text(max_size=80) | st.from_regex(r"https?://[a-z.:]{0,9}(/[a-zA-Z{}._:@-]{0,9}){0,3}", fullmatch=True))
def test_whatever_the_text_a_name_is_safe_in_a_url(text: str) -> None:
    for parse in (parse_pullspec, lambda each: ImageTemplate.parse(each, tagged=True).image("etcd")):
        image, said = None, ""
        try:
            image = parse(text)
        except ValueError as error:
            said = str(error)
        assert said.isprintable()
        if image is not None:
            assert re.fullmatch(r"https?://[a-z0-9.:\[\]-]+/v2/[a-z0-9._/-]+", image.repository.url)
            assert not {"", ".", ".."} & set(image.repository.path.split("/"))
            assert is_tag(image.reference) != is_digest(image.reference)
