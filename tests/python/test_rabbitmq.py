"""deploy/rabbitmq on a real server: it starts with these files, they are in force, and each user has its rights only."""

import json
import re
import shutil
import tomllib
import unittest

import pika
import pika.exceptions

import rabbitmq
from rabbitmq import DEPLOY, ROOT

DEFAULTS = tomllib.loads((ROOT / "services/offpeak/src/grid/default.toml").read_text())
PASSWORD = "known"


def read(name):
    return json.loads((DEPLOY / name).read_text())


def settings():
    """The keys and values of rabbitmq.conf."""
    lines = (DEPLOY / "rabbitmq.conf").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def shipped(folder):
    """Every file of deploy/rabbitmq in order, and the passwords that an operator gives."""
    for number, name in enumerate(["definitions-3.10.json", "users.json", "customer.json"], 1):
        shutil.copy(DEPLOY / name, folder / f"{number}0-{name}")
    users = [
        {"name": "offpeak-producer", "password": PASSWORD, "tags": ["monitoring"]},
        {"name": "offpeak-worker-open", "password": PASSWORD, "tags": []},
        {"name": "offpeak-operator", "password": PASSWORD, "tags": ["monitoring"]},
        {"name": "acme", "password": PASSWORD, "tags": []},
        {"name": "admin", "password": PASSWORD, "tags": ["administrator"]},
    ]
    (folder / "40-passwords.json").write_text(json.dumps({"users": users}))


class Files(unittest.TestCase):
    def test_generations_differ_in_what_policies_apply_to_and_in_nothing_else(self):
        old, new = read("definitions-3.10.json"), read("definitions-3.12.json")
        allowed = {"offpeak-worker": "classic_queues"}
        for before, after in zip(old["policies"], new["policies"], strict=True):
            self.assertEqual(before.pop("apply-to"), "queues")
            self.assertEqual(after.pop("apply-to"), allowed.get(after["name"], "quorum_queues"))
        self.assertEqual(old, new)

    def test_limits_follow_from_the_grid_s_own(self):
        codec = (ROOT / "crates/protocol/src/codec.rs").read_text()
        number, shift = re.search(r"MAX_BODY_BYTES: usize = (\d+) << (\d+);", codec).groups()
        self.assertEqual(int(settings()["max_message_size"]), int(number) << int(shift))
        timeout, producer = int(settings()["consumer_timeout"]), DEFAULTS["producer"]
        self.assertGreaterEqual(timeout, 4 * producer["max_unit_ms"])
        self.assertGreater(timeout, producer["replica_deadline_ms"])

    def test_nobody_is_shipped_with_a_password(self):
        for name in ("users.json", "customer.json"):
            for user in read(name)["users"]:
                self.assertEqual(user["password_hash"], "", user["name"])
                self.assertNotIn("administrator", user["tags"])


