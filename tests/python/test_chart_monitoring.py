"""Rules and dashboards that lie in the chart's folders come out as objects, with none, some or all of them."""

import json
import pathlib
import tempfile
import unittest

import helm_python
import yaml

import chart
import manifests

# A rule file and a dashboard as deploy/ may have them.
RULES = """
groups:
  - name: offpeak
    interval: 30s
    rules:
      - record: pool:offpeak_backlog_seconds:max
        expr: max by (pool) (offpeak_backlog_seconds)
      - alert: InvariantBroken
        expr: increase(offpeak_invariants_broken_total[5m]) > 0
        for: 1m
        labels: {severity: critical}
        annotations:
          summary: "{{ $labels.pod }} broke an invariant"
          runbook_url: deploy/runbooks/InvariantBroken.md
      - alert: Silenced
        expr: vector(1)
        annotations: {runbook_url: https://elsewhere.example.com/Silenced}
  - name: emptied
    rules:
      - alert: Silenced
        expr: vector(1)
"""


class Monitoring(unittest.TestCase):
    def test_rules_and_dashboards_of_files_are_carried(self):
        with tempfile.TemporaryDirectory() as folder:
            copied = pathlib.Path(folder) / "offpeak"
            for path in chart.CHART.rglob("*"):
                relative = path.relative_to(chart.CHART)
                if path.is_file() and relative.parts[:2] not in (("files", "rules"), ("files", "dashboards")):
                    (copied / relative).parent.mkdir(parents=True, exist_ok=True)
                    (copied / relative).write_bytes(path.read_bytes())
            values = chart.scenarios()["monitoring"] | {"prometheusRule": {
                "enabled": True, "runbookUrl": "https://runbooks.example.com/", "disabled": {"Silenced": True},
                "additionalRuleLabels": {"team": "grid"},
            }}

            def render():
                with helm_python.Chart.load(str(copied)) as loaded:
                    rendered = loaded.render(values, name=chart.RELEASE, namespace=chart.NAMESPACE)
                carriers = [rendered.get(f"offpeak/{path}", "") for path in sorted(chart.CARRIERS)]
                return [each for text in carriers for each in yaml.load_all(text, chart.LOADER) if each]
            self.assertEqual(render(), [], "with no files there is nothing")
            dashboard = json.dumps({"title": "{{ not a template }}", "panels": []}, indent=2) + "\n"
            for name, text in {"rules/offpeak.yaml": RULES, "dashboards/pools.json": dashboard}.items():
                (copied / "files" / name).parent.mkdir()
                (copied / "files" / name).write_text(text)
            shown, rules = render()
        self.assertEqual(shown["data"], {"pools.json": dashboard})
        self.assertEqual(shown["metadata"]["labels"]["grafana_dashboard"], "1")
        self.assertEqual(manifests.mistakes(rules, "1.37"), [])
        (group,) = rules["spec"]["groups"]
        self.assertEqual(group["interval"], "30s")
        recorded, alert = group["rules"]
        self.assertNotIn("labels", recorded, "what is recorded must match what it is compared with")
        self.assertEqual(alert["labels"], {"team": "grid", "severity": "critical"})
        url = "https://runbooks.example.com/deploy/runbooks/InvariantBroken.md"
        self.assertEqual(alert["annotations"], {"summary": "{{ $labels.pod }} broke an invariant", "runbook_url": url})

    def test_a_unit_may_wait_three_times_as_long_as_the_longest_computes(self):
        for longest, limit in ((60, 900), (300, 900), (301, 903), (1800, 5400)):
            values = chart.scenarios()["monitoring"] | {
                "worker": {"maxUnitSeconds": 60}, "pools": {"long": {"maxUnitSeconds": longest}},
            }
            (rules,) = chart.of_kind(chart.objects(values), "PrometheusRule")
            told = {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
            wanted = f"namespace_pool:offpeak_oldest_due_unit_seconds:max > {limit}"
            self.assertEqual(told["OffpeakOldestDueUnit"], wanted)


if __name__ == "__main__":
    unittest.main()
