"""What customers ask and are answered, by pika over a real grid: uploads, apps, quotes, jobs, results, usage; in both formats.

Every reply is validated against docs/contract/asyncapi.yaml as it is read (see dialogue.py).
"""

import datetime
import functools
import json
import re
import secrets
import unittest

import zstandard

import dialogue
from dialogue import APPS, PARAMS, PART_BYTES, Refused, digest

FORMS = ("json", "msgpack")
# A month that is over has the same rows for ever; the tests' rows are of the month in which they run.
MONTH = "%Y-%m"


def setUpModule():
    global GRID
    GRID = unittest.enterModuleContext(dialogue.Grid())


def blocks(app, end, start=0, **changes):
    """A job of monte-carlo: each item is a block of paths."""
    spec = {"app": app, "pool": "open", "input": {"range": {"start": start, "end": end}}, "params": PARAMS, "delivery": "parts"}
    return {**spec, "unit": {"max_items": 4}, **changes}


def endless(app, **changes):
    """A job that lasts longer than any test."""
    return blocks(app, 1_000_000, params={**PARAMS, "paths_per_item": 4096}, unit={"max_items": 1}, **changes)


def in_both_forms(**limits):
    """Runs a test for each format with a new customer that has these limits."""

    def decorated(test):
        @functools.wraps(test)
        def run(self):
            for form in FORMS:
                with self.subTest(form):
                    test(self, GRID.customer(form, **limits))

        return run

    return decorated


class Case(unittest.TestCase):
    """What tests of requests have in common."""

    def refused(self, code, action, *arguments, **changes):
        """The action is answered by that problem, which is returned."""
        with self.assertRaises(Refused) as refused:
            action(*arguments, **changes)
        problem = refused.exception.problem
        self.assertEqual(problem["code"], code, problem)
        self.assertEqual(problem["type"], f"urn:offpeak:problem:{code}")
        return problem


class Uploads(Case):
    @in_both_forms()
    def test_an_upload_goes_on_where_parts_are_missing(self, acme):
        data = secrets.token_bytes(2 * PART_BYTES + 1000)
        name = digest(data)
        stored = acme.put(data, [0, 2 * PART_BYTES])
        self.assertEqual(stored, {"digest": name, "size": len(data), "received": PART_BYTES + 1000, "whole": False})
        [entry] = acme.get("blob.list", {})["blobs"]
        self.assertEqual((entry["digest"], entry["whole"], entry["missing"]), (name, False, [[PART_BYTES, PART_BYTES]]))
        self.assertEqual(acme.put(data, [0])["received"], PART_BYTES + 1000, "a part that comes again counts once")
        self.assertTrue(acme.put(data, [start for start, _ in entry["missing"]])["whole"])
        [entry] = acme.get("blob.list", {})["blobs"]
        self.assertEqual((entry["whole"], entry["missing"], entry["received"]), (True, [], len(data)))

    def test_a_part_without_a_correlation_id_is_not_answered(self):
        acme = GRID.customer()
        data = secrets.token_bytes(10)
        acme.send("blob.put", {"digest": digest(data), "size": 10, "offset": 0, "data": acme.bytes(data)}, correlation_id=None)
        # The next answer comes after whatever was said before, on the same queue.
        listed = dialogue.scrape.wait_for("the part", lambda: acme.get("blob.list", {})["blobs"])
        self.assertEqual([(blob["digest"], blob["whole"]) for blob in listed], [(digest(data), True)])
        self.assertNotIn(None, acme.waiting)

    @in_both_forms()
    def test_lists_come_in_pages(self, acme):
        names = sorted(acme.upload(secrets.token_bytes(8)) for _ in range(5))
        first = acme.get("blob.list", {"limit": 3})
        second = acme.get("blob.list", {"limit": 3, "after": first["blobs"][-1]["digest"]})
        self.assertEqual([blob["digest"] for page in (first, second) for blob in page["blobs"]], names)
        self.assertEqual((first["more"], second["more"], first["stored_bytes"]), (True, False, 40))
        for limit in (0, 1001):
            problem = self.refused("invalid-request", acme.get, "blob.list", {"limit": limit})
            self.assertEqual([error["pointer"] for error in problem["errors"]], ["/limit"])

    @in_both_forms(stored_bytes=3 * PART_BYTES)
    def test_storage_has_an_end_and_deleting_makes_room(self, acme):
        first, second = secrets.token_bytes(2 * PART_BYTES), secrets.token_bytes(2 * PART_BYTES)
        kept = acme.upload(first)
        problem = self.refused("storage-full", acme.put, second)
        self.assertEqual((problem["limit"], problem["status"], problem["retryable"]), (3 * PART_BYTES, 507, True))
        listed = acme.get("blob.list", {})
        self.assertEqual((listed["stored_bytes"], listed["limit_bytes"]), (2 * PART_BYTES, 3 * PART_BYTES))
        deleted = acme.get("blob.delete", {"digest": kept})
        self.assertEqual(deleted, {"digest": kept, "freed_bytes": 2 * PART_BYTES})
        acme.upload(second)
        self.refused("no-such-blob", acme.get, "blob.delete", {"digest": kept})

    def test_a_blob_of_a_running_job_stays(self):
        acme = GRID.customer()
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(endless(app))
        self.refused("blob-in-use", acme.get, "blob.delete", {"digest": app})
        acme.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
        acme.completed(job)
        self.assertEqual(acme.get("blob.delete", {"digest": app})["digest"], app)

    def test_another_customer_s_blob_is_none(self):
        one, other = GRID.customer(), GRID.customer()
        app = one.upload(APPS / "c-sum/app.wasm")
        self.refused("no-such-blob", other.get, "blob.delete", {"digest": app})
        self.refused("no-such-blob", other.get, "app.register", {"app": app})
        self.assertEqual(other.get("blob.list", {})["blobs"], [])


