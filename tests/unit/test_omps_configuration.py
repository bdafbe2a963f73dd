# SPDX-License-Identifier: GPL-3.0-or-later
"""Turning OMPS's configuration into one of omps-worker, without running it."""

from __future__ import annotations

import base64
import contextlib
import json
import pprint
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from omps_worker.cli import main
from omps_worker.common.errors import Fault, SettingsError
from omps_worker.configuration.omps import document
from omps_worker.configuration.omps import file as omps_file
from omps_worker.configuration.omps.translation import TRANSLATED, WITHOUT_COUNTERPART, Translation, translate
from omps_worker.configuration.settings import file as settings_file
from omps_worker.configuration.settings.models import Settings
from tests.support.configuration import MAPPING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRODUCTION = """\
import os

MEBIBYTE = 1024 * 1024

class DefConfig(object):
    SECRET_KEY = "CANARY-key"
    DEBUG = False
    LOG_LEVEL = "INFO"
    LOG_FORMAT = "%(levelname)s " + "%(message)s"
    KOJIHUB_URL = "https://koji.example.com/kojihub"
    KOJIROOT_URL = "https://koji.example.com/kojifiles"

class ProdConfig(DefConfig):
    LOG_LEVEL = "WARNING"
    REQUEST_TIMEOUT = 28
    DEFAULT_RELEASE_VERSION = "2.0.0"
    ZIPFILE_MAX_UNCOMPRESSED_SIZE = 50 * MEBIBYTE
    MAX_CONTENT_LENGTH = 2 * 1024 * 1024
    GREENWAVE = {"url": "https://greenwave.example.com", "context": "push", "product_version": "example-4"}
    organizations = {
        "community": {
            "public": True,
            "oauth_token": "CANARY-oauth",
        },
        "internal": {
            "package_name_suffix": "-internal",
            "replace_registry": [{"old": r"quay\\.io/(\\w+)", "new": r"registry.example.com/\\1", "regexp": True}],
            "csv_annotations": [{"name": "com.example.package", "value": "{package_name}"}],
        },
    }

class TestConfig(DefConfig):
    KOJIHUB_URL = "https://test.example.com/kojihub"
"""
ORGANIZATIONS = "KOJIHUB_URL = 'https://k/hub'\nKOJIROOT_URL = 'https://k/files'\nORGANIZATIONS = "
quick = hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def converted(directory: Path, text: str, section: str | None = None, *, with_secrets: bool = False) -> Translation:
    """The answer to a file with this text."""
    path = directory / "omps.py"
    path.write_text(text, encoding="utf-8")
    return translate(omps_file.read(path, section), with_secrets=with_secrets)


def toml(directory: Path, text: str, section: str | None = None) -> dict[str, Any]:
    return tomllib.loads(str(converted(directory, text, section).document))


def worker(directory: Path, text: str, section: str | None = None) -> dict[str, Any]:
    return toml(directory, text, section)["consumer_config"]


def faults(directory: Path, text: str, section: str | None = None) -> list[Fault]:
    with pytest.raises(SettingsError) as caught:
        converted(directory, text, section)
    return list(caught.value.faults)


def answer(path: Path) -> Translation | SettingsError:
    try:
        return translate(omps_file.read(path))
    except SettingsError as error:
        return error


def fault(directory: Path, text: str, section: str | None = None) -> Fault:
    (only,) = faults(directory, text, section)
    return only


def filled_in(text: str) -> str:
    """The document with its marked lines taken as they are suggested."""
    lines = text.splitlines()
    return "\n".join(line[1:] if re.match(r"#(\w+ = |\[\[)", line) else line for line in lines)


def settings(translation: Translation, directory: Path, *, api: bool = False) -> Settings:
    (directory / "mapping.yaml").write_text(MAPPING)
    table = tomllib.loads(filled_in(str(translation.document)))
    assert table == translation.document.whole
    environment = {name: "x" if "OAUTH" in name else "basic eDp5" for name in translation.variables}
    return settings_file.check(table, directory / "config.toml", environment=environment, api=api)


def run(directory: Path, text: str, *options: str) -> Result:
    (directory / "omps.py").write_text(text, encoding="utf-8")
    return CliRunner().invoke(main, ["config-from-omps", str(directory / "omps.py"), *options])


# ---- what becomes of each key ----------------------------------------------------------------


def test_every_key_with_a_counterpart_gets_there(tmp_path: Path) -> None:
    found = worker(tmp_path, PRODUCTION)

    assert found["log_level"] == "WARNING"
    assert found["default_release_version"] == "2.0.0"
    assert found["koji"] == {
        "hub_url": "https://koji.example.com/kojihub",
        "root_url": "https://koji.example.com/kojifiles",
        "timeout": "28s",
    }
    assert found["registry"] == {"timeout": "28s"}
    assert found["limits"] == {"uncompressed_bytes": "50MiB"}
    assert found["api"] == {"max_content_length": "2MiB"}
    assert found["greenwave"] == {
        "url": "https://greenwave.example.com",
        "context": "push",
        "product_version": "example-4",
    }
    assert found["organizations"] == {
        "community": {
            "token_env": "OMPS_WORKER_COMMUNITY_TOKEN",
            "oauth_token_env": "OMPS_WORKER_COMMUNITY_OAUTH_TOKEN",
            "public": True,
        },
        "internal": {
            "token_env": "OMPS_WORKER_INTERNAL_TOKEN",
            "package_name_suffix": "-internal",
            "replace_registry": [{"old": r"quay\.io/(\w+)", "new": r"registry.example.com/\1", "regexp": True}],
            "csv_annotations": [{"name": "com.example.package", "value": "{package_name}"}],
        },
    }


