"""A real grid and a real Prometheus that scrapes it, for tests of metrics, rules and dashboards.

    with scrape.Grid() as grid:
        grid.compute()                        # jobs of every kind, to their ends
        text = grid.text("producer")          # one service's /metrics
        prometheus = grid.prometheus()        # a real server that scrapes all services every two seconds
        prometheus.wait_for("offpeak_jobs_admitted_total > 0")
        prometheus.names()                    # every series name it has

Everything runs on free loopback ports, in a vhost and a database of its own, and is stopped by its process id. It
needs `offpeak` built (target/debug, or CARGO_TARGET_DIR) and servers in OFFPEAK_TEST_AMQP_URL and
OFFPEAK_TEST_DATABASE_URL; `target/debug/examples/with-servers COMMAND` gives both.

As a program it prints the text of a complete scrape: with-servers python3 tests/python/scrape.py
"""

import contextlib
import http.client
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A service or job that takes longer than this hangs; a crowded machine is many times as slow as an idle one.
PATIENCE_S = 600
STOP_S = 20

# What starts; two workers on lanes of their own, so that a quorum of two can be met.
SERVICES = {
    "producer": {},
    "aggregator": {},
    "worker": {"OFFPEAK__WORKER__LANE": "0"},
    "worker-2": {"OFFPEAK__WORKER__LANE": "1"},
}

# A job file: monte-carlo with so many items and what makes it special.
JOB = """
app = "{app}"
{keys}
[input]
range = [0, {items}]
[params]
seed = 7
paths_per_item = {paths}
[params.market]
spot = 100.0
strike = 100.0
rate = 0.05
volatility = 0.2
maturity_years = 1.0
steps = 52
[params.beam]
span_m = 4.0
section_modulus_m3 = 2.52e-4
load_mean_n = 40_000.0
load_variation = 0.2
strength_mean_pa = 280.0e6
strength_variation = 0.07
[unit]
max_items = 4
{tables}
"""


def program():
    """The path of the command `offpeak`."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    path = target / "debug" / "offpeak"
    if not path.exists():
        raise RuntimeError(f"{path} is not there: build the workspace first (make test does)")
    return str(path)


def wait_for(what, look, patience_s=PATIENCE_S, every_s=0.05):
    """Looks until there is something true, and returns it; `what` names it if there never is."""
    end = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience_s} s")
        time.sleep(every_s)


def get(url, patience_s=60):
    """What an HTTP address answers, as text; None if it does not, or not well."""
    try:
        with urllib.request.urlopen(url, timeout=patience_s) as answer:
            return answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None


class Process:
    """A started process: its output in a file, stopped by its id."""

    def __init__(self, name, command, folder, env=None):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        # It ends with this process, even if that is killed.
        guarded = ["setpriv", "--pdeathsig=KILL", "--", *command]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                guarded, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self):
        return self.child.pid

    def output(self):
        return self.log.read_text(errors="replace")

    def check(self):
        """Raises with its output if it has ended."""
        if self.child.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.child.returncode}:\n{self.output()}")

    def stop(self):
        """SIGTERM, and SIGKILL if that does not do."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Service(Process):
    """One of the grid's services."""

    def __init__(self, name, folder, env):
        super().__init__(name, [program(), name.split("-")[0]], folder, env)
        self.kind = name.split("-")[0]
        self.address = wait_for(f"the admin side of {name}", self._address)

    def _address(self):
        self.check()
        _, found, rest = self.output().partition("admin http listens on ")
        # In a log of JSON the text ends with its quotation mark.
        words = rest.replace('"', " ").split()
        return words[0] if found and words and "\n" in rest else None

    def get(self, path):
        self.check()
        return get(f"http://{self.address}{path}")

    def ready(self):
        wait_for(f"{self.name} to be ready\n{self.output()}", lambda: self.get("/readyz"))


