# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pika
import pytest
from pika.spec import BasicProperties

from omps_worker.common.errors import BrokerUnavailable
from omps_worker.sandbox import broker
from omps_worker.sandbox.broker import MESSAGE_BYTES, RabbitNode
from tests.support.processes import ROOT
from tests.support.waiting import wait_until

LISTENING = "0A"


def processes_of(directory: Path) -> list[int]:
    """The processes whose command line or environment names ``directory``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in told:
            found.append(int(process.name))
    return found


def addresses_of(ports: list[int]) -> dict[int, set[str]]:
    """Where those ports are listened on."""
    found: dict[int, set[str]] = {port: set() for port in ports}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == LISTENING and int(port, 16) in found:
                found[int(port, 16)].add(address)
    return found


def depth(url: str) -> int:
    link = pika.BlockingConnection(pika.URLParameters(url))
    count = link.channel().queue_declare("kept", durable=True).method.message_count
    link.close()
    return count


def put(url: str) -> None:
    link = pika.BlockingConnection(pika.URLParameters(url))
    channel = link.channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "kept", b"x", BasicProperties(delivery_mode=2))
    link.close()


def test_a_node_keeps_its_data_and_ports_over_stops_and_kills(own_rabbit):
    url = own_rabbit.add_vhost("räume/1")
    put(url)
    own_rabbit.restart()
    wait_until(lambda: depth(url) == 1, 20, "the message that was kept")
    own_rabbit.kill()
    assert not own_rabbit.running
    own_rabbit.start()
    wait_until(lambda: depth(url) == 1, 20, "the message that was kept")


def test_a_node_is_on_loopback_only_and_leaves_nothing_behind():
    with RabbitNode() as node:
        directory = node.directory
        ports = [node.port, node._distribution_port, node._epmd_port]
        loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
        for addresses in addresses_of(ports).values():
            assert addresses
            assert addresses <= loopback
        assert processes_of(directory)
    assert not directory.exists()
    assert processes_of(directory) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_node_dies_with_the_process_that_holds_it(number):
    # A shell's background jobs ignore SIGINT, and what they start inherits that.
    program = (
        "import signal, sys; from omps_worker.sandbox.broker import RabbitNode; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "
        "node = RabbitNode(); node.start(); print(node.directory, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as holder:  # fmt: skip
        directory = Path(holder.stdout.readline().strip())
        assert processes_of(directory)
        holder.send_signal(number)
        holder.wait(30)
    wait_until(lambda: not directory.exists() and not processes_of(directory), 30, "the end of the node")


def test_a_node_lives_until_its_last_holder_lets_go(own_rabbit):
    joined = RabbitNode.join(own_rabbit.directory)
    assert joined is not None
    own_rabbit.close(wait=False)
    put(joined.amqp_url)
    directory = joined.directory
    joined.close()
    wait_until(lambda: not directory.exists(), 30, "the end of the node")
    assert RabbitNode.join(directory) is None


def test_a_directory_of_ones_own_is_kept(tmp_path):
    with RabbitNode(tmp_path / "node") as node:
        put(node.amqp_url)
        # One that is left is killed, and may not have written down yet which queues there are.
        node.stop()
    with RabbitNode(tmp_path / "node") as node:
        wait_until(lambda: depth(node.amqp_url) == 1, 20, "the message that was kept")
    assert processes_of(tmp_path) == []


def test_a_start_that_fails_says_why_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(broker.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="did not start"), RabbitNode(config={"listeners.tcp.1": "nonsense"}):
        pass
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_a_machine_without_rabbitmq_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(broker.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(broker, "_SCRIPT_DIRECTORIES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerUnavailable, match="install the package rabbitmq-server"), RabbitNode():
        pass
    assert list(tmp_path.iterdir()) == []


def test_messages_are_as_large_as_deploy_has_them_and_no_larger(amqp_url):
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()
        channel.basic_publish("", queue, bytes(MESSAGE_BYTES), mandatory=True)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="larger than"):
            channel.basic_publish("", queue, bytes(MESSAGE_BYTES + 1), mandatory=True)
