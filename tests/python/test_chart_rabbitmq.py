"""The RabbitmqCluster that the chart has RabbitMQ's cluster operator make: its configuration, data, places, guards and login."""

import copy
import re
import unittest

import chart
import kubelet
import manifests

DEPLOY = chart.ROOT / "deploy" / "rabbitmq"

# What the operator enables in every cluster, whatever it is told.
OPERATORS_PLUGINS = {"rabbitmq_peer_discovery_k8s", "rabbitmq_prometheus", "rabbitmq_management"}

# The operator's pod before 2.17, as far as security goes; since then it meets the restricted standard by itself.
OPERATORS_CONTAINER = {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}}
OPERATORS_POD = {
    "automountServiceAccountToken": True,
    "securityContext": {"fsGroup": 0, "runAsUser": 999},
    "initContainers": [{"name": "setup-container"} | OPERATORS_CONTAINER],
    "containers": [{"name": "rabbitmq"} | OPERATORS_CONTAINER],
}


def rendered(cluster=None, **values):
    """The objects of a grid whose cluster the operator makes; `cluster` and other values over the defaults."""
    operator = {"clusterReference": {"name": "rabbit"}, "cluster": {"create": True} | (cluster or {})}
    return chart.objects(chart.with_secrets(rabbitmqOperator=operator, **values))


def spec_of(found):
    (cluster,) = chart.of_kind(found, "RabbitmqCluster")
    return cluster["spec"]


def settings(text):
    """The settings of a rabbitmq.conf in their order."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(part.strip() for part in line.split("=", 1)) for line in lines]


def config(found):
    return settings(spec_of(found)["rabbitmq"]["additionalConfig"])


def patched(pod, patch):
    """A pod with the operator's override: maps are merged, and lists by the name of what is in them."""
    if isinstance(patch, dict) and patch:
        return pod | {key: patched(pod.get(key, {}), value) for key, value in patch.items()}
    if isinstance(patch, list) and all(isinstance(each, dict) and "name" in each for each in patch):
        over = {each["name"]: each for each in patch}
        return [patched(each, over[each["name"]]) if each["name"] in over else each for each in pod]
    return patch