def test_once_filled_in_it_is_a_configuration_without_faults_or_doubts(tmp_path: Path) -> None:
    read = settings(converted(tmp_path, PRODUCTION), tmp_path)

    assert read.warnings == ()
    assert read.worker.koji.timeout == 28
    assert read.worker.limits.uncompressed_bytes == 50 * 2**20
    assert read.worker.greenwave is not None


def test_the_rest_api_needs_the_address_of_the_registry_only(tmp_path: Path) -> None:
    table = toml(tmp_path, "KOJIHUB_URL = 'https://k/hub'\nKOJIROOT_URL = 'https://k/files'")
    table["consumer_config"]["registry"]["url"] = "https://quay.example.com"

    read = settings_file.check(table, tmp_path / "config.toml", environment={}, api=True)

    assert not read.has_broker


def test_what_omps_never_had_is_marked(tmp_path: Path) -> None:
    made = converted(tmp_path, PRODUCTION).document

    assert made.blanks == ["amqp_url", "topic_prefix", "bindings", "consumer_config.registry.url"]
    assert str(made).count(f"# {document.BLANK}: ") == 4


def test_keys_that_omps_needed_and_the_file_does_not_have_are_marked_too(tmp_path: Path) -> None:
    made = converted(tmp_path, "LOG_LEVEL = 'INFO'").document

    assert {"consumer_config.koji.hub_url", "consumer_config.koji.root_url"} < set(made.blanks)


def test_what_has_no_counterpart_is_named_with_its_line_and_the_reason(tmp_path: Path) -> None:
    lines = [f"{key} = 'CANARY'" for key in sorted(WITHOUT_COUNTERPART)]
    text = str(converted(tmp_path, "\n".join([*lines, "JSON_SORT_KEYS = True"])).document)
    comments = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))

    for line, key in enumerate(sorted(WITHOUT_COUNTERPART), start=1):
        assert f"line {line}, {key}: {WITHOUT_COUNTERPART[key]}" in comments
    assert "JSON_SORT_KEYS: neither OMPS nor omps-worker has such a key" in comments
    assert "CANARY" not in text


def test_nothing_is_said_about_defaults(tmp_path: Path) -> None:
    found = worker(
        tmp_path, "KOJIHUB_URL = 'https://k/hub'\nGREENWAVE = None\nREQUEST_TIMEOUT = None\nORGANIZATIONS = {}"
    )

    assert set(found) == {"mapping", "koji", "registry"}


def test_uploads_that_may_be_large_need_archives_that_may_be_large(tmp_path: Path) -> None:
    assert worker(tmp_path, "MAX_CONTENT_LENGTH = 15000000")["limits"] == {"archive_bytes": 15000000}
    assert "limits" not in worker(tmp_path, "MAX_CONTENT_LENGTH = 10 << 20")


def test_keys_may_be_written_in_either_case(tmp_path: Path) -> None:
    assert worker(tmp_path, "class C:\n log_level = 'INFO'")["log_level"] == "INFO"


def test_a_key_in_both_cases_is_a_fault(tmp_path: Path) -> None:
    found = fault(tmp_path, "class A:\n LOG_LEVEL = 'INFO'\nclass ProdConfig(A):\n log_level = 'INFO'")

    assert (found.key, "twice" in found.reason) == ("line 4, log_level", True)


def test_what_omps_worker_would_refuse_is_told_at_its_place_in_the_file_all_at_once(tmp_path: Path) -> None:
    text = """\
class ProdConfig:
    KOJIHUB_URL = "koji.example.com"
    REQUEST_TIMEOUT = (3, 28)
    LOG_LEVEL = "LOUD"
    ORGANIZATIONS = {
        "a b": {},
        "community": {
            "public": "yes",
            "package_name_suffix": "/x",
            "replace_registry": [{"old": "(", "new": "", "regexp": True}],
            "csv_annotations": [{"name": "a", "value": "{version}"}],
        },
    }
"""
    assert {each.key for each in faults(tmp_path, text)} == {
        "line 2, KOJIHUB_URL",
        "line 3, REQUEST_TIMEOUT",
        "line 4, LOG_LEVEL",
        'line 6, ORGANIZATIONS."a b"',
        "line 8, ORGANIZATIONS.community.public",
        "line 9, ORGANIZATIONS.community.package_name_suffix",
        "line 10, ORGANIZATIONS.community.replace_registry[0].old",
        "line 11, ORGANIZATIONS.community.csv_annotations[0].value",
    }


