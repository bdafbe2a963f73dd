# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what an app registry says, true or not."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from requests.structures import CaseInsensitiveDict

from omps_worker.common.http_client.client import Answer
from omps_worker.common.model import Release
from omps_worker.destinations.app_registry.answers import releases_of
from omps_worker.destinations.refusals import Scrubber, basic_credentials, summary_of

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=20)
NEARLY_AN_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "release": ANY_JSON | st.just("1.0.0"),
        "content": ANY_JSON | st.fixed_dictionaries({"digest": ANY_JSON | st.just("a" * 64)}),
        "mediaType": ANY_JSON,
        "created_at": ANY_JSON,
    },
)


def answer(body: object, status: int = 400) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, CaseInsensitiveDict(), data)


def entry(version: str, digest: str | None, **more: Any) -> dict[str, Any]:
    return {"release": version, "content": {"digest": digest}, "created_at": "2026-11-21T01:58:28", **more}


class TestReleases:
    @settings(max_examples=60)
    @given(ANY_JSON | st.lists(NEARLY_AN_ENTRY, max_size=5))
    def test_whatever_is_listed_is_read_or_refused(self, value: Any) -> None:
        releases = releases_of(value)

        if releases is None:
            assert value != []
            return
        for release in releases:
            assert 0 < len(release.version) < 256
            assert release.digest is None or (len(release.digest) == 64 and int(release.digest, 16) >= 0)
        assert len(set(releases)) == len(releases)

    def test_an_empty_list_is_a_package_without_releases(self) -> None:
        assert releases_of([]) == ()

    def test_the_digest_is_that_of_the_content_and_not_of_the_manifest(self) -> None:
        listed = {**entry("1.0.0", "a" * 64), "digest": "sha256:" + "b" * 64}

        assert releases_of([listed]) == (Release("1.0.0", "a" * 64, "2026-11-21T01:58:28"),)

    @pytest.mark.parametrize("digest", ["A" * 64, "sha256:" + "a" * 64])
    def test_a_digest_may_be_written_otherwise(self, digest: str) -> None:
        releases = releases_of([entry("1.0.0", digest)])

        assert releases is not None
        assert releases[0].digest == "a" * 64

    def test_one_version_with_two_contents_stays_two_releases(self) -> None:
        listed = [entry("1.0.0", "a" * 64), entry("1.0.0", "b" * 64), entry("1.0.0", "a" * 64)]

        assert [release.digest for release in releases_of(listed) or ()] == ["a" * 64, "b" * 64]

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_release_that_is_listed_twice_was_made_when_it_was_there_first(self, order: int) -> None:
        made = ["2026-11-21T01:58:28", "2026-11-21T01:58:29", None][::order]
        listed = [{**entry("1.0.0", "a" * 64), "created_at": moment} for moment in made]

        assert releases_of(listed) == (Release("1.0.0", "a" * 64, "2026-11-21T01:58:28"),)

    @pytest.mark.parametrize(
        ("media_type", "ours"),
        [
            ("application/vnd.cnr.package-manifest.helm.v0.json", True),
            ("helm", True),
            ("application/vnd.cnr.package-manifest.kpm.v0.json", False),
            ("kpm", False),
            ("nothelm", False),
            (None, False),
        ],
    )
    def test_only_what_operators_are_stored_as_has_a_digest_of_ours(self, media_type: object, ours: bool) -> None:
        releases = releases_of([entry("1.0.0", "a" * 64, mediaType=media_type)])

        assert releases is not None
        assert releases[0].digest == ("a" * 64 if ours else None)

    def test_a_list_of_which_nothing_can_be_read_is_no_list_of_releases(self) -> None:
        assert releases_of([{"name": "community/etcd", "releases": ["1.0.0"]}]) is None


