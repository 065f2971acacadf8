"""What must hold of the objects that the chart renders, in every scenario: security, selectors, numbers, secrets."""

import itertools
import json
import pathlib
import re
import tempfile
import unittest

import helm_python
import yaml

import chart
import manifests

# After the drain a worker hands back for so long; beyond it, what the process needs to close.
HAND_BACK_S = int(re.search(
    r"HAND_BACK: Duration = Duration::from_secs\((\d+)\)",
    (chart.ROOT / "services" / "worker" / "src" / "take.rs").read_text(),
)[1])
CLOSING_S = 5

SELECTED = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}

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


def scenes():
    """Every scenario's name, values and objects."""
    return [(name, values, chart.objects(values)) for name, values in chart.scenarios().items()]


def workers(found):
    """The Deployments of pools by the pool's name."""
    deployments = chart.of_kind(found, "Deployment")
    named = {chart.component(document): document for document in deployments}
    return {name.removeprefix("worker-"): document for name, document in named.items() if name.startswith("worker-")}


def pools(values):
    """The pools as the chart should see them: `worker` of values.yaml, of the values, and what each says."""
    def overlay(base, over):
        merged = dict(base)
        for key, value in (over or {}).items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = overlay(merged[key], value) if both else value
        return merged
    default = chart.load((chart.CHART / "values.yaml").read_text())
    worker = overlay(default["worker"], values.get("worker"))
    named = overlay(default["pools"], values.get("pools"))
    return {name: overlay(worker, own) for name, own in named.items() if own is not None}


def mebibytes(quantity):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


class Pods(unittest.TestCase):
    def test_every_pod_is_restricted(self):
        kinds = set()
        for name, _, found in scenes():
            for document, _, pod in chart.pods(found):
                kinds.add((document["kind"], chart.component(document).split("-")[0]))
                with self.subTest(name, pod=document["metadata"]["name"]):
                    self.assertEqual(manifests.insecurities(pod), [])
                    if name != "demo":
                        self.assertEqual(pod["securityContext"]["runAsUser"], 65532)
        wanted = {("Deployment", "producer"), ("Deployment", "aggregator"), ("Deployment", "worker"), ("Job", "migrate"),
                  ("Pod", "test")}
        self.assertEqual(kinds, wanted)

    def test_a_platform_may_choose_the_user(self):
        for _, _, pod in chart.pods(chart.objects(chart.scenarios()["demo"])):
            self.assertNotIn("runAsUser", pod["securityContext"])

    def test_selectors_are_three_labels_that_no_version_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            helm_python.package(str(chart.CHART), destination=folder, version="9.9.9", app_version="9.9.9")
            with helm_python.Chart.load(str(next(pathlib.Path(folder).glob("*.tgz")))) as later:
                values = chart.scenarios()["keda"] | {"commonLabels": {"more": "labels"}}
                rendered = later.render(values, name=chart.RELEASE, namespace=chart.NAMESPACE, revision=7, is_upgrade=True)
        documents = [yaml.load_all(text, chart.LOADER) for path, text in rendered.items() if path.endswith(".yaml")]
        later = [document for document in itertools.chain(*documents) if document]
        selectors = {}
        for name, _, found in [*scenes(), ("later", None, later)]:
            for document in chart.of_kind(found, "Deployment"):
                selector = document["spec"]["selector"]["matchLabels"]
                self.assertEqual(selector.keys(), SELECTED)
                self.assertLessEqual(selector.items(), chart.pod_of(document)[0]["labels"].items())
                known = selectors.setdefault((name == "gitops", chart.component(document)), selector)
                self.assertEqual(selector, known, name)
        self.assertIn((False, "worker-trusted"), selectors)

    def test_what_selects_finds_the_pods_it_is_for_and_no_others(self):
        for name, _, found in scenes():
            labels = [metadata["labels"] for document, metadata, _ in chart.pods(found)]
            for document in chart.of_kind(found, "PodDisruptionBudget", "NetworkPolicy", "Service"):
                spec = document["spec"]
                selector = spec.get("podSelector") or spec["selector"]
                selector = selector.get("matchLabels", selector)
                chosen = [each for each in labels if selector.items() <= each.items()]
                with self.subTest(name, document=document["metadata"]["name"], kind=document["kind"]):
                    self.assertEqual(len(chosen), 1)
                    self.assertEqual(chosen[0]["app.kubernetes.io/component"], chart.component(document))
            for document in chart.of_kind(found, "PodMonitor"):
                (expression,) = document["spec"]["selector"]["matchExpressions"]
                deployments = {chart.component(each) for each in chart.of_kind(found, "Deployment")}
                self.assertEqual(set(expression["values"]), deployments)

    def test_names_are_unique_and_short_enough(self):
        long = chart.with_secrets(fullnameOverride="x" * 63, pools={"open": None, "a" * 40: {}}, migrations={"useHelmHooks": False})
        for _, _, found in [*scenes(), ("long", None, chart.objects(long))]:
            named = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found]
            self.assertEqual(len(named), len(set(named)))
            for kind, _, name in named:
                self.assertLessEqual(len(name), 63, kind)
        self.assertIn("worker-" + "a" * 40, [chart.component(each) for each in chart.of_kind(chart.objects(long), "Deployment")])


