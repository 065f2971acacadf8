"""docker-compose.yml: its form, what its services may do, and that the processes it describes make a grid that computes.

No container is started, since continuous integration has no Docker engine: RabbitMQ, PostgreSQL and Offpeak's services run as
processes with the commands, environments, files and health checks of the file; only addresses are put in.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import pika

import compose
import rabbitmq
from rabbitmq import ROOT

DEFAULTS = tomllib.loads((ROOT / "services/offpeak/src/grid/default.toml").read_text())
NODE_TOOLS = ROOT / "tests/node"
OURS = ("migrate", "producer", "aggregator", "worker")

# A health check that fails is asked again; on a crowded machine everything takes its time.
PATIENCE_S = 180


def binary():
    """The program under test."""
    if given := os.environ.get("OFFPEAK_TEST_BINARY"):
        return pathlib.Path(given)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/offpeak"


def tool(name):
    """A program of the virtual environment that runs the tests."""
    return str(pathlib.Path(sys.prefix, "bin", name))


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, **options)
    return done.returncode, done.stdout + done.stderr


class Form(unittest.TestCase):
    def dclint(self, file):
        program = NODE_TOOLS / "node_modules/dclint/bin/dclint.cjs"
        self.assertTrue(program.exists(), "run `npm ci` in tests/node, as scripts/test-with-servers.sh does")
        return run([tool("node"), program, "--config", NODE_TOOLS / "dclint.json", "--max-warnings", "0", file])

    def test_schema_and_style(self):
        code, printed = self.dclint(ROOT / "docker-compose.yml")
        self.assertEqual(code, 0, printed)

    def test_the_check_of_schema_and_style_can_fail(self):
        text = (ROOT / "docker-compose.yml").read_text()
        for good, bad in [("service_healthy", "service_well"), ("read_only: true", "readonly: true"), ('"127.0.0.1:', '"')]:
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder, "docker-compose.yml")
                file.write_text(text.replace(good, bad))
                self.assertNotEqual(self.dclint(file)[0], 0, bad)

    def test_yaml(self):
        rules = "{extends: default, rules: {line-length: {max: 125}, document-start: disable}}"
        files = ["docker-compose.yml", "deploy/compose"]
        code, printed = run([tool("yamllint"), "--strict", "-d", rules, *files], cwd=ROOT)
        self.assertEqual(code, 0, printed)

    def test_prometheus_takes_its_file(self):
        text = (ROOT / "deploy/compose/prometheus.yml").read_text()
        rules = "/etc/prometheus/rules"
        self.assertIn(rules, text)
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "prometheus.yml")
            file.write_text(text.replace(rules, str(ROOT / "deploy/prometheus")))
            code, printed = run(["promtool", "check", "config", file])
        self.assertEqual(code, 0, printed)


class Services(unittest.TestCase):
    def setUp(self):
        self.file = compose.read({})
        self.services = self.file["services"]

    def test_all_are_there(self):
        expected = {*OURS, "postgres", "rabbitmq", "prometheus", "grafana"}
        self.assertEqual(set(self.services), expected)
        self.assertEqual(self.file["name"], "offpeak")
        self.assertEqual(self.services["worker"]["deploy"]["replicas"], 2)
        monitoring = {name for name, service in self.services.items() if service.get("profiles") == ["monitoring"]}
        self.assertEqual(monitoring, {"prometheus", "grafana"})

    def test_none_has_more_rights_than_it_needs(self):
        for name, service in self.services.items():
            self.assertTrue(service["read_only"], name)
            self.assertEqual(service["cap_drop"], ["ALL"], name)
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            self.assertNotIn("privileged", service, name)
            self.assertNotIn("cap_add", service, name)
            user, _group = service["user"].split(":")
            self.assertGreater(int(user), 0, f"{name}: a number other than root's")
            for port in service.get("ports", []):
                self.assertRegex(port, r"^127\.0\.0\.1:\d+:\d+$")
            for _source, _target, *mode in (volume.split(":") for volume in service.get("volumes", []) if "./" in volume):
                self.assertEqual(mode, ["ro"])

    def test_workers_have_no_way_to_the_database(self):
        self.assertEqual(self.services["worker"]["networks"], ["broker"])
        self.assertEqual(self.services["postgres"]["networks"], ["database"])
        self.assertNotIn("DATABASE", json.dumps(self.services["worker"]["environment"]))

    def test_each_waits_for_what_it_needs_and_says_how_it_is(self):
        for name, service in self.services.items():
            self.assertEqual("disable" in service["healthcheck"], name == "migrate")
            for before, how in service.get("depends_on", {}).items():
                ends = before == "migrate"
                condition = "service_completed_successfully" if ends else "service_healthy"
                self.assertEqual(how["condition"], condition, before)
        order = compose.in_order(self.services)
        self.assertLess(order.index("migrate"), order.index("producer"))
        self.assertLess(order.index("producer"), order.index("worker"))

    def test_time_to_stop_is_longer_than_the_drain(self):
        grace, drain = DEFAULTS["grid"]["shutdown_grace_ms"], DEFAULTS["worker"]["drain_timeout_ms"]
        for name in OURS:
            service = self.services[name]
            self.assertGreater(compose.seconds(service["stop_grace_period"]) * 1000, grace)
            self.assertNotIn("OFFPEAK__GRID__SHUTDOWN_GRACE_MS", service["environment"])
        self.assertGreater(grace, drain)

    def test_every_setting_exists(self):
        for name in OURS:
            for variable in self.services[name]["environment"]:
                _offpeak, section, key = variable.lower().split("__")
                self.assertIn(key, DEFAULTS[section], variable)

    def test_a_worker_s_cache_fits_its_memory(self):
        worker = self.services["worker"]
        size = int(re.search(r"^/tmp:size=(\d+)m", worker["tmpfs"][0])[1])
        cache = int(worker["environment"]["OFFPEAK__WORKER__CACHE_BYTES"])
        self.assertLess(cache, size << 20)

    def test_what_is_mounted_is_there(self):
        sources = [source for service in self.services.values() for source, _target in compose.binds(service)]
        self.assertEqual([str(source) for source in sources if not (ROOT / source).exists()], [])

    def test_the_image_is_the_one_of_the_dockerfile(self):
        dockerfile = (ROOT / "deploy/Dockerfile").read_text()
        self.assertIn('ENTRYPOINT ["/usr/local/bin/offpeak"]', dockerfile)
        # One builds it, since two that build the same tag at once are refused; the others never look for it elsewhere.
        self.assertEqual([name for name in self.services if "build" in self.services[name]], ["migrate"])
        self.assertEqual(self.services["migrate"]["build"], {"context": ".", "dockerfile": "deploy/Dockerfile"})
        for name in OURS:
            service = self.services[name]
            self.assertEqual(service["image"], "offpeak:trial")
            self.assertEqual(service["pull_policy"], "build" if name == "migrate" else "never")
            self.assertIn(f"USER {service['user']}\n", dockerfile)
            self.assertEqual(service["command"], [name])

    def test_it_starts_without_an_env_file_and_as_the_example_says(self):
        without = {name: default for name, default in compose.variables().items() if default is None}
        self.assertEqual(without, {}, "variables without a default")
        example = compose.of_host()
        for name, default in compose.variables().items():
            if name.endswith("PASSWORD") or name in example:
                self.assertEqual(example[name], default, name)


def definitions(service):
    """Writes them as the container of RabbitMQ does, but for the generation of the policies."""

    def write(folder):
        given = folder.parent / "given"
        given.mkdir()
        for source, target in compose.binds(service):
            if target.startswith("/etc/offpeak/") and target.endswith(".json"):
                # The server that Debian has is of the older generation.
                source = str(source).replace("definitions-3.12", "definitions-3.10")
                here = given / pathlib.PurePosixPath(target).relative_to("/etc/offpeak")
                here.parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, here)
        env = {**os.environ, **service["environment"], "DEFINITIONS_FROM": str(given), "DEFINITIONS_TO": str(folder)}
        shell, script, *server = service["command"]
        assert (shell, script, server) == ("sh", "/etc/offpeak/rabbitmq.sh", ["docker-entrypoint.sh", "rabbitmq-server"])
        subprocess.run([shell, ROOT / "deploy/compose/rabbitmq.sh", "true"], env=env, check=True)

    return write


class Grid:
    """The services of the file as processes."""

    def __init__(self, folder, database):
        self.file = compose.read(compose.of_host())
        self.services, self.folder, self.database = self.file["services"], folder, database
        self.node = rabbitmq.Node(definitions(self.services["rabbitmq"]))
        self.processes = []

    def __enter__(self):
        self.node.__enter__()
        return self

    def __exit__(self, *_error):
        for _name, process, _env in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.node.close()

    def here(self, value):
        """A value of the environment with the addresses that things have here."""
        if value.startswith("postgres://"):
            return self.database
        value = value.replace("0.0.0.0:9460", f"127.0.0.1:{rabbitmq.free_ports(1)[0]}")
        for name, port in [("5672", self.node.amqp), ("15672", self.node.management)]:
            value = re.sub(rf"@(rabbitmq|127\.0\.0\.1):{name}\b", f"@127.0.0.1:{port}", value)
        return value

    def env(self, given):
        # No variable of the machine but the path: a container has none either.
        return {"PATH": os.environ["PATH"], "TMPDIR": str(self.folder)} | {
            key: self.here(value) for key, value in given.items()
        }

    def start(self, name):
        """Starts as many of a service as the file says, and waits for what others wait for."""
        service = self.services[name]
        if name == "migrate":
            code, printed = run([binary(), *service["command"]], env=self.env(service["environment"]), cwd=self.folder)
            assert code == 0, printed
            return
        for number in range(service.get("deploy", {}).get("replicas", 1)):
            env = self.env(service["environment"])
            with open(self.folder / f"{name}-{number}.log", "wb") as log:
                command = ["setpriv", "--pdeathsig", "KILL", "--", binary(), *service["command"]]
                process = subprocess.Popen(command, env=env, cwd=self.folder, stdout=log, stderr=log)
            self.processes.append((name, process, env))
            rabbitmq.wait_for(f"{name}: its health check", lambda: self.is_healthy(service, process, env), PATIENCE_S)

    def is_healthy(self, service, process, env):
        assert process.poll() is None, self.logs()
        kind, program, *arguments = service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "/usr/local/bin/offpeak")
        return run([binary(), *arguments], env=env)[0] == 0

    def logs(self):
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log"))


@unittest.skipUnless("OFFPEAK_TEST_DATABASE_URL" in os.environ, "no PostgreSQL: run it under examples/with-servers")
class Processes(unittest.TestCase):
    def setUp(self):
        self.assertTrue(binary().exists(), f"{binary()} is not there: build the workspace first")
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="offpeak-compose-")))
        server, name = os.environ["OFFPEAK_TEST_DATABASE_URL"], f"offpeak-compose-{os.getpid()}"
        made, printed = run(["psql", "-d", server, "-c", f'create database "{name}"'])
        self.assertEqual(made, 0, printed)
        self.addCleanup(run, ["psql", "-d", server, "-c", f'drop database "{name}" with (force)'])
        address, _question, options = server.partition("?")
        self.database = address.rsplit("/", 1)[0] + f"/{name}" + (f"?{options}" if options else "")

    def test_a_grid_from_the_file_computes_a_job_and_ends_well(self):
        with Grid(self.folder, self.database) as grid:
            check = grid.services["rabbitmq"]["healthcheck"]["test"]
            self.assertEqual(check[0], "CMD-SHELL")
            env = {**grid.node.env, "PATH": f"{grid.node.scripts}:{os.environ['PATH']}"}
            code, printed = run(["sh", "-c", check[1]], env=env)
            self.assertEqual(code, 0, printed)
            for name in compose.in_order(grid.services):
                if name in OURS:
                    grid.start(name)

            job, out = ROOT / "examples/c-sum/job.toml", self.folder / "out"
            command = [binary(), "submit", job, "--wait", "--json", "--out", out]
            code, printed = run(command, env=grid.env(compose.of_host()), cwd=self.folder)
            self.assertEqual(code, 0, printed + grid.logs())
            self.assertEqual(json.loads(printed)["items_failed"], 0)
            numbers = (ROOT / "examples/c-sum/numbers.txt").read_text().split()
            result = "".join(file.read_text() for file in out.iterdir() if file.name.startswith("result"))
            self.assertIn(str(sum(map(int, numbers))), result)

            self.messages_must_name_their_user(grid)
            self.more_customers_can_be_made(grid)

            # Ends as `docker compose down` does: those first on whom nobody waits.
            for name, process, _env in reversed(grid.processes):
                self.assertEqual(rabbitmq.stop(process), 0, f"{name}\n{grid.logs()}")

    def offpeak(self, grid, *arguments, **env):
        """The command line on the host, as JSON lines."""
        env = grid.env(compose.of_host() | env)
        code, printed = run([binary(), *arguments, "--json"], env=env, cwd=self.folder)
        self.assertEqual(code, 0, printed + grid.logs())
        return [json.loads(line) for line in printed.splitlines()]

    def messages_must_name_their_user(self, grid):
        """One without user_id is refused; one that was parked is sent again by the operator, and is the customer's still."""
        host = compose.of_host()
        name, password = host["OFFPEAK_CUSTOMER"], host["CUSTOMER_PASSWORD"]
        parameters = pika.URLParameters(grid.node.url(name, password))
        parameters.heartbeat = 0  # the connection rests meanwhile
        channel = pika.BlockingConnection(parameters).channel()
        channel.confirm_delivery()
        kind = {"type": "offpeak.job.submit.v1", "content_type": "application/json"}

        def answer(correlation):
            while (reply := channel.basic_get(f"offpeak.customer.{name}.results", auto_ack=True))[0]:
                if reply[1].correlation_id == correlation:
                    return json.loads(reply[2])
            return None

        def submit(number, **more):
            properties = pika.BasicProperties(message_id=number, correlation_id=number, **kind, **more)
            channel.basic_publish("offpeak.submit", name, b"{}", properties, mandatory=True)
            return rabbitmq.wait_for("a problem", lambda: answer(number))

        problem = submit("unnamed")
        self.assertEqual((problem["status"], problem["code"]), (403, "user-id-required"))
        self.assertIn(f"set it to {name}", problem["detail"])

        problem = submit("unreadable", user_id=name)
        self.assertEqual(problem["code"], "undecodable")
        amqp = f"amqp://offpeak-operator:{host['OPERATOR_PASSWORD']}@127.0.0.1:5672/%2f"

        def parked(attempts):
            letters = self.offpeak(grid, "dead", "list", OFFPEAK__AMQP__URL=amqp)
            return next((one for one in letters if one["id"] == "unreadable" and one["attempts"] == attempts), None)

        letter = rabbitmq.wait_for("the dead letter", lambda: parked(1))
        self.offpeak(grid, "dead", "replay", "unreadable", OFFPEAK__AMQP__URL=amqp)
        again = rabbitmq.wait_for("its second death", lambda: parked(2))
        self.assertEqual((again["user"], again["cause"]), (name, letter["cause"]))
        channel.connection.close()

    def more_customers_can_be_made(self, grid):
        (before,) = self.offpeak(grid, "customer", "list")
        self.assertEqual([(one["customer"], one["differences"]) for one in before], [(compose.of_host()["OFFPEAK_CUSTOMER"], [])])
        (added,) = self.offpeak(grid, "customer", "add", "acme", "--weight", "3")
        self.assertEqual((added["created"], added["differences"], added["weight"]), (True, [], 3))


if __name__ == "__main__":
    unittest.main()