class Configuration(unittest.TestCase):
    def test_it_is_that_of_deploy_but_for_definitions(self):
        deployed = settings((DEPLOY / "rabbitmq.conf").read_text())
        wanted = [(key, value) for key, value in deployed if not key.startswith("definitions.")]
        self.assertLess(len(wanted), len(deployed))
        self.assertEqual(config(rendered()), wanted, "the default units are those of deploy, and so is the consumer timeout")

    def test_lines_of_one_s_own_come_last(self):
        mine = "# Mine\nvm_memory_high_watermark.relative = 0.5\n\nheartbeat = 20\n"
        found = config(rendered({"additionalConfig": mine}))
        self.assertEqual(found[-2:], [("vm_memory_high_watermark.relative", "0.5"), ("heartbeat", "20")])
        self.assertEqual(found[:-2], config(rendered()))

    def test_one_number_drives_the_consumer_timeout(self):
        for longest, timeout_s in ((60, 1800), (450, 1800), (451, 1804), (3600, 14400)):
            values = chart.with_secrets(
                worker={"maxUnitSeconds": 60}, pools={"long": {"maxUnitSeconds": longest}},
                rabbitmqOperator={"clusterReference": {"name": "rabbit"}, "cluster": {"create": True}, "policies": {"enabled": True}},
            )
            found = chart.objects(values)
            (policy,) = [each["spec"]["definition"] for each in chart.of_kind(found, "Policy") if each["spec"]["name"] == "offpeak-work"]
            (told,) = re.findall(r"consumer_timeout = (\d+)", chart.files(values)["templates/NOTES.txt"])
            (configured,) = [value for key, value in config(found) if key == "consumer_timeout"]
            with self.subTest(longest=longest):
                self.assertEqual([int(configured), policy["consumer-timeout"], int(told)], [1000 * timeout_s] * 3)

    def test_it_has_every_plugin_of_deploy(self):
        wanted = set(re.findall(r"\w+", (DEPLOY / "enabled_plugins").read_text()))
        self.assertTrue(wanted)
        self.assertEqual(wanted - OPERATORS_PLUGINS, set(spec_of(rendered())["rabbitmq"].get("additionalPlugins", ())))
        more = spec_of(rendered({"additionalPlugins": ["rabbitmq_shovel"]}))
        self.assertEqual(more["rabbitmq"]["additionalPlugins"], ["rabbitmq_shovel"])

    def test_an_image_of_one_s_own_comes_with_the_secrets_to_pull_it(self):
        self.assertFalse({"image", "imagePullSecrets"} & spec_of(rendered(imagePullSecrets=["registry"])).keys())
        own = spec_of(rendered({"image": "registry.example.com/rabbitmq:4.1"}, imagePullSecrets=["registry"]))
        self.assertEqual((own["image"], own["imagePullSecrets"]), ("registry.example.com/rabbitmq:4.1", [{"name": "registry"}]))

    def test_every_form_is_one_that_the_operator_takes(self):
        forms = (
            {"replicas": 1}, {"replicas": 5, "affinity": {}}, {"image": "rabbitmq:4.1"}, {"additionalPlugins": ["rabbitmq_shovel"]},
            {"persistence": {"storage": "1Ti", "storageClassName": "fast"}}, {"additionalConfig": "heartbeat = 20"},
            {"affinity": {"nodeAffinity": {}}, "tolerations": [{"key": "brokers", "operator": "Exists"}]},
        )
        for form in forms:
            for document in rendered(form, imagePullSecrets=["registry"]):
                with self.subTest(form):
                    self.assertEqual(manifests.mistakes(document, "1.37"), [])


