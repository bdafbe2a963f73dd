# SPDX-License-Identifier: GPL-3.0-or-later
"""``deploy/rabbitmq``: a worker can live on a broker that was set up by it, and its user can do nothing else."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker, NackError

from omps_worker.broker.locks.lock_queues import LockQueues
from omps_worker.sandbox import operators
from omps_worker.sandbox.site import QUEUE, TOPIC_PREFIX
from tests.support.deploying import DEFINITIONS, definitions, documented_commands
from tests.support.monitoring import Seen, free_port
from tests.support.site import edit, results_of
from tests.support.waiting import wait_until
from tests.support.watching import result, tell, watching

OTTER = operators.zip_of(operators.nested_operator("otter-cache"))
COMPONENT = "otter-cache-operator-container"
TOPIC = f"{TOPIC_PREFIX}.buildsys.build.state.change"
PASSWORD = "swordfish"
ACCESS_REFUSED = 403


class Account:
    """The worker's user on one virtual host; the name is one of its own, as users belong to the whole node."""

    def __init__(self, node, vhost: str) -> None:
        self.node, self.vhost, self.name = node, vhost, f"omps-worker-{vhost}"
        self.url = node.url(vhost, user=self.name, password=PASSWORD)

    @contextmanager
    def channel(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            yield channel
        finally:
            if connection.is_open:
                connection.close()


def adapted(vhost: str, user: str) -> str:
    """The definitions as a site changes them: its virtual host, its topics, and a delay that a test can wait for."""
    text = DEFINITIONS.read_text()
    text = text.replace('"vhost": "/"', f'"vhost": "{vhost}"').replace('"user": "omps-worker"', f'"user": "{user}"')
    for dot in (".", r"\\."):
        text = text.replace(f"org{dot}example{dot}prod{dot}", TOPIC_PREFIX.replace(".", dot) + dot)
    return text.replace('"omps-worker.retry.10s"', '"omps-worker.retry.500ms"').replace("10000,", "500,")


@pytest.fixture
def account(shared_rabbit, amqp_url, tmp_path: Path):
    """A virtual host with the definitions imported, and the worker's user on it."""
    made = Account(shared_rabbit.node, unquote(urlsplit(amqp_url).path[1:]))
    made.node.rabbitmqctl("add_user", made.name, PASSWORD)
    file = tmp_path / "definitions.json"
    file.write_text(adapted(made.vhost, made.name))
    made.node.rabbitmqctl("import_definitions", str(file))
    yield made
    made.node.rabbitmqctl("delete_user", made.name)


@pytest.fixture
def as_user(site, account):
    """A site whose worker is that user, with the topics of the definitions."""
    edit(site.config, json.dumps(site.amqp_url), json.dumps(account.url))
    edit(site.config, '["#.buildsys.build.state.change", "#.build.complete", "#.build.promote"]', f'["{TOPIC}"]')
    retry = '[consumer_config.retry]\ndelays = ["500ms", "1m", "10m", "1h"]\n'
    edit(site.config, "[consumer_config.koji]", retry + "[consumer_config.koji]")
    return site


def passive(site) -> None:
    edit(site.config, "topic_prefix", "passive_declares = true\ntopic_prefix")


def works(site) -> None:
    """A build is published after a retry, another one is parked, and the parked one can be seen and replayed."""
    good = site.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    bad = site.koji.add_build("lantern-operator-container", "1.0", "1", manifests=OTTER[:99])
    assert site.command("check").code == 0
    with site.watching() as watch, site.running():
        site.koji.fail_calls("offline", 1)
        site.publish(site.koji.message(good)._replace(routing_key=TOPIC))
        first, second = results_of(watch, 2)
        site.publish(site.koji.message(bad)._replace(routing_key=TOPIC))
        *_, third = results_of(watch, 3)
        wait_until(lambda: watch.depth(f"{QUEUE}.failed") == 1, 10, "the failure to be parked")
        (parked,) = site.command("failed", "list", "--json").json
        assert site.command("failed", "replay", "--all").code == 0
        *_, fourth = results_of(watch, 4)
    assert [first["status"], second["status"]] == ["retrying", "published"]
    assert [third["status"], fourth["status"]] == ["failed", "failed"]
    assert parked["nvr"] == bad["nvr"]
    assert len(site.registry.releases("community", "otter-cache")) == 1


def test_a_worker_that_may_declare_works_as_the_user_of_the_definitions(as_user):
    works(as_user)


def test_a_worker_that_only_checks_its_queues_works_on_those_of_the_definitions(as_user):
    passive(as_user)
    works(as_user)


def test_a_worker_that_only_checks_needs_no_more_than_the_narrower_permissions(as_user, account):
    (command,) = documented_commands("deployment.md", "rabbitmqctl set_permissions -p / omps-worker")
    account.node.rabbitmqctl("set_permissions", "-p", account.vhost, account.name, *command[-3:])
    passive(as_user)
    works(as_user)


def test_a_worker_that_may_declare_needs_no_definitions_but_its_permissions(as_user, account):
    with as_user.channel() as channel:
        for queue in definitions()["queues"]:
            channel.queue_delete(queue["name"].replace("10s", "500ms"))
    works(as_user)


def test_rights_to_other_topics_only_are_told_by_check_and_when_results_cannot_be_told(as_user, account):
    def may_write(topics: str) -> None:
        account.node.rabbitmqctl("set_topic_permissions", "-p", account.vhost, account.name, "amq.topic", topics, ".*")

    passive(as_user)
    may_write("^org[.]elsewhere[.]")
    checked = as_user.command("check")
    assert checked.code == 2
    assert "compare them with topic_prefix" in checked.out
    seen = Seen(free_port())
    edit(as_user.config, "[consumer_config]", f"[monitoring]\nport = {seen.port}\n[consumer_config]")
    build = as_user.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER)
    with as_user.watching() as watch, as_user.running():
        wait_until(seen.ready, 20, "the worker to be ready")
        as_user.publish(as_user.koji.message(build)._replace(routing_key=TOPIC))
        wait_until(lambda: not seen.ready(), 20, "the worker to tell")
        (reason,) = seen.reasons()
        assert reason.startswith("publisher: an outcome cannot be recorded: The broker refuses a message")
        may_write(".*")
        (told,) = results_of(watch, 1, 60)
        wait_until(seen.ready, 20, "the worker to be ready again")
    assert told["status"] == "published"


