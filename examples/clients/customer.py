"""A customer of the grid in Python, with nothing but pika: uploads what a job needs, submits and follows it, prints its results.
Call it as `python customer.py amqp://acme:secret@host/ sum.json [--cancel]`; Ctrl-C cancels, too, and once more ends it."""
import base64, functools, hashlib, json, pathlib, secrets, signal, struct, sys, time, urllib.parse, uuid
import pika
from pika.exceptions import AMQPConnectionError, NackError, ProbableAccessDeniedError, ProbableAuthenticationError
PART_BYTES = 1 << 20  # blobs go up in parts of this size
TRACEPARENT = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"  # the grid's logs and replies carry it
say = functools.partial(print, file=sys.stderr, flush=True)

def uuid7():
    """Ids are ordered by time: 48 bits of milliseconds, then chance."""
    return str(uuid.UUID(int=time.time_ns() // 10**6 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)))

def entries(frame, at=4):
    """The results in a part: a count, then for each item its status (0: succeeded), its length, its bytes, padding to 8."""
    for _ in range(*struct.unpack_from("<I", frame)):
        status, length = struct.unpack_from("<B3xI", frame, at)
        yield status == 0, frame[at + 8:at + 8 + length]
        at = (at + 8 + length + 7) // 8 * 8

class Customer:
    def __init__(self, url, cancel):
        self.name = urllib.parse.unquote(urllib.parse.urlsplit(url).username)
        self.cancel, self.submission = cancel, uuid7()  # what is known of the job outlives the connection
        self.spec, self.job, self.part, self.chain, self.completed = None, None, 0, bytes(32), None

    def publish(self, kind, body, message_id, correlation_id):
        properties = pika.BasicProperties(
            type=f"offpeak.{kind}.v1", message_id=message_id, correlation_id=correlation_id, user_id=self.name,
            content_type="application/json", delivery_mode=2, headers={"traceparent": TRACEPARENT})
        self.channel.basic_publish("offpeak.submit", self.name, json.dumps(body).encode(), properties, mandatory=True)

    def ask(self, kind, body, use=lambda _kind, reply: reply, message_id=None):
        """Sends a request, and hands `use` its replies, and nothing each second without one, until it returns something."""
        message_id, done = message_id or uuid7(), None
        self.publish(kind, body, message_id, message_id)
        for delivery, properties, content in self.replies:
            reply = json.loads(content or "{}")
            if delivery and properties.correlation_id != message_id:
                say(properties.type, "of an earlier run is passed over")
            elif delivery and properties.content_type == "application/problem+json":
                mistakes = [f"\n  {error['pointer']}: {error['detail']}" for error in reply["errors"]]
                say(f"problem {reply['status']} {reply['code']}: {reply['detail']}", *mistakes)
                if not reply["retryable"]:
                    sys.exit(2)
                self.channel.connection.sleep(reply.get("retry_after_s", 5))
                self.publish(kind, body, message_id, message_id)  # with the same id: what arrives twice counts once
            else:
                done = use(properties and properties.type.split(".")[2], reply)
            if delivery:
                self.channel.basic_ack(delivery.delivery_tag)  # not before it was used: until then the broker keeps it
            if done:
                return done

    def upload(self, path):
        """Sends the parts that the grid lacks: all of them, or what an upload before did not come to; the blob's digest."""
        content = path.read_bytes()
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
        before = f"{int(digest, 16) - 1:064x}"  # blobs are listed in the order of their digests
        while True:
            listed = self.ask("blob.list", {"after": before, "limit": 1})["blobs"]
            blob = next((one for one in listed if one["digest"] == digest), {"whole": False, "missing": [[0, size]]})
            if blob["whole"]:
                return digest
            for offset in (at for start, length in blob["missing"] for at in range(start, start + length, PART_BYTES)):
                data = base64.b64encode(content[offset:offset + PART_BYTES]).decode()
                stored = self.ask("blob.put", {"digest": digest, "size": size, "offset": offset, "data": data})
                say(f"{path}: {stored['received']} of {size} bytes are there")

    def follow(self, kind, reply):
        """Prints the next part, asks for the job's end if told to, and at its end for parts that did not come."""
        self.job = reply.get("job", self.job)
        if kind == "part" and reply["part"] == self.part:  # none that came again, or after a missing one
            for item, (succeeded, output) in enumerate(entries(base64.b64decode(reply["output"])), reply["first"]):
                self.chain = hashlib.sha256(self.chain + (b"\0" + output if succeeded else b"\1")).digest()
                print(item, f"ok {output.hex()}" if succeeded else f"failed {output.decode()}", flush=True)
            self.part += 1
        elif kind not in (None, "part"):
            say(kind, json.dumps(reply))
        self.completed = reply if kind == "completed" else self.completed
        if self.cancel and self.job and not self.completed:
            self.cancel = False
            self.publish("job.cancel", {"job": self.job}, uuid7(), self.submission)
        if self.completed and kind not in (None, "part"):
            left = reply["next_part"] if kind == "fetched" else self.completed.get("withheld")
            if not left and self.part >= self.completed["parts"]:
                return self.completed
            self.publish("job.fetch", {"job": self.job, "part": self.part}, uuid7(), self.submission)

    def prepare(self, spec, folder):
        """Puts the digests of blobs, which are there then, into a job where its file names files; registers the app."""
        for place, key in ((spec, "app"), (spec, "shared"), *((source, "blob") for source in spec["input"].values())):
            if key in place:
                place[key] = self.upload(folder / place[key])
        say("registered", self.ask("app.register", {"app": spec["app"]}))
        return spec

    def run(self, connection, path):
        """Does it all, or what a lost connection left of it: after the submission nothing else is asked, since its replies come."""
        self.channel = connection.channel()
        self.channel.confirm_delivery()
        self.channel.basic_qos(prefetch_count=20)
        self.replies = self.channel.consume(f"offpeak.customer.{self.name}.results", inactivity_timeout=1)
        self.spec = self.spec or self.prepare({**json.loads(path.read_text()), "delivery": "parts"}, path.parent)
        completed = self.ask("job.submit", self.spec, self.follow, self.submission)
        if completed["state"] == "completed" and self.chain.hex() != completed["certificate"]["output_digest"]:
            sys.exit("these are not the outputs that the grid certifies")
        self.ask("job.release", {"job": self.job})  # they are printed: the grid need not keep them
        return completed["state"]
customer = Customer(sys.argv[1], "--cancel" in sys.argv)
signal.signal(signal.SIGINT, lambda *_: (setattr(customer, "cancel", True), signal.signal(signal.SIGINT, signal.SIG_DFL)))
while True:
    try:
        with pika.BlockingConnection(pika.URLParameters(sys.argv[1])) as connection:
            sys.exit(0 if customer.run(connection, pathlib.Path(sys.argv[2])) == "completed" else 3)
    except (AMQPConnectionError, NackError) as error:  # refused by a full queue, or unanswered by a broker that went
        if isinstance(error, (ProbableAccessDeniedError, ProbableAuthenticationError)): raise
        say(f"again in 2 seconds: {error!r}")
        time.sleep(2)
