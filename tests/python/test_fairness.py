"""Shares on a saturated grid follow the customers' weights, and a long queue of one customer does not delay another."""

import unittest

import dialogue
import scrape
from dialogue import APPS, PARAMS

# What 3:1 may be off by.
TOLERANCE = 0.05
# Shares are taken over so many rows of the ledger, in the order in which they were recorded.
ROWS = 400
# So long that a turn has few units, and where in a turn the rows begin and end matters little.
PATHS = 2048
# Before that, so many units of each are recorded: those that were ready before the other came are done.
BEFORE = 30
# A turn is 10 ms of units, and each unit counts for its computing and 1 ms: no turn of a customer of weight 1 has more units.
TURN = 10
# At most so much computing is ready for a worker, in microseconds.
READY_US = 500_000
# Looks at the lane.
LOOKS = 10


def units(app, count, paths):
    """A job of so many units, all alike: one item each."""
    return {
        "app": app, "pool": "open", "input": {"range": {"start": 0, "end": count}}, "unit": {"max_items": 1},
        "params": {**PARAMS, "paths_per_item": paths},
    }


class Fairness(unittest.TestCase):
    def setUp(self):
        self.grid = self.enterContext(dialogue.Grid())

    def settled(self, *customers):
        """How many units of each are recorded; the last number of the ledger."""
        counts = dict(self.grid.sql("select customer, count(*) from ledger group by customer"))
        [[last]] = self.grid.sql("select coalesce(max(number), 0) from ledger")
        return [int(counts.get(customer.name, 0)) for customer in customers], int(last)

    def test_weights_are_shares_under_saturation(self):
        heavy, light = self.grid.customer(weight=3), self.grid.customer(weight=1)
        for customer in (heavy, light):
            customer.submit(units(customer.upload(APPS / "monte-carlo/app.wasm"), 1_000_000, PATHS))

        def both():
            settled, last = self.settled(heavy, light)
            return last if min(settled) >= BEFORE else None

        begin = scrape.wait_for("units of both", both, every_s=1)
        scrape.wait_for("a window", lambda: self.count(begin) >= ROWS, every_s=1)
        window = f"(select customer, fuel from ledger where number > {begin} order by number limit {ROWS}) as rows"
        rows = self.grid.sql(f"select customer, sum(fuel), count(*) from {window} group by customer")
        fuel = {customer: int(total) for customer, total, _ in rows}
        share = fuel[heavy.name] / fuel[light.name]
        self.assertAlmostEqual(share / 3, 1, delta=TOLERANCE, msg=rows)
        for customer in (heavy, light):
            self.assertEqual(customer.get("job.list", {"state": "running"})["jobs"][0]["items"]["failed"], 0)

    def count(self, after):
        [[count]] = self.grid.sql(f"select count(*) from ledger where number > {after}")
        return int(count)

    def test_a_long_queue_delays_another_customer_by_no_more_than_runs(self):
        long, short = self.grid.customer(), self.grid.customer()
        job = long.submit(units(long.upload(APPS / "monte-carlo/app.wasm"), 1_000_000, 4096))
        app = short.upload(APPS / "monte-carlo/app.wasm")
        scrape.wait_for("units of the long job", lambda: self.settled(long)[0][0] >= BEFORE, every_s=1)
        # What another's unit waits behind: what the worker holds, and what is ready.
        # The mean moves from one look to the next, and leaps when a unit is held up.
        def bounded():
            mean_us = self.mean_us(job)
            # A queue that is slow to answer is said to be empty and unread.
            lanes = [lane for lane in long.get("job.explain", {"job": job.id})["lanes"] if lane["workers"]]
            return len(lanes) == 1 and lanes[0]["ready"] <= 1.2 * READY_US / mean_us + 2

        for _ in range(LOOKS):
            scrape.wait_for("the lane within its bound", bounded)
        ten = short.submit(units(app, 10, 4096))
        ended, _ = short.completed(ten)
        self.assertEqual(ended["certificate"]["items"]["succeeded"], 10)
        self.assertEqual(long.get("job.status", {"job": job.id})["items"]["submitted"], 1_000_000)

        # Rounds of dispatch carry their time. Up to the round before that of the last of the ten, the two took turns.
        whose, others = dialogue.key(ten.id), dialogue.key(job.id)
        [[first, last]] = self.grid.sql(
            f"select min(not_before), max(not_before) from replicas where job = {whose} and replica = 0"
        )
        [[between]] = self.grid.sql(
            f"select count(*) from replicas where job = {others} and replica = 0"
            f" and not_before >= {first} and not_before < {last}"
        )
        self.assertLessEqual(int(between), 10 + TURN)
        # No unit of the long job that came to the lane after the ten is done before them but the next, which the one worker may
        # take together with the last of them.
        [[overtaken]] = self.grid.sql(
            "select count(*) from ledger l join replicas r on r.job = l.job and r.unit = l.unit and r.replica = 0"
            f" where l.job = {others} and r.not_before > {last}"
            f" and l.recorded_at < (select max(recorded_at) from ledger where job = {whose})"
        )
        self.assertLessEqual(int(overtaken), 1)

    def mean_us(self, job):
        """How long a job's units compute."""
        [[mean]] = self.grid.sql(
            f"select stage_compute_us / greatest(stage_valid_units, 1) from jobs where id = {dialogue.key(job.id)}"
        )
        return max(int(mean), 1)


if __name__ == "__main__":
    unittest.main()