class TestWords:
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ({"error": {"code": "package-exists", "message": "package exists already"}}, "package exists already"),
            ({"code": "package-exists", "message": "Package exists already"}, "Package exists already"),
            ({"error": {"code": "forbidden"}}, "forbidden"),
            ({"error": "CSRF token was invalid or missing."}, "CSRF token was invalid or missing."),
            ({"error_message": "Payment Required", "error_type": "exceeds_license"}, "Payment Required"),
            ({"detail": "Missing JSON body"}, "Missing JSON body"),
            ("just words", "just words"),
            ({"message": {"not": "a text"}}, "no explanation"),
            ({"error": ["a"]}, "no explanation"),
            ([], "no explanation"),
            (b"", "no explanation"),
            (b"<html><TITLE>\n502 Bad &amp; Gateway\n</TITLE>", "a web page, “502 Bad & Gateway”"),
            (b"<html><body>" + b"x" * 10_000, "a web page"),
            (b"upstream\n\x1b[31mconnect error", "“upstream [31mconnect error”"),
            (b"\xff\xfe\x00", "“��”"),
        ],
    )
    def test_every_form_of_error_is_read(self, body: object, text: str) -> None:
        assert summary_of(answer(body), Scrubber()).text == text

    def test_the_json_object_travels_as_it_came(self) -> None:
        body = {"error": {"code": "invalid-release", "details": {"version": "1.0"}, "message": "Invalid"}}

        assert summary_of(answer(body), Scrubber()).response == body

    @pytest.mark.parametrize("body", [["a"], "text", 5, None, b"<html>"])
    def test_what_is_no_json_object_does_not_travel(self, body: object) -> None:
        assert summary_of(answer(body), Scrubber()).response == {}

    @settings(max_examples=60)
    @given(ANY_JSON | st.fixed_dictionaries({"error": ANY_JSON}) | st.binary(max_size=200))
    def test_whatever_is_said_becomes_one_short_line(self, body: Any) -> None:
        told = summary_of(answer(body), Scrubber(SecretStr("basic dXNlcjpwYXNz")))

        assert 0 < len(told.text) <= 510
        assert told.text.isprintable()
        json.dumps(told.response)

    @pytest.mark.parametrize("depth", [10, 200, 900, 100_000])
    def test_depth_does_no_harm(self, depth: int) -> None:
        body = b'{"error":' * depth + b'"deep"' + b"}" * depth

        told = summary_of(answer(body), Scrubber())

        assert len(json.dumps(told.response)) < 300


class TestScrubbing:
    @settings(max_examples=60)
    @given(NAMES, st.text(st.characters(codec="utf-8", exclude_characters="*<> basic"), min_size=4, max_size=20))
    def test_no_part_of_a_credential_survives(self, name: str, password: str) -> None:
        encoded = base64.b64encode(f"{name}:{password}".encode()).decode()
        scrubber = Scrubber(SecretStr(f"basic {encoded}"))

        clean = scrubber.text(f"<{encoded}> <{password}> <basic {encoded}>")

        assert encoded not in clean
        assert password not in clean

    def test_keys_values_and_lists_are_scrubbed(self) -> None:
        scrubber = Scrubber(SecretStr("oauth-token"), None)

        assert scrubber.json({"oauth-token": ["xoauth-tokenx", 1, None, {"a": "oauth-token"}]}) == {
            "***": ["x***x", 1, None, {"a": "***"}]
        }

    def test_without_a_credential_nothing_changes(self) -> None:
        assert Scrubber(None).text("as it was") == "as it was"

    @pytest.mark.parametrize(
        ("password", "repeated"),
        [
            ("12345678", "12345678"),
            ("12345678", "-12345678.5"),
            ("12345678", "1.2345678e7"),
            ("0012345678", "12345678"),
            ("1234.50", "1234.5"),
            ("1e400000", "[1]"),
            ("98765432109876543210", "98765432109876543210"),
            ("98765432109876543210", "98765432109876543210.0"),
            ("0.12345678901234567890", "0.12345678901234567890"),
        ],
    )
    def test_a_credential_that_is_a_number_is_hidden_where_it_is_repeated_as_one(
        self, password: str, repeated: str
    ) -> None:
        encoded = base64.b64encode(f"user:{password}".encode()).decode()
        for credential in (f"basic {encoded}", password):
            body = f'{{"error": {{"details": {{"sent": [{repeated}, {{"again": {repeated}}}]}}}}, "code": 7}}'
            told = summary_of(answer(body.encode()), Scrubber(SecretStr(credential)))
            shown = "***" if repeated != "[1]" else [1]
            assert told.response["error"]["details"]["sent"] == [shown, {"again": shown}]
            assert told.response["code"] == 7

    def test_other_numbers_and_booleans_stay(self) -> None:
        body = {"error": {"details": [True, False, None, 1, 1.0, 1234, 12345678]}}
        assert summary_of(answer(body), Scrubber(SecretStr("Bearer 123456789"), SecretStr("1"))).response == body


class TestBasicCredentials:
    @settings(max_examples=60)
    @given(NAMES, st.text(max_size=20))
    def test_user_and_password_are_found(self, name: str, password: str) -> None:
        encoded = base64.b64encode(f"{name}:{password}".encode()).decode()

        assert basic_credentials(SecretStr(f"Basic {encoded}")) == (name, password)

    @settings(max_examples=60)
    @given(st.text(max_size=30) | st.text(max_size=30).map(lambda text: f"basic {text}"))
    def test_anything_else_is_none_or_a_pair(self, value: str) -> None:
        credentials = basic_credentials(SecretStr(value))

        assert credentials is None or len(credentials) == 2
