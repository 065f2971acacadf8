"""A broker with the grid's own users and exchanges as Offpeak makes them, its command line, and clients that nobody here wrote."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import pika
import pika.exceptions

import rabbitmq
from rabbitmq import DEPLOY, ROOT

PASSWORD = "known-to-the-test"
POOLS = ["open", "trusted"]


def binary():
    """The program under test."""
    if given := os.environ.get("OFFPEAK_TEST_BINARY"):
        return pathlib.Path(given)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/offpeak"


def offpeak(*arguments, env=None, stdin=None):
    """Runs the command line; its exit code and what it printed."""
    env = {"PATH": os.environ["PATH"], **(env or {})}
    command = [binary(), *arguments]
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


def definitions():
    """The grid's own users, as the command prints them."""
    code, printed, said = offpeak("definitions", "--pools", ",".join(POOLS))
    assert code == 0, said
    return json.loads(printed)


def shipped(folder):
    """The policies, the users of the command, and passwords for all of them and for an administrator."""
    shutil.copy(DEPLOY / "definitions-3.10.json", folder / "10-grid.json")
    users = definitions()
    (folder / "20-users.json").write_text(json.dumps(users))
    known = [{"name": user["name"], "password": PASSWORD, "tags": user["tags"]} for user in users["users"]]
    admin = {"name": "admin", "password": PASSWORD, "tags": ["administrator"]}
    rights = {"user": "admin", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    (folder / "30-known.json").write_text(json.dumps({"users": [*known, admin], "permissions": [rights]}))


class Broker(rabbitmq.Node):
    """A node with all that a producer declares on it."""

    def __init__(self):
        super().__init__(shipped)
        self.connections, self.work = [], pathlib.Path(tempfile.mkdtemp(prefix="offpeak-provisioned-"))
        self.database = f"sqlite://{self.work}/grid.db"

    def __enter__(self):
        super().__enter__()
        try:
            self.declare()
        except BaseException:
            self.close()
            raise
        return self

    def close(self):
        self.disconnect()
        super().close()
        shutil.rmtree(self.work, ignore_errors=True)

    def disconnect(self):
        """Ends all of the test's connections; some are dead, and do not know it."""
        for connection in self.connections:
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()
        self.connections.clear()

    def variables(self, user="admin"):
        login = f"{user}:{PASSWORD}"
        return {
            "OFFPEAK__AMQP__URL": f"amqp://{login}@127.0.0.1:{self.amqp}/%2f",
            "OFFPEAK__AMQP__MANAGEMENT_URL": f"http://{login}@127.0.0.1:{self.management}",
            "TMPDIR": str(self.work),
        }

    def service(self, name, user, **env):
        """Starts a service under a user; it ends with the node."""
        env = {"PATH": os.environ["PATH"], **self.variables(user), "OFFPEAK__ADMIN__ADDRESS": "127.0.0.1:0", **env}
        del env["OFFPEAK__AMQP__MANAGEMENT_URL"]
        log = self.work / f"{name}.log"
        with open(log, "wb") as out:
            command = ["setpriv", "--pdeathsig", "KILL", "--", str(binary()), name]
            process = subprocess.Popen(command, env=env, cwd=self.work, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.processes.append(process)
        return process, log

    def declare(self):
        """Has a producer declare the grid, and ends it, so that nobody but the test reads its queues."""
        database = {"OFFPEAK__DATABASE__URL": self.database}
        code, _, said = offpeak("migrate", env=database)
        assert code == 0, said
        process, log = self.service("producer", "offpeak-producer", **database)

        def whole():
            assert process.poll() is None, log.read_text(errors="replace")
            # The last queue of the topology, whose binding is made after it.
            return any(bound["destination"] == "offpeak.outcomes.dead" for bound in self.api("exchanges/%2f/offpeak.dead/bindings/source"))

        rabbitmq.wait_for("the grid's queues and bindings", whole)
        rabbitmq.stop(process)
        self.processes.remove(process)

    def api(self, path):
        return json.loads(self.get(self.management, f"/api/{path}", ("admin", PASSWORD)))

    def customer(self, *arguments, json_too=True, stdin=None):
        """A command about customers: its exit code, what it printed as JSON, and what it said."""
        code, printed, said = offpeak("customer", *arguments, *(["--json"] if json_too else []), env=self.variables(), stdin=stdin)
        return code, json.loads(printed) if json_too and printed else printed, said

    def add(self, name, *arguments):
        """A customer's password."""
        code, printed, said = self.customer("add", name, *arguments)
        assert code == 0, said
        return printed["password"]

    def connect(self, user, password=PASSWORD):
        login = pika.PlainCredentials(user, password)
        # Without heartbeats, as tests let connections rest for minutes.
        address = pika.ConnectionParameters(
            "127.0.0.1", self.amqp, "/", login, heartbeat=0, socket_timeout=120, stack_timeout=120, blocked_connection_timeout=120
        )
        connection = pika.BlockingConnection(address)
        self.connections.append(connection)
        return connection

    def channel(self, user, password=PASSWORD):
        """A channel that confirms."""
        return confirming(self.connect(user, password))


def confirming(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


class Attempts:
    """For a test case: what a broker answers to who tries what it may not."""

    def refused(self, channel, code, text, action):
        """The action closes the channel with that code and text; returns a fresh one."""
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker, msg=text) as closed:
            action(channel)
            # What has no answer of its own is refused by the time that something has.
            channel.queue_declare("offpeak.submit", passive=True)
        self.assertEqual((closed.exception.reply_code, closed.exception.reply_text), (code, text))
        return confirming(channel.connection)

    def no_access(self, channel, kind, name, user, action):
        """The action is refused for want of a right to that exchange or queue."""
        text = f"ACCESS_REFUSED - access to {kind} '{name}' in vhost '/' refused for user '{user}'"
        return self.refused(channel, 403, text, action)
