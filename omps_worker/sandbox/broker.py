# SPDX-License-Identifier: GPL-3.0-or-later
"""A private, disposable RabbitMQ node on loopback.

It is a real RabbitMQ. All its files (home, cookie, data, logs, process ids) are in one directory, and all its
listeners are on 127.0.0.1. Any user can start one, including root; no privileges are needed.

A node runs as long as at least one process holds it. A small shell process, the keeper, is the parent of the Erlang
VM and of its port mapper (epmd). The keeper reads from a named pipe that every holder keeps open for writing. When
the last holder closes the pipe or dies, the keeper reads end-of-file. It then stops both, and removes the directory
if it is a temporary one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import pika
from pika.exceptions import AMQPError

from omps_worker.common.errors import BrokerUnavailable

MESSAGE_BYTES = 16 * 2**20
"""The largest message that a node accepts, in bytes: RabbitMQ 4's default, which ``deploy/rabbitmq`` also sets."""

START_SECONDS = 60.0
"""How many seconds a start may take. It usually takes 5 seconds, and more on a busy machine."""

_SCRIPT_DIRECTORIES = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/sbin", "/opt/rabbitmq/sbin", "/usr/local/sbin")
"""Directories of RabbitMQ's own scripts. Debian's wrapper in /usr/sbin only works for root and for one fixed node."""

_KEEPER = """
epmd=$1 epmd_port=$2 server=$3 directory=$4 temporary=$5
exec 3<&0
mapper=
if [ -n "$epmd" ]; then
    "$epmd" -port "$epmd_port" -address 127.0.0.1 3<&- </dev/null >/dev/null 2>&1 &
    mapper=$!
fi
"$server" 3<&- </dev/null >"$directory/console.log" 2>&1 &
node=$!
orphaned=
trap 'kill -TERM "$node"' TERM
trap 'kill -KILL "$node"' USR1
trap 'orphaned=yes; kill -KILL "$node"' USR2
(read -r _; kill -USR2 "$$") <&3 &
reader=$!
while kill -0 "$node" 2>/dev/null; do wait "$node"; done
kill $mapper "$reader" 2>/dev/null
wait
if [ "$orphaned$temporary" = yesyes ]; then rm -rf -- "$directory"; fi
"""


