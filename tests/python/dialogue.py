"""A grid and customers who talk to it over AMQP with pika alone, each as a user of its own with the least rights.

    with dialogue.Grid() as grid:
        acme = grid.customer(weight=3)                       # provisioned by `offpeak customer add`
        app = acme.upload(dialogue.APPS / "c-sum/app.wasm")  # in parts, each answered
        reply = acme.ask("job.list", {"limit": 5})           # the first answer, checked against docs/contract
        job = acme.submit({...})                             # the job's id; acme.until(job.asked, "job.completed")

Every reply that is read is validated: schema, properties, the trace of its request, and no message_id for two bodies. One that
comes again, as delivery at least once may bring it, is dropped by its message_id, as the guide tells customers to: so a request that
is sent again under the same keys has a reply here only if the grid gives it a message_id of its own.
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import secrets
import struct
import time
import urllib.parse
import uuid

import msgpack
import pika

import contract
import scrape

APPS = scrape.ROOT / "examples"
PART_BYTES = 1 << 20
PATIENCE_S = scrape.PATIENCE_S
REFUSED = ("offpeak.job.rejected.v1", "offpeak.request.refused.v1")
NAME_OF = {"json": "application/json", "msgpack": "application/msgpack"}

# What monte-carlo is told; each of its items is a block of paths.
PARAMS = {
    "seed": 7,
    "paths_per_item": 64,
    "market": {
        "spot": 100.0, "strike": 100.0, "rate": 0.05, "volatility": 0.2, "maturity_years": 1.0, "steps": 52,
    },
    "beam": {
        "span_m": 4.0, "section_modulus_m3": 2.52e-4, "load_mean_n": 40_000.0, "load_variation": 0.2,
        "strength_mean_pa": 280.0e6, "strength_variation": 0.07,
    },
}


def uuid7():
    """A UUIDv7, as message_ids are."""
    bits = time.time_ns() // 10**6 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def key(job):
    """A job's id as the database has it, in a statement."""
    return f"'\\x{uuid.UUID(job).hex}'"


