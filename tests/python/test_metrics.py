"""docs/metrics.md against a scrape of a running grid: each series is in both, with the same type and labels."""

import re
import subprocess
import unittest

import dialogue
import scrape

DOC = scrape.ROOT / "docs" / "metrics.md"
# Which sections of the page hold for which service.
SECTIONS = {
    "producer": ("Every service", "Producer and aggregator", "Producer"),
    "aggregator": ("Every service", "Producer and aggregator", "Aggregator"),
    "worker": ("Every service", "Worker"),
}
# So many that a job is in its middle when the load has been looked at.
ITEMS = 2000
# What promtool says of names that are kept for those who use them.
KEPT = {'offpeak_wasted_compute_microseconds_total use base unit "seconds" instead of "microseconds"'}
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


class Family:
    """A metric: its type, and its samples as (name, labels, value)."""

    def __init__(self, kind):
        self.kind = kind
        self.samples = []

    def labels(self):
        """The values of each label but the histogram's own."""
        found = {}
        for _, labels, _ in self.samples:
            for label, value in labels.items():
                if label != "le":
                    found.setdefault(label, set()).add(value)
        return found

    def value(self, suffix="", **labels):
        """The sum of the samples with these labels."""
        fits = (v for name, have, v in self.samples if name.endswith(suffix) and labels.items() <= have.items())
        return sum(fits)