def test_a_missing_right_to_declare_is_no_reason_to_delete_a_queue(as_user, account):
    (command,) = documented_commands("deployment.md", "rabbitmqctl set_permissions -p / omps-worker")
    account.node.rabbitmqctl("set_permissions", "-p", account.vhost, account.name, *command[-3:])
    for ran in (as_user.command("check"), as_user.command("run")):
        assert ran.code == 2
        said = ran.out + ran.err
        assert "needs permission to configure" in said
        assert "delete" not in said.lower()


def test_the_rest_api_with_the_documented_rights_locks_and_tells_and_cannot_read(site, account):
    (permissions,) = documented_commands("deployment.md", "rabbitmqctl set_permissions -p / omps-api")
    account.node.rabbitmqctl("set_permissions", "-p", account.vhost, account.name, *permissions[-3:])
    (topics,) = documented_commands("deployment.md", "rabbitmqctl set_topic_permissions -p / omps-api")
    topic = topics[-2].replace(r"org\.example\.prod", TOPIC_PREFIX.replace(".", r"\."))
    account.node.rabbitmqctl("set_topic_permissions", "-p", account.vhost, account.name, "amq.topic", topic, topics[-1])
    with account.channel() as channel:
        LockQueues(channel.connection).probe()
        channel.basic_publish("amq.topic", f"{TOPIC_PREFIX}.omps.release.published", b"{}")
    for deed in (
        lambda channel: channel.basic_get(QUEUE),
        lambda channel: channel.basic_get(f"{QUEUE}.failed"),
        lambda channel: channel.queue_purge(QUEUE),
        lambda channel: channel.basic_publish("amq.topic", TOPIC, b"{}"),
    ):
        assert refused(account, deed)


def test_a_monitor_with_the_documented_rights_hears_results_and_nothing_else(site, account):
    (permissions,) = documented_commands("deployment.md", "rabbitmqctl set_permissions -p / omps-monitor")
    (topics,) = documented_commands("deployment.md", "rabbitmqctl set_topic_permissions -p / omps-monitor")
    topics = [each.replace(r"org\.example\.prod", TOPIC_PREFIX.replace(".", r"\.")) for each in topics]
    for command in (permissions, topics):
        account.node.rabbitmqctl(command[1], "-p", account.vhost, account.name, *command[5:])
    edit(site.config, json.dumps(site.amqp_url), json.dumps(account.url))
    with watching(site, "--count", "1", "--json") as watcher:
        tell(site, result())
        assert watcher.ended() == 0
    assert ".omps.release.published" in watcher.out[0]
    assert refused(
        account,
        lambda channel: channel.queue_bind(channel.queue_declare("", exclusive=True).method.queue, "amq.topic", "#"),
    )


LIMIT = json.dumps({"max-length": 10})
GUARD = "^omps-worker[.]failed$"


def policy(account, command: str, name: str, pattern: str, definition: str, priority: int = 0) -> None:
    account.node.rabbitmqctl(
        command, "-p", account.vhost, "--priority", str(priority), "--apply-to", "queues", name, pattern, definition
    )


