"""The chart as a whole: it is linted, renders every scenario as committed, and refuses what is wrong."""

import copy
import json
import pathlib
import tempfile
import unittest

import helm_python
import jsonschema
import yamllint.config
import yamllint.linter

import chart
import crds
import manifests

OLDEST, NEWEST = "1.30", "1.37"
YAMLLINT = "{extends: default, rules: {line-length: {max: 140}, document-start: disable, indentation: {indent-sequences: whatever}}}"

# Objects whose keys the chart does not choose: labels, and parts of Kubernetes' own objects.
FREE = {"affinity", "podSecurityContext", "containerSecurityContext", "cacheVolume", "scaleUp", "scaleDown", "global",
        "permissions"}


def with_cluster(reference=None, broker=None, **cluster):
    """Values that have the cluster operator make the broker."""
    operator = {"clusterReference": {"name": "r"} if reference is None else reference, "cluster": {"create": True} | cluster}
    return {"rabbitmqOperator": operator, "broker": chart.SECRETS["broker"] | (broker or {})}


# What each of these says when it is refused.
REFUSED = {
    "a typo at the top": ({"producr": {}}, "producr"),
    "a typo below": ({"producer": {"replica": 2}}, "replica"),
    "a typo in a pool": ({"pools": {"open": {"lane": 2}}}, "lane"),
    "a typo deep in a pool": ({"pools": {"open": {"autoscaling": {"keda": {"serverAdress": "x"}}}}}, "serverAdress"),
    "a setting that is none": ({"settings": {"aggregator": {"batches": 5}}}, "batches"),
    "a setting that the chart derives": ({"settings": {"producer": {"max_unit_ms": 5}}}, "max_unit_ms"),
    "a text for a number": ({"producer": {"replicas": "2"}}, "got string, want integer"),
    "a number for a text": ({"broker": {"host": 5}}, "want string"),
    "fewer than none": ({"worker": {"replicas": -1}}, "minimum"),
    "no slots": ({"worker": {"slots": 0}}, "minimum"),
    "too many lanes": ({"pools": {"open": {"lanes": 65}}}, "maximum"),
    "no time to hand back": ({"worker": {"drainMarginSeconds": 5}}, "minimum"),
    "memory that is none": ({"worker": {"executorMemory": "2 GB"}}, "executorMemory"),
    "a pool's name that is none": ({"pools": {"Open_1": {}}}, "Open_1"),
    "a trust that is none": ({"pools": {"open": {"trust": "maybe"}}}, "trust"),
    "a guard that blocks every drain": ({"worker": {"pdb": {"maxUnavailable": 0}}}, "maxUnavailable"),
    "a share of more than all": ({"worker": {"pdb": {"maxUnavailable": "250%"}}}, "maxUnavailable"),
    "two scalers in a list": ({"worker": {"autoscaling": {"type": ["hpa", "keda"]}}}, "type"),
    "both scalers switched on": (
        {"worker": {"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}}, "enabled"),
    "replicas under a scaler": (
        {"pools": {"open": {"replicas": 3, "autoscaling": {"type": "hpa"}}}}, "pools.open.replicas is set while"),
    "an hpa down to nothing": (
        {"pools": {"open": {"autoscaling": {"type": "hpa", "minReplicas": 0}}}}, "which an hpa cannot do"),
    "more at least than at most": (
        {"pools": {"open": {"autoscaling": {"type": "hpa", "minReplicas": 9, "maxReplicas": 3}}}}, "above maxReplicas"),
    "keda without a server": (
        {"pools": {"open": {"autoscaling": {"type": "keda"}}}}, "keda.serverAddress is not set"),
    "a login at Prometheus that is none": (
        {"worker": {"autoscaling": {"keda": {"authModes": "token"}}}}, "authModes"),
    "no pool": ({"pools": {"open": None}}, "pools is empty"),
    "too little memory": (
        {"worker": {"slots": 2, "resources": {"limits": {"memory": "4.4Gi"}}}}, "slots * executorMemory + 512Mi is 4608Mi"),
    "a strategy that never ends": (
        {"producer": {"strategy": {"rollingUpdate": {"maxSurge": 0}}}}, "strategy of producer allows neither"),
    "two monitors": (
        {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}}, "scraped twice"),
    "settings past their check": (
        {"producer": {"extraEnv": [{"name": "OFFPEAK__LOG__FILTER", "value": "trace"}]}}, "write it in settings"),
    "an operator without a cluster": (
        {"rabbitmqOperator": {"policies": {"enabled": True}}}, "clusterReference is not set"),
    "an operator's users without a host": (
        {"rabbitmqOperator": {"clusterReference": {"name": "r"}, "users": {"enabled": True}}}, "needs broker.host"),
    "a cluster in two ways": (
        {"rabbitmqOperator": {"clusterReference": {"name": "r", "connectionSecret": {"name": "s"}}}}, "clusterReference"),
    "a broker's typo": ({"rabbitmqOperator": {"cluster": {"replica": 3}}}, "replica"),
    "a broker's typo below": ({"rabbitmqOperator": {"cluster": {"persistence": {"size": "10Gi"}}}}, "size"),
    "brokers of which no majority is left": ({"rabbitmqOperator": {"cluster": {"replicas": 2}}}, "rabbitmqOperator/cluster/replicas"),
    "no brokers": ({"rabbitmqOperator": {"cluster": {"replicas": 0}}}, "rabbitmqOperator/cluster/replicas"),
    "a volume that is none": (
        {"rabbitmqOperator": {"cluster": {"persistence": {"storage": "10 GB"}}}}, "rabbitmqOperator/cluster/persistence/storage"),
    "a cluster without a name": (with_cluster(reference={}), "cluster.create needs rabbitmqOperator.clusterReference.name"),
    "a cluster by a connection": (
        with_cluster(reference={"connectionSecret": {"name": "s"}}),
        "cluster.create needs rabbitmqOperator.clusterReference.name"),
    "a cluster elsewhere": (
        with_cluster(reference={"name": "r", "namespace": "brokers"}), "clusterReference.namespace is brokers"),
    "a cluster whose Service would find the grid's pods": (
        with_cluster(reference={"name": "offpeak"}), "the operator's Service selects by app.kubernetes.io/name"),
    "a cluster's name that is none of a Service": (with_cluster(reference={"name": "3.rabbits"}), "a letter first"),
    "a cluster's name that leaves no room": (with_cluster(reference={"name": "r" * 46}), "1 to 45"),
    "a cluster without a certificate": (
        with_cluster(broker={"host": "r", "tls": True}), "rabbitmqOperator.cluster.tls.secretName"),
    "a consumer timeout of one's own": (
        with_cluster(additionalConfig="heartbeat = 20\nconsumer_timeout=5"), "which follows from maxUnitSeconds"),
    "a volume that is as good as full": (
        with_cluster(persistence={"storage": "9Gi"}), "storage is 9Gi: publishers wait when less than 5GB is free"),
    "a test in a pool that is none": ({"test": {"pool": "moon"}}, "test.pool is moon"),
    "two bundles": ({"caBundle": {"existingSecret": "a", "existingConfigMap": "b"}}, "take one of them"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "digest"),
    "no broker": ({"broker": {"existingSecret": ""}}, "broker.existingSecret is not set"),
    "no database": ({"database": {"existingSecret": ""}}, "database.existingSecret is not set"),
    "a broker twice": (
        {"broker": {"existingSecret": "a", "uri": "amqp://b"}}, "broker.uri is set beside broker.existingSecret"),
}


class TheChart(unittest.TestCase):
    maxDiff = None

    def test_it_is_linted_with_every_scenario(self):
        for name, values in chart.scenarios().items():
            for version in (OLDEST, NEWEST) if name == "default" else (NEWEST,):
                with self.subTest(name, version=version):
                    report = helm_python.lint(str(chart.CHART), values, strict=True, kube_version=f"v{version}.0")
                    self.assertEqual(report["errors"], [])
                    # There is no picture of it.
                    found = [message for message in report["messages"] if "icon is recommended" not in message["error"]]
                    self.assertEqual(found, [])

    def test_helm_would_install_every_scenario(self):
        with helm_python.Config(storage_driver="memory") as helm:
            for name, values in chart.scenarios().items():
                release = helm.install(str(chart.CHART), chart.RELEASE, values, namespace=chart.NAMESPACE, dry_run="client")
                self.assertIn("Offpeak 0.1.0 is installed as demo in grid", release["notes"], name)

    def test_its_yaml_is_tidy(self):
        rules = yamllint.config.YamlLintConfig(YAMLLINT)
        paths = [*chart.CHART.glob("*.yaml"), *chart.CHART.glob("ci/*.yaml"), chart.CHART / "files" / "refused.yaml"]
        self.assertGreater(len(paths), 10)
        found = [f"{path.name}: {problem}" for path in paths for problem in yamllint.linter.run(path.read_text(), rules)]
        self.assertEqual(found, [])

    def test_what_it_renders_is_as_committed(self):
        wanted = chart.goldens()
        there = {path.name: path.read_text() for path in chart.GOLDEN.glob("*")}
        self.assertEqual(there.keys(), wanted.keys(), "renew them: tests/python/chart.py renew")
        for name, text in wanted.items():
            with self.subTest(name):
                self.assertEqual(there[name], text, "look at the difference, then renew: tests/python/chart.py renew")

    def test_every_kubernetes_it_supports_takes_what_it_renders(self):
        self.assertIn(OLDEST, chart.load((chart.CHART / "Chart.yaml").read_text())["kubeVersion"])
        seen = set()
        for name, values in chart.scenarios().items():
            for document in chart.objects(values):
                seen.add((document["apiVersion"], document["kind"]))
                for version in (OLDEST, NEWEST):
                    self.assertEqual(manifests.mistakes(document, version), [], name)
        # Every kind of custom resource that is known was seen; rules only when there are files with rules.
        custom = crds.SCHEMAS.keys() - {("monitoring.coreos.com/v1", "PrometheusRule")}
        self.assertEqual(custom - seen, set())

    def test_the_checks_of_objects_find_mistakes(self):
        (scaled,) = chart.of_kind(chart.objects(chart.scenarios()["keda"]), "ScaledObject")
        scaled = copy.deepcopy(scaled)
        scaled["spec"]["pollingIntervall"] = 30
        (deployment,) = [d for d in chart.of_kind(chart.objects(chart.SECRETS), "Deployment") if chart.component(d) == "producer"]
        deployment = copy.deepcopy(deployment)
        deployment["spec"]["replica"] = 1
        deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "9460"
        self.assertEqual(len(manifests.mistakes(scaled, NEWEST)), 1)
        self.assertEqual(len(manifests.mistakes(deployment, NEWEST)), 2)
        unknown = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {}}
        self.assertRaisesRegex(ValueError, "has no policy/v1beta1", manifests.mistakes, unknown, NEWEST)

    def test_what_is_wrong_is_refused_and_named(self):
        for name, (values, says) in REFUSED.items():
            with self.subTest(name):
                self.assertIn(says, chart.refused(chart.with_secrets(**values)))

    def test_every_mistake_is_told_at_once(self):
        said = chart.refused({"pools": {"open": None}, "test": {"pool": "moon"}})
        for part in ("broker.existingSecret", "database.existingSecret", "pools is empty", "test.pool"):
            self.assertIn(part, said)

    def test_keys_that_are_no_more_are_refused_with_the_way_out(self):
        upgrading = (chart.CHART / "UPGRADING.md").read_text()
        for removed in chart.load((chart.CHART / "files" / "refused.yaml").read_text()):
            *sections, last = removed["key"].split(".")
            values = {last: 5}
            for section in reversed(sections):
                values = {section: values}
            with self.subTest(removed["key"]):
                said = chart.refused(chart.with_secrets(**values))
                self.assertIn(f"{removed['key']} is not a value of this chart: {removed['wayOut']}", said)
                self.assertIn(last, upgrading)

    def test_a_parent_chart_may_set_what_helm_sets_for_it(self):
        values = chart.with_secrets(enabled=True, **{"global": {"imageRegistry": "registry.example.com", "other": 1}})
        (producer,) = [d for d in chart.of_kind(chart.objects(values), "Deployment") if chart.component(d) == "producer"]
        self.assertEqual(chart.container(producer)["image"], "registry.example.com/offpeak:0.1.0")

    def test_the_schema_is_strict_everywhere_and_knows_every_value(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        jsonschema.Draft7Validator.check_schema(schema)

        def look(path, part):
            if not isinstance(part, dict):
                return
            if part.get("type") == "object" or "properties" in part:
                closed = "additionalProperties" in part or "maxProperties" in part
                self.assertTrue(closed or path[-1] in FREE or path[-1] == "items", path)
            for key, value in part.items():
                for name, inner in value.items() if key in ("properties", "$defs", "patternProperties") else [(key, value)]:
                    look([*path, name], inner)
        look(["values"], schema)
        # The chart's own defaults fit, and none is left without a declaration.
        jsonschema.validate(chart.load((chart.CHART / "values.yaml").read_text()), schema)

    def test_its_settings_are_those_of_the_services(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        offered = {(section, key) for section, part in schema["properties"]["settings"]["properties"].items()
                   for key in part["properties"]}
        derived = set()
        for values in chart.scenarios().values():
            own = {chart.variable_of(*path) for path in offered}
            found = chart.objects(values)
            for document, _, _ in chart.pods(found):
                names = {variable["name"] for variable in chart.container(document).get("env", ())}
                derived |= (names | chart.settings(found, document).keys()) - own
        # A pod makes up a name of its own, and takes the lane that needs it most.
        left = {"OFFPEAK__WORKER__HOST", "OFFPEAK__WORKER__LANE"}
        derived = {name for name in derived if name.startswith("OFFPEAK__")}
        real = {chart.variable_of(*path) for path in chart.default_settings()}
        self.assertEqual({chart.variable_of(*path) for path in offered} | derived | left, real)
        self.assertEqual({chart.variable_of(*path) for path in offered} & (derived | left), set())

    def test_its_version_is_that_of_the_services(self):
        about = chart.load((chart.CHART / "Chart.yaml").read_text())
        self.assertIn(f'version = "{about["appVersion"]}"', (chart.ROOT / "Cargo.toml").read_text())

    def test_its_readme_tells_every_value(self):
        self.assertEqual((chart.CHART / "README.md").read_text(), chart.renewed_readme(), "chart.py renew makes the table")
        told = {path for path, _, _ in chart.documented()}

        def leaves(at, path):
            if isinstance(at, dict) and at and ".".join(path) not in told:
                for key, value in at.items():
                    yield from leaves(value, [*path, key])
            else:
                yield ".".join(path)
        values = chart.load((chart.CHART / "values.yaml").read_text())
        self.assertEqual(set(leaves(values, [])) - told, set())

    def test_its_copies_are_those_of_deploy(self):
        wanted = chart.copies()
        self.assertLessEqual({"files/rabbitmq/definitions-3.12.json", "files/rabbitmq/rabbitmq.conf"}, wanted.keys())
        self.assertEqual(chart.carried(), wanted.keys(), "chart.py renew copies them")
        for copied, original in wanted.items():
            self.assertEqual((chart.CHART / copied).read_bytes(), original.read_bytes(), copied)

    def test_the_package_holds_what_it_needs(self):
        with tempfile.TemporaryDirectory() as folder:
            package = helm_python.package(str(chart.CHART), destination=folder)
            path = next(pathlib.Path(folder).glob("*.tgz"), package)
            with helm_python.Chart.load(str(path)) as packaged:
                rendered = packaged.render(chart.scenarios()["operators"], name=chart.RELEASE, namespace=chart.NAMESPACE)
        mine = {key.removeprefix("offpeak/"): text for key, text in rendered.items() if text.strip()}
        self.assertEqual(mine, chart.files(chart.scenarios()["operators"]))


if __name__ == "__main__":
    unittest.main()
