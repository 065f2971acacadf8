"""What must hold of the pods that the chart renders, in every scenario: security, selectors, logins, settings."""

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

SELECTED = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


class Pods(unittest.TestCase):
    def test_every_pod_is_restricted(self):
        kinds = set()
        for name, _, found in chart.scenes():
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

    def test_a_cache_on_a_volume_of_its_own_can_be_written(self):
        found = chart.workers(chart.objects(chart.scenarios()["pools"]))
        security = {name: chart.pod_of(document)[1]["securityContext"] for name, document in found.items()}
        self.assertEqual(security["trusted"]["fsGroup"], 65532)
        self.assertNotIn("fsGroup", security["night"])

    def test_selectors_are_three_labels_that_no_version_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            helm_python.package(str(chart.CHART), destination=folder, version="9.9.9", app_version="9.9.9")
            with helm_python.Chart.load(str(next(pathlib.Path(folder).glob("*.tgz")))) as later:
                values = chart.scenarios()["keda"] | {"commonLabels": {"more": "labels"}}
                rendered = later.render(values, name=chart.RELEASE, namespace=chart.NAMESPACE, revision=7, is_upgrade=True)
        documents = [yaml.load_all(text, chart.LOADER) for path, text in rendered.items() if path.endswith(".yaml")]
        later = [document for document in itertools.chain(*documents) if document]
        selectors = {}
        for name, _, found in [*chart.scenes(), ("later", None, later)]:
            for document in chart.of_kind(found, "Deployment"):
                selector = document["spec"]["selector"]["matchLabels"]
                self.assertEqual(selector.keys(), SELECTED)
                self.assertLessEqual(selector.items(), chart.pod_of(document)[0]["labels"].items())
                known = selectors.setdefault((name == "gitops", chart.component(document)), selector)
                self.assertEqual(selector, known, name)
        self.assertIn((False, "worker-trusted"), selectors)

    def test_what_selects_finds_the_pods_it_is_for_and_no_others(self):
        for name, _, found in chart.scenes():
            labels = [metadata["labels"] for document, metadata, _ in chart.pods(found)]
            for document in chart.of_kind(found, "PodDisruptionBudget", "NetworkPolicy", "Service"):
                spec = document["spec"]
                selector = spec.get("podSelector") or spec["selector"]
                selector = selector.get("matchLabels", selector)
                chosen = [each for each in labels if selector.items() <= each.items()]
                with self.subTest(name, document=document["metadata"]["name"], kind=document["kind"]):
                    if chart.component(document) == "rabbitmq":
                        self.assertEqual(chosen, [], "its pods are the operator's")
                        continue
                    self.assertEqual(len(chosen), 1)
                    self.assertEqual(chosen[0]["app.kubernetes.io/component"], chart.component(document))
            for document in chart.of_kind(found, "PodMonitor"):
                (expression,) = document["spec"]["selector"]["matchExpressions"]
                deployments = {chart.component(each) for each in chart.of_kind(found, "Deployment")}
                self.assertEqual(set(expression["values"]), deployments)

    def test_producers_and_no_others_reach_the_broker_s_management_side(self):
        """Also where they check no policies: the notes run `offpeak customer` in their pods."""
        for name, ports in (("ha", {15671, 15672}), ("services", {15671})):
            for document in chart.of_kind(chart.objects(chart.scenarios()[name]), "NetworkPolicy"):
                reached = {port["port"] for rule in document["spec"]["egress"] for port in rule["ports"]}
                wanted = ports if chart.component(document) == "producer" else set()
                self.assertEqual(reached & {15671, 15672}, wanted, document["metadata"]["name"])

    def test_recreating_pods_leaves_nothing_of_rolling(self):
        found = chart.objects(chart.with_secrets(aggregator={"strategy": {"type": "Recreate"}}))
        (aggregator,) = [each for each in chart.of_kind(found, "Deployment") if chart.component(each) == "aggregator"]
        self.assertEqual(aggregator["spec"]["strategy"], {"type": "Recreate"})

    def test_names_are_unique_and_short_enough(self):
        long = chart.with_secrets(fullnameOverride="x" * 63, pools={"open": None, "a" * 40: {}}, migrations={"useHelmHooks": False})
        for _, _, found in [*chart.scenes(), ("long", None, chart.objects(long))]:
            named = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in found]
            self.assertEqual(len(named), len(set(named)))
            for kind, _, name in named:
                self.assertLessEqual(len(name), 63, kind)
        self.assertIn("worker-" + "a" * 40, [chart.component(each) for each in chart.of_kind(chart.objects(long), "Deployment")])


class Secrets(unittest.TestCase):
    def test_a_login_stands_in_the_manifests_only_when_it_was_given_inline(self):
        for name, values, found in chart.scenes():
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
        for name, _, found in chart.scenes():
            for document, _, _ in chart.pods(found):
                known = set()
                for variable in chart.container(document)["env"]:
                    for part in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                        self.assertIn(part, known, f"{name}: {variable['name']}")
                    known.add(variable["name"])

    def test_workers_know_no_database(self):
        for name, _, found in chart.scenes():
            for document in chart.workers(found).values():
                self.assertNotIn("DATABASE", json.dumps(chart.container(document)), name)

    def test_every_setting_is_one_of_the_services_and_of_its_kind(self):
        real = {chart.variable_of(*path): value for path, value in chart.default_settings().items()}
        for name, _, found in chart.scenes():
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


if __name__ == "__main__":
    unittest.main()
