# SPDX-License-Identifier: GPL-3.0-or-later
"""``omps-worker api`` as a process, or several: starting, stopping, and what is to be seen of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import requests

from omps_worker.api import server as api_server
from omps_worker.common.errors import SettingsError
from omps_worker.sandbox import operators
from omps_worker.sandbox.app_registry.server import SandboxRegistry
from omps_worker.sandbox.build_system.server import SandboxKoji
from omps_worker.sandbox.faults import Fault
from tests.support.api import configuration
from tests.support.monitoring import Seen, free_port, has_ipv6
from tests.support.sources import ROOT
from tests.support.waiting import wait_until

NESTED = operators.zip_of(operators.nested_operator("otter-cache"))


def check(reply, status, error, said):
    body = reply.json()
    assert (reply.status_code, body["error"]) == (status, error)
    assert said in body["message"]


def write_configuration(directory, koji, registry, port=0):
    worker = configuration(koji, registry)["consumer_config"]
    lines = []
    for section, keys in {**worker, "api": {"port": port}}.items():
        lines.append(f"[consumer_config.{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    path = directory / "config.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def command(path, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "omps_worker", "--config", str(path), "api", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMPS_WORKER_STATE_DIRECTORY": str(path.parent / "state"), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held_push(directory, workers, preface=""):
    """``omps-worker api`` with a push that the registry holds up until the gate is opened."""
    with SandboxKoji() as koji, SandboxRegistry() as registry, ExitStack() as ending:
        registry.add_organization("community")
        token = registry.add_robot("community")
        path = write_configuration(directory, koji, registry)
        path.write_text(preface + path.read_text())
        process = command(path, "--workers", workers)
        ending.callback(process.kill)
        log = []
        reader = threading.Thread(target=lambda: log.extend(iter(process.stderr.readline, "")), daemon=True)
        reader.start()
        found = wait_until(lambda: re.search(r"listens on ([\d.]+), port (\d+)", "".join(log)), 30, "a port")
        url = f"http://{found[1]}:{found[2]}"
        wait_until(lambda: "".join(log).count("Started server process") == int(workers), 60, "all processes")
        assert requests.get(url + "/v1/about", timeout=30).status_code == 200
        gate = threading.Event()
        ending.callback(gate.set)
        held = registry.faults.add(Fault("POST /cnr/api/v1/packages/.*", hold=gate))
        got = []

        def push():
            files, headers = {"file": ("a.zip", NESTED)}, {"Authorization": token}
            got.append(requests.post(url + "/v2/community/zipfile", files=files, headers=headers, timeout=60))

        client = threading.Thread(target=push)
        client.start()
        wait_until(lambda: registry.faults.fired(held), 30)

        def reply():
            client.join(30)
            return got[0]

        def everything_logged():
            reader.join(10)
            return "".join(log)

        yield SimpleNamespace(
            process=process,
            token=token,
            gate=gate,
            reply=reply,
            log=log,
            everything_logged=everything_logged,
            url=url,
            registry=registry,
        )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_serves_until_it_is_told_to_stop_and_finishes_what_is_in_hand(tmp_path, workers):
    with held_push(tmp_path, workers) as push:
        push.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Shutting down" in "".join(push.log), 30, "the end to begin")
        push.gate.set()
        assert push.reply().json()["version"] == "1.0.0"
        assert push.process.wait(30) == 0, push.log
        assert push.token not in push.everything_logged()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_push_that_outlasts_the_shutdown_is_told_so(tmp_path, workers):
    with held_push(tmp_path, workers, '[consumer_config]\nshutdown_timeout = "1s"\n') as push:
        push.process.send_signal(signal.SIGTERM)
        reply = push.reply()
        check(reply, 503, "ServiceStopping", "not known")
        assert "X-Request-ID" in reply.headers
        assert push.process.wait(30) == 1
        assert "Traceback" not in push.everything_logged()


def test_a_port_that_is_taken_and_odd_environments_are_told_before_anything_runs(tmp_path):
    with SandboxKoji() as koji, SandboxRegistry() as registry, socket.create_server(("127.0.0.1", 0)) as taken:
        path = write_configuration(tmp_path, koji, registry, taken.getsockname()[1])
        process = command(path, "--workers", "1")
        assert "cannot listen on 127.0.0.1" in process.communicate(timeout=30)[1]
        assert process.returncode == 2
    for told in ("0", "-1", "many", "1" * 5000):
        with pytest.raises(SettingsError, match="WORKERS_NUM"):
            api_server.worker_count(None, {"WORKERS_NUM": told})
    for told in ("0", "soon", "nan", "-3", "1e9"):
        with pytest.raises(SettingsError, match="WORKER_TIMEOUT"):
            api_server.upload_seconds({"WORKER_TIMEOUT": told})
    assert api_server.worker_count(3, {"WORKERS_NUM": "5"}) == 3
    assert api_server.worker_count(None, {"WORKERS_NUM": "5"}) == 5
    assert 1 <= api_server.worker_count(None, {}) <= 8
    assert (api_server.upload_seconds({}), api_server.upload_seconds({"WORKER_TIMEOUT": "1.5"})) == (30.0, 1.5)


def test_without_its_libraries_the_command_says_what_to_install(tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')\n")
    process = command(tmp_path / "config.toml", PYTHONPATH=str(tmp_path))
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 2
    assert "pip install 'omps-worker[api]'" in told


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_state_directory_that_cannot_be_used_is_told_before_anybody_is_served(tmp_path, workers):
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        path = write_configuration(tmp_path, koji, registry)
        process = command(path, "--workers", workers, OMPS_WORKER_STATE_DIRECTORY="/proc/no-such-place")
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "OMPS_WORKER_STATE_DIRECTORY" in said
    assert "listens" not in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_port_shows_the_counts_and_the_health_of_all_processes(tmp_path, workers):
    port = free_port()
    with held_push(tmp_path, workers, f"[monitoring]\nport = {port}\n") as push:
        seen = Seen(port)
        wait_until(seen.ready, 20, "the service to be ready")
        push.gate.set()
        assert push.reply().status_code == 200
        for _ in range(20):
            # Each on a connection of its own: all processes get some.
            assert requests.get(f"{push.url}/v2/about", timeout=10).status_code == 200
            assert requests.get(f"{push.url}/../nix", timeout=10).status_code == 404
        wait_until(lambda: seen.metric('omps_worker_outcomes_total{error="",status="published"}') == 1, 10)
        about = 'omps_worker_http_requests_total{method="GET",route="/v2/about",status="200"}'
        wait_until(lambda: seen.metric(about) == 20, 10, "every request to be counted")
        assert seen.metric('omps_worker_http_requests_total{method="GET",route="",status="404"}') == 20
        assert seen.metric('omps_worker_stage_seconds_count{stage="push"}') == 1
        # The login that tells whose token it is, the push, and the look after it.
        assert seen.metric('omps_worker_requests_total{result="200",service="registry"}') == 3
        assert seen.metric('omps_worker_part_up{part="registry"}') == 1
        assert push.token.split()[-1] not in seen.page()
        push.registry.__exit__(None, None, None)
        wait_until(lambda: not seen.ready(), 10, "the registry to be missed")
        assert [reason.partition(":")[0] for reason in seen.reasons()] == ["registry"]
        push.process.send_signal(signal.SIGTERM)
        assert push.process.wait(30) == 0, push.log


def test_a_process_that_dies_is_missed_and_its_counts_stay(tmp_path):
    port = free_port()
    with held_push(tmp_path, "2", f"[monitoring]\nport = {port}\n") as push:
        seen = Seen(port)
        wait_until(seen.ready, 20, "the service to be ready")
        push.gate.set()
        assert push.reply().status_code == 200
        published = 'omps_worker_outcomes_total{error="",status="published"}'
        wait_until(lambda: seen.metric(published) == 1, 10)
        for process in re.findall(r"Started server process \[(\d+)\]", "".join(push.log)):
            os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: "".join(push.log).count("is replaced") == 2, 20, "both to be replaced")
        wait_until(lambda: "".join(push.log).count("Started server process") == 4, 60, "all processes")
        assert seen.metric(published) == 1
        wait_until(seen.ready, 20, "the service to be ready again")
        push.process.send_signal(signal.SIGTERM)
        assert push.process.wait(30) == 0, push.log


def test_being_told_to_stop_while_it_starts_is_a_good_end(tmp_path):
    with SandboxKoji() as koji, SandboxRegistry() as registry:
        process = command(write_configuration(tmp_path, koji, registry), "--workers", "1")
        said = process.stderr.readline()
        assert "listens on" in said or "locks on packages" in said
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
        assert process.returncode == 0, said + rest
        assert "Traceback" not in rest


def test_two_colons_mean_all_addresses_of_both_kinds():
    with api_server.listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", *(["::1"] if has_ipv6() else [])):
            socket.create_connection((host, port), timeout=5).close()
        with pytest.raises(SettingsError, match=f"cannot listen on ::, port {port}"):
            api_server.listen("::", port)


def test_where_there_is_no_ipv6_they_mean_all_of_ipv4(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with api_server.listen("::", 0) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5).close()