def test_an_organization_that_is_public_without_the_means_is_a_doubt_in_the_output(tmp_path: Path) -> None:
    text = str(converted(tmp_path, ORGANIZATIONS + "{'community': {'public': True}}").document)

    assert "# * line 3, ORGANIZATIONS.community.public: is true without an oauth_token" in text


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("[]", "line 3, ORGANIZATIONS"),
        ("{'a': 5}", "line 3, ORGANIZATIONS.a"),
        ("{'a': None}", "line 3, ORGANIZATIONS.a"),
        ("{5: {}}", "line 3, ORGANIZATIONS[5]"),
        ("{'a': {'csv_annotations': [{'name': None, 'value': 'x'}]}}", "line 3, ORGANIZATIONS.a.csv_annotations"),
        ("{'a': {'csv_annotations': [{5: 'x'}]}}", "line 3, ORGANIZATIONS.a.csv_annotations"),
    ],
)
def test_tables_of_another_shape_are_faults(tmp_path: Path, value: str, key: str) -> None:
    assert fault(tmp_path, ORGANIZATIONS + value).key == key


# ---- sections --------------------------------------------------------------------------------


def test_the_section_that_is_asked_for_is_read(tmp_path: Path) -> None:
    assert worker(tmp_path, PRODUCTION, "TestConfig")["koji"]["hub_url"] == "https://test.example.com/kojihub"


def test_the_only_class_is_the_section(tmp_path: Path) -> None:
    assert worker(tmp_path, "class Mine:\n    LOG_LEVEL = 'INFO'\n")["log_level"] == "INFO"


def test_several_classes_without_the_usual_one_have_to_be_chosen_from(tmp_path: Path) -> None:
    found = fault(tmp_path, "class A:\n    pass\nclass B:\n    pass\n")

    assert found.key == "--section"
    assert "A, B" in found.reason


def test_a_section_that_is_missing_is_told_which_there_are(tmp_path: Path) -> None:
    found = fault(tmp_path, PRODUCTION, "StageConfig")

    assert found.key == "--section"
    assert "DefConfig, ProdConfig, TestConfig" in found.reason


def test_a_file_without_classes_has_no_sections(tmp_path: Path) -> None:
    assert "no sections" in fault(tmp_path, "LOG_LEVEL = 'INFO'", "ProdConfig").reason


def test_a_file_without_classes_is_read_by_its_own_names(tmp_path: Path) -> None:
    made = converted(tmp_path, "import os\nLOG_LEVEL = 'INFO'\ndef helper():\n    LOG_LEVEL = 'x'\n")

    assert made.document.whole["consumer_config"]["log_level"] == "INFO"
    assert "Left out" not in str(made.document)


def test_inheritance_follows_the_order_of_python(tmp_path: Path) -> None:
    diamond = "class B(A): pass\nclass C(A):\n LOG_LEVEL = 'ERROR'\nclass ProdConfig(B, C): pass\n"
    text = f"class A:\n LOG_LEVEL = 'INFO'\n{diamond}"

    assert worker(tmp_path, text)["log_level"] == "ERROR"


def test_bases_that_contradict_each_other_are_a_fault(tmp_path: Path) -> None:
    text = "class A:\n LOG_LEVEL = 'INFO'\nclass B(A): pass\nclass ProdConfig(A, B): pass\n"

    assert "contradict" in fault(tmp_path, text).reason


def test_a_section_may_have_another_name(tmp_path: Path) -> None:
    assert worker(tmp_path, "class A:\n LOG_LEVEL = 'INFO'\nProdConfig = A\n")["log_level"] == "INFO"


def test_a_base_class_from_elsewhere_is_noted(tmp_path: Path) -> None:
    text = "from omps.settings import DefaultConfig\nclass ProdConfig(DefaultConfig):\n    LOG_LEVEL = 'INFO'\n"

    assert "line 2, a base class: is not in the file" in str(converted(tmp_path, text).document)


@pytest.mark.parametrize(
    "text",
    [
        "if True:\n    class ProdConfig:\n        LOG_LEVEL = 'INFO'\n",
        "from elsewhere import ProdConfig\n",
        "class ProdConfig:\n    LOG_LEVEL = 'INFO'\nProdConfig.LOG_LEVEL = 'DEBUG'\n",
        "class ProdConfig:\n    LOG_LEVEL = 'INFO'\nsetattr(ProdConfig, 'LOG_LEVEL', 'DEBUG')\n",
        "class ProdConfig:\n    LOG_LEVEL = 'INFO'\nfrom local import *\n",
        "class ProdConfig:\n    LOG_LEVEL = 'INFO'\nglobals()['ProdConfig'] = 5\n",
        "class A:\n    LOG_LEVEL = 'INFO'\nclass ProdConfig(A): pass\ndel A.LOG_LEVEL\n",
        "@decorated\nclass ProdConfig:\n    LOG_LEVEL = 'INFO'\n",
        "class ProdConfig(metaclass=Meta):\n    LOG_LEVEL = 'INFO'\n",
    ],
)
def test_a_section_that_only_running_the_file_could_tell_is_a_fault(tmp_path: Path, text: str) -> None:
    assert re.fullmatch(r"line \d+, (ProdConfig|A)", fault(tmp_path, text).key)