def families(text):
    """The families of a scrape by name."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            found[name] = Family(kind)
        elif line and not line.startswith("#"):
            sample, labels, value = SAMPLE.match(line).groups()
            name = re.sub("_(bucket|sum|count)$", "", sample)
            family = found.get(sample) or found[name]
            family.samples.append((sample, dict(LABEL.findall(labels or "")), float(value)))
    return found


def documented():
    """The page's tables: section to name to (type, labels, the whole row); a label's values are a set, empty for names."""
    tables, section = {}, None
    for line in DOC.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 6:
            name, kind, labels = cells[0].strip("`"), cells[1], cells[2]
            known = {}
            for label, values in re.findall(r"`([a-z]+)`(?:: ([a-z_, -]+))?", labels):
                known[label] = {value.strip() for value in values.split(",") if value.strip()}
            tables.setdefault(section, {})[name] = (kind, known, cells)
    return tables


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        grid = cls.enterClassContext(scrape.Grid())
        cls.grid = grid
        cls.jobs = grid.compute()
        # Work in a pool without workers.
        cls.jobs["nobody"] = grid.submit(items=50, keys='pool = "trusted"', customer="globex")
        scrape.wait_for("the backlog of the pool without workers", cls.starved)
        scrape.wait_for("the ledger's mirror", lambda: cls.mirrored("acme", "globex"))
        cls.texts = grid.scrape()
        cls.found = {name: families(text) for name, text in cls.texts.items()}

    @classmethod
    def mirrored(cls, *customers):
        text = cls.grid.text("aggregator")
        return all(f'offpeak_ledger_units_total{{customer="{name}"' in text for name in customers)

    @classmethod
    def starved(cls):
        found = families(cls.grid.text("producer"))
        oldest = found["offpeak_oldest_due_unit_seconds"]
        return oldest.value(pool="trusted") > 0

    def test_page_and_scrape_are_the_same(self):
        tables = documented()
        everything = {name: row for table in tables.values() for name, row in table.items()}
        for service, sections in SECTIONS.items():
            said = {name: row for section in sections for name, row in tables[section].items()}
            shown = self.found[service]
            with self.subTest(service=service):
                self.assertEqual(set(shown) - set(said), set(), "series that the page does not have")
                self.assertEqual(set(said) - set(shown), set(), "series that the page has and the service has not")
            for name, family in shown.items():
                kind, labels, cells = everything[name]
                with self.subTest(service=service, name=name):
                    self.assertTrue(family.samples, "a family without a sample")
                    self.assertEqual(family.kind, kind)
                    self.assertEqual(set(family.labels()), set(labels))
                    for label, values in family.labels().items():
                        if labels[label]:
                            self.assertLessEqual(values, labels[label], f"values of {label}")
                    self.assertIn(cells[3], ("process", "grid"))
                    self.assertGreater(len(cells[4]), 5, "a meaning")

    def test_every_value_of_the_page_is_shown_by_some_service(self):
        for section, table in documented().items():
            for name, (_, labels, _) in table.items():
                shown = [found[name].labels() for found in self.found.values() if name in found]
                for label, values in labels.items():
                    with self.subTest(section=section, name=name, label=label):
                        seen = set().union(*(labels.get(label, set()) for labels in shown))
                        self.assertLessEqual(values, seen)

    def test_promtool_finds_nothing(self):
        for service, text in self.texts.items():
            with self.subTest(service=service):
                done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
                said = {line for line in (done.stdout + done.stderr).splitlines() if line}
                self.assertLessEqual(said, KEPT)

    def test_jobs_of_every_kind_are_counted(self):
        producer, aggregator = self.found["producer"], self.found["aggregator"]
        self.assertEqual(producer["offpeak_submissions_total"].value(result="accepted"), 8)
        self.assertEqual(producer["offpeak_submissions_total"].value(result="refused"), 1)
        self.assertEqual(producer["offpeak_submissions_refused_total"].value(reason="invalid-job"), 1)
        self.assertEqual(producer["offpeak_submission_seconds"].value("_count"), 9)
        self.assertEqual(producer["offpeak_jobs_admitted_total"].value(), 8)
        ended = aggregator["offpeak_jobs_ended_total"]
        ends = [ended.value(reason=reason) for reason in ("completed", "cancelled", "expired")]
        self.assertEqual(ends, [4, 1, 1])
        self.assertEqual(aggregator["offpeak_job_seconds"].value("_count"), 6)
        deadline = aggregator["offpeak_jobs_deadline_total"]
        self.assertEqual((deadline.value(result="met"), deadline.value(result="missed")), (1, 1))
        # Sixteen items in units of four, each by two hosts; the running job goes on with more.
        self.assertGreaterEqual(aggregator["offpeak_units_judged_total"].value(), 4)
        self.assertEqual(aggregator["offpeak_disagreements_total"].value(), 0)
        self.assertEqual(aggregator["offpeak_invariants_broken_total"].value(), 0)
        waits, valid = aggregator["offpeak_unit_wait_seconds"], aggregator["offpeak_units_settled_total"]
        self.assertGreaterEqual(waits.value("_count", pool="open"), valid.value(reason="valid"))
        customers = aggregator["offpeak_ledger_units_total"].labels()["customer"]
        self.assertEqual(customers, {"acme", "globex"})

    def test_the_pool_without_workers_shows(self):
        producer = self.found["producer"]
        self.assertEqual(producer["offpeak_lane_consumers"].value(pool="trusted"), 0)

        def both():
            # A queue that is slow to answer is said to be unread.
            return families(self.grid.text("producer"))["offpeak_lane_consumers"].value(pool="open") == 2

        scrape.wait_for("both workers on their lanes", both)
        # A fresh job asks for one unit of its target, ten seconds.
        self.assertEqual(producer["offpeak_backlog_seconds"].value(pool="trusted"), 10)
        self.assertGreater(producer["offpeak_backlog_seconds"].value(pool="open"), 10)
        self.assertEqual(producer["offpeak_open_jobs"].value(state="waiting"), 1)
        self.assertEqual(producer["offpeak_open_jobs"].value(state="running"), 1)

    def test_workers_show_themselves(self):
        for name in ("worker", "worker-2"):
            self.assertEqual(self.found[name]["offpeak_worker_slots"].value(), 1)

            def agree():
                # One look in the middle of a change of state may see one of the two before it and the other after.
                found = families(self.grid.text(name))
                hosts, busy = found["offpeak_hosts"], found["offpeak_worker_busy_slots"].value()
                return hosts.value(pool="open") == 1 and hosts.value(state="busy") == busy

            scrape.wait_for(f"the gauges of {name} to agree", agree)
        # The cancelled and the late job were ended in the middle of units.
        deaths = [self.found[name]["offpeak_executor_deaths_total"] for name in ("worker", "worker-2")]
        self.assertGreaterEqual(sum(family.value(reason="interrupted") for family in deaths), 1)
        self.assertEqual(sum(family.value(reason="died") for family in deaths), 0)

    def test_a_real_prometheus_scrapes_it(self):
        prometheus = self.grid.prometheus()
        prometheus.wait_for("count(up == 1) == 4")
        gauges_and_counters = {name for name, row in documented()["Producer"].items() if row[0] != "histogram"}
        self.assertLessEqual(gauges_and_counters, prometheus.names())
        backlog = "max(last_over_time(offpeak_backlog_seconds{pool='open'}[5m]))"
        self.assertGreater(prometheus.value(backlog), 0)
        # What HPA and KEDA make of it, with ten minutes and one slot.
        self.assertGreaterEqual(prometheus.value(f"ceil({backlog} / (600 * 1))"), 1)


class Backlog(unittest.TestCase):
    def test_the_backlog_is_what_is_left_at_the_pace_so_far(self):
        """The gauge, read in the middle of a job, against the items that are left, at the computing that the others took."""
        with scrape.Grid() as grid:
            job = grid.submit(items=ITEMS, paths=8192)

            def backlog():
                return families(grid.text("producer"))["offpeak_backlog_seconds"].value(pool="open")

            def left():
                [[compute_us, items]] = scrape.sql(
                    grid.env["OFFPEAK__DATABASE__URL"], f"select stage_compute_us, stage_valid_items from jobs where id = {dialogue.key(job)}"
                )
                return int(compute_us) / 1e6 * (ITEMS - int(items)) / max(int(items), 1)

            scrape.wait_for("the first units", lambda: grid.job(job)["items_succeeded"] >= 40, every_s=0.3)
            before, first = backlog(), left()
            scrape.wait_for("a look at the load", lambda: backlog() != before)
            said, last = backlog(), left()
            # A busy machine computes now faster, now slower, and what is on its way counts whole.
            self.assertLess(said, 2 * max(first, last) + 2)
            self.assertGreater(said, min(first, last) / 2 - 2)
            grid.command("cancel", job, codes=(0, 3))
            grid.ended(job)
            scrape.wait_for("an empty backlog", lambda: backlog() == 0)


if __name__ == "__main__":
    unittest.main()