def fill(channel, queue: str, until: int) -> int:
    """Park so many messages, or until the broker takes no more; how many it took."""
    for taken in range(until):
        try:
            channel.basic_publish("", queue, b"parked", mandatory=True)
        except NackError:
            return taken
    return until


def depth(channel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def test_a_policy_for_all_queues_does_not_reach_those_of_the_worker(site, account):
    policy(account, "set_policy", "all", ".*", json.dumps({"max-length": 1, "message-ttl": 1}))
    with site.channel() as channel:
        channel.queue_declare("others")
        for queue in ("others", QUEUE, f"{QUEUE}.retry.1h", f"{QUEUE}.failed"):
            assert fill(channel, queue, 20) == 20
        wait_until(lambda: depth(channel, "others") == 0, what="the policy to be in force")
        assert [depth(channel, f"{QUEUE}{end}") for end in ("", ".retry.1h", ".failed")] == [20, 20, 20]


def test_a_limit_that_the_broker_s_operator_sets_refuses_messages_instead_of_dropping_them(site, account):
    policy(account, "set_operator_policy", "operator", ".*", LIMIT)
    with site.channel() as channel:
        wait_until(lambda: fill(channel, f"{QUEUE}.failed", 20) < 20, what="the policy to be in force")
        kept = depth(channel, f"{QUEUE}.failed")
        assert kept >= 10
        assert fill(channel, f"{QUEUE}.failed", 1) == 0
        assert depth(channel, f"{QUEUE}.failed") == kept


def test_a_failed_queue_that_is_full_holds_failures_back_and_loses_none(as_user, account):
    (command,) = documented_commands("deployment.md", "rabbitmqctl set_policy")
    assert command[-2:-1] == [GUARD]
    limit = json.dumps({**json.loads(command[-1]), "max-length": 10})
    policy(account, "set_policy", "guard", GUARD, limit, int(command[command.index("--priority") + 1]))
    bad = as_user.koji.add_build(COMPONENT, "1.0", "1", manifests=OTTER[:99])
    with as_user.running(), as_user.channel() as channel:
        wait_until(lambda: fill(channel, f"{QUEUE}.failed", 20) < 20, what="the guard to be in force")
        as_user.publish(as_user.koji.message(bad)._replace(routing_key=TOPIC))
        wait_until(lambda: "stays un-acked" in as_user.log)
        # What was parked first comes first.
        for _ in range(depth(channel, f"{QUEUE}.failed")):
            assert channel.basic_get(f"{QUEUE}.failed", auto_ack=True)[2] == b"parked"
        wait_until(lambda: depth(channel, f"{QUEUE}.failed") == 1, 30, "the failure to be parked")


FORBIDDEN = {
    "declare another queue": lambda channel: channel.queue_declare("elsewhere"),
    "declare a queue whose name only begins like its own": lambda channel: channel.queue_declare("omps-worker2"),
    "declare a lock that is none": lambda channel: channel.queue_declare("omps-worker.lock.elsewhere"),
    "delete another queue": lambda channel: channel.queue_delete("others"),
    "purge another queue": lambda channel: channel.queue_purge("others"),
    "read another queue": lambda channel: channel.basic_get("others"),
    "declare an exchange": lambda channel: channel.exchange_declare("elsewhere"),
    "write to another exchange": lambda channel: channel.basic_publish("amq.fanout", "", b""),
    "write another topic": lambda channel: channel.basic_publish("amq.topic", TOPIC, b""),
    "bind its queue to another exchange": lambda channel: channel.queue_bind(QUEUE, "amq.fanout", ""),
    "bind its queue to another topic": lambda channel: channel.queue_bind(QUEUE, "amq.topic", "#"),
    "bind another queue": lambda channel: channel.queue_bind("others", "amq.topic", TOPIC),
}


def refused(account, act) -> bool:
    """Whether the broker does not let the user do that."""
    try:
        with account.channel() as channel:
            act(channel)
    except ChannelClosedByBroker as error:
        return error.reply_code == ACCESS_REFUSED
    return False


def test_the_user_may_do_nothing_else(site, account):
    with site.channel() as channel:
        channel.queue_declare("others")
    assert [what for what, act in FORBIDDEN.items() if not refused(account, act)] == []


def test_the_definitions_can_be_imported_again_and_leave_messages_and_password_alone(site, account, tmp_path):
    with account.channel() as channel:
        channel.basic_publish("", f"{QUEUE}.failed", b"kept", mandatory=True)
    account.node.rabbitmqctl("import_definitions", str(tmp_path / "definitions.json"))
    with account.channel():
        assert [body for _, body in site.take(f"{QUEUE}.failed")] == [b"kept"]
