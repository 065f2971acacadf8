"""What the chart renders, run: a grid from the default values and two secrets, and one with least rights at the broker."""

import contextlib
import json
import os
import re
import tempfile
import unittest
import urllib.parse
import urllib.request

import chart
import kubelet
import scrape

# One item of some seconds: a unit that is still computed when its worker is told to end.
LONG_PATHS = 3_000_000
NUMBERS = chart.ROOT / "examples" / "c-sum" / "numbers.txt"


def missing():
    """What is not there that these tests need."""
    if not kubelet.binary().exists():
        return f"{kubelet.binary()} is not there: build the workspace, or name it in OFFPEAK_TEST_BINARY"
    for name in ("OFFPEAK_TEST_AMQP_URL", "OFFPEAK_TEST_DATABASE_URL"):
        if not os.environ.get(name):
            return f"{name} is not set: run this under target/debug/examples/with-servers"
    return None


def of(found, component):
    """The one object with a container of that component."""
    (only,) = [document for document, _, _ in chart.pods(found) if chart.component(document) == component]
    return only


def ask(path):
    """A list or object of RabbitMQ's management side."""
    return json.loads(scrape.management("GET", path))


@unittest.skipIf(missing(), missing())
class Run(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="offpeak-chart-"))
        self.amqp = scrape.fresh_vhost()
        self.database = scrape.fresh_database()
        self.vhost = urllib.parse.urlsplit(self.amqp).path.removeprefix("/")

    def start(self, cluster, component, number=0):
        container = cluster.start(of(cluster.found, component), number)
        self.stack.callback(container.stop)
        return container

    def started(self, cluster):
        """Every Deployment's containers, as many as it wants."""
        return [
            self.start(cluster, chart.component(document), number)
            for document in chart.of_kind(cluster.found, "Deployment")
            for number in range(document["spec"]["replicas"])
        ]

    def migrate(self, cluster):
        done = cluster.run(of(cluster.found, "migrate"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def submit(self, cluster):
        """Runs the pod of `helm test`, and checks what came out."""
        done = cluster.run(of(cluster.found, "test"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        (result,) = cluster.folder.glob("*-test-tmp/outputs/result.*")
        wanted = sum(int(number) for number in NUMBERS.read_text().split())
        self.assertEqual(int(result.read_text()), wanted)

    def end(self, containers):
        for container in containers:
            self.assertEqual(container.terminate(), 0, container.output())

    def test_default_values_and_two_secrets_give_a_working_grid(self):
        secrets = {"rabbitmq": {"uri": self.amqp}, "postgresql": {"uri": self.database}}
        cluster = kubelet.Cluster(self.folder, chart.objects(chart.SECRETS), secrets)
        containers = self.started(cluster)
        self.assertEqual(len(containers), 4)
        # Without tables: alive, but neither started, since there is something to be done, nor ready.
        first = containers[0]
        scrape.wait_for("the missing tables to be told", lambda: "offpeak migrate" in first.output())
        self.assertEqual([first.probe(name) for name in ("startup", "liveness", "readiness")], [503, 200, 503])
        self.migrate(cluster)
        for container in containers:
            container.ready()
            self.assertEqual([container.probe(name) for name in ("startup", "liveness", "readiness")], [200, 200, 200])
        self.submit(cluster)
        # As the notes say.
        notes = chart.files(chart.SECRETS)["templates/NOTES.txt"].replace("\\\n", " ")
        commands = re.findall(r"exec deployment/demo-offpeak-producer -- (.*)", notes)
        self.assertEqual(len(commands), 3)
        # The last needs an administrator of the broker and a name: test_customer.py tries it.
        self.assertIn("offpeak customer add NAME", commands[2])
        for line in commands[:2]:
            line = line.replace("/tmp", self.folder).replace(kubelet.EXAMPLES, str(chart.ROOT / "examples"))
            words = line.replace("/usr/local/bin", str(kubelet.binary().parent)).split()
            done = cluster.run(of(cluster.found, "producer"), words)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.drain_in_the_middle_of_a_unit(cluster, containers)
        self.end([container for container in containers if container.child.poll() is None])
        self.assert_topology_is_that_of_the_operator()

    def drain_in_the_middle_of_a_unit(self, cluster, containers):
        """Tells a worker to end while it computes: not ready, but alive, and 0 within the pod's grace period."""
        job = cluster.folder / "long.toml"
        app = chart.ROOT / "examples" / "monte-carlo" / "app.wasm"
        job.write_text(scrape.JOB.format(app=app, items=1, paths=LONG_PATHS, keys="", tables=""))
        done = cluster.run(of(cluster.found, "producer"), [str(kubelet.binary()), "submit", str(job)])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        workers = [container for container in containers if "-worker-" in container.name]

        def computing():
            busy = [each for each in workers if "\noffpeak_worker_busy_slots 1" in (scrape.get(f"http://{each.address}/metrics") or "")]
            return busy and busy[0]
        worker = scrape.wait_for("a worker that computes", computing)
        worker.child.terminate()
        seen = set()
        while worker.child.poll() is None:
            seen.add((worker.probe("readiness"), worker.probe("liveness")))
        self.assertEqual(worker.child.returncode, 0, worker.output())
        # Once more it may still be ready, and in its last moment nobody answers.
        self.assertIn((503, 200), seen)

    def assert_topology_is_that_of_the_operator(self):
        """What a producer declared is what the chart would have the topology operator make."""
        values = chart.scenarios()["operators"] | {"pools": {"open": {}}, "settings": {}}
        specs = {kind: [each["spec"] for each in chart.of_kind(chart.objects(values), kind)]
                 for kind in ("Exchange", "Queue", "Binding")}
        exchanges = [each for each in ask(f"/api/exchanges/{self.vhost}") if each["name"].startswith("offpeak.")]
        self.assertEqual({(each["name"], each["type"], each["durable"]) for each in exchanges},
                         {(each["name"], each["type"], each["durable"]) for each in specs["Exchange"]})

        def own(name):
            return not name.startswith(("offpeak.customer.", "offpeak.worker."))
        queues = {each["name"]: each for each in ask(f"/api/queues/{self.vhost}") if own(each["name"])}
        wanted = {each["name"]: each for each in specs["Queue"]}
        self.assertEqual(queues.keys(), wanted.keys())
        for name, spec in wanted.items():
            arguments = {"x-queue-type": spec["type"]} | spec.get("arguments", {})
            self.assertEqual(queues[name]["arguments"], arguments, name)
        bindings = [each for each in ask(f"/api/bindings/{self.vhost}") if each["source"] and own(each["destination"])]
        self.assertEqual({(each["source"], each["destination"], each["routing_key"]) for each in bindings},
                         {(each["source"], each["destination"], each["routingKey"]) for each in specs["Binding"]})

    def test_users_with_least_rights_run_a_grid(self):
        amqp, database = urllib.parse.urlsplit(self.amqp), urllib.parse.urlsplit(self.database)
        management = urllib.parse.urlsplit(os.environ.get("OFFPEAK_TEST_MANAGEMENT_URL") or f"http://{amqp.hostname}:15672")
        values = chart.scenarios()["operators"]
        values["broker"] = {"host": amqp.hostname, "port": amqp.port or 5672, "vhost": self.vhost,
                            "management": {"port": management.port}}
        values["database"] = {"existingSecret": "postgresql", "host": database.hostname, "port": database.port or 5432,
                              "name": database.path.removeprefix("/"), "parameters": database.query}
        values["caBundle"] = {}
        values["worker"] = {"replicas": 1}
        values["rabbitmqOperator"]["generation"] = "3.10" if self.version() < (3, 12) else "3.12"
        found = chart.objects(values)
        secrets = {"postgresql": {"username": urllib.parse.unquote(database.username or ""), "password": database.password or ""}}
        cluster = kubelet.Cluster(self.folder, found, secrets | self.operate(found))
        self.migrate(cluster)
        containers = self.started(cluster)
        for container in containers:
            container.ready()
        self.submit(cluster)
        login = cluster.secrets["demo-offpeak-operator-user-credentials"]
        url = f"amqp://{login['username']}:{login['password']}@{amqp.hostname}:{amqp.port or 5672}/{self.vhost}"
        done = cluster.run(of(found, "producer"), [str(kubelet.binary()), "dead", "list", "--amqp", url])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for container in containers:
            self.assertNotIn("ACCESS_REFUSED", container.output())
        self.assertNotIn("not checked", containers[0].output() + containers[1].output(), "the policies are checked")
        self.end(containers)

    def version(self):
        return tuple(int(part) for part in ask("/api/overview")["rabbitmq_version"].split(".")[:2])

    def operate(self, found):
        """Makes what the custom resources say, as RabbitMQ's topology operator would; its Secrets with logins."""
        def specs(kind):
            return [(each["metadata"]["name"], each["spec"]) for each in chart.of_kind(found, kind)]
        base = {"durable": True, "auto_delete": False}
        for _, spec in specs("Policy"):
            policy = {"pattern": spec["pattern"], "apply-to": spec["applyTo"], "definition": spec["definition"]}
            scrape.management("PUT", f"/api/policies/{self.vhost}/{spec['name']}", policy)
        for _, spec in specs("Exchange"):
            scrape.management("PUT", f"/api/exchanges/{self.vhost}/{spec['name']}", base | {"type": spec["type"]})
        for _, spec in specs("Queue"):
            arguments = {"x-queue-type": spec["type"]} | spec.get("arguments", {})
            scrape.management("PUT", f"/api/queues/{self.vhost}/{spec['name']}", base | {"arguments": arguments})
        for _, spec in specs("Binding"):
            path = f"/api/bindings/{self.vhost}/e/{spec['source']}/q/{spec['destination']}"
            scrape.management("POST", path, {"routing_key": spec["routingKey"]})
        # Users are the broker's, not the vhost's: they carry its name here, and are removed at the end.
        logins = {}
        for name, spec in specs("User"):
            login = {"username": f"{self.vhost}-{name}", "password": "secret-of-a-test"}
            user = {"password": login["password"], "tags": ",".join(spec.get("tags", ()))}
            scrape.management("PUT", f"/api/users/{login['username']}", user)
            self.stack.callback(scrape.management, "DELETE", f"/api/users/{login['username']}")
            logins[name] = login
        for _, spec in specs("Permission"):
            user = logins[spec["userReference"]["name"]]["username"]
            scrape.management("PUT", f"/api/permissions/{self.vhost}/{user}", spec["permissions"])
        for _, spec in specs("TopicPermission"):
            user = logins[spec["userReference"]["name"]]["username"]
            scrape.management("PUT", f"/api/topic-permissions/{self.vhost}/{user}", spec["permissions"])
        return {f"{name}-user-credentials": login for name, login in logins.items()}


@unittest.skipIf(not kubelet.binary().exists(), f"{kubelet.binary()} is not there: build the workspace")
class Settings(unittest.TestCase):
    def test_the_services_take_the_settings_of_every_scenario(self):
        seen = set()
        for name, values in chart.scenarios().items():
            found = chart.objects(values)
            login = {"uri": "amqp://a:b@127.0.0.1:1", "username": "a", "password": "b", "connection_string": "amqp://a:b@127.0.0.1:1/"}
            secrets = {secret: login for secret in re.findall(r'"secretKeyRef": {"name": "([^"]+)"', json.dumps(found))}
            secrets["postgresql"] = login | {"uri": "postgres://a:b@127.0.0.1:1/a"}
            secrets["rabbitmq"] = login | {"management": "http://127.0.0.1:1"}
            with tempfile.TemporaryDirectory(prefix="offpeak-chart-") as folder:
                cluster = kubelet.Cluster(folder, found, secrets)
                for document in chart.of_kind(found, "Deployment"):
                    # Once for each set of values: most scenarios share theirs.
                    env = cluster.environment(document)
                    known = json.dumps([chart.container(document)["command"], env], sort_keys=True)
                    if known in seen:
                        continue
                    seen.add(known)
                    with self.subTest(name, deployment=document["metadata"]["name"]):
                        container = cluster.start(document)
                        try:
                            # With a broker and a database that are away: started and alive, so that nothing is restarted, but not ready.
                            scrape.wait_for("it to start", lambda: container.probe("startup") == 200)
                            self.assertEqual(container.probe("liveness"), 200)
                            self.assertEqual(container.probe("readiness"), 503)
                        finally:
                            container.stop()


if __name__ == "__main__":
    unittest.main()