class Apps(Case):
    @in_both_forms()
    def test_a_module_is_registered_by_its_bytes_or_its_digest(self, acme):
        module = (APPS / "c-sum/app.wasm").read_bytes()
        one = acme.get("app.register", {"module": acme.bytes(module)})
        self.assertEqual((one["app"], one["entry"], one["reduces"]), (digest(module), "offpeak1", True))
        command = acme.upload(APPS / "wc-command/app.wasm")
        two = acme.get("app.register", {"app": command})
        self.assertEqual((two["app"], two["entry"], two["reduces"]), (command, "command", False))

    @in_both_forms()
    def test_what_is_no_app_is_told_why(self, acme):
        for module in (b"\0asm\1\0\0\0", b"no module at all"):
            problem = self.refused("app-rejected", acme.get, "app.register", {"module": acme.bytes(module)})
            self.assertTrue(problem["detail"])
        app = acme.upload(b"still none")
        self.refused("app-rejected", acme.submit, blocks(app, 4))
        self.refused("no-such-blob", acme.get, "app.register", {"app": digest(b"never sent")})
        self.refused("invalid-request", acme.get, "app.register", {})


class Quotes(Case):
    @in_both_forms()
    def test_a_quote_knows_the_limits_first_and_experience_after(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        before = acme.get("job.quote", {"job": blocks(app, 40)})
        self.assertEqual((before["app"], before["items"], before["basis"], before["basis_items"]), (app, 40, "limits", 0))
        ended, _ = acme.completed(acme.submit(blocks(app, 20)))
        after = acme.get("job.quote", {"job": blocks(app, 40)})
        self.assertEqual((after["basis"], after["basis_items"]), ("earlier_jobs", 20))
        fuel = [int(after["fuel"][key]) for key in ("low", "likely", "high")]
        self.assertEqual(fuel, sorted(fuel))
        # The items are alike, so twice as many take twice as much.
        self.assertAlmostEqual(fuel[1] / (2 * int(ended["usage"]["fuel"])), 1, delta=0.1)
        self.assertLess(fuel[2], int(before["fuel"]["high"]))
        problem = self.refused("invalid-job", acme.get, "job.quote", {"job": blocks(app, 40, pool="nowhere")})
        self.assertIn("/pool", [error["pointer"] for error in problem["errors"]])


class Jobs(Case):
    @in_both_forms()
    def test_a_submission_is_one_job_however_often_it_comes(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        identity = dialogue.uuid7()
        job = acme.submit(blocks(app, 8), message_id=identity)
        again = acme.submit(blocks(app, 8), message_id=identity, correlation_id="again")
        self.assertEqual((again.id, again.items, job.items), (job.id, 8, 8))
        problem = self.refused("message-id-reused", acme.submit, blocks(app, 9), message_id=identity, correlation_id="other")
        self.assertIn(job.id, problem["detail"])
        ended, parts = acme.completed(job)
        self.assertEqual((ended["state"], ended["job"]), ("completed", job.id))
        outputs = acme.outputs(parts)
        self.assertEqual(len(outputs), 8)
        self.assertEqual(ended["certificate"]["output_digest"], dialogue.chain_of(outputs))
        self.assertEqual(acme.get("job.list", {})["jobs"][0]["message_id"], identity)
        self.assertEqual(len(acme.get("job.list", {})["jobs"]), 1)

    @in_both_forms()
    def test_status_tells_how_a_job_stands(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        identity = dialogue.uuid7()
        job = acme.submit(blocks(app, 10), message_id=identity)
        ended, parts = acme.completed(job)
        status = acme.get("job.status", {"job": job.id})
        self.assertEqual(status["message_id"], identity)
        self.assertEqual((status["state"], status["paused"], status["results"]), ("completed", False, "kept"))
        self.assertEqual((status["certificate"], status["usage"]), (ended["certificate"], ended["usage"]))
        self.assertEqual(status["items"], {"submitted": 10, "succeeded": 10, "failed": 0, "cancelled": 0})
        self.assertEqual((status["parts"], ended["parts"]), (len(parts), len(parts)))
        self.assertLess(status["admitted_at_us"], status["ended_at_us"])
        keys = {"message_id": "the same", "correlation_id": "the same"}
        asked = [acme.get("job.status", {"job": job.id}, **keys)["job"] for _ in range(2)]
        self.assertEqual(asked, [job.id, job.id], "a question is answered as often as it is asked")

    @in_both_forms()
    def test_jobs_are_listed_the_youngest_first_in_pages_and_by_state(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        jobs = [acme.submit(blocks(app, 1), correlation_id=f"job {number}") for number in range(4)]
        for job in jobs:
            acme.completed(job)
        running = acme.submit(endless(app))
        youngest = [running.id] + [job.id for job in reversed(jobs)]
        first = acme.get("job.list", {"limit": 2})
        second = acme.get("job.list", {"limit": 3, "before": first["jobs"][-1]["job"]})
        self.assertEqual([line["job"] for page in (first, second) for line in page["jobs"]], youngest)
        self.assertEqual((first["more"], second["more"]), (True, False))
        self.assertEqual(second["jobs"][-1]["correlation_id"], "job 0")
        listed = acme.get("job.list", {"state": "running"})["jobs"]
        self.assertEqual([line["job"] for line in listed], [running.id])
        self.assertEqual(len(acme.get("job.list", {"state": "completed"})["jobs"]), 4)
        acme.send("job.cancel", {"job": running.id}, correlation_id=running.asked)
        ended, _ = acme.completed(running)
        self.assertEqual(ended["state"], "cancelled")
        items = ended["certificate"]["items"]
        self.assertEqual(items["submitted"], sum(items[end] for end in ("succeeded", "failed", "cancelled")))

    @in_both_forms()
    def test_a_job_that_rests_gets_no_further_units_and_goes_on_after(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(blocks(app, 1200, params={**PARAMS, "paths_per_item": 2048}, unit={"max_items": 2}))
        acme.until(job.asked, "job.part")
        status = acme.get("job.pause", {"job": job.id})
        self.assertEqual((status["state"], status["paused"]), ("running", True))

        def settled():
            status = acme.get("job.status", {"job": job.id})
            return status if status["units_open"] == 0 else None

        # What is on its way ends, and nothing follows it, while another job gets all that there is.
        before = dialogue.scrape.wait_for("the units under way", settled)
        self.assertLess(before["items"]["succeeded"], 1200)
        other = GRID.customer()
        done, _ = other.completed(other.submit(blocks(other.upload(APPS / "monte-carlo/app.wasm"), 40)))
        self.assertEqual(done["certificate"]["items"]["succeeded"], 40)
        after = acme.get("job.status", {"job": job.id})
        self.assertEqual((after["items"], after["units_valid"]), (before["items"], before["units_valid"]))
        self.assertEqual([reason["code"] for reason in acme.get("job.explain", {"job": job.id})["reasons"]][:1], ["paused"])
        self.assertFalse(acme.get("job.resume", {"job": job.id})["paused"])
        ended, _ = acme.completed(job)
        self.assertEqual((ended["state"], ended["certificate"]["items"]["succeeded"]), ("completed", 1200))
        for kind in ("job.pause", "job.resume"):
            self.refused("job-ended", acme.get, kind, {"job": job.id})

    @in_both_forms()
    def test_why_a_job_waits_without_workers(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        first, second = (acme.submit(blocks(app, 4, pool="trusted")) for _ in range(2))
        explained = [acme.get("job.explain", {"job": job.id}) for job in (first, second)]
        for number, answer in enumerate(explained, 1):
            codes = [reason["code"] for reason in answer["reasons"]]
            self.assertEqual(codes[0], "no-workers", answer)
            self.assertEqual((answer["live_hosts"], answer["failures"], answer["eta_s"]), (0, [], None))
            self.assertTrue(all(lane["workers"] == 0 for lane in answer["lanes"]))
            self.assertTrue(all(reason["detail"] for reason in answer["reasons"]))
            self.assertEqual(answer["position"], number)
        for job in (first, second):
            acme.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
            self.assertEqual(acme.completed(job)[0]["state"], "cancelled")
        self.assertEqual(acme.get("job.explain", {"job": first.id})["reasons"][0]["code"], "cancelled")

    @in_both_forms()
    def test_why_a_job_fails(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(blocks(app, 4, params={"seed": 1}, max_failures=1000))

        def failing():
            answer = acme.get("job.explain", {"job": job.id})
            return answer if answer["failures"] and answer["next_attempt_s"] and answer["live_hosts"] else None

        answer = dialogue.scrape.wait_for("a failure and the wait after it", failing)
        [failure] = answer["failures"]
        self.assertIn("paths_per_item", failure["reason"])
        self.assertGreaterEqual(failure["replicas"], 1)
        codes = [reason["code"] for reason in answer["reasons"]]
        self.assertIn("backing-off", codes)
        self.assertIn("last-failure", codes)
        acme.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
        acme.completed(job)

    def test_another_customer_s_job_is_none(self):
        one, other = GRID.customer(), GRID.customer()
        app = one.upload(APPS / "monte-carlo/app.wasm")
        job = one.submit(endless(app))
        for kind in ("cancel", "pause", "resume", "status", "explain", "fetch", "release"):
            with self.subTest(kind):
                problem = self.refused("no-such-job", other.get, f"job.{kind}", {"job": job.id})
                self.assertEqual(problem["status"], 404)
        self.assertEqual(other.get("job.list", {})["jobs"], [])
        self.assertEqual(one.get("job.status", {"job": job.id})["state"], "running")
        one.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
        one.completed(job)


class Results(Case):
    @in_both_forms()
    def test_results_come_again_whole_from_any_part_and_in_pages_until_they_are_released(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(blocks(app, 24))
        ended, sent = acme.completed(job)
        self.assertEqual([part["part"] for part in sent], list(range(ended["parts"])))
        whole, fetched = acme.fetch(job.id)
        self.assertEqual((whole, fetched["parts"], fetched["next_part"], fetched["ended"]), (sent, len(sent), None, True))
        tail, _ = acme.fetch(job.id, part=3)
        self.assertEqual(tail, sent[3:])
        pages, part = [], 0
        while part is not None:
            page, fetched = acme.fetch(job.id, part=part, limit=2)
            self.assertLessEqual(len(page), 2)
            pages, part = pages + page, fetched["next_part"]
        self.assertEqual(pages, sent)
        self.assertEqual(acme.get("job.release", {"job": job.id}), {"job": job.id})
        self.assertEqual(acme.get("job.release", {"job": job.id}), {"job": job.id}, "a release that comes again is harmless")
        problem = self.refused("results-gone", acme.fetch, job.id)
        self.assertEqual(problem["status"], 410)
        self.assertEqual(acme.get("job.status", {"job": job.id})["results"], "gone")

    @in_both_forms()
    def test_what_was_stored_is_fetched_and_a_whole_result_is_one_part(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        jobs = {kind: acme.submit(blocks(app, 12, delivery=kind)) for kind in ("stored", "parts", "whole")}
        found = {}
        for kind, job in jobs.items():
            ended, parts = acme.completed(job)
            again, _ = acme.fetch(job.id)
            self.assertEqual(acme.outputs(again), found.setdefault("outputs", acme.outputs(again)))
            found[kind] = (ended, parts)
            self.assertEqual(ended["certificate"]["output_digest"], dialogue.chain_of(found["outputs"]))
        self.assertEqual(found["stored"][1], [])
        self.assertEqual(len(found["whole"][1]), 1)
        self.assertEqual(acme.outputs(found["whole"][1]), found["outputs"])

    def test_results_of_a_running_job_come_as_far_as_there_are_any(self):
        acme = GRID.customer()
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(endless(app, delivery="stored"))
        dialogue.scrape.wait_for("a part", lambda: acme.get("job.status", {"job": job.id})["parts"] > 1)
        parts, fetched = acme.fetch(job.id, limit=2)
        self.assertEqual(([part["part"] for part in parts], fetched["ended"]), ([0, 1], False))
        problem = self.refused("invalid-request", acme.get, "job.release", {"job": job.id})
        self.assertEqual(problem["errors"][0]["pointer"], "/job")
        acme.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
        acme.completed(job)


class Usage(Case):
    @in_both_forms()
    def test_a_report_is_the_ledger_row_by_row(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        now = datetime.datetime.now(datetime.UTC)
        month = now.strftime(MONTH)
        if (now + datetime.timedelta(minutes=10)).strftime(MONTH) != month:
            self.skipTest("the month ends within ten minutes, and with it the period that the rows would be in")
        jobs = [acme.submit(blocks(app, items)) for items in (10, 21)]
        ends = {job.id: acme.completed(job)[0] for job in jobs}
        rows, after = [], None
        while True:
            page = acme.get("usage.report", {"period": month, "limit": 3, **({"after": after} if after else {})})
            self.assertEqual(page["period"], month)
            self.assertLessEqual(len(page["rows"]), 3)
            rows, after = rows + page["rows"], page.get("next_after")
            if after is None:
                break
        ledger = GRID.sql(
            "select encode(job, 'hex')::uuid, unit, pool, meter, fuel, bytes, encode(output, 'hex'), recorded_at from ledger"
            f" where customer = '{acme.name}' order by number"
        )
        shown = [[str(row[key]) for key in LEDGER] for row in rows]
        self.assertEqual(shown, ledger)
        for job, ended in ends.items():
            own = [row for row in rows if row["job"] == job]
            self.assertEqual(sum(int(row["fuel"]) for row in own), int(ended["usage"]["fuel"]))
            self.assertEqual((len(own), sum(row["bytes"] for row in own)), (ended["usage"]["units"], ended["usage"]["bytes"]))
        printed = json.loads(GRID.command("usage", "--customer", acme.name, "--period", month, "--format", "json"))["usage"]
        totals = [
            {"customer": acme.name, **{key: total[key] for key in ("pool", "meter", "units")},
             "fuel": str(total["fuel"]), "bytes": str(total["bytes"])}
            for total in page["totals"]
        ]
        self.assertEqual(totals, printed)
        self.assertEqual(int(printed[0]["fuel"]), sum(int(row["fuel"]) for row in rows))
        self.assertEqual(acme.get("usage.report", {"period": "2001-01"})["rows"], [])
        self.refused("invalid-request", acme.get, "usage.report", {"period": "2001-13"})


LEDGER = ("job", "unit", "pool", "meter", "fuel", "bytes", "output", "recorded_at_us")


class Messages(Case):
    @in_both_forms()
    def test_unknown_optional_fields_are_passed_over(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit({**blocks(app, 2), "colour": "blue", "limits": {"of": "tomorrow"}})
        self.assertEqual(acme.completed(job)[0]["state"], "completed")
        self.assertEqual(acme.get("job.list", {"limit": 1, "sorted": ["somehow"]})["jobs"][0]["job"], job.id)

    @in_both_forms()
    def test_bodies_may_be_compressed_and_a_bomb_does_not_go_off(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")

        def compressed(kind, content, **changes):
            asked = acme.publish(kind, zstandard.compress(content), content_encoding="zstd", **changes)
            return acme.next(asked)

        accepted = compressed("job.submit", acme.encode(blocks(app, 3)))
        self.assertEqual(accepted.kind, "offpeak.job.accepted.v1")
        data = bytes(PART_BYTES)
        part = acme.encode({"digest": digest(data), "size": len(data), "offset": 0, "data": acme.bytes(data)})
        self.assertTrue(compressed("blob.put", part).body["whole"])
        # 256 MiB of blanks in about 8 KB, with and without its size in the header.
        for header in (True, False):
            packer = zstandard.ZstdCompressor(write_content_size=header).compressobj(size=1 << 28 if header else -1)
            bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(1 << 8)) + packer.flush()
            reply = acme.next(acme.publish("job.list", bomb, content_encoding="zstd"))
            self.assertEqual((reply.body["code"], reply.body["status"]), ("message-too-large", 413), reply.body)
        for encoding, content in (("zstd", b"{}"), ("gzip", b"{}")):
            reply = acme.next(acme.publish("job.list", content, content_encoding=encoding))
            self.assertEqual(reply.body["code"], "undecodable", reply.body)

    @in_both_forms()
    def test_mistakes_are_named_by_their_place(self, acme):
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        spec = blocks(app, 5, start=5, pool="nowhere", quorum=99, priority=101, unit={"target_ms": 0, "max_items": 0})
        problem = self.refused("invalid-job", acme.submit, spec)
        pointers = {error["pointer"] for error in problem["errors"]}
        self.assertLessEqual({"/pool", "/priority", "/unit/max_items"}, pointers, problem)
        problem = self.refused("invalid-job", acme.submit, blocks(digest(b"never sent"), 5))
        self.assertEqual([error["pointer"] for error in problem["errors"]], ["/app"])
        for field, number in (("quorum", 300), ("priority", 200), ("max_failures", 70_000), ("deadline_s", -1)):
            problem = self.refused("invalid-job", acme.submit, blocks(app, 5, **{field: number}))
            self.assertEqual([error["pointer"] for error in problem["errors"]], [f"/{field}"], problem)
        problem = self.refused("invalid-request", acme.get, "job.list", {"limit": -1})
        self.assertEqual([error["pointer"] for error in problem["errors"]], ["/limit"])

    def test_a_trace_is_in_the_logs_of_every_service_that_touches_the_job(self):
        acme = GRID.customer()
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        job = acme.submit(blocks(app, 2))
        acme.completed(job)
        [trace] = acme.traces[job.asked]
        for name, service in GRID.services.items():
            lines = [json.loads(line) for line in service.output().splitlines() if trace in line]
            with self.subTest(name):
                self.assertTrue(any(traced(line, trace) for line in lines), f"no line of {name} has {trace}")


def traced(line, trace):
    """Whether a line of a JSON log has the trace in a field of that name, its own or its span's."""
    spans = [line.get("fields", {}), line, line.get("span") or {}, *(line.get("spans") or [])]
    return any(fields.get("traceparent") == trace for fields in spans)


def documented_codes():
    """The codes of crates/protocol/src/problem.rs, each with its status and whether it is retryable."""
    text = (dialogue.scrape.ROOT / "crates/protocol/src/problem.rs").read_text()
    found = re.findall(r'about\(\s*(\d{3}),\s*"([a-z-]+)"', text)
    return {code: int(status) for status, code in found}


class Problems(Case):
    """Each code, provoked as its row of the table says."""

    @classmethod
    def setUpClass(cls):
        # A grid that wants user_id, and whose compiler is given no time at all.
        settings = {"OFFPEAK__PRODUCER__REQUIRE_USER_ID": "true", "OFFPEAK__PUBLISHER__WALL_SECONDS": "0"}
        cls.strict = cls.enterClassContext(dialogue.Grid({"producer": {}, "aggregator": {}}, settings))

    def provoke(self, code, form):
        return getattr(self, code.replace("-", "_"))(form)

    def test_every_code_is_provoked(self):
        codes = documented_codes()
        self.assertGreaterEqual(len(codes), 20)
        for code, status in codes.items():
            for form in FORMS:
                with self.subTest(code, form=form):
                    problem = self.provoke(code, form)
                    self.assertEqual((problem["code"], problem["status"]), (code, status), problem)
                    self.assertEqual(problem["retryable"], status in (402, 429, 503, 507))

    def told(self, customer, kind, body, **changes):
        """The problem that answers a request."""
        reply = customer.ask(kind, body, **changes)
        self.assertTrue(reply.problem, reply)
        return reply.body

    def undecodable(self, form):
        acme = GRID.customer(form)
        whole = acme.encode({"job": dialogue.uuid7()})
        for content in (b"", whole[:-1], whole + b"\0", b"\xc1", acme.encode({}), acme.encode({"job": "none"})):
            problem = acme.next(acme.publish("job.status", content)).body
            self.assertEqual(problem["code"], "undecodable", content)
        reply = acme.next(acme.publish("job.status", whole, content_type="text/plain"))
        self.assertEqual(reply.properties.content_type, "application/msgpack", "the grid's own format")
        return reply.body

    def unknown_type(self, form):
        acme = GRID.customer(form)
        self.assertEqual(acme.next(acme.publish("job.status", acme.encode({}), type=None)).body["code"], "unknown-type")
        # What the grid's own services say to each other is no request.
        self.assertEqual(self.told(acme, "unit.outcome", {})["code"], "unknown-type")
        return self.told(acme, "job.teleport", {"job": 1})

    def budget_spent(self, form):
        acme = GRID.customer(form, fuel_per_month=1)
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        acme.completed(acme.submit(blocks(app, 1)))
        # Until the producer has looked at what is metered it may accept more; of that, nothing is sent once it has.
        problem = dialogue.scrape.wait_for("the budget's end", lambda: self.if_refused(acme, blocks(app, 1)), every_s=1)
        self.assertEqual(problem["limit"], 1)
        self.assertGreater(problem["retry_after_s"], 0)
        return problem

    @staticmethod
    def if_refused(customer, spec):
        try:
            customer.submit(spec)
        except Refused as refused:
            return refused.problem
        return None

    def user_id_required(self, form):
        acme = self.strict.customer(form)
        self.assertEqual(acme.get("job.list", {})["jobs"], [])
        return self.told(acme, "job.list", {}, user_id=None)

    def no_such_job(self, form):
        return self.told(GRID.customer(form), "job.status", {"job": dialogue.uuid7()})

    def no_such_blob(self, form):
        return self.told(GRID.customer(form), "blob.delete", {"digest": digest(b"never sent")})

    def message_id_reused(self, form):
        acme = GRID.customer(form)
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        identity = dialogue.uuid7()
        acme.completed(acme.submit(blocks(app, 1), message_id=identity))
        return self.told(acme, "job.submit", blocks(app, 2), message_id=identity, correlation_id="another")

    def blob_in_use(self, form):
        acme = GRID.customer(form)
        app = acme.upload(APPS / "c-sum/app.wasm")
        lines = acme.upload(b"1 2\n3\n")
        spec = {"app": app, "pool": "trusted", "input": {"lines": {"blob": lines}}}
        job = acme.submit(spec)
        self.assertEqual(self.told(acme, "blob.delete", {"digest": app})["code"], "blob-in-use")
        problem = self.told(acme, "blob.delete", {"digest": lines})
        self.assertIn(job.id, problem["detail"])
        acme.send("job.cancel", {"job": job.id}, correlation_id=job.asked)
        acme.completed(job)
        return problem

    def job_ended(self, form):
        acme = GRID.customer(form)
        job = acme.submit(blocks(acme.upload(APPS / "monte-carlo/app.wasm"), 1))
        acme.completed(job)
        return self.told(acme, "job.pause", {"job": job.id})

    def results_gone(self, form):
        acme = GRID.customer(form)
        job = acme.submit(blocks(acme.upload(APPS / "monte-carlo/app.wasm"), 1))
        acme.completed(job)
        acme.get("job.release", {"job": job.id})
        return self.told(acme, "job.fetch", {"job": job.id})

    def already_handled(self, form):
        acme = GRID.customer(form)
        data, identity = secrets.token_bytes(10), dialogue.uuid7()
        part = {"digest": digest(data), "size": 10, "offset": 0, "data": acme.bytes(data)}
        self.assertTrue(acme.get("blob.put", part, message_id=identity)["whole"])
        acme.get("blob.delete", {"digest": digest(data)})
        problem = self.told(acme, "blob.put", part, message_id=identity)
        self.assertEqual(acme.get("blob.list", {})["blobs"], [])
        self.assertTrue(acme.get("blob.put", part)["whole"], "a new message sends it anew")
        return problem

    def message_too_large(self, form):
        acme = GRID.customer(form, message_bytes=10_000)
        problem = self.told(acme, "job.list", {"fill": "x" * 10_000})
        self.assertEqual(problem["limit"], 10_000)
        self.assertEqual(acme.get("job.list", {"fill": "x" * 9_000})["jobs"], [])
        return problem

    def invalid_job(self, form):
        acme = GRID.customer(form)
        problem = self.told(acme, "job.submit", blocks(digest(b""), 1, pool="nowhere"))
        self.assertEqual([error["pointer"] for error in problem["errors"]], ["/pool"])
        return problem

    def invalid_request(self, form):
        problem = self.told(GRID.customer(form), "job.list", {"limit": 0})
        self.assertEqual([error["pointer"] for error in problem["errors"]], ["/limit"])
        return problem

    def blob_mismatch(self, form):
        acme = GRID.customer(form)
        data = b"other bytes"
        body = {"digest": digest(b"some bytes"), "size": len(data), "offset": 0, "data": acme.bytes(data)}
        problem = self.told(acme, "blob.put", body)
        self.assertEqual([blob["whole"] for blob in acme.get("blob.list", {})["blobs"] if blob["whole"]], [])
        self.assertEqual(self.told(acme, "blob.put", {**body, "offset": 7})["code"], "blob-mismatch")
        return problem

    def app_rejected(self, form):
        acme = GRID.customer(form)
        return self.told(acme, "app.register", {"module": acme.bytes(b"\0asm\1\0\0\0")})

    def rate_exceeded(self, form):
        acme = GRID.customer(form, requests_per_second=1)
        # Ten seconds' worth may come at once: of so many more, sent at once, some are too many.
        asked = [acme.send("job.list", {}) for _ in range(40)]
        problems = [reply.body for reply in map(acme.next, asked) if reply.problem]
        self.assertTrue(problems)
        self.assertEqual({problem["limit"] for problem in problems}, {1})
        self.assertTrue(all(problem["retry_after_s"] >= 1 for problem in problems))
        return problems[0]

    def too_many_jobs(self, form):
        acme = GRID.customer(form, jobs=1)
        app = acme.upload(APPS / "monte-carlo/app.wasm")
        first = acme.submit(blocks(app, 4, pool="trusted"))
        identity = dialogue.uuid7()
        problem = self.told(acme, "job.submit", blocks(app, 1), message_id=identity)
        self.assertEqual(problem["limit"], 1)
        # Under the same keys: were it the same answer, it would be dropped here.
        again = self.told(acme, "job.submit", blocks(app, 1), message_id=identity)
        self.assertEqual(again["code"], "too-many-jobs", "a refusal is told as often as it is asked for")
        acme.send("job.cancel", {"job": first.id}, correlation_id=first.asked)
        acme.completed(first)
        second = acme.submit(blocks(app, 1), message_id=identity, correlation_id="at last")
        self.assertEqual(acme.completed(second)[0]["state"], "completed")
        return problem

    def publisher_unavailable(self, form):
        acme = self.strict.customer(form)
        return self.told(acme, "app.register", {"module": acme.bytes((APPS / "c-sum/app.wasm").read_bytes())})

    def storage_full(self, form):
        acme = GRID.customer(form, stored_bytes=100)
        problem = self.told(acme, "blob.put", {
            "digest": digest(bytes(101)), "size": 101, "offset": 0, "data": acme.bytes(bytes(101)),
        })
        self.assertEqual(problem["limit"], 100)
        return problem


if __name__ == "__main__":
    unittest.main()
