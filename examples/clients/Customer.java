// A customer of the grid in Java, with the official client and Jackson: uploads what a job needs, submits and follows it, prints its
// results. Call it as `java -cp "$JARS" Customer.java amqp://acme:secret@host/%2f sum.json [--cancel]`; Ctrl-C cancels, too.
import com.fasterxml.jackson.databind.*;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.rabbitmq.client.*;
import java.nio.*;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
public final class Customer {
    static final int PART_BYTES = 1 << 20; // blobs go up in parts of this size
    static final String TRACEPARENT = uuid7().replaceAll("(.{8})-(.{4})-(.{4})-(.{4})-(.{12})", "00-$1$2$3$4$5-$4$5-01"); // for the logs
    static final ObjectMapper JSON = new ObjectMapper();
    final MessageDigest sha256 = MessageDigest.getInstance("SHA-256");
    final BlockingQueue<Delivery> inbox = new LinkedBlockingQueue<>(); // the broker holds what is beyond the prefetch
    final String name, submission = uuid7();
    final Channel channel;
    volatile boolean cancel;
    Delivery last; // of the replies, not yet acknowledged
    JsonNode job;
    int part; // the one to come
    byte[] chain = new byte[32];
    Customer(String url) throws Exception {
        ConnectionFactory factory = new ConnectionFactory(); // its connections heal by themselves, and then go on reading
        factory.setUri(url);
        factory.setThreadFactory(task -> { Thread thread = new Thread(task); thread.setDaemon(true); return thread; });
        name = factory.getUsername();
        channel = factory.newConnection().createChannel();
        channel.basicQos(20);
        channel.confirmSelect();
        channel.basicConsume("offpeak.customer." + name + ".results", false, (tag, delivery) -> inbox.add(delivery), tag -> { });
    }
    static String uuid7() { // ids are ordered by time: 48 bits of milliseconds, then chance
        return String.format("%012x-7", System.currentTimeMillis()).replaceFirst(".{8}", "$0-") + UUID.randomUUID().toString().substring(15);
    }
    void publish(String kind, Object body, String messageId, String correlationId) throws Exception {
        var properties = new AMQP.BasicProperties.Builder().type("offpeak." + kind + ".v1").messageId(messageId).correlationId(correlationId)
            .userId(name).contentType("application/json").deliveryMode(2).headers(Map.of("traceparent", TRACEPARENT)).build();
        for (boolean taken = false; !taken; ) try { // until the broker has it: what arrives twice under one id counts once
            channel.basicPublish("offpeak.submit", name, true, properties, JSON.writeValueAsBytes(body));
            taken = channel.waitForConfirms(30_000);
        } catch (java.io.IOException | AlreadyClosedException | TimeoutException lost) {
            System.err.println("again in 2 seconds: " + lost); Thread.sleep(2_000);
        }
    }
    /** Sends a request if told to, or again after a problem that passes; its next reply, the one before being used by now. */
    JsonNode ask(String kind, Object body, String id, boolean send) throws Exception {
        if (send) publish(kind, body, id, id);
        for (;;) {
            if (last != null) // until here the broker kept it; if the connection was lost meanwhile, it comes again
                try { channel.basicAck(last.getEnvelope().getDeliveryTag(), false); } catch (AlreadyClosedException lost) { }
            last = inbox.poll(1, TimeUnit.SECONDS);
            if (cancel && job != null) { cancel = false; publish("job.cancel", Map.of("job", job), uuid7(), submission); }
            if (last == null || !id.equals(last.getProperties().getCorrelationId())) continue;
            JsonNode reply = JSON.readTree(last.getBody());
            if (!last.getProperties().getContentType().equals("application/problem+json")) return reply;
            System.err.println("problem " + reply.toPrettyString());
            if (!reply.get("retryable").asBoolean()) System.exit(2);
            Thread.sleep(1_000 * reply.path("retry_after_s").asLong(5));
            publish(kind, body, id, id);
        }
    }
    JsonNode ask(String kind, Object body) throws Exception { return ask(kind, body, uuid7(), true); }
    /** Sends the parts that the grid lacks: all of them, or what an upload before did not come to; the blob's digest. */
    String upload(Path path) throws Exception {
        byte[] content = Files.readAllBytes(path), digest = sha256.digest(content);
        String name = HexFormat.of().formatHex(digest), before = String.format("%064x", new java.math.BigInteger(1, digest).negate().not());
        JsonNode blob = ask("blob.list", Map.of("after", before, "limit", 1)).path("blobs").path(0); // they come in order, after that digest
        for (JsonNode gap : blob.path("digest").asText().equals(name) ? blob.get("missing") : JSON.readTree("[[0," + content.length + "]]"))
            for (int at = gap.get(0).asInt(), end = at + gap.get(1).asInt(); at < end; at += PART_BYTES)
                System.err.println(ask("blob.put", Map.of("digest", name, "size", content.length, "offset", at,
                    "data", Arrays.copyOfRange(content, at, Math.min(at + PART_BYTES, content.length)))));
        return name;
    }
    /** Does it all; a job file names files where a job names blobs. Returns how the job ended. */
    String run(Path path) throws Exception {
        ObjectNode spec = ((ObjectNode) JSON.readTree(path.toFile())).put("delivery", "parts");
        for (String key : List.of("app", "shared")) if (spec.has(key)) spec.put(key, upload(path.resolveSibling(spec.get(key).asText())));
        for (JsonNode source : spec.get("input"))
            if (source.has("blob")) ((ObjectNode) source).put("blob", upload(path.resolveSibling(source.get("blob").asText())));
        System.err.println("registered " + ask("app.register", Map.of("app", spec.get("app"))));
        JsonNode reply = null, completed = null;
        for (boolean all = false; !all; job = reply.get("job")) {
            reply = ask("job.submit", spec, submission, reply == null);
            if (!reply.has("output")) System.err.println(reply);
            else if (reply.get("part").asInt() == part) take(reply.get("first").asLong(), reply.get("output").binaryValue());
            if (reply.has("certificate")) completed = reply;
            if (completed == null || reply.has("output")) continue;
            boolean more = reply.has("next_part") ? reply.hasNonNull("next_part") : completed.path("withheld").asBoolean();
            all = !more && part >= completed.get("parts").asInt();
            if (!all) publish("job.fetch", Map.of("job", reply.get("job"), "part", part), uuid7(), submission);
        }
        String state = completed.get("state").asText(), certified = completed.at("/certificate/output_digest").asText();
        if (state.equals("completed") && !HexFormat.of().formatHex(chain).equals(certified)) return "not as certified";
        ask("job.release", Map.of("job", job)); // they are printed: the grid need not keep them
        channel.basicAck(last.getEnvelope().getDeliveryTag(), false);
        return state;
    }
    /** Prints the next part's results: a count, then for each item its status (0: succeeded), its length, its bytes, padding to 8. */
    void take(long item, byte[] output) throws Exception {
        ByteBuffer frame = ByteBuffer.wrap(output).order(ByteOrder.LITTLE_ENDIAN);
        for (int left = frame.getInt(); left > 0; left--) {
            boolean ok = frame.getInt() == 0;
            byte[] bytes = new byte[frame.getInt()];
            frame.get(bytes).position((frame.position() + 7) / 8 * 8);
            System.out.println(item++ + (ok ? " ok " + HexFormat.of().formatHex(bytes) : " failed " + new String(bytes, "UTF-8")));
            sha256.update(ByteBuffer.allocate(33).put(chain).put((byte) (ok ? 0 : 1)).flip()); // the chain that the grid certifies
            chain = sha256.digest(ok ? bytes : new byte[0]);
        }
        part++;
    }
    public static void main(String[] arguments) throws Exception {
        Customer customer = new Customer(arguments[0]);
        customer.cancel = List.of(arguments).contains("--cancel");
        sun.misc.Signal.handle(new sun.misc.Signal("INT"), signal -> customer.cancel = true);
        System.exit(Map.of("completed", 0, "not as certified", 1).getOrDefault(customer.run(Path.of(arguments[1])), 3));
    }
}
