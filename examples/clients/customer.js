// A customer of the grid in JavaScript, with nothing but amqplib: uploads what a job needs, submits and follows it, prints its results.
// Call it as `node customer.js amqp://acme:secret@host/%2f sum.json [--cancel]`; Ctrl-C cancels, too, and once more ends it.
const { createHash, randomBytes, randomUUID } = require('node:crypto');
const { on } = require('node:events');
const { readFileSync } = require('node:fs');
const { dirname, resolve } = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const amqp = require('amqplib');
const PART_BYTES = 1 << 20; // blobs go up in parts of this size
const TRACEPARENT = `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`; // the grid's logs and replies carry it
const sha256 = (...pieces) => pieces.reduce((hash, piece) => hash.update(piece), createHash('sha256')).digest();
const uuid7 = () => `${Date.now().toString(16).padStart(12, '0').replace(/.{8}/, '$&-')}-7${randomUUID().slice(15)}`; // ordered by time
/** The results in a part: a count, then for each item its status (0: succeeded), its length, its bytes, padding to 8. */
function* entries(frame) {
  for (let left = frame.readUInt32LE(0), at = 4, end; left > 0; left -= 1, at = Math.ceil(end / 8) * 8) {
    end = at + 8 + frame.readUInt32LE(at + 4);
    yield [frame[at] === 0, frame.subarray(at + 8, end)];
  }
}