class RabbitNode:
    """One node. ``with RabbitNode() as node`` starts it, and disposes of it at the end.

    ``directory`` takes its files, and is kept afterwards with the messages. Without it, a temporary directory is
    created, and removed with the node. ``config`` holds settings for rabbitmq.conf, such as
    ``{"consumer_timeout": "60000"}``. The ports stay the same when the node is restarted.

    ``peer`` is a running node. The new node forms a cluster with it at its first start. It uses the peer's port
    mapper, so it must not outlive the peer.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        config: Mapping[str, str] | None = None,
        peer: RabbitNode | None = None,
    ) -> None:
        self._temporary = directory is None
        self._directory = directory.absolute() if directory else None
        self._config = dict(config or {})
        self._peer = peer
        self._keeper: subprocess.Popen[bytes] | None = None
        self._hold: int | None = None
        if not self._find_ports():
            self._set_ports()

    @classmethod
    def join(cls, directory: Path) -> RabbitNode | None:
        """Become another holder of the node that runs in ``directory``; return None if no node runs there.

        The returned node can be used and closed, but not stopped or restarted.
        """
        try:
            hold = os.open(directory / "holders", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        node = cls(directory)
        node._hold = hold
        return node

    def __enter__(self) -> RabbitNode:
        """Start the node."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the node."""
        self.close()

    @property
    def directory(self) -> Path:
        """The directory of its files. A temporary directory is created when this property is first read."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="omps-worker-rabbit-"))
        return self._directory

    @property
    def amqp_url(self) -> str:
        """The URL of the default virtual host, for the guest account."""
        return self.url("/")

    def url(self, vhost: str, *, user: str = "guest", password: str = "guest") -> str:  # noqa: S107
        """Return the URL of a virtual host."""
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Start the node, and return when it accepts connections, usually after 5 seconds.

        After ``stop`` or ``kill``, the node starts again with its data. Raises BrokerUnavailable if RabbitMQ is not
        installed or does not start; the error message contains the end of RabbitMQ's output.
        """
        if self._keeper is not None:
            raise RuntimeError("this node is already running")
        first = not (self.directory / "ports.json").exists()
        for attempt in range(3):
            try:
                self._write_files()
                self._start_keeper()
                self._wait_until_ready()
                return
            except BaseException as error:
                self._end(signal.SIGUSR1)
                in_use = isinstance(error, BrokerUnavailable) and "eaddrinuse" in self._console()
                if not (first and in_use and attempt < 2):
                    self.close()
                    raise
                self._set_ports()

    def stop(self) -> None:
        """Stop the node cleanly. Its data is kept for the next start."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the node (kill -9). Its data is kept."""
        self._end(signal.SIGUSR1)

    def restart(self) -> None:
        """Stop the node cleanly and start it again."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        """Whether the process that this object started is still running."""
        return self._keeper is not None and self._keeper.poll() is None

    def close(self, *, wait: bool = True) -> None:
        """Release the node, and return when it has ended. The node ends when its last holder releases it.

        With ``wait=False``, the method returns at once. Use that if there may be other holders.
        """
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
        if self._keeper is not None and wait:
            self._wait_for_keeper(self._keeper)
            self._keeper = None
        if self._temporary and self._directory is not None and self._keeper is None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def add_vhost(self, name: str) -> str:
        """Create a virtual host that the guest account may use, and return its URL. Takes half a second."""
        self.add_vhosts([name])
        return self.url(name)

    def add_vhosts(self, names: Iterable[str]) -> None:
        """Create virtual hosts that the guest account may use. Creating many costs little more than creating one."""
        listed = ",".join(_erlang(name) for name in names)
        self.eval(
            f'[begin rabbit_vhost:add(N, <<"sandbox">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, N, <<".*">>, <<".*">>, <<".*">>, '
            f'<<"sandbox">>) end || N <- [{listed}]], ok.'
        )

    def add_user(
        self, name: str, password: str, vhost: str, *, configure: str = "", write: str = "", read: str = ""
    ) -> None:
        """Create an account. The patterns say which names in ``vhost`` it may configure, write to and read from."""
        self.rabbitmqctl("add_user", name, password)
        self.rabbitmqctl("set_permissions", "-p", vhost, name, configure, write, read)

    def eval(self, expression: str) -> str:
        """Let the node evaluate an Erlang expression, and return the output."""
        return self.rabbitmqctl("eval", expression)

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against this node, and return its output. Raises BrokerUnavailable if it fails."""
        command, environment = self.rabbitmqctl_command()
        words, no_input = [*command, *arguments], subprocess.DEVNULL
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=no_input
        )
        if done.returncode:
            raise BrokerUnavailable(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return done.stdout

    def rabbitmqctl_command(self) -> tuple[list[str], dict[str, str]]:
        """Return how to run ``rabbitmqctl`` against this node: the start of the command line, and the environment."""
        return [str(_server().with_name("rabbitmqctl")), "-n", self._name], self._environment()

    @property
    def _name(self) -> str:
        return f"omps-worker-{self.port}@localhost"

    def _find_ports(self) -> bool:
        """Take the ports of the node whose files are in the directory: its name, and so its data, depend on them."""
        if self._directory is None:
            return False
        try:
            found = json.loads((self._directory / "ports.json").read_text())
            self.port, self._distribution_port, self._epmd_port = found
        except (OSError, ValueError):
            return False
        return True

    def _set_ports(self) -> None:
        self.port, self._distribution_port, self._epmd_port = _free_ports(3)
        if self._peer is not None:
            self._epmd_port = self._peer._epmd_port

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "log.console": "false",
            "disk_free_limit.absolute": "1MB",
            "max_message_size": str(MESSAGE_BYTES),
            **self._config,
        }
        if self._peer is not None:
            config["cluster_formation.classic_config.nodes.1"] = self._peer._name
            config["cluster_formation.classic_config.nodes.2"] = self._name
            cookie = self.directory / ".erlang.cookie"
            if not cookie.exists():
                shutil.copy(self._peer.directory / cookie.name, cookie)
        (self.directory / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in config.items()))
        (self.directory / "enabled_plugins").write_text("[].\n")
        (self.directory / "rabbitmq-env.conf").touch()
        # Name lookups must not leave the machine, and must not start a helper process.
        (self.directory / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file]}.\n')
        (self.directory / "ports.json").write_text(json.dumps([self.port, self._distribution_port, self._epmd_port]))

    def _environment(self) -> dict[str, str]:
        home = str(self.directory)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "HOME": home,
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_INETRC": f"{home}/inetrc",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": f"{home}/rabbitmq-env.conf",
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/data",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false {loopback}",
            "RABBITMQ_CTL_ERL_ARGS": f"-start_epmd false {loopback}",
            # The start script then replaces itself with the Erlang VM, so that signals reach the VM.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _start_keeper(self) -> None:
        pipe = self.directory / "holders"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o600)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        epmd = "" if self._peer is not None else _epmd()
        try:
            self._hold = os.open(pipe, os.O_WRONLY)
            os.set_blocking(reading, True)
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "keeper", epmd, str(self._epmd_port), str(_server()),
                 str(self.directory), "yes" if self._temporary else ""],
                env=self._environment(), stdin=reading, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd=self.directory, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(reading)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        parameters = pika.URLParameters(self.amqp_url)
        parameters.connection_attempts, parameters.socket_timeout, parameters.blocked_connection_timeout = 1, 5, 5
        while time.monotonic() < deadline:
            if not self.running:
                break
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                with contextlib.suppress(AMQPError):
                    pika.BlockingConnection(parameters).close()
                    return
            time.sleep(0.05)
        raise BrokerUnavailable(f"the private RabbitMQ node did not start: {self._console() or 'it printed nothing'}")

    def _console(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "console.log").read_text(errors="replace").strip()[-2000:]
        return ""

    def _end(self, number: signal.Signals) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.send_signal(number)
            self._wait_for_keeper(keeper)
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    @staticmethod
    def _wait_for_keeper(keeper: subprocess.Popen[bytes]) -> None:
        try:
            keeper.wait(30)
        except subprocess.TimeoutExpired:
            # The keeper leads its own session, so this signal reaches the keeper and its children, nothing else.
            os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()


def _server() -> Path:
    for directory in _SCRIPT_DIRECTORIES:
        if os.access(f"{directory}/rabbitmq-server", os.X_OK):
            return Path(directory, "rabbitmq-server")
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise BrokerUnavailable("there is no rabbitmq-server on this machine; install the package rabbitmq-server")
    return Path(found)


def _epmd() -> str:
    found = shutil.which("epmd")
    if found is not None:
        return found
    for installed in sorted(Path("/usr").glob("lib*/erlang/erts-*/bin/epmd")):
        return str(installed)
    raise BrokerUnavailable("there is no epmd (Erlang's port mapper) on this machine; install Erlang with RabbitMQ")


def _free_ports(count: int) -> list[int]:
    """Return free ports that the system does not use for outgoing connections.

    A port that the system chose (port 0) may become the local end of an outgoing connection while the node is down
    for a restart. So these ports are below the range for outgoing connections.
    """
    lowest = 32768
    with contextlib.suppress(OSError, ValueError, IndexError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(10240, max(lowest, 12288))
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().choice(candidates)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


def _erlang(text: str) -> str:
    """Return ``text`` as an Erlang binary. It may contain any characters."""
    return "<<" + ",".join(str(byte) for byte in text.encode()) + ">>"
