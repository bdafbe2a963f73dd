# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration and mapping files that explode, or are no such files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omps_worker.common.errors import MESSAGE_LIMIT, MappingError, SettingsError
from omps_worker.common.model import BuildFacts
from omps_worker.configuration import loading
from omps_worker.configuration.mapping import file as mapping_file

RULES = "version: 1\nrules:\n- match: {}\n  publish: []\n"
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))

Content = str | bytes | Callable[[Path], object]

MAPPINGS: dict[str, Content] = {
    "empty": "",
    "null": "null",
    "a list": "[]",
    "a billion laughs": LAUGHS + RULES,
    "rules in themselves": "version: 1\nrules: &a [*a]\n",
    "a merge with itself": "version: 1\nrules: []\na: &a {<<: *a}\n",
    "brackets that never close": "[" * 100_000,
    "mappings that never close": "{a: " * 5000,
    "two megabytes": "version: 1\nrules: " + "x" * 2**21,
    "ten thousand rules of nonsense": "version: 1\nrules: [" + "{hostile: 1}," * 10_000 + "]",
    "a NUL": "version: 1\0",
    "UTF-16": RULES.encode("utf-16"),
    "Latin-1": b"a: \xff",
    "a tag": "version: !!python/object/apply:os.system ['touch hostile']\nrules: []",
    "a date that is none": "version: 2019-13-01\nrules: []",
    "a number of ten thousand digits": "version: " + "9" * 10_000 + "\nrules: []",
    "the same key twice": "version: 1\nversion: 1\nrules: []",
    "two documents": RULES + "---\n" + RULES,
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}

CONFIGURATIONS: dict[str, Content] = {
    "empty": "",
    "arrays that never close": "a=" + "[" * 100_000,
    "tables that never close": "a=" + "{a=" * 5000,
    "tables five thousand deep": f"[{'.'.join(['a'] * 5000)}]\n",
    "two megabytes": f"a='{'x' * 2**21}'",
    "a number of ten thousand digits": "a=" + "9" * 10_000,
    "a NUL": "a='\0'",
    "Latin-1": b"a='\xff'",
    "every section of another type": "amqp_url=7\nqueues=[]\nbindings={}\ntls=1\nmonitoring='x'\nconsumer_config=[]\n",
    "every table of another type": "amqp_url=2019-01-01\nconsumer_config={koji=1,registry=[],organizations=7}",
    "limits without limits": "consumer_config={limits={files=1e400,archive_bytes=nan,uncompressed_bytes='-1'}}",
    "endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a directory": Path.mkdir,
    "nothing": lambda path: None,
}


def put(content: Content, path: Path) -> Path:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("content", MAPPINGS.values(), ids=MAPPINGS)
def test_a_hostile_mapping_is_refused_with_a_reason(content: Content, tmp_path: Path) -> None:
    path, before = put(content, tmp_path / "mapping.yaml"), time.process_time()
    with pytest.raises(MappingError) as refused:
        mapping_file.load(path, ["community"])
    assert "mapping.yaml" in refused.value.message
    assert len(refused.value.message) <= MESSAGE_LIMIT
    assert time.process_time() - before < 10
    assert not Path("hostile").exists()


@pytest.mark.parametrize("content", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_hostile_configuration_is_refused_with_a_reason(content: Content, tmp_path: Path) -> None:
    path, before = put(content, tmp_path / "config.toml"), time.process_time()
    with pytest.raises(SettingsError) as refused:
        loading.load(path)
    assert "config.toml" in refused.value.message
    assert len(refused.value.message) <= MESSAGE_LIMIT
    assert time.process_time() - before < 10


@pytest.mark.parametrize("glob", ["*a" * 250 + "b", "[!b]*" * 100 + "b", "?*" * 250 + "b", "[" * 500, "[a-" * 150])
def test_no_glob_makes_matching_slow(glob: str, tmp_path: Path) -> None:
    text = f"version: 1\nrules:\n- match: {{nvr: ['{glob}']}}\n  publish: []\n"
    mapping = mapping_file.load(put(text, tmp_path / "mapping.yaml"), ["community"])
    before = time.process_time()
    assert mapping.resolve(BuildFacts(nvr="a" * 1024)) is None
    assert time.process_time() - before < 2