class Customer {
  submission = uuid7(); job = null; part = 0; chain = Buffer.alloc(32); completed = null; // all this outlives the connection
  constructor(url, cancel) { Object.assign(this, { url, cancel, name: decodeURIComponent(new URL(url).username) }); }
  async connect() {
    await this.connection?.close().catch(() => {}); // one that refused a request still holds replies
    this.connection = await amqp.connect(this.url);
    this.connection.on('error', (error) => console.error(error.message)); // its channel closes, too
    this.channel = await this.connection.createConfirmChannel();
    this.replies = on(this.channel, 'reply', { close: ['close'] });
    await this.channel.prefetch(20);
    await this.channel.consume(`offpeak.customer.${this.name}.results`, (it) => this.channel.emit(it ? 'reply' : 'close', it));
  }
  publish(kind, body, messageId, correlationId) { // resolves when the broker has the message
    const properties = { type: `offpeak.${kind}.v1`, messageId, correlationId, userId: this.name, contentType: 'application/json' };
    Object.assign(properties, { persistent: true, mandatory: true, headers: { traceparent: TRACEPARENT } });
    return new Promise((taken, failed) => this.channel.publish('offpeak.submit', this.name, Buffer.from(JSON.stringify(body)),
      properties, (error) => (error ? failed(error) : taken())));
  }
  /** Sends a request, and hands `use` its replies until it returns something. */
  async ask(kind, body, use = (_kind, reply) => reply, messageId = uuid7()) {
    await this.publish(kind, body, messageId, messageId);
    for (let done; ;) {
      const { value: [message] = [] } = await this.replies.next();
      if (!message) throw new Error('the connection was lost');
      const { type, correlationId, contentType } = message.properties;
      const reply = JSON.parse(message.content);
      if (correlationId !== messageId) console.error(type, 'of an earlier run is passed over');
      else if (contentType === 'application/problem+json') {
        const mistakes = reply.errors.map((error) => `\n  ${error.pointer}: ${error.detail}`);
        console.error(`problem ${reply.status} ${reply.code}: ${reply.detail}`, ...mistakes);
        if (!reply.retryable) process.exit(2);
        await sleep(1000 * (reply.retry_after_s ?? 5));
        await this.publish(kind, body, messageId, messageId); // with the same id: what arrives twice counts once
      } else done = await use(type.split('.')[2], reply);
      this.channel.ack(message); // not before it was used: until then the broker keeps it
      if (done) return done;
    }
  }
  /** Sends the parts that the grid lacks: all of them, or what an upload before did not come to; the blob's digest. */
  async upload(path) {
    const content = readFileSync(path), digest = sha256(content).toString('hex'), size = content.length;
    const before = (BigInt(`0x${digest}`) - 1n).toString(16).padStart(64, '0'); // blobs are listed in the order of their digests
    for (;;) {
      const { blobs } = await this.ask('blob.list', { after: before, limit: 1 });
      const blob = blobs.find((one) => one.digest === digest) ?? { whole: false, missing: [[0, size]] };
      if (blob.whole) return digest;
      for (const [start, length] of blob.missing) for (let offset = start; offset < start + length; offset += PART_BYTES) {
        const data = content.subarray(offset, offset + PART_BYTES).toString('base64');
        const { received } = await this.ask('blob.put', { digest, size, offset, data });
        console.error(`${path}: ${received} of ${size} bytes are there`);
      }
    }
  }
  /** Prints the next part, asks for the job's end if told to, and at its end for parts that did not come. */
  async follow(kind, reply) {
    this.job = reply.job;
    if (kind === 'part' && reply.part === this.part) { // none that came again, or after a missing one
      [...entries(Buffer.from(reply.output, 'base64'))].forEach(([succeeded, output], at) => {
        this.chain = sha256(this.chain, Buffer.of(succeeded ? 0 : 1), succeeded ? output : '');
        console.log(reply.first + at, succeeded ? `ok ${output.toString('hex')}` : `failed ${output}`);
      });
      this.part += 1;
    } else if (kind !== 'part') console.error(kind, JSON.stringify(reply));
    if (kind === 'completed') this.completed = reply;
    if (this.cancel) await this.stop();
    if (!this.completed || kind === 'part') return null;
    const left = kind === 'fetched' ? reply.next_part : this.completed.withheld;
    if (!left && this.part >= this.completed.parts) return this.completed;
    return this.publish('job.fetch', { job: this.job, part: this.part }, uuid7(), this.submission);
  }
  async stop() { // asks for the end of a job that is accepted, or will when it is
    if (!this.job || this.completed) return;
    this.cancel = false;
    await this.publish('job.cancel', { job: this.job }, uuid7(), this.submission).catch((lost) => { this.cancel = true; throw lost; });
  }
  /** Puts the digests of blobs, which are there then, into a job where its file names files; registers the app. */
  async prepare(spec, folder) {
    for (const [place, key] of [[spec, 'app'], [spec, 'shared'], ...Object.values(spec.input).map((source) => [source, 'blob'])]) {
      if (place[key]) place[key] = await this.upload(resolve(folder, place[key]));
    }
    console.error('registered', JSON.stringify(await this.ask('app.register', { app: spec.app })));
    return spec;
  }
  /** Does it all, or what a lost connection left of it: after the submission nothing else is asked, since the job's replies come. */
  async run(path) {
    await this.connect();
    this.spec ??= await this.prepare({ ...JSON.parse(readFileSync(path)), delivery: 'parts' }, dirname(path));
    const { state, certificate } = await this.ask('job.submit', this.spec, (...reply) => this.follow(...reply), this.submission);
    const wrong = state === 'completed' && this.chain.toString('hex') !== certificate.output_digest;
    if (wrong) console.error('these are not the outputs that the grid certifies');
    else await this.ask('job.release', { job: this.job }); // they are printed: the grid need not keep them
    await this.connection.close(); // the last acknowledgement goes out before it
    process.exit(wrong ? 1 : state === 'completed' ? 0 : 3);
  }
}
const customer = new Customer(process.argv[2], process.argv.includes('--cancel'));
process.once('SIGINT', () => { customer.cancel = true; customer.stop().catch(() => {}); }); // lost with the connection, it is sent later
const again = (error) => console.error(`again in 2 seconds: ${error.message}`) ?? sleep(2000); // the queue is full, or the broker went
(async () => { for (;;) await customer.run(process.argv[3]).catch(again); })();
