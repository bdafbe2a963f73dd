# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries are replaced by regular expressions as ``re`` does it, and within limits that hold."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from omps_worker.common.errors import RegistryReplacementError, ResourcesExhausted, StorageError
from omps_worker.common.model import Status
from omps_worker.common.push_request import PushRequest
from omps_worker.manifests import regexp_process, replacements
from omps_worker.manifests.replacements import CannotReplace
from omps_worker.manifests.transformations import Replacement, Transformations, apply
from omps_worker.sandbox import operators
from tests.support.parts import parts
from tests.support.trees import tree_below, write_tree
from tests.support.waiting import wait_until

KEY = "consumer_config.organizations.community.replace_registry[1]"
TOO_SLOW = {
    "names in names": (r"quay\.io/(([a-z0-9]+[._-]?)+)/", "# quay.io/" + "a" * 34 + "!\n"),
    "a long path": (r'image:\s*"?(\S+/)*(\S+):latest', "image: " + "a-repository/" * 20_000 + "\n"),
    "either or either": (r"^image: (a|aa)+$", "image: " + "a" * 60 + "!\n"),
    "a look ahead": (r"(?=(a+)+b)a", "a" * 40 + "\n"),
    "far apart": (r"(.*,){12}P", "a," * 60 + "\n"),
}
"""Innocent expressions, each with a text that it does not come to an end with."""

LIKE_RE = [
    (r"^quay\.io$", "x", "quay.io\nquay.io\r\nno quay.io"),
    (r"(\w+)@(?P<digest>sha256:[0-9a-f]{3})", r"\g<digest>/\1\\\n", "a@sha256:abc b@sha256:12"),
    ("b*", "-", "abc"),
    (r"\b|x?", "|", "one x two"),
    ("a{e<=1}", "fuzzy", "a{e<=1} b ab"),
    ("[[a]-z||[:alpha:]]", "set", "[[a]-z||[:alpha:]] b-z|:]"),
    (r"(?i)ſ|k|İ", "_", "sS kK i̇ İ"),
    (r"(a)|b", r"[\1]", "ab"),
    (r"(?s:a.b)|(?m:^c)", "", "a\nb\nc"),
    (r"\B", "-", "ab"),
    (r"\s", "_", "a\x1c\x1f\x85\u2028b"),
    (r"(?<=io/)[^/]+(?!\d)", "o", "quay.io/abc1 quay.io/abc"),
    (r"\Z", "end", "a\n"),
    (r"(\d)(?:\1)+", r"\g<1>+", "1112223"),
]


def replace(directory: Path, text: str, *rules: Replacement) -> str:
    write_tree(directory, {"1.0.0/csv.yaml": text})
    apply(tree_below(directory), Transformations(replacements=rules))
    return (directory / "1.0.0/csv.yaml").read_bytes().decode()


@pytest.fixture
def hurried(monkeypatch):
    """No second of processor time, so that tests need not wait for ten."""
    monkeypatch.setattr(regexp_process, "SECONDS", 0.3)


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize(("old", "new", "text"), LIKE_RE)
def test_expressions_mean_what_they_mean_to_re(tmp_path, old, new, text):
    assert replace(tmp_path, text, Replacement(old, new, regexp=True)) == re.sub(old, new, text, flags=re.MULTILINE)


def test_expressions_know_lines_and_groups(tmp_path):
    rule = Replacement(r"^( *image: )(\w+)/(\S+)$", r"\1registry.test/\2-\g<3>", regexp=True)

    assert replace(tmp_path, "a:\n  image: x/y\n# image: x/y", rule) == "a:\n  image: registry.test/x-y\n# image: x/y"


def test_expressions_do_not_meet_carriage_returns(tmp_path):
    rules = (Replacement("io$", "test", regexp=True), Replacement("x\ny", "z\nz"))

    assert replace(tmp_path, "quay.io\r\nx\r\ny\r\n", *rules) == "quay.test\r\nz\r\nz\r\n"