class Data(unittest.TestCase):
    def test_there_is_none_unless_it_is_asked_for(self):
        for name, _, found in chart.scenes():
            self.assertEqual(len(chart.of_kind(found, "RabbitmqCluster")), 1 if name == "operators" else 0, name)
        elsewhere = {"name": "rabbit", "namespace": "brokers"}
        values = chart.with_secrets(rabbitmqOperator={"clusterReference": elsewhere, "policies": {"enabled": True}})
        found = chart.objects(values)
        self.assertEqual(chart.of_kind(found, "RabbitmqCluster"), [])
        for policy in chart.of_kind(found, "Policy"):
            self.assertEqual(policy["spec"]["rabbitmqClusterReference"], elsewhere)

    def test_it_stays_when_the_release_goes(self):
        for values in ({}, {"replicas": 1}):
            (cluster,) = chart.of_kind(rendered(values), "RabbitmqCluster")
            self.assertEqual(cluster["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")

    def test_it_is_the_cluster_that_all_else_names(self):
        found = chart.objects(chart.scenarios()["operators"])
        (cluster,) = [each["metadata"] for each in chart.of_kind(found, "RabbitmqCluster")]
        self.assertEqual(cluster["namespace"], chart.NAMESPACE)
        named = [each["spec"]["rabbitmqClusterReference"] for each in found if "rabbitmqClusterReference" in each.get("spec", {})]
        self.assertTrue(named)
        for reference in named:
            self.assertEqual(reference, {"name": cluster["name"]})

    def test_a_volume_holds_all_queues_at_their_bounds(self):
        found = rendered()
        operator = {"clusterReference": {"name": "rabbit"}, "policies": {"enabled": True}, "topology": {"enabled": True}}
        topology = chart.objects(chart.with_secrets(rabbitmqOperator=operator))
        policies = [each["spec"] for each in chart.of_kind(topology, "Policy")]
        queues = [each["spec"]["name"] for each in chart.of_kind(topology, "Queue")]

        def bound(queue):
            (matching,) = [each for each in policies if re.search(each["pattern"], queue)]
            return matching["definition"]["max-length-bytes"]
        free = int(re.fullmatch(r"(\d+)GB", dict(config(found))["disk_free_limit.absolute"])[1]) * 10**9
        customers = 2 * bound("offpeak.customer.any.results")
        storage = chart.mebibytes(spec_of(found)["persistence"]["storage"]) << 20
        self.assertGreater(storage, sum(map(bound, queues)) + customers + free)


class Pods(unittest.TestCase):
    def test_they_are_restricted_whatever_the_operator_does_by_itself(self):
        # Peer discovery needs the token; a root that is read only is no part of the standard, and the operator's own from 2.17 on.
        beyond = {"automountServiceAccountToken", "readOnlyRootFilesystem"}
        self.assertLess(beyond, set(manifests.insecurities(OPERATORS_POD)))
        patch = spec_of(rendered())["override"]["statefulSet"]["spec"]["template"]["spec"]
        pod = patched(copy.deepcopy(OPERATORS_POD), patch)
        self.assertEqual(set(manifests.insecurities(pod)), beyond)
        self.assertEqual(pod["securityContext"]["runAsUser"], 999)

    def test_a_platform_may_choose_the_user(self):
        found = rendered(podSecurityContext={"runAsUser": None})
        patch = spec_of(found)["override"]["statefulSet"]["spec"]["template"]["spec"]
        self.assertEqual(patch["securityContext"], {}, "by which the operator leaves its own out")
        for each in patch["initContainers"] + patch["containers"]:
            self.assertTrue(each["securityContext"]["runAsNonRoot"])

    def test_the_operator_s_time_to_end_is_left_alone(self):
        spec = spec_of(rendered())
        self.assertNotIn("terminationGracePeriodSeconds", spec)
        self.assertNotIn("terminationGracePeriodSeconds", spec["override"]["statefulSet"]["spec"]["template"]["spec"])

    def test_several_are_on_hosts_of_their_own_and_one_goes_at_a_time(self):
        for replicas in (1, 3, 5):
            found = rendered({"replicas": replicas})
            spec = spec_of(found)
            spread = spec["override"]["statefulSet"]["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
            guards = [each["spec"] for each in chart.of_kind(found, "PodDisruptionBudget") if chart.component(each) == "rabbitmq"]
            with self.subTest(replicas=replicas):
                self.assertEqual(spec["replicas"], replicas)
                if replicas == 1:
                    self.assertNotIn("affinity", spec)
                    self.assertEqual((spread, guards), ([], []))
                    continue
                selector = {"matchLabels": {"app.kubernetes.io/name": "rabbit"}}
                (apart,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
                self.assertEqual(apart, {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector})
                (zones,) = spread
                self.assertEqual((zones["topologyKey"], zones["labelSelector"]), ("topology.kubernetes.io/zone", selector))
                self.assertEqual(guards, [{"maxUnavailable": 1, "selector": selector}])
        self.assertNotIn("affinity", spec_of(rendered({"affinity": {}})))
        own = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}
        self.assertEqual(spec_of(rendered({"affinity": own}))["affinity"], own)


class Login(unittest.TestCase):
    def test_the_readme_s_values_log_in_as_the_operator_s_user(self):
        readme = (chart.CHART / "README.md").read_text()
        (block,) = [text for text in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "create: true" in text]
        values = {"database": chart.SECRETS["database"]} | chart.load(block)
        found = chart.objects(values)
        (cluster,) = chart.of_kind(found, "RabbitmqCluster")
        uri = f"amqp://user:password@{cluster['metadata']['name']}.{chart.NAMESPACE}.svc:5672/"
        secrets = {f"{cluster['metadata']['name']}-default-user": {"connection_string": uri}, "postgresql": {"uri": "postgres://db"}}
        made = kubelet.Cluster("", found, secrets)
        for document in chart.of_kind(found, "Deployment", "Pod"):
            self.assertEqual(made.environment(document)["OFFPEAK__AMQP__URL"], uri)


if __name__ == "__main__":
    unittest.main()