@pytest.mark.parametrize("text", ["", "pass", "'nothing'", "class ProdConfig(Base):\n    pass\n", "greeting = 'hello'"])
def test_a_file_without_any_key_of_omps_is_no_configuration(tmp_path: Path, text: str) -> None:
    assert "none of OMPS's keys" in fault(tmp_path, text).reason


# ---- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("30", "30s"),
        ("1.5", 1.5),
        ("+30", "30s"),
        ("60 // 2", "30s"),
        ("(20 + 12 - 2)", "30s"),
        ("2 ** 5", "32s"),
        ("1 << 5", "32s"),
        ("0.5 * 60", 30.0),
        ("BASE.LIMIT * HALF", "30s"),
    ],
)
def test_arithmetic_is_done(tmp_path: Path, expression: str, seconds: object) -> None:
    text = f"HALF = 2\nclass BASE:\n    LIMIT = 15\nclass ProdConfig:\n    REQUEST_TIMEOUT = {expression}\n"

    assert worker(tmp_path, text)["koji"]["timeout"] == seconds


@pytest.mark.parametrize(
    "expression",
    ["'https://k/' + 'hub'", "'https://k' '/hub'", "HOST + '/hub'", "f'{HOST}/hub'", "('https://k/hub')", "URLS + ''"],
)
def test_texts_are_joined(tmp_path: Path, expression: str) -> None:
    text = f"HOST = 'https://k'\nURLS: str = HOST + '/hub'\nclass ProdConfig:\n    KOJIHUB_URL = {expression}\n"

    assert worker(tmp_path, text)["koji"]["hub_url"] == "https://k/hub"


def test_tables_and_lists_are_joined(tmp_path: Path) -> None:
    text = """\
BOTH = {"public": False, "replace_registry": [{"old": "a", "new": "b"}]}
class ProdConfig:
    ORGANIZATIONS = {"one": {**BOTH, "replace_registry": BOTH_ + [{"old": "c", "new": "d"}]}}
""".replace("class", "BOTH_ = [{'old': 'a', 'new': 'b'}]\nclass")

    assert worker(tmp_path, text)["organizations"]["one"] == {
        "token_env": "OMPS_WORKER_ONE_TOKEN",
        "public": False,
        "replace_registry": [{"old": "a", "new": "b"}, {"old": "c", "new": "d"}],
    }


def test_a_name_has_the_value_that_it_had_when_it_was_used(tmp_path: Path) -> None:
    assert worker(tmp_path, "A = 'INFO'\nLOG_LEVEL = A\nA = 'ERROR'\n")["log_level"] == "INFO"


@pytest.mark.parametrize(
    "expression",
    [
        "level()",
        "'INFO'.upper()",
        "'INFO' if DEBUG else 'DEBUG'",
        "NAME or 'INFO'",
        "name",
        "logging.INFO",
        "[x for x in 'INFO']",
        "lambda: 'INFO'",
        "'%s' % 'INFO'",
        "f'{level()}'",
        "f'{5}'",
        "f'{\"INFO\"!r}'",
        "LEVELS['a']",
        "b'INFO'",
        "...",
        "1j",
        "-'INFO'",
        "1 // 0",
        "2 ** 64 ** 2",
        "10 ** 60",
        "2 << 70",
        "1 << -1",
        "1e300 * 10 ** 300",
        "'x' * 10",
        "{'INFO'}",
        "{**level()}",
        "{name: 'INFO'}",
        "[level()]",
        "'\\ud800'",
        "(A := 'INFO')",
        "'INFO' + os.environ['LEVEL']",
    ],
)
def test_what_has_to_be_run_is_a_fault_with_its_line(tmp_path: Path, expression: str) -> None:
    assert fault(tmp_path, f"class ProdConfig:\n    LOG_LEVEL = \\\n      {expression}\n").key == "line 3, LOG_LEVEL"


def test_a_key_without_counterpart_may_be_anything(tmp_path: Path) -> None:
    made = converted(tmp_path, "LOG_LEVEL = 'INFO'\nLOG_FORMAT = format_of('x')\nJSON = [x for x in y]\n")

    assert made.document.whole["consumer_config"]["log_level"] == "INFO"


@pytest.mark.parametrize(
    "statement",
    [
        "if DEBUG:\n    ORGANIZATIONS = {}",
        "for ORGANIZATIONS in []: pass",
        "ORGANIZATIONS['x'] = {}",
        "ORGANIZATIONS['a']['public'] = True",
        "ORGANIZATIONS.update(x=1)",
        "_ = ORGANIZATIONS.pop('a')",
        "ORGANIZATIONS |= {}",
        "del ORGANIZATIONS",
        "try:\n    from local import ORGANIZATIONS\nexcept ImportError: pass",
        "from local import *",
        "locals()['ORGANIZATIONS'] = {}",
        "with x as ORGANIZATIONS: pass",
        "ORGANIZATIONS, x = {}, {}",
        "x = (ORGANIZATIONS := {})",
        "def ORGANIZATIONS(): pass",
        "def change():\n    ORGANIZATIONS['x'] = 5\nchange()",
        "def change():\n    global ORGANIZATIONS\n    ORGANIZATIONS = 5\nchange()",
    ],
)
def test_a_value_that_may_have_been_changed_in_another_way_is_a_fault(tmp_path: Path, statement: str) -> None:
    found = faults(tmp_path, f"{ORGANIZATIONS}{{'a': {{}}}}\n{statement}\n")

    assert [each.key for each in found if "ORGANIZATIONS" in each.key]