def test_a_group_that_takes_no_part_is_empty(tmp_path):
    assert replace(tmp_path, "ab", Replacement("a(x)?", r"[\1]", regexp=True)) == "[]b"


def test_plain_texts_and_expressions_follow_each_other(tmp_path):
    rules = (Replacement("a", "b"), Replacement("b+$", "c", regexp=True), Replacement("c", "."))
    assert replace(tmp_path, "aab ab\r\nbb\r\n", *rules) == "aab ab\r\nbb\r\n".replace("aab ab", "bbb .").replace(
        "bb\r", ".\r"
    )


@pytest.mark.parametrize("what", TOO_SLOW)
def test_an_expression_that_comes_to_no_end_is_ended_and_named(tmp_path, hurried, what):
    old, text = TOO_SLOW[what]
    with pytest.raises(RegistryReplacementError) as caught:
        replace(tmp_path, text, Replacement("x", "y", regexp=True), Replacement(old, "", regexp=True, key=KEY))
    assert not caught.value.transient
    for part in ("0.3 seconds", "1.0.0/csv.yaml", old, KEY):
        assert part in caught.value.message


def test_an_expression_that_needs_too_much_memory_is_ended_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(regexp_process, "MEMORY", 64 * 2**20)
    with pytest.raises(RegistryReplacementError, match=r"more than 64 MiB of memory, in 1\.0\.0/csv\.yaml "):
        replace(tmp_path, "a/" * 2**21, Replacement("(./)*:", "", regexp=True, key=KEY))


def test_the_other_threads_go_on_meanwhile(tmp_path, hurried):
    """The expression would keep them from it: it holds Python's lock."""
    gaps, over = [0.0], threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not over.wait(0.01):
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.monotonic()
    with pytest.raises(RegistryReplacementError):
        replace(tmp_path, TOO_SLOW["names in names"][1], Replacement(TOO_SLOW["names in names"][0], "", regexp=True))
    took = time.monotonic() - began
    over.set()
    ticking.join()
    assert len(gaps) > 10
    assert max(gaps) < took / 2


def test_a_large_operator_takes_a_small_part_of_the_limit(tmp_path):
    """Nineteen megabytes, with a digest on every tenth line."""
    lines = ["image: quay.io/some/where:latest\n"] * 9 + [f"image: quay.io/some/where@sha256:{'0' * 64}\n"]
    text = "".join(lines) * (19 * 2**20 // sum(map(len, lines)))
    began = time.process_time()
    short = replace(tmp_path, text, Replacement("@sha256:[0-9a-f]{64}", ":x", regexp=True))
    assert len(short) < len(text)
    assert time.process_time() - began < regexp_process.SECONDS / 2


@pytest.mark.parametrize(
    ("rule", "content", "message"),
    [
        (Replacement("a", "b", regexp=True), b"\xff", "1.0.0/csv.yaml: it is not UTF-8 text"),
        (Replacement("a(?=(a*))", r"\1", regexp=True), b"a" * 10_000, "10485760 characters longer"),
        (Replacement("a", "b", regexp=True), b"a" * 100_001, "more than 100000 places"),
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(tmp_path, rule, content, message):
    write_tree(tmp_path, {"1.0.0/csv.yaml": content})
    with pytest.raises(Exception, match=message):
        apply(tree_below(tmp_path), Transformations(replacements=(rule,)))


def program(monkeypatch, tmp_path: Path, text: str) -> None:
    """Have ``text`` run instead."""
    path = tmp_path / "program.py"
    path.write_text(text)
    monkeypatch.setattr(replacements, "__file__", str(path))


def test_a_program_that_the_kernel_ends_for_its_time_took_too_long(tmp_path, monkeypatch):
    program(monkeypatch, tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGPROF)\n")
    with pytest.raises(CannotReplace) as caught:
        regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert caught.value.kind == replacements.TIME


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "signal 9"),
        ("raise SystemExit(3)\n", "exit code 3"),
    ],
)
def test_a_program_that_dies_otherwise_may_be_tried_again(tmp_path, monkeypatch, text, message):
    program(monkeypatch, tmp_path, text)
    with pytest.raises(ResourcesExhausted, match=message) as caught:
        regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert caught.value.transient


