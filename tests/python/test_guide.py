"""docs/customers.md as a customer reads it: its programs run against a real grid, typed off word by word."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import contract
import dialogue
from rabbitmq import ROOT

GUIDE = ROOT / "docs/customers.md"
# The first job takes seconds; a crowded machine takes its time.
LIMIT_S = 300


def setUpModule():
    global GRID
    GRID = unittest.enterModuleContext(dialogue.Grid())


def blocks(language):
    """The blocks of a language, in order, each with the heading it stands under."""
    heading, found = None, []
    for part in re.finditer(r"^(#+ [^\n]*)$|^```(\w+)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        if part[1]:
            heading = part[1].lstrip("# ")
        elif part[2] == language:
            found.append((heading, part[3]))
    return found


class Guide(unittest.TestCase):
    def run_as(self, customer, program):
        """Runs a program with a customer's URL, beside the example's module; what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "app.wasm").write_bytes((dialogue.APPS / "wc-command/app.wasm").read_bytes())
            file = pathlib.Path(folder, "first.py")
            file.write_text(program)
            env = {"PATH": os.environ["PATH"], "OFFPEAK_URL": customer.url}
            command = [sys.executable, file]
            done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout.splitlines()

    def test_the_first_job(self):
        acme = GRID.customer()
        chapter = [code for heading, code in blocks("python") if heading == "A first job in ten minutes"]
        self.assertEqual(len(chapter), 5)
        said = self.run_as(acme, "".join(chapter))
        self.assertEqual(said[0], "the app is entered as command")
        self.assertRegex(said[1], r"^3 items, at most \d+ instructions$")
        self.assertEqual([line.split()[0] for line in said[3:6]], ["ok"] * 3, said)
        self.assertRegex(said[6], r"^completed .*'succeeded': 3")
        bill = [line for line in said if re.match(r"[0-9a-f-]{36} unit \d+ \d+ instructions", line)]
        self.assertTrue(bill, said)
        [job] = acme.get("job.list", {})["jobs"]
        self.assertEqual(acme.get("job.status", {"job": job["job"]})["results"], "gone", "it was released")

    def test_uploads_go_on_and_results_come_again(self):
        acme = GRID.customer()
        chapter = [code for heading, code in blocks("python") if heading == "A first job in ten minutes"]
        helpers = dict(blocks("python"))
        first, end = "".join(chapter[:4]), "connection.close()\n"
        program = [
            first, helpers["Uploads"], helpers["Results"],
            "data = os.urandom(2 * PART + 5)\n",
            "digest = hashlib.sha256(data).hexdigest()\n",
            "last = {'digest': digest, 'size': len(data), 'offset': 2 * PART}\n",
            "ask('blob.put', {**last, 'data': base64.b64encode(data[2 * PART:]).decode()})\n",
            "assert resume(data) == digest and resume(data) == digest\n",
            "again = [entry for part in fetch(ended['job']) for entry in entries(base64.b64decode(part['output']))]\n",
            "print(len(again), 'again')\n", end,
        ]
        said = self.run_as(acme, "".join(program))
        self.assertEqual(said[-1], "3 again")
        whole = [blob["whole"] for blob in acme.get("blob.list", {})["blobs"]]
        self.assertEqual(whole, [True] * 3)

    def test_the_example_of_a_problem_is_one(self):
        [(_heading, problem)] = blocks("json")
        contract.validate("offpeak.job.rejected.v1", contract.json.loads(problem))

    def test_links_lead_somewhere(self):
        text = GUIDE.read_text()
        anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            if path:
                self.assertTrue((GUIDE.parent / path).exists(), target)
            else:
                self.assertIn(anchor, anchors)


if __name__ == "__main__":
    unittest.main()