@pytest.mark.parametrize(
    "statement",
    [
        "import os, sys",
        "os.system('exit 1')",
        "if LOG_LEVEL == 'INFO':\n    print(LOG_LEVEL)",
        "def change():\n    ORGANIZATIONS['x'] = 5",
        "class Meta:\n    ORGANIZATIONS = 5",
        "BUILT = secret('x')",
        "LATER: int",
    ],
)
def test_statements_that_cannot_change_a_value_are_passed_over(tmp_path: Path, statement: str) -> None:
    body = f"{ORGANIZATIONS}{{'a': {{}}}}\nLOG_LEVEL = 'INFO'\n{statement}\n".replace("\n", "\n ")

    found = worker(tmp_path, f"class ProdConfig:\n {body}\n")

    assert found["log_level"] == "INFO"
    assert set(found["organizations"]) == {"a"}


def test_values_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    doubled = "".join(f"A{n + 1} = A{n} + A{n}\n" for n in range(60))
    nested = "".join(f"B{n + 1} = [B{n}, B{n}]\n" for n in range(60))

    assert (
        "too large" in fault(tmp_path, f"A0 = 'x' * 1 + 'xxxxxxxx'\nA0 = 'xxxxxxxx'\n{doubled}LOG_LEVEL = A60").reason
    )
    assert "too large" in fault(tmp_path, f"B0 = [1]\n{nested}LOG_LEVEL = B60").reason


@pytest.mark.parametrize(
    "value",
    ["-" * 50_000 + "1", "[" * 150 + "]" * 150, "1" + " + 1" * 50_000, "a" + ".b" * 50_000, "not " * 50_000 + "1"],
)
def test_what_is_nested_without_end_is_refused(tmp_path: Path, value: str) -> None:
    assert faults(tmp_path, f"LOG_LEVEL = {value}\n")


def test_lists_that_are_nested_by_name_are_refused(tmp_path: Path) -> None:
    assert "deeply" in fault(tmp_path, "A = []\n" + "A = [A]\n" * 20_000 + "LOG_LEVEL = A\n").reason


# ---- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"LOG_LEVEL = '\xff'", "is not UTF-8 text (line 1)"),
        (b"LOG_LEVEL = '\0'", "zero bytes"),
        (b"#" * (2**20 + 1), "more than"),
        (b"\xff" * (2**20 + 1), "more than"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_one_fault(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "omps.py").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        omps_file.read(tmp_path / "omps.py")
    assert reason in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "nowhere.py", "no such file"), (tmp_path, "directory")):
        with pytest.raises(SettingsError) as caught:
            omps_file.read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)


def test_a_byte_order_mark_and_windows_lines_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "omps.py").write_bytes(b"\xef\xbb\xbfclass ProdConfig:\r\n    LOG_LEVEL = 'INFO'\r\n")

    assert omps_file.read(tmp_path / "omps.py").keys["LOG_LEVEL"].value == "INFO"


@pytest.mark.parametrize("content", [b"\r:", b"'public' 'x'\r:\r\r", b":", b"(", b"\x0c\x0c:", b"if 1:\n"])
def test_a_syntax_error_is_one_wherever_lines_end(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "omps.py").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        omps_file.read(tmp_path / "omps.py")
    assert "is not Python" in str(caught.value)


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    found = fault(tmp_path, "class ProdConfig:\n    LOG_LEVEL = 'INFO'\n    KOJIHUB_URL =\n")

    assert (found.key, "not Python" in found.reason) == ("line 3", True)


@pytest.mark.parametrize(
    "lines",
    [
        '            "public": True,\n            "oauth_token" "CANARY"\n',
        '            "public": True,\n            "oauth_token" "CANARY",\n',
        '            "public": True, "oauth_token" "CANARY"\n',
        "            'public': True,\n            'oauth_token'  'CANARY'\n",
        "            'oauth_token' 'CANARY',\n            'public': True\n",
    ],
)
def test_the_error_in_the_example_of_omps_is_explained(tmp_path: Path, lines: str) -> None:
    found = fault(tmp_path, f"class ProdConfig:\n    organizations = {{\n        'a': {{\n{lines}        }}\n    }}\n")

    assert found.key == f"line {3 + lines.count(chr(10))}"
    line = 4 + lines.split("oauth_token")[0].count(chr(10))
    assert f'a colon is missing between "oauth_token" and its value in line {line}' in found.reason
    assert "CANARY" not in str(found)