def entries(frame):
    """The results of a part: for each item whether it succeeded, and its bytes. Raises if a byte is not accounted for."""
    found, at = [], 4
    for _ in range(*struct.unpack_from("<I", frame)):
        status, length = struct.unpack_from("<II", frame, at)
        if status > 1:
            raise AssertionError(f"status {status} in a frame")
        found.append((status == 0, frame[at + 8:at + 8 + length]))
        at = -(-(at + 8 + length) // 8) * 8
    if at != len(frame):
        raise AssertionError(f"a frame of {len(frame)} bytes ends at {at}")
    return found


def chain_of(outputs):
    """The digest that the certificate has over these (succeeded, bytes) of all items in order."""
    chain = bytes(32)
    for succeeded, output in outputs:
        chain = hashlib.sha256(chain + (b"\0" + output if succeeded else b"\1")).digest()
    return chain.hex()


@dataclasses.dataclass
class Reply:
    """A validated reply."""

    kind: str
    body: dict
    properties: pika.BasicProperties

    @property
    def problem(self):
        return self.kind in REFUSED


@dataclasses.dataclass
class Job:
    """An accepted job: its id, and the id that its replies carry."""

    id: str
    asked: str
    items: int


class Refused(Exception):
    """A request was answered by a problem."""

    def __init__(self, problem):
        super().__init__(json.dumps(problem))
        self.problem = problem
        self.code = problem["code"]


class Customer:
    """A connection of one customer, in one format."""

    def __init__(self, name, url, form="json"):
        self.name, self.url, self.form = name, url, form
        self.queue = f"offpeak.customer.{name}.results"
        self.traces, self.seen, self.waiting, self.held = {}, {}, {}, 0
        self.connection = None
        self.connect()

    def connect(self):
        parameters = pika.URLParameters(self.url)
        parameters.blocked_connection_timeout = parameters.socket_timeout = parameters.stack_timeout = PATIENCE_S
        # A test looks at one customer while another one's connection rests for minutes.
        parameters.heartbeat = 0
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def close(self):
        if self.connection.is_open:
            self.connection.close()

    def bytes(self, data):
        """Bytes as a body of this format has them."""
        return base64.b64encode(data).decode() if self.form == "json" else data

    def read_bytes(self, value):
        return base64.b64decode(value) if self.form == "json" else value

    def encode(self, body):
        return json.dumps(body).encode() if self.form == "json" else msgpack.packb(body)

    def publish(self, kind, content, **changes):
        """Publishes a body's bytes, confirmed; returns the correlation_id. `changes` are properties; None leaves one out."""
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        identity = changes.get("message_id", uuid7())
        properties = {
            "type": f"offpeak.{kind}.v1", "message_id": identity, "correlation_id": f"about-{identity}",
            "content_type": NAME_OF[self.form], "delivery_mode": 2, "user_id": self.name,
            "headers": {"traceparent": trace}, **changes,
        }
        properties = {name: value for name, value in properties.items() if value is not None}
        asked = properties.get("correlation_id")
        self.traces.setdefault(asked, set()).add((properties.get("headers") or {}).get("traceparent"))
        self.channel.basic_publish("offpeak.submit", self.name, content, pika.BasicProperties(**properties), mandatory=True)
        return asked

    def send(self, kind, body, **changes):
        return self.publish(kind, self.encode(body), **changes)

    def ask(self, kind, body, **changes):
        """Sends a request; its first answer, whatever that is."""
        return self.next(self.send(kind, body, **changes))

    def get(self, kind, body, **changes):
        """Sends a request; the body of its answer, or raises Refused."""
        reply = self.ask(kind, body, **changes)
        if reply.problem:
            raise Refused(reply.body)
        wanted = contract.answers_of(f"offpeak.{kind}.v1")
        if reply.kind not in wanted:
            raise AssertionError(f"{reply.kind} answers {kind}, and not one of {wanted}")
        return reply.body

    def next(self, asked, patience_s=PATIENCE_S):
        """The next reply with that correlation_id."""
        end = time.monotonic() + patience_s
        while not self.waiting.get(asked):
            if time.monotonic() > end:
                raise TimeoutError(f"{self.name} got no reply about {asked} within {patience_s} s")
            self.receive()
        return self.waiting[asked].pop(0)

    def until(self, asked, *kinds):
        """Replies up to the first of one of these kinds (without offpeak. and .v1), that one last."""
        kinds = [f"offpeak.{kind}.v1" for kind in kinds]
        found = [self.next(asked)]
        while found[-1].kind not in kinds:
            if found[-1].problem:
                raise Refused(found[-1].body)
            found.append(self.next(asked))
        return found

    def receive(self, wait_s=0.2):
        """Takes what the queue has, and waits a moment for more if it has nothing."""
        method, properties, body = self.channel.basic_get(self.queue)
        if method is None:
            self.connection.process_data_events(wait_s)
            return False
        value = contract.validate_reply(properties, body)
        asked = properties.correlation_id
        known = properties.message_id in self.seen
        self.check(properties, body, asked)
        if not known:
            self.waiting.setdefault(asked, []).append(Reply(properties.type, value, properties))
        self.channel.basic_ack(method.delivery_tag)
        return True

    def check(self, properties, body, asked):
        """What every reply has: the trace of its request, its format, and an id that no other body has."""
        if asked in self.traces:
            trace = (properties.headers or {}).get("traceparent")
            if trace not in self.traces[asked]:
                raise AssertionError(f"{properties.type} has the trace {trace}, its request {self.traces[asked]}")
        if self.seen.setdefault(properties.message_id, body) != body:
            raise AssertionError(f"two bodies have the message_id {properties.message_id}")

    def put(self, data, offsets=None, name=None):
        """Uploads the parts at these offsets (all by default), each answered; the last answer."""
        stored = None
        for offset in range(0, len(data), PART_BYTES) if offsets is None else offsets:
            part = self.bytes(data[offset:offset + PART_BYTES])
            body = {"digest": name or digest(data), "size": len(data), "offset": offset, "data": part}
            stored = self.get("blob.put", body)
        return stored

    def upload(self, source):
        """Uploads a file or bytes; its digest."""
        data = source if isinstance(source, bytes) else source.read_bytes()
        stored = self.put(data)
        if not stored["whole"]:
            raise AssertionError(f"all parts were sent, and the grid has {stored}")
        return stored["digest"]

    def submit(self, spec, **changes):
        """Submits a job; raises Refused if it is."""
        asked = self.send("job.submit", spec, **changes)
        reply = self.next(asked)
        if reply.problem:
            raise Refused(reply.body)
        if reply.kind != "offpeak.job.accepted.v1":
            raise AssertionError(f"the first reply to a submission is {reply.kind}")
        return Job(reply.body["job"], asked, reply.body["items"])

    def completed(self, job):
        """The end of a job, and the bodies of the parts that came before it."""
        replies = self.until(job.asked, "job.completed")
        parts = [reply.body for reply in replies if reply.kind == "offpeak.job.part.v1"]
        return replies[-1].body, parts

    def outputs(self, parts):
        """The results in these parts, which by number must follow each other: (succeeded, bytes) of each item."""
        found = []
        for part in sorted(parts, key=lambda part: part["part"]):
            if part["first"] != len(found):
                raise AssertionError(f"part {part['part']} begins at item {part['first']}, not {len(found)}")
            found += entries(self.read_bytes(part["output"]))
        return found

    def fetch(self, job, part=0, limit=100):
        """One request for results: the parts that came, and what was said after them."""
        asked = self.send("job.fetch", {"job": job, "part": part, "limit": limit})
        replies = self.until(asked, "job.fetched")
        return [reply.body for reply in replies[:-1]], replies[-1].body


class Grid(scrape.Grid):
    """The services with logs as JSON, and customers with users of their own."""

    def __init__(self, services=None, settings=None):
        services = {"producer": {}, "aggregator": {}, "worker": {}} if services is None else services
        super().__init__(services, {"OFFPEAK__LOG__FORMAT": "json", **(settings or {})})

    def __enter__(self):
        super().__enter__()
        self.vhost = urllib.parse.unquote(urllib.parse.urlsplit(self.env["OFFPEAK__AMQP__URL"]).path[1:])
        self._customers = contextlib.ExitStack()
        self._stack.enter_context(self._customers)
        return self

    def operate(self, *words):
        """Runs `offpeak customer ...` against this grid."""
        broker = ["--management", scrape.management_url(), "--vhost", self.vhost]
        return self.command("customer", *words, *broker, "--database", self.env["OFFPEAK__DATABASE__URL"])

    def customer(self, form="json", **limits):
        """Provisions a customer of a name that no other has, with these limits; a connection of it."""
        name = f"c-{uuid.uuid4().hex[:12]}"
        options = [word for key, value in limits.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        made = json.loads(self.operate("add", name, *options, "--json"))
        self._customers.callback(scrape.management, "DELETE", f"/api/users/{name}")
        base = urllib.parse.urlsplit(self.env["OFFPEAK__AMQP__URL"])
        url = base._replace(netloc=f"{name}:{made['password']}@{base.hostname}:{base.port or 5672}").geturl()
        return self.also(Customer(name, url, form))

    def also(self, customer):
        """Closes that connection with the grid."""
        self._customers.callback(customer.close)
        return customer

    def limit(self, customer, **limits):
        """Changes a customer's limits; the producer keeps to them after it has looked again."""
        options = [word for key, value in limits.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        return self.operate("limits", customer.name, *options)

    def sql(self, statement):
        """Rows of the grid's database, each a list of texts."""
        return scrape.sql(self.env["OFFPEAK__DATABASE__URL"], statement)