class Server(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = cls.enterClassContext(rabbitmq.Node(shipped))
        # The exchanges and queues that rights are tried on, as the producer declares them.
        channel = cls.connect("offpeak-producer")
        for exchange, kind in [("submit", "topic"), ("work", "direct"), ("outcomes", "direct"), ("dead", "direct")]:
            channel.exchange_declare(f"offpeak.{exchange}", kind, durable=True)
        for queue, exchange, key in [
            ("submit", "submit", "#"),
            ("work.open.0", "work", "open.0"),
            ("outcomes.0", "outcomes", "0"),
            ("dead.submit", "dead", "submit"),
        ]:
            channel.queue_declare(f"offpeak.{queue}", durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(f"offpeak.{queue}", f"offpeak.{exchange}", key)

    @classmethod
    def connect(cls, user, password=PASSWORD):
        """A channel that confirms."""
        login = pika.PlainCredentials(user, password)
        # Without heartbeats, as tests let connections rest for minutes.
        address = pika.ConnectionParameters(
            "127.0.0.1", cls.node.amqp, "/", login, heartbeat=0, socket_timeout=120, stack_timeout=120, blocked_connection_timeout=120
        )
        connection = pika.BlockingConnection(address)
        cls.addClassCleanup(lambda: connection.is_open and connection.close())
        channel = connection.channel()
        channel.confirm_delivery()
        return channel

    def refused(self, code, channel, action):
        """The action closes the channel with that code; what follows gets a fresh one."""
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as closed:
            action(channel)
        self.assertEqual(closed.exception.reply_code, code, closed.exception)
        fresh = channel.connection.channel()
        fresh.confirm_delivery()
        return fresh

    def test_settings_are_in_force(self):
        expected = settings()
        keys = ["max_message_size", "consumer_timeout", "channel_max", "connection_max", "heartbeat"]
        values = {key: expected[key] for key in [*keys, "cluster_partition_handling"]}
        values["vm_memory_high_watermark"] = expected["vm_memory_high_watermark.relative"]
        asked = ",".join(f"element(2, application:get_env(rabbit, {key}))" for key in values)
        # One line for each, because each call of rabbitmqctl takes a second.
        asked = f"[{asked}, element(2, application:get_env(ra, wal_max_size_bytes))]"
        found = re.findall(r'"([^"]*)"', self.node.ctl("eval", f'[lists:flatten(io_lib:format("~w", [V])) || V <- {asked}].'))
        self.assertEqual(found, [*values.values(), expected["raft.wal_max_size_bytes"]])

    def test_definitions_are_imported_whole(self):
        found = json.loads(self.node.get(self.node.management, "/api/definitions", ("admin", PASSWORD)))

        def by_name(policies):
            return {policy["name"]: policy for policy in policies}

        definitions = read("definitions-3.10.json")
        self.assertEqual(by_name(found["policies"]), by_name(definitions["policies"]))
        self.assertIn(definitions["parameters"][0], found["parameters"])
        for kind in ("permissions", "topic_permissions"):
            given = [one for name in ("users.json", "customer.json") for one in read(name).get(kind, [])]
            self.assertCountEqual(found[kind], given)
        # Limits outlive a file that gives a password only.
        limits = {user["name"]: user["limits"] for user in found["users"]}
        self.assertEqual(limits["acme"], read("customer.json")["users"][0]["limits"])
        names = set(limits)
        self.assertNotIn("guest", names, "definitions take the place of the default user")

    def test_who_has_no_password_does_not_come_in(self):
        for password in ("", "guess"):
            with self.assertRaises(pika.exceptions.ProbableAuthenticationError):
                self.connect("offpeak-aggregator", password)

    def test_a_body_of_8_mib_is_taken_and_no_larger_one(self):
        channel = self.connect("offpeak-producer")
        limit = int(settings()["max_message_size"])
        channel.basic_publish("offpeak.work", "open.0", b"x" * limit, mandatory=True)
        self.refused(406, channel, lambda open: open.basic_publish("offpeak.work", "open.0", b"x" * (limit + 1)))

    def test_a_customer_submits_under_its_own_name_and_reads_nothing_else(self):
        channel = self.connect("acme")
        channel.basic_publish("offpeak.submit", "acme", b"job", mandatory=True)
        for action in [
            lambda open: open.basic_publish("offpeak.submit", "other", b"job"),
            lambda open: open.basic_publish("offpeak.work", "open.0", b"job"),
            lambda open: open.basic_publish("", "offpeak.work.open.0", b"job"),
            lambda open: open.basic_get("offpeak.submit"),
            lambda open: open.queue_declare("offpeak.customer.acme.own", durable=True),
        ]:
            channel = self.refused(403, channel, action)

    def test_a_worker_takes_work_and_gives_outcomes_and_no_more(self):
        channel = self.connect("offpeak-worker-open")
        channel.queue_declare("offpeak.worker.host-1", exclusive=True)
        channel.basic_get("offpeak.work.open.0", auto_ack=True)
        channel.basic_publish("offpeak.outcomes", "0", b"outcome", mandatory=True)
        for action in [
            lambda open: open.basic_get("offpeak.outcomes.0"),
            lambda open: open.basic_get("offpeak.submit"),
            lambda open: open.basic_publish("offpeak.work", "open.0", b"unit"),
            lambda open: open.basic_publish("offpeak.dead", "submit", b"letter"),
            lambda open: open.basic_publish("offpeak.submit", "acme", b"job"),
            lambda open: open.queue_declare("offpeak.work.open.9", durable=True),
            lambda open: open.queue_delete("offpeak.work.open.0"),
        ]:
            channel = self.refused(403, channel, action)

    def test_an_operator_reads_dead_letters_and_changes_no_queue(self):
        channel = self.connect("offpeak-operator")
        channel.basic_get("offpeak.dead.submit")
        for action in [
            lambda open: open.basic_get("offpeak.submit"),
            lambda open: open.queue_purge("offpeak.submit"),
            lambda open: open.queue_delete("offpeak.dead.submit"),
        ]:
            channel = self.refused(403, channel, action)

    def test_prometheus_finds_totals_and_single_queues(self):
        self.assertIn("rabbitmq_global_messages_received_total", self.node.get(self.node.prometheus, "/metrics"))
        families = "family=queue_coarse_metrics&family=queue_consumer_count"

        def listed():
            return 'queue="offpeak.submit"' in self.node.get(self.node.prometheus, f"/metrics/detailed?{families}")

        rabbitmq.wait_for("queues among the detailed metrics", listed)


if __name__ == "__main__":
    unittest.main()