def test_warnings_about_style_are_not_repeated(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    converted(tmp_path, "LOG_LEVEL = 'INFO'\nLOG_FORMAT = '\\d CANARY'\nx = 5 is 5\n")

    assert len(recwarn) == 0


def test_nothing_of_the_file_is_ever_run(tmp_path: Path) -> None:
    trap = f"__import__('pathlib').Path({str(tmp_path / 'sprung')!r}).touch()"
    text = f"""\
import os
import omps_worker.no_such_module
os.system("touch {tmp_path}/sprung")
{trap}
class Meta(type):
    {trap}
    def __prepare__(*x): {trap}
class DefConfig({trap}):
    {trap}
    LOG_LEVEL = "INFO"
    LOG_FORMAT = {trap}
    DEBUG = [{trap} for x in (1, 2)]
    SECRET_KEY = f"{{{trap}}}"
    ORGANIZATIONS = {{"a": {{"oauth_token": open("{tmp_path}/sprung", "w").read()}}}}
    X: {trap} = 5
    def __init_subclass__(cls): {trap}
class ProdConfig(DefConfig):
    @property
    def method(self, y={trap}): {trap}
raise SystemExit
"""
    with contextlib.suppress(SettingsError):
        converted(tmp_path, text)
    simple = re.sub(r"\(__import__.*\):", "(object):", re.sub(r"(?m)^( *)__import__.*$", r"\1pass", text))
    assert converted(tmp_path, simple).document.whole["consumer_config"]["log_level"] == "INFO"
    assert not (tmp_path / "sprung").exists()


# ---- secrets ---------------------------------------------------------------------------------


def test_tokens_are_referred_to_and_not_copied(tmp_path: Path) -> None:
    made = converted(tmp_path, PRODUCTION)

    assert "CANARY" not in str(made.document)
    assert made.variables == (
        "OMPS_WORKER_COMMUNITY_TOKEN",
        "OMPS_WORKER_COMMUNITY_OAUTH_TOKEN",
        "OMPS_WORKER_INTERNAL_TOKEN",
    )


def test_tokens_are_copied_when_that_is_asked_for_and_nothing_else_is(tmp_path: Path) -> None:
    made = converted(tmp_path, PRODUCTION, with_secrets=True)
    community = made.document.whole["consumer_config"]["organizations"]["community"]

    assert community["oauth_token"] == "CANARY-oauth"
    assert "CANARY-key" not in str(made.document)
    assert settings(made, tmp_path).worker.organizations["community"].oauth() is not None


@pytest.mark.parametrize("source", ["os.environ['TOKEN']", "os.getenv('TOKEN')", "os.environ.get('TOKEN', 'CANARY')"])
@pytest.mark.parametrize("with_secrets", [False, True])
def test_a_token_from_the_environment_stays_there(tmp_path: Path, source: str, with_secrets: bool) -> None:
    made = converted(tmp_path, f"{ORGANIZATIONS}{{'a': {{'oauth_token': {source}}}}}", with_secrets=with_secrets)

    assert made.document.whole["consumer_config"]["organizations"]["a"]["oauth_token_env"] == "TOKEN"
    assert "CANARY" not in str(made.document)


@pytest.mark.parametrize("source", ["open('/x').read()", "os.environ['not a name']", "TOKENS['CANARY']", "CANARY"])
@pytest.mark.parametrize("with_secrets", [False, True])
def test_a_token_that_cannot_be_read_becomes_a_reference(tmp_path: Path, source: str, with_secrets: bool) -> None:
    made = converted(tmp_path, f"{ORGANIZATIONS}{{'a': {{'oauth_token': {source}}}}}", with_secrets=with_secrets)

    assert made.document.whole["consumer_config"]["organizations"]["a"] == {
        "token_env": "OMPS_WORKER_A_TOKEN",
        "oauth_token_env": "OMPS_WORKER_A_OAUTH_TOKEN",
    }
    assert "CANARY" not in str(made.document)


def test_other_values_from_the_environment_are_marked_to_be_filled_in(tmp_path: Path) -> None:
    text = "import os\nclass ProdConfig:\n    KOJIHUB_URL = os.environ['HUB']\n    REQUEST_TIMEOUT = os.getenv('T')\n"
    made = converted(tmp_path, text)

    assert {"consumer_config.koji.hub_url", "consumer_config.registry.timeout"} < set(made.document.blanks)
    assert "OMPS read it from the environment variable HUB." in str(made.document)
    settings(made, tmp_path)


def test_organizations_with_names_that_look_alike_have_variables_of_their_own(tmp_path: Path) -> None:
    names = ["a-b", "a_b", "A.B", "a", "a_oauth"]
    entries = {name: {"oauth_token": "CANARY"} for name in names}
    made = converted(tmp_path, f"{ORGANIZATIONS}{entries!r}")

    assert len(set(made.variables)) == 2 * len(names)
    settings(made, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "ORGANIZATIONS = {'a': {'oauth_token': 'CANARY'",
        "ORGANIZATIONS = {'a': {'oauth_token': 'CANARY}}",
        "ORGANIZATIONS = {'a': {'oauth_token' 'CANARY'}}",
        "ORGANIZATIONS = {'a': {'CANARY' 'CANARY'}}",
        "ORGANIZATIONS = {'a': {'oauth_token': CANARY CANARY}}",
        "ORGANIZATIONS = {'a': {'oauth_token': 0CANARY}}",
        "ORGANIZATIONS = {'a': {'oauth_token': 'CANARY\\x'}}",
        "ORGANIZATIONS = {'a': {'oauth_token': f'CANARY{'}}",
        "ORGANIZATIONS = {'a': {'oauth_token': ['CANARY']}}",
        "ORGANIZATIONS = {'a': {'oauth_token': 'Bearer CANARY'}}",
        "ORGANIZATIONS = {'a': {'oauth_token': 'CANARY\\n'}}",
        "ORGANIZATIONS = {'a': {'public': 'CANARY', 'package_name_suffix': '/CANARY'}}",
        "ORGANIZATIONS = {'a': 'CANARY'}",
        "ORGANIZATIONS = {'a': CANARY}",
        "ORGANIZATIONS = CANARY",
        "KOJIHUB_URL = 'https://user:CANARY@koji.example.com'",
        "LOG_LEVEL = 'CANARY'",
        "LOG_LEVEL = CANARY('CANARY')",
    ],
)
def test_faults_repeat_no_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        converted(tmp_path, text, with_secrets=True)
    assert "CANARY" not in str(caught.value)


