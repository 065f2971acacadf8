"""The rules of deploy/prometheus: they load, each alert is proven by unit tests and has a page of use."""

import concurrent.futures
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

import yaml

import chart
import queries
import scrape

SEVERITIES = {"critical", "warning", "info"}
HEADINGS = ["Meaning", "Impact", "First looks", "Cure", "Escalation"]
RABBITMQ_SCRIPTS = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"]
KUBECTL = {"delete", "describe", "exec", "get", "logs", "port-forward", "rollout", "scale", "top"}
LIMIT_S = 300


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, **more)


class Rules(unittest.TestCase):
    def test_promtool_accepts_the_rules(self):
        done = run("promtool", "check", "rules", *map(str, queries.RULE_FILES))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_promtool_refuses_a_broken_rule(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "broken.yaml"
            file.write_text(queries.RULE_FILES[0].read_text().replace("sum by (", "sum by ((", 1))
            self.assertNotEqual(run("promtool", "check", "rules", str(file)).returncode, 0)

    def assert_unit_tests_hold(self, files):
        test = lambda file: (file.name, run("promtool", "test", "rules", str(file)))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, done in pool.map(test, files):
                with self.subTest(name):
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_unit_tests_hold(self):
        self.assert_unit_tests_hold(queries.UNIT_TESTS)

    def test_those_that_read_what_is_recorded_hold_for_what_the_chart_renders(self):
        """With a label more on each alert, which nothing recorded may have, and an address before each page."""
        values = chart.scenarios()["monitoring"]
        (rules,) = chart.of_kind(chart.objects(values), "PrometheusRule")
        (label,) = values["prometheusRule"]["additionalRuleLabels"].items()
        tests = [file for file in queries.UNIT_TESTS if "group_eval_order:" in file.read_text()]
        self.assertIn("grid.yaml", [file.name for file in tests])
        with tempfile.TemporaryDirectory() as folder:
            rendered = pathlib.Path(folder, "rendered.yaml")
            rendered.write_text(yaml.safe_dump(rules["spec"]))
            copies = []
            for file in tests:
                text = re.sub("^rule_files: .*$", f"rule_files: [{rendered}]", file.read_text(), flags=re.M)
                text = text.replace("severity: ", "{}: {}, severity: ".format(*label))
                text = text.replace("runbook_url: ", f"runbook_url: {values['prometheusRule']['runbookUrl']}/")
                copies.append(pathlib.Path(folder, file.name))
                copies[-1].write_text(text)
            self.assert_unit_tests_hold(copies)

    def test_records_are_named_level_metric_operations(self):
        for name in queries.recorded():
            self.assertRegex(name, r"^[a-z_]+:offpeak_[a-z0-9_]+:[a-z0-9_]+$")

    def test_names_are_there_once(self):
        names = [rule.get("alert") or rule["record"] for rule in queries.rules()]
        self.assertEqual(len(names), len(set(names)))

    def test_expressions_parse_and_use_what_there_is(self):
        recorded = queries.recorded()
        for rule in queries.rules():
            for name, _ in queries.selectors(rule["expr"]):
                with self.subTest(rule=rule.get("alert") or rule["record"], name=name):
                    if name.startswith("rabbitmq_"):
                        self.assertIn(name, queries.RABBITMQ)
                    elif ":" in name:
                        self.assertIn(name, recorded)
                    else:
                        self.assertRegex(name, r"^(offpeak_|process_|up$)")


class Readme(unittest.TestCase):
    def test_its_settings_are_good(self):
        blocks = re.findall(r"^```yaml\n(.*?)^```", (queries.PROMETHEUS / "README.md").read_text(), re.M | re.S)
        settings = {key: value for block in blocks for key, value in yaml.safe_load(block).items()}
        self.assertEqual(set(settings), {"rule_files", "scrape_configs"})
        settings["rule_files"] = [str(queries.PROMETHEUS / pathlib.Path(file).name) for file in settings["rule_files"]]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(settings, file)
            file.flush()
            done = run("promtool", "check", "config", file.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Alerts(unittest.TestCase):
    def test_each_has_what_people_need(self):
        for name, rule in queries.alerts().items():
            with self.subTest(name):
                self.assertRegex(name, r"^Offpeak[A-Z][A-Za-z]+$")
                self.assertIn(rule["labels"]["severity"], SEVERITIES)
                self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook_url"})
                self.assertNotIn("{{", rule["annotations"]["summary"], "the summary is what alerts are grouped by")
                # A path, which the chart puts an address before: an absolute one would be dead somewhere.
                self.assertEqual(rule["annotations"]["runbook_url"], f"deploy/runbooks/{name}.md")

    def test_each_fires_resolves_and_stays_silent_in_unit_tests(self):
        fires, resolves, silent = set(), set(), set()
        alerts = queries.alerts()
        for file in queries.UNIT_TESTS:
            for group in queries.load(file)["tests"]:
                looks = [(seconds(look["eval_time"]), bool(look.get("exp_alerts"))) for look in group["alert_rule_test"]]
                (name,) = {look["alertname"] for look in group["alert_rule_test"]}
                self.assertTrue(group["name"].startswith(f"{name} "), group["name"])
                firing = [time for time, fired in looks if fired]
                if not firing:
                    silent |= {name} if self.says_something(group, alerts[name]) else set()
                    continue
                # Pending or well before, and resolved after.
                fires |= {name} if any(time < min(firing) for time, fired in looks if not fired) else set()
                resolves |= {name} if any(time > max(firing) for time, fired in looks if not fired) else set()
        self.assertEqual(fires, set(alerts))
        self.assertEqual(resolves, set(alerts))
        self.assertEqual(silent, set(alerts))

    def says_something(self, group, rule):
        """Whether silence is earned: every series that the alert reads is there."""
        given = {re.match(r"[\w:]+", series["series"])[0] for series in group["input_series"]}
        return self.raw_names(rule["expr"]) <= given

    def raw_names(self, expression):
        records = {rule["record"]: rule["expr"] for rule in queries.rules() if "record" in rule}
        names = set()
        for name, _ in queries.selectors(expression):
            names |= self.raw_names(records[name]) if name in records else {name}
        return names


def seconds(text):
    """A duration of promtool in seconds."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


class Runbooks(unittest.TestCase):
    def test_there_is_a_page_for_each_alert_and_no_other(self):
        self.assertEqual(set(queries.pages()), set(queries.alerts()))
        index = (queries.RUNBOOKS / "README.md").read_text()
        listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \| (.*) \|$", index, re.M)
        said = [(name, rule["labels"]["severity"], rule["annotations"]["summary"]) for name, rule in queries.alerts().items()]
        self.assertEqual(sorted(listed), sorted(said))

    def test_each_page_has_its_headings_and_its_rule_as_it_is(self):
        for name, page in queries.pages().items():
            with self.subTest(name):
                self.assertTrue(page.startswith(f"# {name}\n"))
                self.assertEqual(re.findall(r"^## (.*)$", page, re.M), HEADINGS)
                for body in re.split(r"^## .*\n", page, flags=re.M):
                    self.assertTrue(body.strip())
                rule = queries.alerts()[name]
                self.assertIn(rule["annotations"]["summary"] + ". Severity " + rule["labels"]["severity"], page)
                self.assertEqual(f"after {rule.get('for')}" in page, "for" in rule)

    def test_links_lead_somewhere(self):
        for file in [*queries.RUNBOOKS.glob("*.md"), *queries.PROMETHEUS.glob("*.md"), *queries.GRAFANA.glob("*.md")]:
            for link in re.findall(r"\]\(([^)#]+)", file.read_text()):
                with self.subTest(file=file.name, link=link):
                    self.assertTrue((file.parent / link).exists())
            for document in re.findall(r"(?<![\w/])(?:docs|deploy)/[\w./-]+\.md", file.read_text()):
                with self.subTest(file=file.name, document=document):
                    self.assertTrue((queries.ROOT / document).exists())

    def test_first_looks_are_commands(self):
        for name, page in queries.pages().items():
            looks = page.partition("## First looks")[2].partition("## Cure")[0]
            with self.subTest(name):
                self.assertGreaterEqual(len(queries.commands(looks)), 2)

    def test_commands_of_offpeak_exist(self):
        helped = {}
        for name, page in queries.pages().items():
            for line in queries.commands(page):
                words = words_of(line, "offpeak")
                if not words or words == ["--version"]:
                    continue
                with self.subTest(name, line=line):
                    command = [words[0]] + ([words[1]] if words[0] == "dead" else [])
                    if tuple(command) not in helped:
                        helped[tuple(command)] = run(scrape.program(), *command, "--help")
                    done = helped[tuple(command)]
                    self.assertEqual(done.returncode, 0, done.stderr)
                    for flag in (word for word in words if word.startswith("--")):
                        self.assertRegex(done.stdout, rf"(?m){flag}\b")

    def test_commands_of_kubectl_have_a_verb(self):
        for name, page in queries.pages().items():
            for line in queries.commands(page):
                words = words_of(line, "kubectl")
                if words:
                    with self.subTest(name, line=line):
                        verb = words[2] if words[0] == "-n" else words[0]
                        self.assertIn(verb, KUBECTL)

    def test_commands_of_rabbitmq_exist(self):
        scripts = next((path for path in RABBITMQ_SCRIPTS if pathlib.Path(path).is_dir()), None)
        if scripts is None:
            self.skipTest("no RabbitMQ is installed here, so its tools cannot be asked")
        for tool in ("rabbitmqctl", "rabbitmq-diagnostics", "rabbitmq-queues", "rabbitmq-plugins"):
            help_of = None
            for name, page in queries.pages().items():
                for line in queries.commands(page):
                    words = words_of(line, tool)
                    if not words:
                        continue
                    help_of = help_of or run(f"{scripts}/{tool}", "help").stdout
                    with self.subTest(name, line=line):
                        self.assertRegex(help_of, rf"(?m)^\s+{words[0]}\b")


def words_of(line, program):
    """The words after that program where a command begins with it, up to a pipe; nothing for other commands."""
    words = shlex.split(line)
    if not words or words[0] != program:
        return []
    return words[1:words.index("|")] if "|" in words else words[1:]


if __name__ == "__main__":
    unittest.main()