class Numbers(unittest.TestCase):
    def test_one_number_drives_the_drain(self):
        for name, values, found in scenes():
            wanted, deployed = pools(values), workers(found)
            self.assertEqual(wanted.keys(), deployed.keys())
            longest = max(pool["maxUnitSeconds"] for pool in wanted.values())
            for pool, document in deployed.items():
                env = chart.settings(found, document)
                grace = chart.pod_of(document)[1]["terminationGracePeriodSeconds"]
                drain = int(env["OFFPEAK__WORKER__DRAIN_TIMEOUT_MS"]) // 1000
                process = int(env["OFFPEAK__GRID__SHUTDOWN_GRACE_MS"]) // 1000
                with self.subTest(name, pool=pool):
                    self.assertEqual(drain, wanted[pool]["maxUnitSeconds"])
                    self.assertGreaterEqual(grace, drain + wanted[pool]["drainMarginSeconds"])
                    self.assertGreaterEqual(process, drain + HAND_BACK_S + CLOSING_S)
                    self.assertGreaterEqual(grace, process + CLOSING_S)
            for document in chart.of_kind(found, "Deployment"):
                env = chart.settings(found, document)
                grace = chart.pod_of(document)[1]["terminationGracePeriodSeconds"]
                self.assertGreater(grace * 1000, int(env["OFFPEAK__GRID__SHUTDOWN_GRACE_MS"]))
                if chart.component(document) == "producer":
                    unit = int(env["OFFPEAK__PRODUCER__MAX_UNIT_MS"])
                    self.assertEqual(unit, longest * 1000)
                    self.assertGreaterEqual(int(env["OFFPEAK__PRODUCER__REPLICA_DEADLINE_MS"]), 2 * unit)
            timeouts = {each["spec"]["name"]: each["spec"]["definition"].get("consumer-timeout")
                        for each in chart.of_kind(found, "Policy")}
            told = int(re.search(r"consumer_timeout = (\d+)", chart.files(values)["templates/NOTES.txt"])[1])
            self.assertGreaterEqual(told, 4 * longest * 1000)
            self.assertGreaterEqual(told, 1_800_000)
            self.assertIn(timeouts.get("offpeak-work", told), (told,))

    def test_older_brokers_get_no_policy_they_would_refuse(self):
        values = chart.scenarios()["operators"]
        values["rabbitmqOperator"]["generation"] = "3.10"
        for policy in chart.of_kind(chart.objects(values), "Policy"):
            self.assertEqual(policy["spec"]["applyTo"], "queues")
            self.assertNotIn("consumer-timeout", policy["spec"]["definition"])

    def test_policies_are_those_of_deploy(self):
        values = chart.scenarios()["operators"]
        original = json.loads((chart.ROOT / "deploy" / "rabbitmq" / "definitions-3.12.json").read_text())
        found = {each["spec"]["name"]: each["spec"] for each in chart.of_kind(chart.objects(values), "Policy")}
        for policy in original["policies"]:
            spec = found.pop(policy["name"])
            spec["definition"].pop("consumer-timeout", None)
            self.assertEqual(spec["definition"], policy["definition"])
            self.assertEqual((spec["pattern"], spec["applyTo"]), (policy["pattern"], policy["apply-to"]))
            self.assertEqual(spec["vhost"], "/offpeak")
        self.assertEqual(found, {})

    def test_a_scaler_alone_sets_the_number_of_workers(self):
        for name, values, found in scenes():
            scalers = {each["metadata"]["name"]: each for each in chart.of_kind(found, "HorizontalPodAutoscaler", "ScaledObject")}
            for pool, document in workers(found).items():
                wanted = pools(values)[pool]
                scaler = scalers.pop(document["metadata"]["name"], None)
                with self.subTest(name, pool=pool):
                    if wanted["autoscaling"]["type"] == "none":
                        self.assertIsNone(scaler)
                        self.assertEqual(document["spec"]["replicas"], wanted["replicas"])
                        continue
                    self.assertNotIn("replicas", document["spec"])
                    spec = scaler["spec"]
                    self.assertEqual(spec["scaleTargetRef"]["name"], document["metadata"]["name"])
                    behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
                    window = behavior["scaleDown"]["stabilizationWindowSeconds"]
                    self.assertGreaterEqual(window, wanted["maxUnitSeconds"])
                    target = wanted["autoscaling"]["targetBacklogSeconds"] * wanted["slots"]
                    if scaler["kind"] == "ScaledObject":
                        (trigger,) = spec["triggers"]
                        self.assertEqual(trigger["metadata"]["threshold"], str(target))
                        self.assertIn(f'pool="{pool}"', trigger["metadata"]["query"])
                        self.assertGreater(spec["fallback"]["replicas"], 0)
                    else:
                        external = spec["metrics"][0]["external"]
                        self.assertEqual(external["target"], {"type": "AverageValue", "averageValue": str(target)})
                        self.assertEqual(external["metric"]["selector"]["matchLabels"]["pool"], pool)
            self.assertEqual(scalers, {})

    def test_a_guard_never_holds_a_single_pod(self):
        for name, values, found in scenes():
            guarded = {each["metadata"]["name"]: each["spec"] for each in chart.of_kind(found, "PodDisruptionBudget")}
            for document in chart.of_kind(found, "Deployment"):
                spec = guarded.pop(document["metadata"]["name"], None)
                with self.subTest(name, deployment=document["metadata"]["name"]):
                    if document["spec"].get("replicas", 2) <= 1:
                        self.assertIsNone(spec)
                    else:
                        self.assertEqual(spec["maxUnavailable"], 1)
                        self.assertNotIn("minAvailable", spec)
            self.assertEqual(guarded, {})

    def test_memory_is_enough_for_the_executors(self):
        for name, values, found in scenes():
            for pool, document in workers(found).items():
                env, wanted = chart.settings(found, document), pools(values)[pool]
                resources = chart.container(document)["resources"]
                executors = wanted["slots"] * mebibytes(wanted["executorMemory"])
                with self.subTest(name, pool=pool):
                    self.assertEqual(int(env["OFFPEAK__WORKER__MEMORY_BYTES"]) >> 20, mebibytes(wanted["executorMemory"]))
                    self.assertGreater(mebibytes(resources["limits"]["memory"]), executors)
                    self.assertEqual(resources["requests"]["cpu"], wanted["slots"])
                    volumes = {each["name"]: each for each in chart.pod_of(document)[1]["volumes"]}
                    if "emptyDir" in volumes["cache"]:
                        room = mebibytes(volumes["cache"]["emptyDir"]["sizeLimit"]) << 20
                        self.assertGreater(room, int(env["OFFPEAK__WORKER__CACHE_BYTES"]))