# ---- the command -----------------------------------------------------------------------------


def test_the_command_prints_toml_and_says_what_is_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, PRODUCTION)

    assert done.exit_code == 0
    assert tomllib.loads(done.stdout)["consumer_config"]["log_level"] == "WARNING"
    assert "amqp_url" in done.stderr
    assert "OMPS_WORKER_INTERNAL_TOKEN" in done.stderr


def test_the_command_chooses_a_section_and_keeps_or_copies_secrets(tmp_path: Path) -> None:
    assert "https://test.example.com" in run(tmp_path, PRODUCTION, "--section", "TestConfig").stdout
    assert "CANARY-oauth" in run(tmp_path, PRODUCTION, "--with-secrets").stdout


def test_the_command_ends_with_every_fault_and_prints_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "class ProdConfig:\n    LOG_LEVEL = level()\n    KOJIHUB_URL = hub()\n")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("error: ") == 2


def test_the_output_is_utf8_whatever_the_terminal_speaks(tmp_path: Path) -> None:
    (tmp_path / "omps.py").write_text(
        "LOG_LEVEL = 'INFO'\nGREENWAVE = {'context': 'é', 'url': 'https://g', 'product_version': 'x'}", encoding="utf-8"
    )
    done = CliRunner(charset="ascii").invoke(main, ["config-from-omps", str(tmp_path / "omps.py")])

    assert tomllib.loads(done.stdout_bytes.decode())["consumer_config"]["greenwave"]["context"] == "é"


# ---- the documentation -----------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "migrating-from-omps.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_in_the_documentation_is_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,), (after,) = blocks("python"), blocks("toml")
    (tmp_path / "config.py").write_text(before, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(main, ["config-from-omps", "config.py"])

    assert (done.exit_code, done.stdout) == (0, after)
    assert settings(converted(tmp_path, before), tmp_path).warnings == ()


def test_the_documentation_tells_what_becomes_of_every_key() -> None:
    (table,) = re.findall(r"^\| OMPS's key \| becomes \|\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    told = {key for row in table.split("\n") for key in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}

    assert told == TRANSLATED | set(WITHOUT_COUNTERPART)


def test_the_token_in_the_documentation_is_the_one_of_its_login() -> None:
    login, answered = map(json.loads, blocks("json"))
    pair = ":".join((login["user"]["username"], login["user"]["password"]))

    assert answered["token"] == f"basic {base64.b64encode(pair.encode()).decode()}"


# ---- for whatever stands in the file ---------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        '"',
        "'",
        "\\",
        '"""',
        "#",
        "\n[x]\n",
        "\u2028",
        "\x85",
        "\x7f",
        "]",
        "a.b",
        "\U0001f600",
        "\u202e",
        "=",
        "\\u0041",
    ]
)
plain = st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
items = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@quick
@given(name=texts, item=items)
def test_whatever_is_written_as_toml_is_read_as_the_same(name: str, item: object) -> None:
    made = document.Document()
    made.preface(name, "  ")
    made.blank(name or "x", "x", name)
    made.table("a", name)
    made.comment(name)
    made.put(name, item)

    assert tomllib.loads(str(made)) == {"a": {name: {name: item}}}
    assert all(line.isprintable() for line in str(made).split("\n"))


@quick
@given(item=st.sampled_from([None, b"x", {1, 2}, object()]))
def test_what_toml_does_not_have_is_not_written(item: object) -> None:
    with pytest.raises(ValueError):
        document.value([item])


