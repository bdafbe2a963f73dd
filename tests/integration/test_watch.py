# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker watch``, as people and scripts use it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from urllib.parse import unquote, urlsplit

import pytest

from omps_worker.sandbox import operators
from omps_worker.sandbox.site import TOPIC_PREFIX
from tests.support.proxy import Proxy
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until
from tests.support.watching import result, tell, watching

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))


def test_what_the_worker_tells_is_seen_by_people_and_programs(site):
    build = site.koji.add_build("otter-cache-operator-container", "1.0", "1", manifests=OTTER)
    with watching(site, "--count", "1") as person, watching(site, "--json", "--count", "1") as program, site.running():
        with site.watching() as watch:
            site.publish(site.koji.message(build))
            (told,) = results_of(watch, 1)
        assert person.ended() == program.ended() == 0
    (line,) = person.out
    assert line.split()[1:] == ["published", "community/otter-cache", "1.0.0", build["nvr"]]
    (document,) = map(json.loads, program.out)
    assert document["body"] == told
    assert document["topic"] == f"{TOPIC_PREFIX}.omps.release.published"
    assert set(document) == {"topic", "id", "sent_at", "body"}
    assert person.err[-1].startswith("1 result(s) since ")


def test_only_what_was_asked_for_is_shown(site):
    options = ("--organization", "community", "--status", "failed", "--status", "skipped", "--component", "o*")
    with watching(site, *options, "--count", "2") as watcher:
        tell(
            site,
            result("failed"),
            result("published"),
            result("failed", organization="partners"),
            result("failed", component="etcd"),
            result("skipped"),
        )
        assert watcher.ended() == 0
    assert [line.split()[1] for line in watcher.out] == ["failed", "skipped"]


def test_what_is_no_result_is_passed_over_with_a_note(site):
    with watching(site, "--count", "1") as watcher:
        tell(site, b"\xff\x00", b'{"status": "odd"}', b"x" * (2**20 + 1), result())
        assert watcher.ended() == 0
    assert len(watcher.out) == 1
    assert sum("ignored a message" in line for line in watcher.err) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_told_to_stop_is_a_good_end(site, number):
    with watching(site) as watcher:
        tell(site, result())
        wait_until(lambda: watcher.out, what="the result")
        watcher.process.send_signal(number)
        assert watcher.ended() == 0
    assert watcher.err[-1].endswith(": 1 published")
    assert "Traceback" not in "".join(watcher.err)


def test_a_connection_that_is_lost_is_told_and_made_again(site):
    port = urlsplit(site.amqp_url).port
    direct = site.amqp_url
    with Proxy(port) as proxy:
        edit(site.config, direct, direct.replace(f":{port}", f":{proxy.port}"))
        with watching(site, "--count", "1") as watcher:
            proxy.cut()
            watcher.noted("Results may be missed in the meantime")
            watcher.noted("watching again: ")
            tell(site, result())
            assert watcher.ended() == 0
    assert len(watcher.out) == 1


def test_a_queue_that_is_taken_away_is_told_and_made_again(site, shared_rabbit):
    node, vhost = shared_rabbit.node, unquote(urlsplit(site.amqp_url).path[1:])
    with watching(site, "--count", "1") as watcher:
        (queue,) = re.findall(r"amq\.gen-\S+", node.rabbitmqctl("list_queues", "-p", vhost, "name"))
        node.eval(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)), '
            'rabbit_amqqueue:delete(Q, false, false, <<"test">>).'
        )
        watcher.noted("removed the queue of this command. Results may be missed in the meantime")
        watcher.noted("watching again: ")
        tell(site, result())
        assert watcher.ended() == 0
    assert len(watcher.out) == 1


@pytest.mark.parametrize("more", ["", "passive_declares = true\n"], ids=["declares", "passive declares"])
def test_a_user_who_may_have_no_queue_is_told_which_rights_are_missing(site, shared_rabbit, more):
    vhost = unquote(urlsplit(site.amqp_url).path[1:])
    shared_rabbit.node.add_user(vhost, "secret-word", vhost, configure="^omps", write="^omps", read="^omps")
    edit(site.config, site.amqp_url, re.sub(r"//[^@]*@", f"//{vhost}:secret-word@", site.amqp_url))
    site.config.write_text(more + site.config.read_text())
    refused = site.command("watch")
    assert refused.code == 2
    assert "refuses a temporary queue" in refused.err
    assert "amq.gen-" in refused.err
    assert "read amq.topic" in refused.err
    assert "secret-word" not in refused.err


