"""A real Prometheus with our rules scrapes a real grid and a real RabbitMQ: every series that rules and dashboards name is
there, every dashboard shows something, and alerts fire for what is wrong and for nothing else."""

import base64
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import unittest
import urllib.parse

import queries
import scrape

# A query that shows nothing for so long shows nothing.
GAP_S = 300

# What a crowded machine gives cause for: an executor was killed some minutes ago, and units and submissions take their time.
WHEN_SLOW = {"OffpeakExecutorDeaths", "OffpeakUnitsLateBurnFast", "OffpeakSubmissionsBurnFast"}

# Queries that show nothing for a grid that is well and young.
MAY_BE_EMPTY = {"annotation Alerts"}


def metrics_port():
    """Where RabbitMQ's own exporter listens, as the management side tells."""
    listeners = json.loads(scrape.management("GET", "/api/overview"))["listeners"]
    ports = [listener["port"] for listener in listeners if listener["protocol"] == "http/prometheus"]
    if not ports:
        raise RuntimeError("RabbitMQ has no exporter: rabbitmq-plugins enable rabbitmq_prometheus")
    return ports[0]


def broker_jobs(vhost):
    """What to add to scrape_configs for RabbitMQ, as deploy/prometheus/README.md says; only queues of that vhost."""
    host = urllib.parse.urlsplit(os.environ["OFFPEAK_TEST_AMQP_URL"]).hostname
    common = {
        "scrape_interval": "2s", "scrape_timeout": "2s",
        "static_configs": [{"targets": [f"{host}:{metrics_port()}"], "labels": {"namespace": "rabbitmq"}}],
    }
    families = {"family": ["queue_coarse_metrics", "queue_consumer_count"], "vhost": [vhost]}
    return [
        {"job_name": "rabbitmq", **common},
        {"job_name": "rabbitmq-detailed", "metrics_path": "/metrics/detailed", "params": families, **common},
    ]