class Grid:
    """The services over servers that are there, and jobs for them."""

    def __init__(self, services=None, settings=None):
        """`services` maps names (kind, or kind-number) to settings; `settings` are variables for all of them."""
        self.services = {}
        self._wanted = SERVICES if services is None else services
        self._settings = settings or {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="offpeak-scrape-")))
            self.env = {
                **os.environ,
                **self._settings,
                "OFFPEAK__AMQP__URL": fresh_vhost(),
                "OFFPEAK__DATABASE__URL": fresh_database(),
                "OFFPEAK__ADMIN__ADDRESS": "127.0.0.1:0",
                "OFFPEAK__WORKER__CACHE_DIR": str(self.folder / "cache"),
                "OFFPEAK__WORKER__SLOTS": "1",
                # The mirror of the ledger is looked at by tests that do not want to wait for it.
                "OFFPEAK__AGGREGATOR__MIRROR_MS": "500",
            }
            # Queues cost the broker something as long as they are there.
            vhost = urllib.parse.urlsplit(self.env["OFFPEAK__AMQP__URL"]).path
            stack.callback(management, "DELETE", f"/api/vhosts{vhost}")
            self.command("migrate")
            for name, settings in self._wanted.items():
                service = Service(name, self.folder, {**self.env, **settings})
                self.services[name] = service
                stack.callback(service.stop)
            for service in self.services.values():
                service.ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def command(self, *words, codes=(0,), customer="acme"):
        """Runs `offpeak` with these words and returns what it prints; an exit code that is none of `codes` raises."""
        env = {**self.env, "OFFPEAK_CUSTOMER": customer}
        done = subprocess.run(
            [program(), *words], cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PATIENCE_S,
        )
        if done.returncode not in codes:
            raise RuntimeError(f"offpeak {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def submit(self, items=16, paths=512, keys="", tables="", customer="acme", codes=(0,)):
        """Submits a job of monte-carlo with these lines in its file; its id, or None if it was refused."""
        file = self.folder / f"{uuid.uuid4()}.toml"
        app = ROOT / "examples" / "monte-carlo" / "app.wasm"
        file.write_text(JOB.format(app=app, items=items, paths=paths, keys=keys, tables=tables))
        printed = self.command("submit", str(file), "--json", customer=customer, codes=codes)
        return json.loads(printed).get("job") if printed.strip() else None

    def job(self, job):
        """How a job stands, as `offpeak status --json` tells."""
        return json.loads(self.command("status", job, "--json", codes=(0, 1)))

    def ended(self, job, patience_s=PATIENCE_S):
        """Waits for a job's end; how it stands then."""
        # Each look is a process, which takes computing from the job.
        wait_for(f"the end of job {job}", lambda: self.job(job)["state"] != "running", patience_s, every_s=0.3)
        return self.job(job)

    def compute(self):
        """One job of every kind, each to its end, by the name of the kind; leaves a long one running as `running`."""
        jobs = {
            "plain": self.submit(),
            "in time": self.submit(keys='deadline = "1h"'),
            "two agree": self.submit(keys="quorum = 2", customer="globex"),
            "failing": self.submit(items=8, tables="[limits]\nfuel_per_item = 1000\n"),
            # Units long enough that some compute when their job ends.
            "late": self.submit(items=100_000, paths=65_536, keys="deadline = 1"),
            "cancelled": self.submit(items=100_000, paths=65_536),
        }
        # The command reads a bounded part of a customer's unread replies, so the refused one is of a customer with none.
        self.submit(keys='pool = "nowhere"', customer="initech", codes=(2,))
        wait_for("units of what is cancelled", lambda: self.job(jobs["cancelled"])["items_succeeded"] > 0, every_s=0.3)
        # The command waits for a minute, and then says that the job has not ended yet.
        self.command("cancel", jobs["cancelled"], codes=(0, 3))
        for job in jobs.values():
            self.ended(job)
        jobs["running"] = self.submit(items=100_000, paths=4096, keys="quorum = 2")
        wait_for("the running job's first units", lambda: self.job(jobs["running"])["items_succeeded"] > 0, every_s=0.3)
        return jobs

    def text(self, name):
        """What a service's /metrics says now."""
        text = self.services[name].get("/metrics")
        if text is None:
            raise RuntimeError(f"{name} gives no metrics:\n{self.services[name].output()}")
        return text

    def scrape(self):
        """What /metrics of each service says now, by name."""
        return {name: self.text(name) for name in self.services}

    def targets(self):
        """Prometheus scrape jobs: `offpeak-<kind>` with its addresses."""
        targets = {}
        for service in self.services.values():
            targets.setdefault(f"offpeak-{service.kind}", []).append(service.address)
        return targets

    def prometheus(self, rules=(), extra=()):
        """Starts a Prometheus that scrapes this grid (once per grid) and stops with it; see `Prometheus`."""
        server = Prometheus(self.folder, self.targets(), rules, extra)
        self._stack.callback(server.stop)
        server.ready()
        return server


class Prometheus(Process):
    """A real Prometheus that scrapes every two seconds; each target has the label `namespace="offpeak"`."""

    def __init__(self, folder, targets, rules=(), extra=()):
        """`targets` maps job names to addresses, `rules` are rule files, `extra` further entries of `scrape_configs`."""
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": [str(pathlib.Path(file).resolve()) for file in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": found, "labels": {"namespace": "offpeak"}}]}
                for job, found in targets.items()
            ] + list(extra),
        }
        # JSON is YAML.
        file = pathlib.Path(folder) / "prometheus.yml"
        file.write_text(json.dumps(config, indent=1))
        self.jobs = len(config["scrape_configs"])
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            shutil.which("prometheus") or "prometheus", f"--config.file={file}",
            f"--storage.tsdb.path={pathlib.Path(folder) / 'tsdb'}", f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        super().__init__("prometheus", command, folder)

    def ready(self):
        """Waits until it answers and has scraped every target, well."""
        def look():
            self.check()
            return get(f"{self.url}/-/ready") and self._all_up()
        wait_for("Prometheus to have scraped every target", look)

    def _all_up(self):
        active = self.api("targets", state="active")["activeTargets"]
        seen = {target["scrapePool"] for target in active}
        return len(seen) == self.jobs and all(target["health"] == "up" for target in active)

    def api(self, path, **parameters):
        """Asks its HTTP API; the `data` of the answer."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=PATIENCE_S) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path} {parameters}: {error.read().decode()}") from None

    def query(self, expression):
        """The result of an instant query."""
        return self.api("query", query=expression)["result"]

    def value(self, expression):
        """The one number that an expression gives; None if it gives nothing."""
        result = self.query(expression)
        if len(result) > 1:
            raise ValueError(f"{expression} gives {len(result)} series, not one: {result}")
        return float(result[0]["value"][1]) if result else None

    def wait_for(self, expression, patience_s=PATIENCE_S):
        """Waits until an expression gives something, and returns it."""
        return wait_for(f"{expression} in Prometheus", lambda: self.query(expression), patience_s)

    def names(self):
        """The names of all series it has."""
        return set(self.api("label/__name__/values"))


def free_port():
    """A port that nobody listens on, below those that connections take for themselves."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.randrange(20_000, 32_000)
            probe.bind(("127.0.0.1", port))
            return port


