//! The properties of AMQP that travel with the messages, as the document's headers.

use super::node::{Node, map};
use crate::problem::PROBLEM_JSON;

fn text(description: &str) -> Node {
    map([("type", "string".into()), ("description", description.into())])
}

fn one_of(values: &[&str], description: &str) -> Node {
    let values = values.iter().map(|value| Node::from(*value)).collect::<Vec<_>>();
    map([("type", "string".into()), ("enum", values.into()), ("description", description.into())])
}

fn object(required: &[&str], properties: Node) -> Node {
    let required = required.iter().map(|name| Node::from(*name)).collect::<Vec<_>>();
    map([("type", "object".into()), ("required", required.into()), ("properties", properties)])
}

/// What every message has.
fn persistent() -> Node {
    map([
        ("type", "integer".into()),
        ("const", 2_u64.into()),
        ("description", "2: the message survives a restart of the broker.".into()),
    ])
}

/// Properties of requests.
pub(super) fn of_requests() -> Node {
    let properties = map([
        ("type", text("The type of the message: its name here, such as offpeak.job.submit.v1.")),
        (
            "message_id",
            text(
                "The key by which a second arrival is known: a UUIDv7 at best, at most 255 bytes. All that changes anything needs \
                 one. Send the same one when you send again; for a submission it names the job for ever.",
            )
            .with("minLength", 1_u64)
            .with("maxLength", 255_u64),
        ),
        (
            "correlation_id",
            text("Yours; every answer carries it, and everything told about a job carries that of its submission.")
                .with("maxLength", 255_u64),
        ),
        (
            "content_type",
            one_of(
                &["application/json", "application/msgpack"],
                "How the body is written; answers are written alike. Without it: MessagePack.",
            ),
        ),
        (
            "content_encoding",
            one_of(&["zstd"], "Only if the body is compressed; at most 8 MiB when decompressed. Answers are never compressed."),
        ),
        ("user_id", text("The name of your AMQP user, which the broker checks. Grids may require it.")),
        ("delivery_mode", persistent()),
        ("reply_to", text("Ignored: answers always come to your own queue.")),
        ("traceparent", text("A header, W3C Trace Context: it is in the grid's logs of all that follows, and on every answer.")),
    ]);
    object(&["type"], properties)
}

/// Properties of what the grid sends.
pub(super) fn of_answers() -> Node {
    let properties = map([
        ("type", text("The type of the message: its name here.")),
        ("message_id", text("Unique, and the same when the message is sent again: whatever comes twice is dropped by it.")),
        ("correlation_id", text("That of the request; of news about a job, that of its submission.")),
        (
            "content_type",
            one_of(
                &["application/json", PROBLEM_JSON, "application/msgpack"],
                &format!("How the body is written: as the request was. Problems in JSON are {PROBLEM_JSON}."),
            ),
        ),
        ("delivery_mode", persistent()),
        ("traceparent", text("A header: that of the request.")),
    ]);
    object(&["type", "message_id", "content_type", "delivery_mode"], properties)
}
