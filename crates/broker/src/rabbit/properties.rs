//! Between our properties and AMQP's, both ways.

use lapin::BasicProperties;
use lapin::message::Delivery as Received;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use ports::broker::{Delivery, Outgoing, Properties, Tag};
use ports::dead::{DEATHS, FIRST_DEATH_COUNT, FIRST_DEATH_KEY, FIRST_DEATH_TIME_S};

use crate::limits::{MAX_TEXT_BYTES, is_brokers_header};

/// Survives a restart of the broker.
const PERSISTENT: u8 = 2;
/// W3C trace context travels as a header of this name.
const TRACEPARENT: &str = "traceparent";
/// Counted by quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// AMQP's properties of a message; the lengths are checked before ([`crate::limits::check`]).
pub(super) fn to_amqp(outgoing: &Outgoing) -> BasicProperties {
    let ours = &outgoing.properties;
    let mut headers = FieldTable::default();
    for (name, value) in ours.headers.iter().filter(|(name, _)| !is_brokers_header(name)) {
        headers.insert(short(name), AMQPValue::LongString(value.as_str().into()));
    }
    // One that is longer is no trace, and must not stop what it came with.
    if let Some(trace) = ours.traceparent.as_ref().filter(|trace| trace.len() <= MAX_TEXT_BYTES) {
        headers.insert(short(TRACEPARENT), AMQPValue::LongString(trace.as_str().into()));
    }
    let mut amqp = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&ours.message_id))
        .with_type(short(&ours.kind))
        .with_headers(headers);
    if let Some(content_type) = &ours.content_type {
        amqp = amqp.with_content_type(short(content_type));
    }
    if let Some(encoding) = &ours.content_encoding {
        amqp = amqp.with_content_encoding(short(encoding));
    }
    if let Some(correlation_id) = &ours.correlation_id {
        amqp = amqp.with_correlation_id(short(correlation_id));
    }
    if let Some(user_id) = &ours.user_id {
        amqp = amqp.with_user_id(short(user_id));
    }
    amqp
}

/// A text of at most 255 bytes; anything longer was refused before, so nothing is cut here.
pub(super) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

/// What was received, in our words.
pub(super) fn from_amqp(received: Received, tag: Tag) -> Delivery {
    let amqp = &received.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(|text| text.as_str().to_owned());
    let mut headers = Vec::new();
    let (mut traceparent, mut delivery_count) = (None, 0);
    for (name, value) in amqp.headers().iter().flat_map(FieldTable::inner) {
        match (name.as_str(), value) {
            (DELIVERY_COUNT, count) => delivery_count = count_of(count),
            (DEATHS, deaths) => {
                // In any case, since a sender can have written one that tells nothing.
                headers.push((DEATHS.to_owned(), String::new()));
                headers.extend(first_death(deaths));
            }
            (TRACEPARENT, value) => traceparent = text_of(value),
            (name, value) => headers.extend(text_of(value).map(|value| (name.to_owned(), value))),
        }
    }
    headers.sort();
    let properties = Properties {
        message_id: text(amqp.message_id()).unwrap_or_default(),
        kind: text(amqp.kind()).unwrap_or_default(),
        content_type: text(amqp.content_type()),
        content_encoding: text(amqp.content_encoding()),
        correlation_id: text(amqp.correlation_id()),
        user_id: text(amqp.user_id()),
        traceparent,
        headers,
    };
    Delivery {
        tag,
        routing_key: received.routing_key.to_string(),
        redelivered: received.redelivered,
        delivery_count,
        properties,
        body: received.data,
    }
}

fn text_of(value: &AMQPValue) -> Option<String> {
    let bytes = value.as_long_string().map(|text| text.as_bytes().to_vec());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).or_else(|| value.as_short_string().map(ToString::to_string))
}

fn count_of(value: &AMQPValue) -> u32 {
    let count = value.as_long_long_int().or_else(|| value.as_long_int().map(i64::from));
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

/// What only the history tells of the oldest death, as headers beside the broker's own; the history begins with the latest.
fn first_death(deaths: &AMQPValue) -> Vec<(String, String)> {
    let oldest = deaths.as_array().and_then(|deaths| deaths.as_slice().last()?.as_field_table());
    let Some(oldest) = oldest.map(FieldTable::inner) else { return Vec::new() };
    let keys = oldest.get("routing-keys").and_then(AMQPValue::as_array);
    let key = keys.and_then(|keys| text_of(keys.as_slice().first()?));
    let count = oldest.get("count").map(|count| count_of(count).to_string());
    let time = oldest.get("time").and_then(AMQPValue::as_timestamp).map(|seconds| seconds.to_string());
    let named = [(FIRST_DEATH_KEY, key), (FIRST_DEATH_COUNT, count), (FIRST_DEATH_TIME_S, time)];
    named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
