//! Reading letters off an in-memory broker: nothing is lost, read twice or moved.

use broker::{MemoryBroker, Topology};
use ports::broker::{Confirm, Outgoing, Properties};
use protocol::address::DEAD_EXCHANGE;

use super::*;

const ORIGIN: Origin = Origin::Fetch;

async fn parked(letters: usize) -> MemoryBroker {
    let broker = MemoryBroker::with_topology(&Topology::grid(&[], 1));
    park(&broker, 0..letters).await;
    broker
}

async fn park(broker: &MemoryBroker, letters: std::ops::Range<usize>) {
    let letter = |number: usize| Outgoing {
        exchange: DEAD_EXCHANGE.to_owned(),
        routing_key: ORIGIN.key().to_owned(),
        properties: Properties { message_id: format!("{number:05}"), ..Properties::default() },
        body: Vec::new(),
    };
    let confirms = broker.publish(letters.map(letter).collect(), ARRIVING).await.unwrap();
    assert!(confirms.iter().all(|confirm| *confirm == Confirm::Stored));
}

/// Reads all; removes those that `gone` names.
async fn read(broker: &MemoryBroker, gone: impl Fn(&str) -> bool) -> Vec<String> {
    let mut reading = Reading::begin(broker, ORIGIN).await.unwrap();
    let mut seen = Vec::new();
    while let Some(page) = reading.page().await.unwrap() {
        assert!(page.len() <= usize::from(PAGE));
        let tags: Vec<Tag> = page.iter().filter(|letter| gone(&letter.properties.message_id)).map(|letter| letter.tag).collect();
        seen.extend(page.into_iter().map(|letter| letter.properties.message_id));
        reading.remove(&tags).await.unwrap();
    }
    reading.end().await.unwrap();
    seen
}

fn named(letters: impl Iterator<Item = usize>) -> Vec<String> {
    letters.map(|number| format!("{number:05}")).collect()
}

#[tokio::test]
async fn looking_is_without_effect_however_often() {
    let broker = parked(200).await;
    for _ in 0..30 {
        assert_eq!(read(&broker, |_| false).await, named(0..200));
    }
    assert_eq!(ready(&broker, &ORIGIN.queue()).await.unwrap(), 200);
}

#[tokio::test]
async fn what_is_removed_is_gone_and_the_rest_stays_in_order() {
    let broker = parked(150).await;
    assert_eq!(read(&broker, |id| id.ends_with('7')).await, named(0..150));
    let left: Vec<usize> = (0..150).filter(|number| number % 10 != 7).collect();
    assert_eq!(read(&broker, |_| true).await, named(left.into_iter()));
    assert_eq!(read(&broker, |_| false).await, named(0..0));
}

#[tokio::test]
async fn what_comes_while_reading_is_left_for_the_next() {
    let broker = parked(70).await;
    let mut reading = Reading::begin(&broker, ORIGIN).await.unwrap();
    let mut count = reading.page().await.unwrap().unwrap().len();
    park(&broker, 70..90).await;
    while let Some(page) = reading.page().await.unwrap() {
        count += page.len();
    }
    assert_eq!(count, 70);
    drop(reading); // as if killed
    assert_eq!(read(&broker, |_| false).await.len(), 90);
}

#[tokio::test]
async fn two_readers_share_and_neither_waits_for_ever() {
    let broker = parked(3).await;
    let mut one = Reading::begin(&broker, ORIGIN).await.unwrap();
    let mut other = Reading::begin(&broker, ORIGIN).await.unwrap();
    assert_eq!(one.page().await.unwrap().unwrap().len(), 3);
    assert!(other.page().await.unwrap().is_none(), "the other holds them");
    one.end().await.unwrap();
    assert_eq!(read(&broker, |_| false).await, named(0..3));
}

