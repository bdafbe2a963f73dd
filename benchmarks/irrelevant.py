# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how many irrelevant messages per second the worker can dismiss.

The worker's consumer (decode, look up in the mapping, ack) is compared with plain pika (decode JSON, ack one by one).
Both consume the same messages from the same quorum queue of a private node, with the same prefetch, alternately, each
run in its own process. The time is measured from the first message to the last.

    python -m benchmarks.irrelevant [--messages N] [--rounds N] [--prefetch N …] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pika
from pika.spec import BasicProperties

from omps_worker.broker.connection.access import BrokerAccess
from omps_worker.broker.consuming.consumer import Consumer
from omps_worker.broker.consuming.delivery_worker import MessageHandler
from omps_worker.broker.publisher import Publisher
from omps_worker.broker.queues.topology import Topology
from omps_worker.common.model import BuildFacts, Ignored
from omps_worker.configuration.mapping import file as mapping_file
from omps_worker.configuration.mapping.matching import Verdict
from omps_worker.messages import events
from omps_worker.sandbox.broker import RabbitNode

QUEUE = "omps-worker"
RECORDED = Path(__file__).parent.parent / "tests" / "data" / "messages" / "fedora"
RULES = 50
MARK = 0.6
"""The target: the worker's speed as a fraction of plain pika's."""


def messages(count: int, seed: int = 1) -> list[tuple[str, BasicProperties, bytes]]:
    """Return ``count`` messages like Koji's, none of them about a component in the mapping."""
    recorded = [json.loads(path.read_text()) for path in sorted(RECORDED.glob("*.json"))]
    generator = random.Random(seed)
    made = []
    for number in range(count):
        sample = generator.choice(recorded)
        body = dict(sample["body"])
        if "build_id" in body:
            body["build_id"], body["name"] = number + 1, f"component-{generator.randrange(5000)}"
        properties = {**sample["properties"], "message_id": f"message-{number}"}
        made.append((sample["routing_key"], BasicProperties(**properties), json.dumps(body).encode()))
    return made


def plain(url: str, prefetch: int, count: int) -> float:
    """Consume ``count`` messages with plain pika, and return the elapsed seconds."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.basic_qos(prefetch_count=prefetch)
    seen, start, end = 0, 0.0, 0.0

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        nonlocal seen, start, end
        start = start or time.perf_counter()
        json.loads(body)
        channel.basic_ack(method.delivery_tag)
        seen += 1
        if seen == count:
            end = time.perf_counter()
            channel.stop_consuming()

    channel.basic_consume(QUEUE, on_message)
    channel.start_consuming()
    channel.connection.close()
    return end - start


def ours(url: str, prefetch: int, count: int) -> float:
    """Consume ``count`` messages with the worker's consumer, and return the elapsed seconds.

    The decoder is the real one, and the mapping has many rules.
    """
    rules = "\n".join(
        f"  - {{match: {{component: 'operator-{number}*-container'}}, publish: [{{organization: o}}]}}"
        for number in range(RULES)
    )
    mapping = mapping_file.parse(f"version: 1\nrules:\n{rules}\n", "mapping.yaml", ["o"])
    access = BrokerAccess.at(url, "benchmark")
    seen, start, end = 0, 0.0, 0.0

    def decode(body: bytes, **known: Any) -> Any:
        nonlocal seen, start, end
        start = start or time.perf_counter()
        found = events.decode(body, **known)
        seen += 1
        if seen == count:
            end = time.perf_counter()
            consumer.stop()
        return found

    def dismiss(facts: BuildFacts) -> Ignored | None:
        verdict = mapping.possible(facts)
        return None if verdict is Verdict.POSSIBLE else Ignored(verdict.value)

    def process(*_: Any) -> Any:
        raise AssertionError("a message was not dismissed")

    handler = MessageHandler(decode, dismiss, process, lambda *_: [])
    consumer = Consumer(access, Topology.named(QUEUE), handler, Publisher(access), prefetch=prefetch)
    if consumer.run() != 0 or sum(consumer.counts.values()) != count:
        raise RuntimeError(f"not every message was dismissed: {consumer.counts}")
    return end - start


def measure(node: RabbitNode, consume: Callable[[str, int, int], float], prefetch: int, count: int) -> float:
    """Return the messages per second of ``consume``, measured in a new process on a newly filled queue."""
    fill(node.amqp_url, count)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds = pool.apply(consume, (node.amqp_url, prefetch, count))
    unacked = depth(node.amqp_url)
    if unacked:
        raise RuntimeError(f"{unacked} messages were not acked")
    return count / seconds


def fill(url: str, count: int) -> None:
    """Empty the queue, publish ``count`` messages to it, and wait until they have arrived."""
    link = pika.BlockingConnection(pika.URLParameters(url))
    Topology.named(QUEUE).set_up(link)
    channel = link.channel()
    channel.queue_purge(QUEUE)
    for topic, properties, body in messages(count):
        channel.basic_publish("", QUEUE, body, BasicProperties(**{**vars(properties), "type": topic}))
    while depth(url) < count:
        link.sleep(0.05)
    link.close()


def depth(url: str) -> int:
    """Return the number of messages in the queue."""
    link = pika.BlockingConnection(pika.URLParameters(url))
    count: int = link.channel().queue_declare(QUEUE, passive=True).method.message_count
    link.close()
    return count


def run(count: int, rounds: int, prefetches: Sequence[int]) -> list[dict[str, float]]:
    """Return one row for each prefetch. Speeds are medians of ``rounds`` runs."""
    rows = []
    with RabbitNode() as node:
        for prefetch in prefetches:
            speeds: dict[str, list[float]] = {"plain": [], "ours": []}
            for _ in range(rounds):
                speeds["plain"].append(measure(node, plain, prefetch, count))
                speeds["ours"].append(measure(node, ours, prefetch, count))
            medians = {name: statistics.median(values) for name, values in speeds.items()}
            rows.append({"prefetch": prefetch, **medians, "ratio": medians["ours"] / medians["plain"]})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the results, and return 1 if the target is missed."""
    parser = argparse.ArgumentParser(description="Irrelevant messages per second, compared with plain pika.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefetch", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    rows = run(chosen.messages, chosen.rounds, chosen.prefetch)
    if chosen.json:
        print(json.dumps({"messages": chosen.messages, "rounds": chosen.rounds, "rows": rows}))
    else:
        print(f"irrelevant messages per second, median of {chosen.rounds} runs of {chosen.messages}")
        print("prefetch  plain pika  omps-worker  ratio")
        for row in rows:
            print(f"{row['prefetch']:8}  {row['plain']:10,.0f}  {row['ours']:11,.0f}  {row['ratio']:5.0%}")
    return 0 if all(row["ratio"] >= MARK for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