class Secrets(unittest.TestCase):
    def test_a_login_stands_in_the_manifests_only_when_it_was_given_inline(self):
        for name, values, found in scenes():
            text = json.dumps(found)
            with self.subTest(name):
                # Whole addresses in text are put together in the pod, from variables.
                inline = [each for each in re.findall(r"(?:amqps?|postgres|https?)://[^\"\s]*@", text) if "$(" not in each]
                self.assertEqual(bool(inline), name == "demo", inline)
                secrets = chart.of_kind(found, "Secret")
                self.assertEqual(len(secrets), 1 if name == "demo" else 0)
                for document, _, _ in chart.pods(found):
                    for variable in chart.container(document)["env"]:
                        if re.search("URL|URI|PASSWORD|USERNAME", variable["name"]) and "value" in variable:
                            self.assertIn("$(", variable["value"])

    def test_inline_logins_are_in_one_secret_and_in_no_hook(self):
        found = chart.objects(chart.scenarios()["demo"])
        (secret,) = chart.of_kind(found, "Secret")
        self.assertNotIn("annotations", secret["metadata"])
        others = json.dumps([each for each in found if each["kind"] != "Secret"])
        self.assertNotIn("guest", others)
        (job,) = chart.of_kind(found, "Job")
        self.assertNotIn("annotations", job["metadata"], "a hook runs before the release's Secret is there")

    def test_what_is_put_together_comes_after_its_parts(self):
        for name, _, found in scenes():
            for document, _, _ in chart.pods(found):
                known = set()
                for variable in chart.container(document)["env"]:
                    for part in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                        self.assertIn(part, known, f"{name}: {variable['name']}")
                    known.add(variable["name"])

    def test_workers_know_no_database(self):
        for name, _, found in scenes():
            for document in workers(found).values():
                self.assertNotIn("DATABASE", json.dumps(chart.container(document)), name)

    def test_every_setting_is_one_of_the_services_and_of_its_kind(self):
        real = {chart.variable_of(*path): value for path, value in chart.default_settings().items()}
        for name, _, found in scenes():
            for document, _, _ in chart.pods(found):
                own = {each["name"]: each.get("value") for each in chart.container(document)["env"]}
                for variable, value in (chart.settings(found, document) | own).items():
                    if not variable.startswith("OFFPEAK__"):
                        continue
                    self.assertIn(variable, real, name)
                    kind = type(real[variable])
                    if kind is bool:
                        self.assertIn(value, ("true", "false"), variable)
                    elif kind is int:
                        self.assertRegex(value, r"^[0-9]+$", variable)

    def test_a_changed_setting_or_inline_login_replaces_pods(self):
        def checksums(**values):
            deployments = chart.of_kind(chart.objects(chart.scenarios()["demo"] | values), "Deployment")
            return [chart.pod_of(each)[0]["annotations"] for each in deployments]
        before = checksums()
        for values in ({"settings": {"log": {"filter": "debug"}}}, {"broker": {"uri": "amqp://a:b@c"}}):
            for one, other in zip(before, checksums(**values), strict=True):
                self.assertNotEqual(one, other)