def test_a_broken_mapping_and_missing_secrets_do_not_matter(site):
    (site.directory / "mapping.yaml").write_text("rules: 7\n")
    for secret in (site.directory / "secrets").iterdir():
        secret.unlink()
    with watching(site):
        pass


def test_workers_and_other_watchers_notice_nothing(site):
    with site.running(), watching(site, "--count", "1") as one, watching(site, "--count", "1") as other:
        assert site.consumers() == 1
        tell(site, result())
        assert one.ended() == other.ended() == 0
    assert len(one.out) == len(other.out) == 1


def test_a_refused_login_and_a_missing_exchange_are_told_at_once(site):
    good = site.config.read_text()
    edit(site.config, site.amqp_url, re.sub(r"//[^@]*@", "//nobody:wrong@", site.amqp_url))
    assert "nobody" in site.config.read_text()
    refused = site.command("watch")
    assert (refused.code, "refuses the login" in refused.err) == (2, True)
    assert "wrong" not in refused.err
    site.config.write_text(f'publish_exchange = "nowhere"\n{good}')
    missing = site.command("watch")
    assert (missing.code, "nowhere (publish_exchange)" in missing.err) == (2, True)


def test_a_reader_that_has_heard_enough_is_no_fault(site):
    reading, writing = os.pipe()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "--config", str(site.config), "watch"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert watcher.stderr.readline().startswith("watching: ")
    os.close(reading)
    tell(site, result())
    _, said = watcher.communicate(timeout=30)
    assert "Traceback" not in said


def test_being_told_to_stop_is_a_good_end_also_when_the_broker_is_silent(site):
    port = urlsplit(site.amqp_url).port
    direct = site.amqp_url
    with Proxy(port) as proxy:
        edit(site.config, direct, direct.replace(f":{port}", f":{proxy.port}"))
        with watching(site) as watcher:
            proxy.silent.set()
            watcher.process.send_signal(signal.SIGTERM)
            assert watcher.ended(10) == 0
    assert "Traceback" not in "".join(watcher.err)


@pytest.mark.parametrize("kind", [os.pipe, pty.openpty])
def test_being_told_to_stop_is_a_good_end_also_when_nobody_reads(site, kind):
    reading, writing = kind()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "--config", str(site.config), "watch"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watcher.stderr.readline().startswith("watching: ")
        # Each is longer than a page of a pipe: once all pages are taken, the next one hangs.
        tell(site, *[result(reason="r" * 5000)] * 1000)
        wait_until(lambda: not select.select([], [writing], [], 0)[1], 30, "no more to be taken")
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(10) == 0
    finally:
        watcher.kill()
        watcher.communicate()
        os.close(reading)
        os.close(writing)


def test_letters_that_the_terminal_has_not_are_replaced(site):
    with watching(site, "--count", "1", env={**os.environ, "PYTHONIOENCODING": "latin-1"}) as watcher:
        tell(site, result(reason="sn\u00f6 \u2014 \u96ea"))
        assert watcher.ended() == 0
    assert watcher.out[0].endswith("sn? ? ?") or watcher.out[0].endswith("sn\ufffd ? ?")


def test_it_ends_after_the_time_that_was_given(site):
    with watching(site, "--for", "3s") as watcher:
        tell(site, result())
        assert watcher.ended() == 0
    assert len(watcher.out) == 1
    assert site.command("watch", "--for", "soon").code == 2


def test_a_terminal_gets_colours_and_a_summary_that_stays_below(site):
    screen, terminal = pty.openpty()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "--config", str(site.config), "watch", "--count", "2"],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": ""},
    )
    os.close(terminal)
    shown = []

    def read():
        try:
            while piece := os.read(screen, 4096):
                shown.append(piece)
        except OSError:
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: b"watching: " in b"".join(shown), 30, "the watcher")
    tell(site, result(), result("failed", error={"name": "KojiError", "message": "a\x1b[2Jb"}))
    assert watcher.wait(30) == 0
    reader.join(10)
    os.close(screen)
    text = b"".join(shown).decode()
    assert "\x1b[32mpublished\x1b[0m" in text
    assert "\x1b[31mfailed   \x1b[0m" in text
    assert "\x1b[2J" not in text
    assert re.search(r"\r\x1b\[K1 result\(s\) since [\d:]+: 1 published", text)
    assert text.rstrip().endswith("1 published, 1 failed")
