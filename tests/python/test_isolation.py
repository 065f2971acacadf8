"""Who may do what at a real broker, tried with a client that nobody here wrote: each attempt gets the refusal it should."""

import unittest

import pika
import pika.exceptions

import rabbitmq
from provisioned import Attempts, Broker, confirming

EXCHANGES = ["submit", "work", "outcomes", "fetch", "control", "worker", "customer", "dead"]
# So many attempts, at most, until a limit is kept.
A_FEW = 10
OPEN, TRUSTED = "offpeak-worker-open", "offpeak-worker-trusted"


class Isolation(unittest.TestCase, Attempts):
    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Broker())
        cls.password = cls.broker.add("ann", "--max-connections", "3", "--max-channels", "4")
        cls.broker.add("bob")
        # RabbitMQ's own exchanges are among them.
        cls.exchanges = [exchange["name"] for exchange in cls.broker.api("exchanges/%2f") if exchange["name"]]
        cls.queues = [queue["name"] for queue in cls.broker.api("queues/%2f?disable_stats=true")]

    def setUp(self):
        self.admin = self.broker.channel("admin")
        self.addCleanup(self.close_all)

    def close_all(self):
        self.broker.disconnect()
        for user in ["ann", OPEN]:
            # The limits count what is about to close.
            rabbitmq.wait_for(f"{user}'s end", lambda: not self.broker.api(f"connections/username/{user}"))

    def ann(self):
        return self.broker.channel("ann", self.password)

    def take(self, queue):
        """The next message of a queue, which is waited for."""
        found = []

        def got():
            method, properties, body = self.admin.basic_get(queue, auto_ack=True)
            if method:
                found.append((method, properties, body))
            return bool(method)

        rabbitmq.wait_for(f"a message in {queue}", got)
        return found[0]

    def test_the_grid_is_whole(self):
        for name in EXCHANGES:
            self.assertIn(f"offpeak.{name}", self.exchanges)
        for name in ["submit", "fetch", "work.open.0", "work.trusted.3", "outcomes.0", "outcomes.dead", "dead.submit"]:
            self.assertIn(f"offpeak.{name}", self.queues)
        for name in ["ann", "bob"]:
            self.assertIn(f"offpeak.customer.{name}.results", self.queues)

    # --- a customer

    def test_a_customer_who_may_declare_nothing_submits_and_reads_at_once(self):
        ann = self.ann()
        properties = pika.BasicProperties(user_id="ann", message_id="one")
        ann.basic_publish("offpeak.submit", "ann", b"job", properties, mandatory=True)
        method, properties, body = self.take("offpeak.submit")
        self.assertEqual((method.routing_key, properties.user_id, body), ("ann", "ann", b"job"))
        self.admin.basic_publish("offpeak.customer", "ann", b"reply", mandatory=True)
        for _method, _properties, body in ann.consume("offpeak.customer.ann.results", auto_ack=True, inactivity_timeout=60):
            self.assertEqual(body, b"reply")
            break

    def test_a_customer_reads_no_queue_but_its_own(self):
        self.admin.basic_publish("offpeak.customer", "bob", b"bob's", mandatory=True)
        ann = self.ann()
        for queue in self.queues:
            if queue == "offpeak.customer.ann.results":
                continue
            for action in [
                lambda open: open.basic_get(queue),
                lambda open: open.basic_consume(queue, print),
                lambda open: open.queue_purge(queue),
            ]:
                ann = self.no_access(ann, "queue", queue, "ann", action)
        _method, _properties, body = self.take("offpeak.customer.bob.results")
        self.assertEqual(body, b"bob's", "it is still there")

    def test_a_customer_submits_as_nobody_else(self):
        ann = self.ann()
        text = "ACCESS_REFUSED - access to topic '{}' in exchange 'offpeak.submit' in vhost '/' refused for user 'ann'"
        for key in ["bob", "ann.bob", "bob.ann", "anna", "xann", "#", "*", ""]:
            ann = self.refused(ann, 403, text.format(key), lambda open: open.basic_publish("offpeak.submit", key, b"job"))
        forged = pika.BasicProperties(user_id="bob")
        text = "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'ann'"
        ann = self.refused(ann, 406, text, lambda open: open.basic_publish("offpeak.submit", "ann", b"job", forged))
        # Further keys in a header send the message nowhere else, and the grid sees the first.
        for header in ["CC", "BCC"]:
            copied = pika.BasicProperties(headers={header: ["bob", "open.0", "0"]})
            try:
                ann.basic_publish("offpeak.submit", "ann", header.encode(), copied, mandatory=True)
            except pika.exceptions.ChannelClosedByBroker as closed:
                # Later versions check these keys as well.
                self.assertEqual(closed.reply_code, 403)
                ann = confirming(ann.connection)
                continue
            method, _properties, body = self.take("offpeak.submit")
            self.assertEqual((method.routing_key, body), ("ann", header.encode()))
            self.assertEqual(self.admin.basic_get("offpeak.submit", auto_ack=True)[0], None, "once")

    def test_a_customer_publishes_to_no_exchange_of_the_grid_or_the_broker(self):
        ann = self.ann()
        others = [name for name in self.exchanges if name != "offpeak.submit"]
        self.assertEqual(len([name for name in others if name.startswith("offpeak.")]), len(EXCHANGES) - 1)
        for exchange in others:
            ann = self.no_access(
                ann, "exchange", exchange, "ann", lambda open: open.basic_publish(exchange, "ann", b"x")
            )
        # The default exchange reaches every queue by its name.
        for queue in ["offpeak.work.open.0", "offpeak.customer.bob.results", "offpeak.customer.ann.results"]:
            ann = self.no_access(
                ann, "exchange", "amq.default", "ann", lambda open: open.basic_publish("", queue, b"x")
            )

    def test_a_customer_declares_binds_and_deletes_nothing(self):
        ann, own = self.ann(), "offpeak.customer.ann.results"
        quorum = {"x-queue-type": "quorum"}
        for queue, action in [
            ("mine", lambda open: open.queue_declare("mine", exclusive=True)),
            ("offpeak.customer.ann.more", lambda open: open.queue_declare("offpeak.customer.ann.more", durable=True)),
            (own, lambda open: open.queue_declare(own, durable=True, arguments=quorum)),
            (own, lambda open: open.queue_delete(own)),
            (own, lambda open: open.queue_bind(own, "offpeak.customer", "bob")),
            (own, lambda open: open.queue_unbind(own, "offpeak.customer", "ann")),
            ("offpeak.customer.bob.results", lambda open: open.queue_delete("offpeak.customer.bob.results")),
            ("offpeak.work.open.0", lambda open: open.queue_bind("offpeak.work.open.0", "offpeak.submit", "ann")),
        ]:
            ann = self.no_access(ann, "queue", queue, "ann", action)
        for exchange, action in [
            ("mine", lambda open: open.exchange_declare("mine")),
            ("offpeak.customer.ann.mine", lambda open: open.exchange_declare("offpeak.customer.ann.mine")),
            ("offpeak.submit", lambda open: open.exchange_declare("offpeak.submit", "topic", durable=True)),
            ("offpeak.submit", lambda open: open.exchange_delete("offpeak.submit")),
            ("offpeak.customer", lambda open: open.exchange_delete("offpeak.customer")),
            # Queue and exchange of submissions have one name, to which it may write: binding needs to read the source.
            ("offpeak.submit", lambda open: open.queue_bind("offpeak.submit", "offpeak.submit", "#")),
            ("offpeak.submit", lambda open: open.queue_unbind("offpeak.submit", "offpeak.submit", "#")),
            ("offpeak.customer", lambda open: open.exchange_bind("offpeak.submit", "offpeak.customer", "bob")),
        ]:
            ann = self.no_access(ann, "exchange", exchange, "ann", action)
        text = "ACCESS_REFUSED - access to queue 'amq.gen-"
        with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as closed:
            ann.queue_declare("", exclusive=True)
        self.assertEqual((closed.exception.reply_code, closed.exception.reply_text[: len(text)]), (403, text))

    def test_a_customer_may_empty_its_own_queue_and_count_others(self):
        """Not all can be refused: what the documents say of it."""
        ann = self.ann()
        self.admin.basic_publish("offpeak.customer", "ann", b"x", mandatory=True)
        self.assertEqual(ann.queue_purge("offpeak.customer.ann.results").method.message_count, 1)
        # RabbitMQ asks for no right to ask whether a queue is there, and how much is in it.
        ann.queue_declare("offpeak.customer.bob.results", passive=True)

    def test_a_customer_exhausts_neither_connections_nor_channels(self):
        open = [self.broker.connect("ann", self.password) for _ in range(3)]
        # The broker counts a moment after it has opened something.
        with self.assertRaises(pika.exceptions.ProbableAccessDeniedError) as refused:
            for _ in range(A_FEW):
                self.broker.connect("ann", self.password)
        self.assertIn("(530)", str(refused.exception))
        text = "NOT_ALLOWED - connection refused for user 'ann': user connection limit (3) is reached"
        self.assertIn(text, str(refused.exception).replace("\\", ""))
        for connection in open:
            connection.channel()
        open[0].channel()
        with self.assertRaises(pika.exceptions.ConnectionClosedByBroker) as refused:
            for _ in range(A_FEW):
                open[1].channel()
        text = "NOT_ALLOWED - number of channels opened for user 'ann' has reached the maximum allowed user limit of (4)"
        self.assertEqual((refused.exception.reply_code, refused.exception.reply_text), (530, text))
        # Others are not concerned.
        self.broker.channel("offpeak-producer")

    def test_nobody_comes_in_without_the_password(self):
        for password in ["", "ann", self.password.swapcase()]:
            with self.assertRaises(pika.exceptions.ProbableAuthenticationError) as refused:
                self.broker.connect("ann", password)
            self.assertIn("403", str(refused.exception))

    # --- a worker

    def test_a_worker_reads_the_lanes_of_its_pool_and_nothing_else(self):
        worker = self.broker.channel(OPEN)
        worker.queue_declare("offpeak.worker.host-1", exclusive=True, auto_delete=True)
        for exchange, key in [("offpeak.worker", "host-1"), ("offpeak.control", "")]:
            worker.queue_bind("offpeak.worker.host-1", exchange, key)
        for lane in range(4):
            worker.basic_get(f"offpeak.work.open.{lane}", auto_ack=True)
        for queue in self.queues:
            if queue.startswith("offpeak.work.open."):
                continue
            for action in [lambda open: open.basic_get(queue), lambda open: open.queue_purge(queue)]:
                worker = self.no_access(worker, "queue", queue, OPEN, action)
        self.no_access(
            self.broker.channel(TRUSTED), "queue", "offpeak.work.open.0", TRUSTED,
            lambda open: open.basic_get("offpeak.work.open.0"),
        )

    def test_a_worker_writes_outcomes_and_requests_and_nothing_else(self):
        worker = self.broker.channel(OPEN)
        worker.basic_publish("offpeak.outcomes", "0", b"outcome", mandatory=True)
        worker.basic_publish("offpeak.fetch", "host-1", b"request", mandatory=True)
        for queue in ["offpeak.outcomes.0", "offpeak.fetch"]:
            self.assertEqual(self.admin.queue_purge(queue).method.message_count, 1, queue)
        for exchange in self.exchanges:
            if exchange in ("offpeak.outcomes", "offpeak.fetch"):
                continue
            # A customer's name, a lane, an origin of dead letters: whatever the key.
            worker = self.no_access(
                worker, "exchange", exchange, OPEN, lambda open: open.basic_publish(exchange, "submit", b"x")
            )
        worker = self.no_access(
            worker, "exchange", "amq.default", OPEN,
            lambda open: open.basic_publish("", "offpeak.customer.ann.results", b"x"),
        )
        for queue, action in [
            ("offpeak.work.open.9", lambda open: open.queue_declare("offpeak.work.open.9", durable=True)),
            ("offpeak.work.open.0", lambda open: open.queue_delete("offpeak.work.open.0")),
            ("offpeak.work.open.0", lambda open: open.queue_bind("offpeak.work.open.0", "offpeak.worker", "x")),
        ]:
            worker = self.no_access(worker, "queue", queue, OPEN, action)

    def test_a_worker_reads_no_other_worker_s_own_queue(self):
        queue = "offpeak.worker.host-2"
        owner = self.broker.channel(OPEN)
        owner.queue_declare(queue, exclusive=True, auto_delete=True)
        worker = self.broker.channel(OPEN)
        text = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. "
        for action in [
            lambda open: open.basic_get(queue),
            lambda open: open.queue_delete(queue),
            lambda open: open.queue_bind(queue, "offpeak.worker", "host-1"),
        ]:
            with self.assertRaises(pika.exceptions.ChannelClosedByBroker) as closed:
                action(worker)
            self.assertEqual(closed.exception.reply_code, 405)
            self.assertTrue(closed.exception.reply_text.startswith(text), closed.exception.reply_text)
            worker = confirming(worker.connection)

    def test_what_a_worker_may_not_park_the_broker_parks_for_it(self):
        """A real worker with its rights only, and a unit that cannot be read."""
        process, log = self.broker.service(
            "worker", OPEN, OFFPEAK__AMQP__DECLARE="false", OFFPEAK__WORKER__LANE="0", OFFPEAK__WORKER__SLOTS="1"
        )
        try:
            unreadable = pika.BasicProperties(message_id="bad", type="offpeak.work.v1", content_type="application/msgpack")
            self.admin.basic_publish("offpeak.work", "open.0", b"rubbish", unreadable, mandatory=True)
            _method, properties, body = self.take("offpeak.dead.work")
            self.assertEqual((body, properties.headers["x-first-death-reason"]), (b"rubbish", "rejected"))
            self.assertEqual(properties.headers["x-first-death-queue"], "offpeak.work.open.0")
            # And the copy that settles the unit.
            self.assertEqual(self.take("offpeak.outcomes.dead")[2], b"rubbish")
            self.assertIn("a unit is given up as a dead letter", log.read_text())
        finally:
            self.assertEqual(rabbitmq.stop(process), 0, log.read_text())

    # --- the producer, the aggregator and operators

    def test_a_producer_reads_no_results_and_reports_none(self):
        producer, user = self.broker.channel("offpeak-producer"), "offpeak-producer"
        producer.basic_publish("offpeak.work", "open.0", b"unit", mandatory=True)
        # What waits in a lane without workers it moves.
        self.assertEqual(producer.basic_get("offpeak.work.open.0", auto_ack=True)[2], b"unit")
        for exchange in ["offpeak.outcomes", "offpeak.customer", "offpeak.control", "amq.default"]:
            name = "" if exchange == "amq.default" else exchange
            producer = self.no_access(
                producer, "exchange", exchange, user, lambda open: open.basic_publish(name, "ann", b"x")
            )
        for queue in ["offpeak.customer.ann.results", "offpeak.outcomes.0", "offpeak.dead.submit"]:
            producer = self.no_access(producer, "queue", queue, user, lambda open: open.basic_get(queue))


    def test_an_aggregator_dispatches_and_submits_nothing(self):
        aggregator, user = self.broker.channel("offpeak-aggregator"), "offpeak-aggregator"
        for key in ["ann", "bob"]:
            aggregator.basic_publish("offpeak.customer", key, b"reply", mandatory=True)
            self.take(f"offpeak.customer.{key}.results")
        for exchange in ["offpeak.submit", "offpeak.work", "offpeak.outcomes", "offpeak.fetch", "offpeak.worker"]:
            aggregator = self.no_access(
                aggregator, "exchange", exchange, user, lambda open: open.basic_publish(exchange, "x", b"x")
            )
        for queue in ["offpeak.submit", "offpeak.work.open.0", "offpeak.customer.ann.results", "offpeak.dead.submit"]:
            aggregator = self.no_access(aggregator, "queue", queue, user, lambda open: open.basic_get(queue))


if __name__ == "__main__":
    unittest.main()