class Migrations(unittest.TestCase):
    def test_as_a_hook_it_comes_first_and_needs_nothing_of_the_release(self):
        (job,) = chart.of_kind(chart.objects(chart.SECRETS), "Job")
        self.assertEqual(job["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade")
        pod = chart.pod_of(job)[1]
        self.assertNotIn("serviceAccountName", pod)
        self.assertNotIn("envFrom", pod["containers"][0])

    def test_as_a_plain_job_it_is_another_for_each_revision_and_change(self):
        def name(revision=1, **values):
            values = chart.with_secrets(migrations={"useHelmHooks": False}, **values)
            (job,) = chart.of_kind(chart.objects(values, revision), "Job")
            self.assertNotIn("annotations", job["metadata"])
            return job["metadata"]["name"]
        self.assertEqual(name(), name())
        self.assertEqual(len({name(), name(revision=2), name(image={"tag": "2"}), name(nameOverride="other")}), 4)


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
        self.assertEqual(recorded["labels"], {"team": "grid"})
        self.assertEqual(alert["labels"], {"team": "grid", "severity": "critical"})
        url = "https://runbooks.example.com/deploy/runbooks/InvariantBroken.md"
        self.assertEqual(alert["annotations"], {"summary": "{{ $labels.pod }} broke an invariant", "runbook_url": url})


if __name__ == "__main__":
    unittest.main()