#[test]
fn filters_pass_what_tells_what_is_asked_for() {
    use crate::args::{FilterArgs, OriginArg};
    use ports::dead::{Death, letter};
    use protocol::{CustomerName, Micros};

    let properties = Properties { message_id: "x".to_owned(), ..Properties::default() };
    let tag = Tag { generation: 0, tag: 0 };
    let mut delivery =
        Delivery { tag, routing_key: "acme".to_owned(), redelivered: false, delivery_count: 0, properties, body: Vec::new() };
    let death = Death { origin: Origin::Submit, queue: "q", cause: "Body ends EARLY", at: Micros(1_000_000) };
    let parked = letter(delivery.clone(), death);
    delivery.properties = parked.properties;
    let letter = ports::dead::DeadLetter::of(Origin::Submit, &delivery);
    let passes = |args: FilterArgs| Filter::new(&args, Micros(61_000_000)).passes(&letter);
    let minute = Some(Duration::from_mins(1));
    assert!(passes(FilterArgs::default()) && FilterArgs::default().is_empty());
    assert!(passes(FilterArgs { cause: Some("ends Early".to_owned()), ..FilterArgs::default() }));
    assert!(passes(FilterArgs { customer: CustomerName::new("acme").ok(), ..FilterArgs::default() }));
    assert!(passes(FilterArgs { newer_than: minute, origin: Some(OriginArg::Submit), ..FilterArgs::default() }));
    for other in [
        FilterArgs { cause: Some("late".to_owned()), ..FilterArgs::default() },
        FilterArgs { customer: CustomerName::new("acme-2").ok(), ..FilterArgs::default() },
        FilterArgs { origin: Some(OriginArg::Work), ..FilterArgs::default() },
        FilterArgs { job: "01980f3c-7b1e-7c55-8d42-0123456789ab".parse().ok(), ..FilterArgs::default() },
        FilterArgs { older_than: minute, ..FilterArgs::default() },
    ] {
        assert!(!other.is_empty());
        assert!(!passes(other.clone()), "{other:?}");
    }
}

#[test]
fn what_senders_wrote_does_not_reach_a_terminal() {
    let row = as_row(["a", "submit", "", "1", "acme", "bad \u{1b}[2J\r\n body"]);
    assert!(!row.trim_end().chars().any(char::is_control), "{row:?}");
    let tag = Tag { generation: 0, tag: 0 };
    let properties = Properties { content_type: Some("application/json".to_owned()), ..Properties::default() };
    let mut delivery =
        Delivery { tag, routing_key: String::new(), redelivered: false, delivery_count: 0, properties, body: Vec::new() };
    delivery.body = b"{\"a\":\"\\u001b[2J\"}".to_vec();
    assert_eq!(body_text(&delivery), "{\n  \"a\": \"\\u001b[2J\"\n}\n");
    // JSON's own writer leaves these as they are.
    delivery.body = "[\"\u{7f}\u{9b}2J\u{85} \u{e9}\"]".as_bytes().to_vec();
    assert_eq!(body_text(&delivery), "[\n  \"\\u007f\\u009b2J\\u0085 \u{e9}\"\n]\n");
    delivery.body = vec![0x1b; 300];
    assert!(body_text(&delivery).ends_with("... and 44 bytes more\n") && !body_text(&delivery).contains('\u{1b}'));
    assert_eq!(body_json(&delivery).0, "body_base64");
}

#[test]
fn a_letter_is_shown_with_what_travelled_with_its_body() {
    use ports::dead::{DeadLetter, Death, letter};
    use protocol::Micros;
    use serde_json::{Value, json};

    let properties = Properties {
        message_id: "with spaces".to_owned(),
        content_type: Some("application/json".to_owned()),
        correlation_id: Some("order \u{9b}2J".to_owned()),
        user_id: Some("admin".to_owned()),
        headers: vec![("offpeak-dead-user-id".to_owned(), "acme".to_owned()), ("theirs".to_owned(), "kept".to_owned())],
        ..Properties::default()
    };
    let tag = Tag { generation: 0, tag: 0 };
    let mut delivery =
        Delivery { tag, routing_key: "acme".to_owned(), redelivered: false, delivery_count: 0, properties, body: Vec::new() };
    let death = Death { origin: Origin::Submit, queue: "q", cause: "rubbish", at: Micros(1_000_000) };
    delivery.properties = letter(delivery.clone(), death).properties;
    let seen = DeadLetter::of(Origin::Submit, &delivery);

    let text = as_text(&seen, &delivery.properties);
    let rows = [
        ("parked by", "service"),
        ("user", "admin"),
        ("claimed user", "acme"),
        ("message id", "with spaces"),
        ("content type", "application/json"),
        ("correlation id", "order \u{fffd}2J"),
        ("header", "theirs: kept"),
    ];
    for (name, value) in rows {
        assert!(text.contains(&format!("\n{name:<16}{value}\n")), "{name} is not in {text}");
    }
    assert!(!text.contains("encoding") && !text.contains("traceparent") && !text.contains("offpeak-dead-"), "{text}");

    let object = whole_json(&seen, &delivery.properties);
    assert_eq!([&object["message_id"], &object["claimed_user"]], ["with spaces", "acme"], "{object}");
    assert_eq!(object["headers"], json!({"theirs": "kept"}));
    // What is not there has its key all the same.
    let bare = DeadLetter { claimed_user: None, ..seen };
    let without = whole_json(&bare, &Properties::default());
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<String>>();
    assert_eq!(keys(&without), keys(&object));
    assert_eq!((&without["traceparent"], &without["headers"]), (&Value::Null, &json!({})));
}
