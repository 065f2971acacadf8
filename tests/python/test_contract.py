"""The customer's contract: the document is one, its examples and the golden messages of v1 are what it says."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import contract
import provisioned
from rabbitmq import ROOT

NODE_TOOLS = ROOT / "tests/node"
GOLDEN = ROOT / "crates/protocol/golden/v1.txt"


def parsed(file):
    """What the parser of AsyncAPI's authors says of a document: its exit code, and a line for each finding."""
    command = [pathlib.Path(sys.prefix, "bin/node"), NODE_TOOLS / "asyncapi.cjs", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()


class Document(unittest.TestCase):
    def test_the_parser_of_asyncapi_finds_nothing_wrong(self):
        code, printed = parsed(contract.FILE)
        self.assertEqual(code, 0, printed)
        *findings, counted = printed
        # AsyncAPI 3.0 is what most tools read, and 3.1 adds nothing for AMQP.
        self.assertEqual([finding for finding in findings if "asyncapi-latest-version" not in finding], [])
        messages = len(contract.messages())
        self.assertEqual(counted, f"{len(contract.requests()) + 1} operations, {messages} messages")

    def test_the_parser_finds_what_is_wrong(self):
        for good, bad in [("action: receive", "action: publish"), ("/schemas/Certificate", "/schemas/Certificat")]:
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder, "asyncapi.yaml")
                file.write_text(contract.FILE.read_text().replace(good, bad, 1))
                code, printed = parsed(file)
            self.assertEqual(code, 1, printed)
            self.assertTrue(any(line.startswith("error ") for line in printed), printed)

    def test_the_program_prints_it(self):
        code, printed, said = provisioned.offpeak("contract")
        self.assertEqual((code, said), (0, ""))
        self.assertEqual(printed, contract.FILE.read_text())
        code, printed, said = provisioned.offpeak("contract", "--json")
        self.assertEqual((code, said), (0, ""))
        self.assertEqual(json.loads(printed), contract.document(), "YAML and JSON say the same")

    def test_every_message_has_examples_which_are_as_its_schema_says(self):
        for kind, message in contract.messages().items():
            self.assertTrue(message["examples"], kind)
            for example in message["examples"]:
                with self.subTest(kind, example=example["name"]):
                    contract.validate(kind, example["payload"])

    def test_every_request_has_an_answer_and_every_message_a_channel(self):
        for kind in contract.requests():
            self.assertTrue(set(contract.answers_of(kind)) <= set(contract.answers()), kind)
        self.assertEqual(set(contract.requests()) | set(contract.answers()), set(contract.messages()))


class Golden(unittest.TestCase):
    def test_messages_written_by_the_code_are_as_the_document_says(self):
        seen = set()
        for line in GOLDEN.read_text().splitlines():
            kind, _msgpack, body = line.split(" ", 2)
            if kind in contract.messages():
                seen.add(kind)
                with self.subTest(kind):
                    contract.validate(kind, json.loads(body))
        self.assertEqual(seen, set(contract.messages()))

    def test_what_is_wrong_is_found(self):
        good = {"job": "01928f5a-3c4d-7e8f-9a0b-1c2d3e4f5a6b", "items": 5}
        self.assertEqual(contract.differences("offpeak.job.accepted.v1", good), [])
        for bad in ({"job": good["job"]}, {**good, "items": "5"}, {**good, "job": "x"}, {**good, "colour": 1}):
            self.assertEqual(len(contract.differences("offpeak.job.accepted.v1", bad)), 1, bad)
        self.assertEqual(contract.differences("offpeak.job.accepted.v1", {**good, "colour": 1}, strict=False), [])
        with self.assertRaises(AssertionError):
            contract.validate("offpeak.job.made-up.v1", good)


if __name__ == "__main__":
    unittest.main()