class Scraped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.grid = scrape.Grid()
        cls.enterClassContext(cls.grid)
        vhost = urllib.parse.urlsplit(cls.grid.env["OFFPEAK__AMQP__URL"]).path[1:]
        cls.prometheus = cls.grid.prometheus(queries.RULE_FILES, broker_jobs(vhost))
        cls.grid.compute()
        cls.spoil(vhost)
        kill_an_executor(cls.grid.services["worker"].pid)
        # A rate needs two samples, and a recorded one a round of the rules more.
        for name in sorted(queries.recorded()):
            cls.prometheus.wait_for(f"last_over_time({name}[1h])")
        cls.names = cls.prometheus.names()

    @staticmethod
    def spoil(vhost):
        """Sends a submission that nobody can read, which becomes a dead letter; the broker checks who says to send it."""
        user = urllib.parse.urlsplit(os.environ["OFFPEAK_TEST_AMQP_URL"]).username or "guest"
        body = {
            "properties": {"user_id": user, "message_id": "spoilt", "type": "offpeak.job.submit.v1"},
            "routing_key": "acme", "payload": base64.b64encode(b"\xc1").decode(), "payload_encoding": "base64",
        }
        answer = scrape.management("POST", f"/api/exchanges/{vhost}/offpeak.submit/publish", body)
        if not json.loads(answer)["routed"]:
            raise RuntimeError("the spoilt submission was not routed")

    def found(self, selector):
        return bool(self.prometheus.query(f"last_over_time({selector}[10m])"))

    def check(self, where, query):
        for name, matchers in queries.selectors(queries.resolved(query)):
            if name == "ALERTS":
                continue
            with self.subTest(where, name=name):
                self.assertIn(name, self.names)
            for label, operator, value in matchers:
                selector = f"{name}{{{label}{operator}{json.dumps(value)}}}"
                with self.subTest(where, selector=selector):
                    self.assertTrue(self.found(selector), f"{selector} finds nothing")

    def test_every_series_of_the_rules_is_there(self):
        for rule in queries.rules():
            self.check(rule.get("alert") or rule["record"], rule["expr"])

    def test_every_series_of_the_dashboards_is_there(self):
        for where, query, _ in queries.targets():
            self.check(where, query)

    def test_every_query_of_the_dashboards_shows_something(self):
        for where, query, legend in queries.targets():
            with self.subTest(where, query=query):
                if any(where.endswith(name) for name in MAY_BE_EMPTY):
                    self.prometheus.query(queries.resolved(query))
                    continue
                # A scrape that came too late on a busy machine makes a gap.
                result = self.prometheus.wait_for(queries.resolved(query), GAP_S)
                for label in re.findall(r"{{(\w+)}}", legend):
                    self.assertTrue(any(label in series["metric"] for series in result), f"no series has label {label}")

    def test_prometheus_evaluates_every_rule(self):
        groups = self.prometheus.api("rules")["groups"]
        evaluated = {rule["name"]: rule for group in groups for rule in group["rules"]}
        self.assertEqual(set(evaluated), {rule.get("alert") or rule["record"] for rule in queries.rules()})
        for name, rule in evaluated.items():
            with self.subTest(name):
                self.assertEqual(rule["health"], "ok", rule.get("lastError"))

    def test_only_what_is_wrong_fires(self):
        self.prometheus.wait_for('ALERTS{alertname="OffpeakDeadLetters", origin="submit"}')
        # The broker is that of all tests: what it counts of itself is not this grid's.
        own = 'ALERTS{alertstate="firing", namespace!="rabbitmq"}'
        firing = {series["metric"]["alertname"] for series in self.prometheus.query(own)}
        self.assertIn("OffpeakDeadLetters", firing)
        self.assertLessEqual(firing, {"OffpeakDeadLetters", *WHEN_SLOW})

    def test_statements_of_the_runbooks_run(self):
        for name, page in queries.pages().items():
            for line in queries.commands(page):
                if not line.startswith("psql "):
                    continue
                with self.subTest(name, line=line):
                    words = shlex.split(line.replace("$OFFPEAK__DATABASE__URL", self.grid.env["OFFPEAK__DATABASE__URL"]))
                    done = subprocess.run([*words, "-v", "ON_ERROR_STOP=1"], capture_output=True, text=True, timeout=scrape.PATIENCE_S)
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_looking_commands_of_the_runbooks_run(self):
        seen = set()
        for page in queries.pages().values():
            for line in queries.commands(page.partition("## First looks")[2].partition("## Cure")[0]):
                if line.startswith("offpeak "):
                    seen.add(line.partition(" | ")[0])
        for line in sorted(seen):
            with self.subTest(line):
                self.grid.command(*shlex.split(line)[1:])


class Pending(unittest.TestCase):
    """Alerts that wait before they fire begin to do so when a part of a real grid goes."""

    def test_services_that_go_are_noticed(self):
        services = {"producer": {}, "aggregator": {}, "worker": {}}
        with scrape.Grid(services) as grid:
            prometheus = grid.prometheus(queries.RULE_FILES)
            grid.submit(items=100_000, paths=4096)
            prometheus.wait_for("namespace_pool:offpeak_backlog_seconds:max > 0")
            # A worker's address stays a target, as that of a machine that hangs would.
            grid.services["worker"].stop()
            for alert, labels in {
                "OffpeakPoolWithoutWorkers": 'pool="open"',
                "OffpeakServiceUnreachable": 'service="worker"',
            }.items():
                prometheus.wait_for(f'ALERTS{{alertname="{alert}", alertstate="pending", {labels}}}')
            grid.services["aggregator"].stop()
            prometheus.wait_for('ALERTS{alertname="OffpeakAggregatorAbsent", alertstate="pending", namespace="offpeak"}')


def kill_an_executor(worker):
    """SIGKILL to a child of that worker, as the system does when memory is short."""
    def children():
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == worker:
                found.append(int(stat.parent.name))
        return found
    os.kill(scrape.wait_for("an executor of the worker", children)[0], signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