def test_a_program_that_cannot_begin_may_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(StorageError, match="cannot be started: No such file or directory") as caught:
        regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert caught.value.transient


def test_a_machine_without_a_place_for_a_program_is_named_as_such(tmp_path, monkeypatch):
    def run(*_arguments, **_options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(regexp_process.subprocess, "run", run)
    with pytest.raises(ResourcesExhausted, match="no more memory or processes") as caught:
        regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert caught.value.transient


def test_a_disk_that_fails_is_told_as_such(tmp_path, monkeypatch):
    program(monkeypatch, tmp_path, 'print(\'{"errno": 28, "strerror": "No space left on device"}\')\n')
    with pytest.raises(OSError, match="No space left") as caught:
        regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert caught.value.errno == 28


def test_a_machine_without_time_is_no_fault_of_the_manifests(tmp_path, monkeypatch):
    monkeypatch.setattr(regexp_process, "PATIENCE_SECONDS", 0.3)
    old, text = TOO_SLOW["names in names"]
    with pytest.raises(ResourcesExhausted, match="overloaded") as caught:
        replace(tmp_path, text, Replacement(old, "", regexp=True))
    assert caught.value.transient


def test_the_program_gets_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPS_WORKER_AMQP_URL", "amqp://user:secret@broker/")
    told = tmp_path / "told"
    program(
        monkeypatch,
        tmp_path,
        f"import json, os\nopen({str(told)!r}, 'w').write(json.dumps(dict(os.environ)))\nprint('{{}}')\n",
    )
    regexp_process.replace_in(tmp_path, [("a", "b", True)], 1, 1)
    assert set(json.loads(told.read_text())) <= {"PATH", "LD_LIBRARY_PATH", "LC_CTYPE"}


def test_the_program_ends_by_itself_when_nobody_waits_for_it_any_more(tmp_path):
    """The worker may be killed meanwhile; the program must not run for ever."""
    old, text = TOO_SLOW["names in names"]
    write_tree(tmp_path, {"a.yaml": text})
    job = {
        "directory": str(tmp_path), "rules": [[old, "", True]], "places": 1, "characters": 1, "seconds": 0.2,
        "memory": regexp_process.MEMORY,
    }  # fmt: skip
    alone = subprocess.Popen([sys.executable, replacements.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    alone.stdin.write(json.dumps(job).encode())
    alone.stdin.close()
    alone.stdout.close()
    wait_until(lambda: alone.poll() is not None, 30, "its end")


def test_a_build_ends_failed_and_the_other_organization_gets_it(tmp_path):
    old, _text = TOO_SLOW["names in names"]
    mapping = "version: 1\nrules:\n  - match: {}\n    publish: [{organization: community}, {organization: partners}]\n"
    tree = operators.nested_operator("otter-cache")
    evil = {name: text + TOO_SLOW["names in names"][1] for name, text in tree.items()}
    archive = tmp_path / "evil.zip"
    archive.write_bytes(operators.zip_of(evil))
    with parts(mapping) as site, pytest.MonkeyPatch.context() as patch:
        patch.setattr(regexp_process, "SECONDS", 0.3)
        rule = Replacement(old, "", regexp=True, key=KEY)
        site.organizations["community"].transformations = Transformations(replacements=(rule,))
        build = site.koji.add_build("otter-cache-container", "1", "1", manifests=archive.read_bytes())
        failed, published = site.process(build)
        (by_hand,) = site.process(build, organization="community")
        (tried,) = site.processor.process_archive(archive, PushRequest("community", dry_run=True))
    for outcome in (failed, by_hand, tried):
        assert (outcome.status, outcome.error_name) == (Status.FAILED, "RegistryReplacementError")
        assert not outcome.error.transient
        assert "organizations.community" in outcome.error.message
    assert published.status is Status.PUBLISHED
