"""The numbers that the chart derives, in every scenario: drain and grace, scaling, guards, memory, limits at the broker."""

import json
import re
import unittest

import chart

# After the drain a worker hands back for so long; beyond it, what the process needs to close.
HAND_BACK_S = int(re.search(
    r"HAND_BACK: Duration = Duration::from_secs\((\d+)\)",
    (chart.ROOT / "services" / "worker" / "src" / "take.rs").read_text(),
)[1])
CLOSING_S = 5


class Numbers(unittest.TestCase):
    def test_one_number_drives_the_drain(self):
        for name, values, found in chart.scenes():
            wanted, deployed = chart.pools(values), chart.workers(found)
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

    def test_the_readme_tells_the_least_rights(self):
        readme = (chart.CHART / "README.md").read_text()
        permissions = chart.of_kind(chart.objects(chart.scenarios()["operators"]), "Permission")
        for name in ("producer", "aggregator", "operator", "worker-open"):
            (spec,) = [each["spec"] for each in permissions if each["spec"]["userReference"]["name"] == f"demo-offpeak-{name}"]
            rights = [spec["permissions"][right] for right in ("configure", "write", "read")]
            row = " | ".join(f"`{right}`".replace("|", "\\|").replace("work\\.open", "work\\.P") for right in rights)
            self.assertIn(f"| {row} |", readme, name)

    def test_the_operator_may_do_what_the_one_of_deploy_may(self):
        users = json.loads((chart.ROOT / "deploy" / "rabbitmq" / "users.json").read_text())
        found = chart.objects(chart.scenarios()["operators"])

        def spec(kind):
            (one,) = [each["spec"] for each in chart.of_kind(found, kind) if each["metadata"]["name"] == "demo-offpeak-operator"]
            return one
        (user,) = [each for each in users["users"] if each["name"] == "offpeak-operator"]
        (rights,) = [each for each in users["permissions"] if each["user"] == "offpeak-operator"]
        self.assertEqual(spec("User")["tags"], user["tags"])
        self.assertEqual(spec("Permission")["permissions"], {key: rights[key] for key in ("configure", "write", "read")})

    def test_a_scaler_alone_sets_the_number_of_workers(self):
        for name, values, found in chart.scenes():
            scalers = {each["metadata"]["name"]: each for each in chart.of_kind(found, "HorizontalPodAutoscaler", "ScaledObject")}
            for pool, document in chart.workers(found).items():
                wanted = chart.pools(values)[pool]
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
                    self.assertEqual(window, max(300, wanted["maxUnitSeconds"], wanted["autoscaling"]["targetBacklogSeconds"]))
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

    def test_workers_go_no_sooner_than_the_backlog_is_to_be_done(self):
        for unit, target, window in ((60, 60, 300), (900, 60, 900), (60, 1800, 1800), (60, 7200, 3600)):
            worker = {"maxUnitSeconds": unit, "autoscaling": {"type": "hpa", "targetBacklogSeconds": target}}
            (scaler,) = chart.of_kind(chart.objects(chart.with_secrets(worker=worker)), "HorizontalPodAutoscaler")
            self.assertEqual(scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"], window)

    def test_a_guard_never_holds_a_single_pod(self):
        for name, values, found in chart.scenes():
            # The broker's is beside: its pods are the operator's.
            guarded = {each["metadata"]["name"]: each["spec"] for each in chart.of_kind(found, "PodDisruptionBudget")
                       if chart.component(each) != "rabbitmq"}
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
        for name, values, found in chart.scenes():
            for pool, document in chart.workers(found).items():
                env, wanted = chart.settings(found, document), chart.pools(values)[pool]
                resources = chart.container(document)["resources"]
                executors = wanted["slots"] * chart.mebibytes(wanted["executorMemory"])
                with self.subTest(name, pool=pool):
                    self.assertEqual(int(env["OFFPEAK__WORKER__MEMORY_BYTES"]) >> 20, chart.mebibytes(wanted["executorMemory"]))
                    self.assertGreater(chart.mebibytes(resources["limits"]["memory"]), executors)
                    self.assertEqual(resources["requests"]["cpu"], wanted["slots"])
                    volumes = {each["name"]: each for each in chart.pod_of(document)[1]["volumes"]}
                    if "emptyDir" in volumes["cache"]:
                        room = chart.mebibytes(volumes["cache"]["emptyDir"]["sizeLimit"]) << 20
                        self.assertGreater(room, int(env["OFFPEAK__WORKER__CACHE_BYTES"]))


if __name__ == "__main__":
    unittest.main()
