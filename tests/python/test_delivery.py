"""A customer that stops reading: its queue refuses, its results stay in the store, others notice nothing, and it is told on return."""

import unittest

import dialogue
import scrape
from dialogue import APPS, PARAMS

# Each output is a picture's tile of 1 MiB, and so a part; together they are more than the grid keeps unsent for one customer.
TILE = {
    "width": 1024, "height": 1024, "tile": 1024, "centre_re": 0.0, "centre_im": 0.0, "span": 4.0, "max_iterations": 1,
}
TILES = 300
# Messages that its queue takes.
QUEUE = 5


class Delivery(unittest.TestCase):
    def setUp(self):
        self.grid = self.enterContext(dialogue.Grid())

    def narrow(self, customer):
        """Lets a customer's queue take few messages, and refuse more."""
        pattern = customer.queue.replace(".", "\\.")
        policy = {
            "pattern": f"^{pattern}$", "priority": 100, "apply-to": "queues",
            "definition": {"max-length": QUEUE, "overflow": "reject-publish", "delivery-limit": 20},
        }
        scrape.management("PUT", f"/api/policies/{self.grid.vhost}/{customer.name}", policy)

        def in_force():
            answer = scrape.management("GET", f"/api/queues/{self.grid.vhost}/{customer.queue}")
            return f'"policy":"{customer.name}"' in answer.replace(" ", "")

        scrape.wait_for("the policy", in_force)

    def unsent(self, customer):
        """Messages and bytes that wait in the outbox for a customer."""
        [[count, size]] = self.grid.sql(
            f"select count(*), coalesce(sum(length(body)), 0) from outbox where customer = '{customer.name}'"
        )
        return int(count), int(size)

    def test_who_does_not_read_is_bounded_and_told_on_return(self):
        deaf, other = self.grid.customer("msgpack"), self.grid.customer()
        app = deaf.upload(APPS / "mandelbrot/app.wasm")
        others_app = other.upload(APPS / "monte-carlo/app.wasm")
        self.narrow(deaf)
        asked = deaf.send("job.submit", {
            "app": app, "pool": "open", "input": {"items": [0] * TILES}, "params": TILE, "unit": {"max_items": 1},
            "limits": {"output_bytes": 2 << 20}, "delivery": "parts",
        })

        def running():
            found = self.grid.sql(f"select encode(id, 'hex')::uuid from jobs where customer = '{deaf.name}'")
            return found and self.unsent(deaf)[0] > QUEUE and found[0][0]

        job = scrape.wait_for("the queue to be full", running, every_s=1)
        # Another customer's job takes its turns and its replies come, while the first one's wait.
        done, parts = other.completed(other.submit({
            "app": others_app, "pool": "open", "input": {"range": {"start": 0, "end": 20}}, "unit": {"max_items": 1},
            "params": PARAMS, "delivery": "parts",
        }))
        self.assertEqual((done["state"], len(parts)), ("completed", 20))
        self.assertGreater(self.unsent(deaf)[0], 0)

        def ended():
            return self.grid.sql(f"select state from jobs where id = {dialogue.key(job)}")[0][0] != "running"

        scrape.wait_for("the end of the job that nobody reads of", ended, 3600, every_s=1)
        count, size = self.unsent(deaf)
        self.assertLess(size, (256 << 20) + (16 << 20), f"{count} messages wait")
        # On return it reads what there is, is told that it is not all, and fetches the rest.
        replies = deaf.until(asked, "job.completed")
        completed = replies[-1].body
        # What the full queue refused comes later than what it took after, and perhaps twice: numbers put it in order. But all
        # that is sent comes before the end.
        by_number = {reply.body["part"]: reply.body for reply in replies if reply.kind == "offpeak.job.part.v1"}
        self.assertEqual(sorted(by_number), list(range(completed["parts"])))
        self.assertTrue(completed["withheld"])
        self.assertLess(completed["parts"], TILES)
        part = completed["parts"]
        while part is not None:
            page, fetched = deaf.fetch(job, part=part)
            by_number |= {part["part"]: part for part in page}
            part = fetched["next_part"]
        outputs = deaf.outputs(by_number.values())
        self.assertEqual(len(outputs), TILES)
        self.assertEqual(completed["certificate"]["output_digest"], dialogue.chain_of(outputs))
        # A reply is read before the relay has noted that it went out.
        scrape.wait_for("an empty outbox", lambda: self.unsent(deaf) == (0, 0), every_s=1)


if __name__ == "__main__":
    unittest.main()
