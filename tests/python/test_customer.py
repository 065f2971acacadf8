"""`offpeak customer` on a real broker: what it makes, changes and takes away, and that it may be killed at any point."""

import http.client
import http.server
import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import unittest

import pika
import pika.exceptions

import rabbitmq
from provisioned import PASSWORD, Broker, binary, definitions, offpeak
from rabbitmq import DEPLOY

SUBMIT, RESULTS = "offpeak.submit", "offpeak.customer.{}.results"


class Interrupted(http.server.ThreadingHTTPServer):
    """Hands requests on to the management side, and kills a command instead of handing on the one after `allowed`."""

    daemon_threads = True

    def __init__(self, port, allowed):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port, self.left, self.victim, self.lock = port, allowed, None, threading.Lock()

    def serve(self, victim):
        """Begins to serve that command, which finds the port open already."""
        self.victim = victim
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def may(self, method):
        """Whether a request is handed on: all that read are, since nothing is left half done between them."""
        with self.lock:
            if method == "GET":
                return True
            self.left -= 1
            return self.left >= 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one(self):
        if not self.server.may(self.command):
            os.kill(self.server.victim.pid, signal.SIGKILL)
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        broker = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        broker.request(self.command, self.path, body, headers)
        answer = broker.getresponse()
        text = answer.read()
        broker.close()
        self.send_response(answer.status)
        self.send_header("content-length", str(len(text)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = handle_one

    def log_message(self, *_arguments):
        pass


class Customers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Broker())

    def setUp(self):
        self.admin = self.broker.channel("admin")
        self.addCleanup(self.broker.disconnect)

    def show(self, name):
        code, shown, said = self.broker.customer("show", name)
        self.assertIn(code, (0, 1), said)
        self.assertEqual(code == 0, shown["differences"] == [], shown)
        return shown

    def assert_submits(self, name, password):
        channel = self.broker.channel(name, password)
        channel.basic_publish(SUBMIT, name, b"job", pika.BasicProperties(user_id=name), mandatory=True)
        got = rabbitmq.wait_for("the job", lambda: next(filter(None, self.admin.basic_get(SUBMIT, True)[::2]), None))
        self.assertTrue(got)
        return channel

    def closed(self, channel):
        """The code and text with which the broker closes a connection."""
        found = []

        def ended():
            try:
                channel.connection.process_data_events(0.1)
            except pika.exceptions.ConnectionClosedByBroker as closed:
                found.append((closed.reply_code, closed.reply_text))
            return found

        return rabbitmq.wait_for("the connection's end", ended)[0]

    # --- add

    def test_add_gives_all_and_says_the_password_once(self):
        code, added, said = self.broker.customer("add", "carol", "--max-connections", "2", "--max-channels", "7")
        self.assertEqual((code, said, added["created"], added["differences"]), (0, "", True, []))
        self.assertRegex(added["password"], r"^[A-Za-z0-9]{32,}$")
        shown = self.show("carol")
        self.assertEqual((shown["max_connections"], shown["max_channels"]), (2, 7))
        self.assertEqual(shown["permissions"]["configure"], "^$")
        self.assert_submits("carol", added["password"])
        # Again: nothing changes, and no password is said.
        code, again, _said = self.broker.customer("add", "carol")
        self.assertEqual((code, again["created"], again["password"], again["max_channels"]), (0, False, None, 7))
        self.assertEqual(self.broker.customer("show", "carol", json_too=False)[1].count(added["password"]), 0)
        self.assert_submits("carol", added["password"])

    def test_people_are_told_how_to_submit(self):
        code, said, _errors = self.broker.customer("add", "dave", json_too=False)
        self.assertEqual(code, 0)
        for part in ["customer dave is added\n", "password  ", "(shown once", "routing key dave", "no database was named"]:
            self.assertIn(part, said)

    def test_a_chosen_password_comes_from_a_file_or_standard_input(self):
        with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
            file.write("from the file\n")
            file.flush()
            code, added, _said = self.broker.customer("add", "erin", "--password-file", file.name)
        self.assertEqual((code, added["password"]), (0, None))
        self.assert_submits("erin", "from the file")
        self.assertEqual(self.broker.customer("add", "erin", "--password-stdin", stdin="from a pipe")[0], 0)
        self.assert_submits("erin", "from a pipe")
        code, _printed, said = self.broker.customer("add", "erin", "--password-stdin", stdin="short")
        self.assertEqual((code, "8 signs or more" in said), (2, True), said)

    def test_add_mends_what_differs(self):
        password = self.broker.add("frank")
        ctl = self.broker.ctl
        ctl("set_permissions", "frank", ".*", ".*", ".*customer\\.frank\\..*|^offpeak\\.customer\\.frank\\.")
        ctl("clear_topic_permissions", "frank")
        ctl("clear_user_limits", "frank", "all")
        self.broker.ctl("delete_queue", RESULTS.format("frank"))
        code, listed, _said = self.broker.customer("list")
        frank = next(row for row in listed if row["customer"] == "frank")
        self.assertEqual(code, 1)
        for part in ["configure .*", "write .*", "under every name", "connections have no limit", "there is no queue"]:
            self.assertTrue(any(part in difference for difference in frank["differences"]), (part, frank))
        self.assertEqual(self.broker.customer("add", "frank")[0], 0)
        self.assertEqual(self.show("frank")["max_connections"], 20)
        self.assert_submits("frank", password)

    def test_a_queue_of_another_kind_is_named_with_the_way_out(self):
        queue = RESULTS.format("grace")
        self.admin.queue_declare(queue, durable=True)
        code, _printed, said = self.broker.customer("add", "grace")
        self.assertEqual(code, 3)
        for part in [f"declaring queue {queue} is refused", "inequivalent arg 'x-queue-type'", "same command again"]:
            self.assertIn(part, said)
        shown = self.show("grace")
        self.assertFalse(shown["user"]["has_password"], "nobody comes in before all is there")
        self.assertIn("nobody comes in without a password", said)
        self.admin.queue_delete(queue)
        password = self.broker.add("grace")
        self.assert_submits("grace", password)
        # Who has a password comes in, and the same failure says nothing else.
        self.admin.queue_delete(queue)
        self.admin.queue_declare(queue, durable=True)
        code, _printed, said = self.broker.customer("add", "grace")
        self.assertEqual((code, "nobody comes in" in said, "same command again" in said), (3, False, True), said)
        self.assert_submits("grace", password)
        self.admin.queue_delete(queue)

    def test_users_who_are_no_customers_are_left_alone(self):
        self.broker.ctl("add_user", "billing", "secret-of-it")
        self.broker.ctl("set_permissions", "billing", "^billing", "^billing", "^billing")
        for name, part in [
            ("admin", "it has the tag administrator"),
            ("billing", "none of them a customer's"),
            ("offpeak-producer", "the grid's own users"),
            ("guest", "RabbitMQ's"),
            ("Not.A.Name", "is not valid"),
        ]:
            for command in [["add"], ["rotate"], ["remove", "--force"], ["limits", "--max-channels", "1"]]:
                code, _printed, said = self.broker.customer(command[0], name, *command[1:])
                self.assertEqual((code, part in said), (2, True), f"{command} {name}: {said}")
        rights = self.broker.api("permissions/%2f/billing")
        self.assertEqual(rights["write"], "^billing")

    def test_a_user_of_another_virtual_host_is_left_alone_until_it_is_told_that_it_is_a_customer(self):
        self.broker.ctl("add_user", "walter", "secret-of-it")
        self.broker.ctl("add_vhost", "elsewhere")
        self.broker.ctl("set_permissions", "--vhost", "elsewhere", "walter", ".*", ".*", ".*")
        before = self.broker.api("users/walter")["password_hash"]
        for command in [["add"], ["rotate"], ["remove", "--force"], ["limits", "--max-channels", "1"]]:
            code, _printed, said = self.broker.customer(command[0], "walter", *command[1:])
            self.assertEqual((code, "in virtual host /" in said, "is --vhost right?" in said), (2, True, True), f"{command}: {said}")
        self.assertEqual(self.broker.api("users/walter")["password_hash"], before)
        self.assertEqual([right["vhost"] for right in self.broker.api("users/walter/permissions")], ["elsewhere"])
        # The way out, as it is said.
        words = shlex.split(said.strip().partition("rabbitmqctl ")[2])
        self.broker.ctl(*words)
        self.assertEqual(self.broker.customer("add", "walter")[0], 0)
        self.assertEqual(self.show("walter")["differences"], [])
        self.assert_submits("walter", "secret-of-it")

    def test_what_the_database_keeps_is_refused_without_one(self):
        for command in ["add", "limits"]:
            code, _printed, said = self.broker.customer(command, "heidi", "--weight", "3", "--jobs", "5")
            self.assertEqual(code, 2)
            self.assertIn("--weight, --jobs are kept in the grid's database: name it with --database URL", said)
        self.assertEqual(self.broker.customer("show", "heidi")[0], 2, "nothing was made")

    def test_weight_and_the_grid_s_limits_are_kept_in_the_database(self):
        database = ["--database", self.broker.database]
        given = ["--weight", "3", "--jobs", "5", "--stored-bytes", "2TiB", "--fuel-per-month", "1000000", "--message-bytes", "1MiB"]
        code, added, said = self.broker.customer("add", "quinn", *given, *database)
        self.assertEqual((code, added["weight"], added["limits"]["jobs"]), (0, 3, 5), said)
        # Without the broker: what is not named stays, and what is used is told.
        code, printed, said = offpeak("customer", "limits", "quinn", "--units", "7", "--fuel-per-month", "none", "--json", *database)
        self.assertEqual(code, 0, said)
        limits = json.loads(printed)
        self.assertEqual((limits["weight"], limits["limits"]["units"], limits["limits"]["fuel_per_month"]), (3, 7, None))
        self.assertEqual((limits["limits"]["stored_bytes"], limits["limits"]["message_bytes"]), (2 << 40, 1 << 20))
        self.assertEqual((limits["used"]["jobs"], limits["used"]["fuel"], limits["max_channels"]), (0, "0", None))
        # Added again, it keeps them.
        code, again, said = self.broker.customer("add", "quinn", *database)
        self.assertEqual((code, again["weight"], again["limits"]["units"], again["password"]), (0, 3, 7, None), said)
        code, listed, _said = self.broker.customer("list", *database)
        quinn = next(row for row in listed if row["customer"] == "quinn")
        self.assertEqual((quinn["weight"], quinn["differences"]), (3, []))
        code, said, _errors = self.broker.customer("limits", "quinn", *database, json_too=False)
        self.assertRegex(said, r"stored bytes\s+2,199,023,255,552\s+0\n")

        code, removed, said = self.broker.customer("remove", "quinn", "--queue", *database)
        self.assertEqual((code, removed["user_removed"], removed["queue_removed"], removed["record_removed"]), (0, True, True, True), said)
        code, _printed, said = offpeak("customer", "limits", "quinn", *database)
        self.assertEqual((code, "there is no customer quinn" in said), (2, True), said)

    def test_a_database_that_cannot_be_used_is_named_before_anything_is_done(self):
        for url, part in [("sqlite:///nowhere/grid.db", "cannot use the database"), ("postgres://me:pass@127.0.0.1:1/x", "postgres://me@")]:
            code, _printed, said = self.broker.customer("add", "rupert", "--database", url)
            self.assertEqual((code, part in said), (3, True), said)
            self.assertNotIn("pass@", said)
        self.assertEqual(self.broker.customer("show", "rupert")[0], 2, "nothing was made")

    def test_a_management_side_that_is_away_or_says_no_is_named(self):
        for login, port, code, part in [
            (f"admin:{PASSWORD}", 1, 3, "rabbitmq-plugins enable rabbitmq_management"),
            ("admin:wrong-one", self.broker.management, 3, "see that user and password are right"),
            (f"offpeak-operator:{PASSWORD}", self.broker.management, 3, "the tag administrator"),
        ]:
            given, _printed, said = offpeak("customer", "list", "--management", f"http://{login}@127.0.0.1:{port}")
            self.assertEqual((given, part in said), (code, True), said)
            self.assertNotIn(login.split(":")[1], said)
        code, _printed, said = offpeak("customer", "list")
        self.assertEqual((code, "no management side is named" in said), (2, True), said)
        vhost = ["--vhost", "nowhere"]
        code, _printed, said = self.broker.customer("list", *vhost)
        self.assertEqual((code, "there is no such virtual host" in said), (3, True), said)

    # --- definitions

    def test_definitions_give_the_same_as_add(self):
        self.broker.add("ivan", "--max-connections", "3")
        code, printed, said = self.broker.customer("add", "judy", "--max-connections", "3", "--definitions", json_too=False)
        self.assertEqual(code, 0)
        password = said.strip().rsplit(" ", 1)[1]
        self.assertNotIn(password, printed)
        file = self.broker.work / "judy.json"
        file.write_text(printed)
        self.assertIn("there is no customer", self.broker.customer("show", "judy")[2], "printing changes nothing")
        self.broker.ctl("import_definitions", str(file))
        ivan, judy = self.show("ivan"), self.show("judy")
        self.assertEqual(json.loads(json.dumps(ivan).replace("ivan", "judy")), judy)
        self.assert_submits("judy", password)

    def test_the_shipped_files_are_what_the_commands_print(self):
        self.assertEqual(json.loads((DEPLOY / "users.json").read_text()), definitions())
        _code, printed, _said = self.broker.customer("add", "acme", "--definitions", json_too=False)
        printed = json.loads(printed)
        printed["users"][0]["password_hash"] = ""
        self.assertEqual(json.loads((DEPLOY / "customer.json").read_text()), printed)

    # --- rotate

    def test_rotate_lets_in_the_new_password_only_and_closes_what_the_old_one_opened(self):
        old = self.broker.add("kim")
        channel = self.assert_submits("kim", old)
        self.admin.basic_publish("offpeak.customer", "kim", b"held", mandatory=True)
        rabbitmq.wait_for("a reply", lambda: channel.basic_get(RESULTS.format("kim"))[0])
        code, rotated, _said = self.broker.customer("rotate", "kim")
        self.assertEqual((code, rotated["connections_closed"]), (0, 1))
        self.assertNotEqual(rotated["password"], old)
        self.assertEqual(self.closed(channel), (320, "CONNECTION_FORCED - the password was changed"))
        with self.assertRaises(pika.exceptions.ProbableAuthenticationError):
            self.broker.connect("kim", old)
        # What was not acknowledged comes again.
        channel = self.assert_submits("kim", rotated["password"])
        rabbitmq.wait_for("it comes again", lambda: channel.basic_get(RESULTS.format("kim"))[2] == b"held")
        self.assertEqual(self.show("kim")["differences"], [])

    def test_rotate_can_leave_connections(self):
        channel = self.assert_submits("lena", self.broker.add("lena"))
        code, said, _errors = self.broker.customer("rotate", "lena", "--keep-connections", json_too=False)
        self.assertEqual(code, 0)
        self.assertIn("connections made with the old password go on until they end", said)
        channel.basic_publish(SUBMIT, "lena", b"still here", mandatory=True)
        self.admin.queue_purge(SUBMIT)

    def test_rotate_and_limits_of_nobody_say_so(self):
        for command in [["rotate", "nobody"], ["limits", "nobody", "--max-channels", "3"], ["show", "nobody"]]:
            code, _printed, said = self.broker.customer(*command)
            self.assertEqual(code, 2)
            self.assertIn("there is no customer nobody: see `offpeak customer list`", said)

    def test_limits_of_the_broker_are_in_force_at_once(self):
        password = self.broker.add("mike")
        self.assert_submits("mike", password)
        code, limits, _said = self.broker.customer("limits", "mike", "--max-connections", "1")
        self.assertEqual((code, limits["max_connections"], limits["max_channels"]), (0, 1, 200))
        with self.assertRaises(pika.exceptions.ProbableAccessDeniedError):
            self.broker.connect("mike", password)

    # --- remove

    def test_remove_refuses_while_results_are_unread_and_says_what_stays(self):
        password, queue = self.broker.add("nina"), RESULTS.format("nina")
        channel = self.assert_submits("nina", password)
        self.admin.basic_publish("offpeak.customer", "nina", b"unread", mandatory=True)
        code, _printed, said = self.broker.customer("remove", "nina", "--queue")
        self.assertEqual((code, "has unread results in its queue" in said), (2, True), said)
        self.assertEqual(self.show("nina")["differences"], [], "nothing was done")

        code, removed, _said = self.broker.customer("remove", "nina", "--force")
        self.assertEqual((code, removed["user_removed"], removed["queue_removed"], removed["queue_stays"]), (0, True, False, True))
        self.assertEqual(self.closed(channel)[0], 320)
        with self.assertRaises(pika.exceptions.ProbableAuthenticationError):
            self.broker.connect("nina", password)
        rabbitmq.wait_for("what stays", lambda: self.admin.basic_get(queue)[2] == b"unread")
        rights = [right["user"] for right in self.broker.api("permissions")]
        self.assertNotIn("nina", rights)

        code, said, _errors = self.broker.customer("remove", "nina", "--queue", "--force", json_too=False)
        self.assertEqual(code, 0)
        self.assertIn("there was no user nina", said)
        self.assertIn(f"queue {queue} is removed", said)
        self.assertNotIn(queue, [one["name"] for one in self.broker.api("queues/%2f?disable_stats=true")])
        self.assertEqual(self.broker.customer("remove", "nina")[0], 0, "again is harmless")

    # --- killed

    def interrupt(self, allowed, *command):
        """Runs a command that is killed before its change number `allowed`, from 0; false if it made fewer."""
        proxy = Interrupted(self.broker.management, allowed)
        try:
            url = f"http://admin:{PASSWORD}@127.0.0.1:{proxy.server_port}"
            env = {"PATH": os.environ["PATH"], "OFFPEAK__AMQP__MANAGEMENT_URL": url}
            victim = subprocess.Popen(
                [binary(), "customer", *command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            proxy.serve(victim)
            return victim.wait(300) == -signal.SIGKILL
        finally:
            proxy.shutdown()
            proxy.server_close()

    def test_add_killed_before_any_of_its_changes_leaves_nobody_in_and_goes_on(self):
        changes = 0
        while self.interrupt(changes, "add", f"oscar-{changes}"):
            name = f"oscar-{changes}"
            code, shown, said = self.broker.customer("show", name)
            self.assertIn(code, (1, 2), said)
            if shown and shown["user"]:
                self.assertFalse(shown["user"]["has_password"], f"after {changes} changes: {shown}")
            self.assert_submits(name, self.broker.add(name))
            self.assertEqual(self.show(name)["differences"], [])
            changes += 1
        # Two exchanges, the user, two limits, topic permission, permission, queue, binding, password.
        self.assertEqual(changes, 10)

    def test_rotate_and_remove_killed_half_way_go_on(self):
        password = self.broker.add("peggy")
        self.assertTrue(self.interrupt(0, "rotate", "peggy"))
        channel = self.assert_submits("peggy", password)
        self.assertTrue(self.interrupt(1, "rotate", "peggy"), "the password is new, and nobody knows it")
        with self.assertRaises(pika.exceptions.ProbableAuthenticationError):
            self.broker.connect("peggy", password)
        channel.basic_publish(SUBMIT, "peggy", b"old connections go on", mandatory=True)
        self.admin.queue_purge(SUBMIT)
        code, rotated, _said = self.broker.customer("rotate", "peggy")
        self.assertEqual(code, 0)
        self.assertEqual(self.closed(channel)[0], 320)
        self.assert_submits("peggy", rotated["password"])

        changes = 0
        while self.interrupt(changes, "remove", "peggy", "--queue", "--force"):
            changes += 1
        self.assertGreaterEqual(changes, 1)
        self.assertEqual(self.broker.customer("remove", "peggy", "--queue", "--force")[0], 0)
        self.assertIn("there is no customer peggy", self.broker.customer("show", "peggy")[2])


if __name__ == "__main__":
    unittest.main()
