# SPDX-License-Identifier: GPL-3.0-or-later
"""Brokers that a storm breaks: one node, or a cluster of several behind a load balancer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from omps_worker.sandbox.broker import RabbitNode
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


class Cluster:
    """``nodes`` RabbitMQ nodes on loopback, as a context manager; ``url`` leads to one that runs."""

    def __init__(self, directory: Path, nodes: int) -> None:
        config = {"cluster_partition_handling": "pause_minority"} if nodes > 1 else {}
        self.first = RabbitNode(directory / "broker-1", config=config)
        others = [
            RabbitNode(directory / f"broker-{number}", config=config, peer=self.first) for number in range(2, nodes + 1)
        ]
        self._nodes = [self.first, *others]
        self._parts = ExitStack()
        self.url = self.first.amqp_url

    def __enter__(self) -> Cluster:
        with ExitStack() as starting:
            for node in self._nodes:
                starting.enter_context(node)
            if len(self._nodes) > 1:
                balancer = starting.enter_context(Proxy(*(node.port for node in self._nodes)))
                self.url = self.first.amqp_url.replace(f":{self.first.port}/", f":{balancer.port}/")
                wait_until(lambda: self.running() == len(self._nodes), 60, "a cluster")
            self._parts = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def running(self) -> int:
        """How many nodes know each other."""
        status = json.loads(self.first.rabbitmqctl("cluster_status", "--formatter", "json"))
        return len(status["running_nodes"])

    def lose_a_node(self, chaos: random.Random, pause: Callable[[float], object], *, gently: bool) -> str:
        """Stop or kill one, bring it back after a while, and say what was done.

        Of several nodes the first stays: it has the port mapper that all of them use.
        """
        node = chaos.choice(self._nodes[1:] or self._nodes)
        how = "stopped" if gently else "killed"
        node.stop() if gently else node.kill()
        pause(chaos.uniform(0.0, 5.0))
        node.start()
        return f"node {self._nodes.index(node) + 1} of {len(self._nodes)} was {how} and is back"
