# SPDX-License-Identifier: GPL-3.0-or-later
"""A private RabbitMQ node on loopback: real, thrown away afterwards, nobody else's business.

All its files (home, cookie, data, logs, process ids) stand in one directory, and every
listener is on 127.0.0.1. It needs no rights: any user can start one, root too.

A node lives as long as somebody holds it. A small shell process, the keeper, is the parent of
the Erlang machine and of its port mapper (epmd). The keeper reads from a named pipe that every
holder keeps open for writing. When the last holder closes it, or dies in whatever way, the
keeper reads the end of the pipe, ends both, and removes the directory if it was a temporary one.
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
"""The largest message that a node takes: what RabbitMQ 4 takes by default, and ``deploy/rabbitmq`` has any take."""

START_SECONDS = 60.0
"""How long a start may take; 5 seconds are usual, a busy machine needs more."""

_PLACES = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/sbin", "/opt/rabbitmq/sbin", "/usr/local/sbin")
"""Where the plain scripts are. Debian's wrapper in /usr/sbin serves only root and one fixed node."""

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
    """One node. ``with RabbitNode() as node`` starts it and throws it away at the end.

    ``directory`` takes its files and is kept afterwards, with the messages; without one a temporary
    directory is made, and removed with the node. ``config`` are lines for rabbitmq.conf, such as
    ``{"consumer_timeout": "60000"}``. Ports stay the same over restarts.

    With ``peer``, a node that runs, it makes a cluster with that one when it first starts; it must
    not outlive it, as it uses its port mapper.
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
        """Hold the running node of ``directory`` too; None if none runs there (any more).

        Who joined can use the node and ``close`` it, not stop or restart it.
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
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Throw it away."""
        self.close()

    @property
    def directory(self) -> Path:
        """Where its files are; a temporary directory is made when this is first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="omps-worker-rabbit-"))
        return self._directory

    @property
    def amqp_url(self) -> str:
        """The URL of the default virtual host, with the guest account."""
        return self.url("/")

    def url(self, vhost: str, *, user: str = "guest", password: str = "guest") -> str:  # noqa: S107
        """The URL of a virtual host."""
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Start it and return when it takes connections, usually after 5 seconds.

        Starts it again, with its data, after ``stop`` or ``kill``. Raises BrokerUnavailable if
        RabbitMQ is not installed or does not start; the message has the end of what it said.
        """
        if self._keeper is not None:
            raise RuntimeError("this node runs already")
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
        """Stop it in an orderly way; its data stay for the next start."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (kill -9); its data stay as they are."""
        self._end(signal.SIGUSR1)

    def restart(self) -> None:
        """Stop it in an orderly way and start it again."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        """Whether the process that was started here still runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def close(self, *, wait: bool = True) -> None:
        """Let go of the node; the last one who does ends it. Returns when it is gone.

        With ``wait=False`` it returns at once: for one of several holders.
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
        """Make a virtual host that guest may use; returns its URL. Takes half a second."""
        self.add_vhosts([name])
        return self.url(name)

    def add_vhosts(self, names: Iterable[str]) -> None:
        """Make virtual hosts that guest may use: many at once cost little more than one."""
        listed = ",".join(_erlang(name) for name in names)
        self.eval(
            f'[begin rabbit_vhost:add(N, <<"sandbox">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, N, <<".*">>, <<".*">>, <<".*">>, '
            f'<<"sandbox">>) end || N <- [{listed}]], ok.'
        )

    def add_user(
        self, name: str, password: str, vhost: str, *, configure: str = "", write: str = "", read: str = ""
    ) -> None:
        """Make an account; the patterns say which names of ``vhost`` it may configure, write and read."""
        self.rabbitmqctl("add_user", name, password)
        self.rabbitmqctl("set_permissions", "-p", vhost, name, configure, write, read)

    def eval(self, expression: str) -> str:
        """Have the node evaluate Erlang; returns what it printed."""
        return self.rabbitmqctl("eval", expression)

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against this node; returns what it printed, raises BrokerUnavailable if it fails."""
        command, environment = self.rabbitmqctl_command()
        words, nothing = [*command, *arguments], subprocess.DEVNULL
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=nothing
        )
        if done.returncode:
            raise BrokerUnavailable(f"rabbitmqctl {arguments[0]}: {(done.stderr or done.stdout).strip()[-1000:]}")
        return done.stdout

    def rabbitmqctl_command(self) -> tuple[list[str], dict[str, str]]:
        """How to run ``rabbitmqctl`` against this node: the beginning of a command line, and the environment."""
        return [str(_server().with_name("rabbitmqctl")), "-n", self._name], self._environment()

    @property
    def _name(self) -> str:
        return f"omps-worker-{self.port}@localhost"

    def _find_ports(self) -> bool:
        """Take the ports of the node whose files are here: its name, and so its data, goes with them."""
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
        # No look-up leaves the machine, nor starts a helper process for it.
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
            # Makes the start script replace itself by the Erlang machine, so that signals reach it.
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
        raise BrokerUnavailable(f"the private RabbitMQ node did not start: {self._console() or 'it said nothing'}")

    def _console(self) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "console.log").read_text(errors="replace").strip()[-2000:]
        return ""

    def _end(self, how: signal.Signals) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.send_signal(how)
            self._wait_for_keeper(keeper)
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    @staticmethod
    def _wait_for_keeper(keeper: subprocess.Popen[bytes]) -> None:
        try:
            keeper.wait(30)
        except subprocess.TimeoutExpired:
            # The keeper leads a session of its own, so this reaches what it started, and nothing else.
            os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()


def _server() -> Path:
    for place in _PLACES:
        if os.access(f"{place}/rabbitmq-server", os.X_OK):
            return Path(place, "rabbitmq-server")
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
    """Ports that can be bound now and that no outgoing connection will be given.

    A port that the system hands out (port 0) may become the local end of somebody's connection
    while the node is down for a restart. So these lie below the range for outgoing connections.
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
    """``text`` as an Erlang binary, whatever is in it."""
    return "<<" + ",".join(str(byte) for byte in text.encode()) + ">>"
