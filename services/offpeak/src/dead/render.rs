//! Letters as people and programs read them. What they hold was written by others: it never reaches a terminal as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ports::broker::{Delivery, Properties};
use ports::dead::{DeadLetter, exchange, own_headers};
use protocol::codec::{self, Format};
use serde_json::{Value, json};

use crate::outputs::Json;
use crate::terminal::grouped;
use crate::times::instant;

/// Of a body that cannot be decoded so many bytes are shown.
const SHOWN_BYTES: usize = 256;
/// A cause is cut to so many signs in a list.
const CAUSE_SIGNS: usize = 90;
/// A decoded body is cut to so many signs for people; JSON has all of it.
const BODY_SIGNS: usize = 20_000;

/// The columns of a list.
pub const HEADINGS: [&str; 6] = ["id", "origin", "died", "attempts", "customer", "cause"];
/// A list is printed as it is read, so the columns' widths do not follow what comes.
const WIDTHS: [usize; 5] = [42, 8, 20, 8, 12];

/// A line of the list; the headings are one too.
pub fn as_row(cells: [&str; 6]) -> String {
    let [id, origin, died, attempts, customer, cause] = cells;
    let [id_signs, origin_signs, died_signs, attempts_signs, customer_signs] = WIDTHS;
    let cause: String = cause.chars().take(CAUSE_SIGNS).collect();
    let begin = format!("{id:<id_signs$}  {origin:<origin_signs$}  {died:<died_signs$}");
    let end = format!("{attempts:>attempts_signs$}  {customer:<customer_signs$}  {}", plain(&cause));
    format!("{begin}  {end}\n")
}

/// Text without signs that move a terminal's cursor or its reader's eye.
pub fn plain(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect()
}

/// All that a letter says, with what travelled with its body.
pub fn as_text(letter: &DeadLetter, properties: &Properties) -> String {
    let unknown = || "unknown".to_owned();
    let time = |at: Option<protocol::Micros>| at.map_or_else(unknown, instant);
    let to = letter.routing_key.as_ref();
    let to = to.map_or_else(unknown, |key| format!("{}, routing key {key}", exchange(letter.origin)));
    let mut rows = vec![
        ("letter", letter.id.clone()),
        ("origin", letter.origin.key().to_owned()),
        ("cause", letter.cause.clone()),
        ("parked by", parked_by(letter).to_owned()),
        ("died", format!("first {}, last {}", time(letter.first_at), time(letter.last_at))),
        ("attempts", letter.attempts.to_string()),
        ("queue", letter.queue.clone().unwrap_or_else(unknown)),
        ("sent to", to),
        ("type", letter.kind.clone()),
        ("user", letter.user.clone().unwrap_or_else(unknown)),
    ];
    rows.extend(letter.claimed_user.as_ref().map(|user| ("claimed user", user.clone())));
    rows.extend(letter.customer.as_ref().map(|customer| ("customer", customer.to_string())));
    if let Some(replica) = letter.replica {
        rows.push(("unit", format!("{} of job {}, replica {}", replica.unit, replica.job, replica.replica)));
    }
    let Properties { message_id, content_type, content_encoding, correlation_id, traceparent, .. } = properties;
    let message_id = Some(message_id).filter(|id| !id.is_empty() && **id != letter.id);
    let optional = [
        ("message id", message_id),
        ("content type", content_type.as_ref()),
        ("encoding", content_encoding.as_ref()),
        ("correlation id", correlation_id.as_ref()),
        ("traceparent", traceparent.as_ref()),
    ];
    rows.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))));
    rows.extend(own_headers(properties).map(|(name, value)| ("header", format!("{name}: {value}"))));
    rows.push(("body", format!("{} bytes", grouped(&letter.body_bytes))));
    rows.iter().map(|(name, value)| format!("{name:<16}{}\n", plain(value))).collect::<Vec<_>>().concat()
}

fn parked_by(letter: &DeadLetter) -> &'static str {
    if letter.by_broker { "broker" } else { "service" }
}

/// What a list tells of a letter, for programs.
pub fn as_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id, "origin": letter.origin.key(), "cause": letter.cause,
        "first_at": letter.first_at.map(instant), "last_at": letter.last_at.map(instant), "attempts": letter.attempts,
        "queue": letter.queue, "exchange": exchange(letter.origin), "routing_key": letter.routing_key, "type": letter.kind,
        "user": letter.user, "claimed_user": letter.claimed_user, "parked_by": parked_by(letter),
        "customer": letter.customer, "job": letter.replica.map(|replica| replica.job),
        "unit": letter.replica.map(|replica| replica.unit), "replica": letter.replica.map(|replica| replica.replica),
        "body_bytes": letter.body_bytes,
    })
}

/// All that a letter says, for programs.
pub fn whole_json(letter: &DeadLetter, properties: &Properties) -> Value {
    let mut object = as_json(letter);
    object["message_id"] = json!(properties.message_id);
    object["content_type"] = json!(properties.content_type);
    object["content_encoding"] = json!(properties.content_encoding);
    object["correlation_id"] = json!(properties.correlation_id);
    object["traceparent"] = json!(properties.traceparent);
    object["headers"] = own_headers(properties).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    object
}

/// A body's value as JSON, if it is any.
fn decoded(letter: &Delivery) -> Option<Value> {
    let properties = &letter.properties;
    let body = codec::decoded(properties.content_encoding.as_deref(), &letter.body).ok()?;
    match Format::from_content_type(properties.content_type.as_deref()).ok()? {
        Format::Json => serde_json::from_slice(&body).ok(),
        Format::MessagePack => {
            let value: protocol::Value = codec::decode("body", &body, Format::MessagePack).ok()?;
            serde_json::to_value(Json(&value)).ok()
        }
    }
}

/// A body for programs: the value under `body`, or the bytes under `body_base64`.
pub fn body_json(letter: &Delivery) -> (&'static str, Value) {
    match decoded(letter) {
        Some(value) => ("body", value),
        None => ("body_base64", Value::String(STANDARD.encode(&letter.body))),
    }
}

/// A body for people.
pub fn body_text(letter: &Delivery) -> String {
    let pretty = decoded(letter).and_then(|value| serde_json::to_string_pretty(&value).ok());
    let Some(pretty) = pretty else { return first_bytes(&letter.body) };
    match pretty.char_indices().nth(BODY_SIGNS) {
        Some((end, _)) => format!("{}\n... (--json has all of it)\n", escaped(pretty.get(..end).unwrap_or_default())),
        None => escaped(&pretty) + "\n",
    }
}

/// JSON without signs that move a terminal's cursor: in its texts those from U+007F on may stand as they are.
fn escaped(json: &str) -> String {
    let moves = |sign: char| sign.is_control() && sign != '\n';
    let shown = |sign: char| if moves(sign) { format!("\\u{:04x}", u32::from(sign)) } else { sign.to_string() };
    json.chars().map(shown).collect()
}

fn first_bytes(body: &[u8]) -> String {
    let lines = body.chunks(16).take(SHOWN_BYTES / 16).enumerate().map(|(number, bytes)| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = bytes.iter().map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '.' }).collect();
        format!("{:06x}  {:<47}  {text}\n", number * 16, hex.join(" "))
    });
    let shown = lines.collect::<Vec<_>>().concat();
    let rest = body.len().saturating_sub(SHOWN_BYTES);
    if rest > 0 { format!("{shown}... and {} bytes more\n", grouped(&rest)) } else { shown }
}