organization = st.fixed_dictionaries(
    {},
    optional={
        "public": st.booleans(),
        "oauth_token": st.from_regex(r"[A-Za-z0-9]{1,40}", fullmatch=True),
        "package_name_suffix": st.from_regex(r"[A-Za-z0-9._-]{0,9}", fullmatch=True),
        "replace_registry": st.lists(
            st.fixed_dictionaries({"old": texts.filter(bool), "new": texts}, optional={"regexp": st.just(False)}),
            max_size=3,
        ),
        "csv_annotations": st.lists(
            st.fixed_dictionaries(
                {
                    "name": texts.filter(lambda text: bool(text) and text.isprintable()),
                    "value": texts.map(lambda text: text.replace("{", "{{").replace("}", "}}")),
                }
            ),
            max_size=3,
        ),
    },
)
configurations = st.fixed_dictionaries(
    {"KOJIHUB_URL": st.just("https://koji.example.com/hub"), "KOJIROOT_URL": st.just("https://koji.example.com/files")},
    optional={
        "LOG_LEVEL": st.sampled_from(["DEBUG", "INFO", "ERROR"]),
        "REQUEST_TIMEOUT": st.integers(1, 3600) | st.floats(0.5, 100),
        "MAX_CONTENT_LENGTH": st.integers(1, 2**40),
        "ZIPFILE_MAX_UNCOMPRESSED_SIZE": st.integers(1, 2**40) | st.integers(1, 512).map(lambda n: n * 2**20),
        "DEFAULT_RELEASE_VERSION": st.just("3.2.1"),
        "LOG_FORMAT": items,
        "ORGANIZATIONS": st.dictionaries(st.from_regex(r"[a-z](?:[a-z._-]{0,6}[a-z])?", fullmatch=True), organization),
    },
)


@quick
@given(configuration=configurations, in_class=st.booleans(), lower=st.booleans(), with_secrets=st.booleans())
def test_any_literal_configuration_arrives_unchanged(
    tmp_path: Path, configuration: dict[str, Any], in_class: bool, lower: bool, with_secrets: bool
) -> None:
    lines = [
        f"{key.lower() if lower else key} = {pprint.pformat(value) if key != 'LOG_FORMAT' else ascii(value)}"
        for key, value in configuration.items()
    ]
    text = "\n".join(lines)
    if in_class:
        text = "class ProdConfig:\n" + "\n".join(f"    {line}" for line in text.split("\n"))
    made = converted(tmp_path, text.replace("inf", "1e999"), with_secrets=with_secrets)
    found = settings(made, tmp_path).worker

    assert found.koji.hub_url == configuration["KOJIHUB_URL"]
    assert found.koji.timeout == found.registry.timeout == configuration.get("REQUEST_TIMEOUT", 30)
    assert found.log_level == configuration.get("LOG_LEVEL", "INFO")
    assert found.limits.uncompressed_bytes == configuration.get("ZIPFILE_MAX_UNCOMPRESSED_SIZE", 20 * 2**20)
    assert found.api.max_content_length == configuration.get("MAX_CONTENT_LENGTH", 2 * 2**20)
    organizations = configuration.get("ORGANIZATIONS", {})
    assert set(found.organizations) == set(organizations)
    for name, given_entry in organizations.items():
        entry = found.organizations[name]
        assert entry.public == given_entry.get("public", False)
        assert entry.package_name_suffix == given_entry.get("package_name_suffix", "")
        assert [each.model_dump(exclude_defaults=True) for each in entry.csv_annotations] == given_entry.get(
            "csv_annotations", []
        )
        assert [(each.old, each.new, each.regexp) for each in entry.replace_registry] == [
            (each["old"], each["new"], False) for each in given_entry.get("replace_registry", [])
        ]
        token = entry.oauth()
        assert (token is not None) == ("oauth_token" in given_entry)
        if with_secrets and token is not None:
            assert token.get_secret_value() == given_entry["oauth_token"]


FRAGMENTS = [
    *sorted(TRANSLATED | {"class ProdConfig", "class A(B)", "import os", "os.environ", "lambda", "if", "def f()"}),
    *(" = ", ": ", "\n", "\n    ", "{", "}", "[", "]", "(", ")", ", ", "'", '"', "\\", "#", "*", "**", "+", "x", "1"),
    *("'a'", "'https://x'", "None", "True", "1e999", "0x1", "f'{x}'", "'oauth_token' 'CANARY'", "\ufeff", "é", "\t"),
]


@quick
@given(text=st.text(max_size=80) | st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_any_text_gives_an_answer_or_a_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "omps.py"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    made = answer(path)
    if isinstance(made, SettingsError):
        assert made.faults
        assert "CANARY" not in str(made)
    else:
        assert tomllib.loads(filled_in(str(made.document))) == made.document.whole


@quick
@given(content=st.binary(max_size=60))
def test_any_bytes_give_an_answer_or_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "omps.py").write_bytes(content)
    with pytest.raises(SettingsError):
        translate(omps_file.read(tmp_path / "omps.py"))


@quick
@given(name=texts.filter(bool), value=texts)
def test_hostile_names_and_values_stay_in_their_lines(tmp_path: Path, name: str, value: str) -> None:
    entry = {"package_name_suffix": value, "oauth_token": "x", value or "x": 1}
    (tmp_path / "omps.py").write_text(f"LOG_LEVEL = 'INFO'\nORGANIZATIONS = {{{name!a}: {entry!a}}}\n")
    made = answer(tmp_path / "omps.py")
    if isinstance(made, SettingsError):
        assert all(each.key.isprintable() for each in made.faults)
        return
    assert set(tomllib.loads(str(made.document))["consumer_config"]["organizations"]) == {name}
    assert all(line.isprintable() for line in str(made.document).split("\n"))