def variable(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"{name} is not set: run this under target/debug/examples/with-servers")
    return value


def fresh_database():
    """Makes a database; its URL."""
    base = urllib.parse.urlsplit(variable("OFFPEAK_TEST_DATABASE_URL"))
    name = f"offpeak-scrape-{uuid.uuid4()}"
    statement = f'create database "{name}"'
    subprocess.run(
        ["psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-d", base.geturl(), "-c", statement], check=True
    )
    return base._replace(path=f"/{name}").geturl()


def fresh_vhost():
    """Makes a vhost; its URL."""
    base = urllib.parse.urlsplit(variable("OFFPEAK_TEST_AMQP_URL"))
    name = f"offpeak-scrape-{uuid.uuid4()}"
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    management("PUT", f"/api/vhosts/{name}", {})
    management("PUT", f"/api/permissions/{name}/{base.username or 'guest'}", rights)
    return base._replace(path=f"/{name}").geturl()


def management_url():
    """RabbitMQ's management side: OFFPEAK_TEST_MANAGEMENT_URL, by default port 15672 of the broker's host."""
    amqp = urllib.parse.urlsplit(variable("OFFPEAK_TEST_AMQP_URL"))
    login = amqp.netloc.rpartition("@")[0] or "guest:guest"
    return os.environ.get("OFFPEAK_TEST_MANAGEMENT_URL") or f"http://{login}@{amqp.hostname}:15672"


def management(method, path, body=None):
    """Asks RabbitMQ's management side."""
    url = urllib.parse.urlsplit(management_url())
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    plain = f"{url.scheme}://{url.hostname}:{url.port}"
    passwords.add_password(None, plain, url.username, url.password, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{plain}{path}", data, headers, method=method)
    with opener.open(request, timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def sql(database, statement):
    """The rows of a statement, each a list of texts."""
    command = ["psql", "--no-psqlrc", "-At", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    return [line.split("\t") for line in done.stdout.splitlines()]


def main():
    with Grid() as grid:
        grid.compute()
        for name, text in grid.scrape().items():
            sys.stdout.write(f"# ---- {name}\n{text}")


if __name__ == "__main__":
    main()
