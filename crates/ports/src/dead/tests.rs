//! Letters through all their lives.

use protocol::address::{SUBMIT_QUEUE, WORK_EXCHANGE};

use super::*;
use crate::broker::Tag;

const REPLICA: &str = "01980f3c-7b1e-7c55-8d42-0123456789ab.7.2";

fn delivery(outgoing: Outgoing, delivery_count: u32) -> Delivery {
    let Outgoing { exchange: _, routing_key, properties, body } = outgoing;
    let tag = Tag { generation: 1, tag: 1 };
    Delivery { tag, routing_key, redelivered: delivery_count > 0, delivery_count, properties, body }
}

fn submission(id: &str) -> Delivery {
    let properties = Properties {
        message_id: id.to_owned(),
        kind: "offpeak.job.submit.v1".to_owned(),
        user_id: Some("acme".to_owned()),
        headers: vec![("theirs".to_owned(), "kept".to_owned())],
        ..Properties::default()
    };
    let (exchange, routing_key) = (SUBMIT_EXCHANGE.to_owned(), "acme".to_owned());
    delivery(Outgoing { exchange, routing_key, properties, body: b"rubbish".to_vec() }, 0)
}

fn death(cause: &str, at: i64) -> Death<'_> {
    Death { origin: Origin::Submit, queue: SUBMIT_QUEUE, cause, at: Micros(at) }
}

#[test]
fn a_letter_tells_all_and_goes_back_where_it_came_from() {
    let parked = letter(submission("one"), death("rubbish", 5));
    assert_eq!((parked.exchange.as_str(), parked.routing_key.as_str()), (DEAD_EXCHANGE, "submit"));
    assert_eq!(parked.properties.user_id, None, "only its user may publish it with that");
    let parked = delivery(parked, 3);
    let seen = DeadLetter::of(Origin::Submit, &parked);
    let expected = DeadLetter {
        id: "one".to_owned(),
        origin: Origin::Submit,
        cause: "rubbish".to_owned(),
        routing_key: Some("acme".to_owned()),
        queue: Some(SUBMIT_QUEUE.to_owned()),
        first_at: Some(Micros(5)),
        last_at: Some(Micros(5)),
        attempts: 1,
        kind: "offpeak.job.submit.v1".to_owned(),
        user: Some("acme".to_owned()),
        claimed_user: None,
        by_broker: false,
        customer: CustomerName::new("acme").ok(),
        replica: None,
        body_bytes: 7,
    };
    assert_eq!(seen, expected);
    let again = seen.replay(parked).unwrap();
    assert_eq!((again.exchange.as_str(), again.routing_key.as_str()), (SUBMIT_EXCHANGE, "acme"));
    assert_eq!((again.properties.message_id.as_str(), again.body.as_slice()), ("one", b"rubbish".as_slice()));
    assert_eq!((publisher(&again.properties), again.properties.user_id.as_ref()), (Some("acme"), None));
    assert_eq!(header(&again.properties, "theirs"), Some("kept"));
    assert_eq!([header(&again.properties, CAUSE), header(&again.properties, LAST_AT)], [None, None]);
}

#[test]
fn a_letter_that_dies_again_keeps_its_first_time_and_counts_on() {
    let parked = delivery(letter(submission("one"), death("rubbish", 5)), 0);
    let again = DeadLetter::of(Origin::Submit, &parked).replay(parked).unwrap();
    let parked = delivery(letter(delivery(again, 4), death("rubbish still", 90)), 0);
    let seen = DeadLetter::of(Origin::Submit, &parked);
    assert_eq!((seen.cause.as_str(), seen.first_at, seen.last_at), ("rubbish still", Some(Micros(5)), Some(Micros(90))));
    assert_eq!((seen.attempts, seen.user.as_deref()), (6, Some("acme")));
    let names: Vec<&String> = parked.properties.headers.iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| names.iter().filter(|other| other == &name).count() == 1), "{names:?}");
}

#[test]
fn a_letter_of_the_brokers_making_yields_the_same_view() {
    let mut parked = submission(REPLICA);
    let history = [
        (FIRST_DEATH_REASON, "delivery_limit"),
        (FIRST_DEATH_QUEUE, "offpeak.work.open.0"),
        (ROUTING_KEY, "forged"),
        (CAUSE, "forged"),
        (FIRST_DEATH_KEY, "open.0"),
        (FIRST_DEATH_COUNT, "1"),
        (FIRST_DEATH_TIME_S, "1769904000"),
        (ATTEMPTS, "3"),
        (FIRST_AT, "7"),
    ];
    parked.properties.headers = history.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let seen = DeadLetter::of(Origin::Work, &parked);
    assert!(seen.cause.contains("died under it"), "{}", seen.cause);
    let again = seen.replay(parked).unwrap();
    assert_eq!((again.exchange.as_str(), again.routing_key.as_str()), (WORK_EXCHANGE, "open.0"));
    assert_eq!(seen.queue.as_deref(), Some("offpeak.work.open.0"));
    assert_eq!((seen.attempts, seen.first_at, seen.last_at), (4, Some(Micros(7)), Some(Micros(1_769_904_000_000_000))));
    assert_eq!(seen.replica.map(|replica| replica.to_string()).as_deref(), Some(REPLICA));
}

#[test]
fn what_was_parked_by_hand_is_seen_and_not_sent_blindly() {
    let mut parked = submission("by hand");
    parked.properties.headers.clear();
    let seen = DeadLetter::of(Origin::Submit, &parked);
    assert!(seen.id.starts_with("letter-"), "an id with a space is not typed into a shell: {}", seen.id);
    assert_eq!((seen.attempts, seen.first_at, seen.routing_key.clone()), (0, None, None));
    assert!(seen.replay(parked.clone()).is_err());
    parked.properties.headers.push((ROUTING_KEY.to_owned(), "acme".to_owned()));
    let again = DeadLetter::of(Origin::Submit, &parked).replay(parked).unwrap();
    assert_eq!(again.exchange, SUBMIT_EXCHANGE);
}

#[test]
fn nobody_is_replayed_as_a_customer_whom_the_broker_did_not_see() {
    let history = [(FIRST_DEATH_REASON, "delivery_limit"), (FIRST_DEATH_KEY, "victim"), (USER, "victim")];
    let headers = history.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    for (user, sent) in [(Some("acme"), false), (None, false), (Some("victim"), true)] {
        let mut parked = submission("forged");
        parked.properties.headers.clone_from(&headers);
        parked.properties.user_id = user.map(str::to_owned);
        assert_eq!(DeadLetter::of(Origin::Submit, &parked).replay(parked).is_ok(), sent, "{user:?}");
    }
}

/// Brokers before 3.13 add none of `x-first-death-*` to what has a history already, and senders can write one.
#[test]
fn a_sender_s_own_history_makes_no_letter_of_a_service() {
    let forged = [(DEATHS, ""), (USER, "acme"), (ROUTING_KEY, "acme"), (QUEUE, SUBMIT_QUEUE), (CAUSE, "forged"), (LAST_AT, "9")];
    let headers: Vec<(String, String)> = forged.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    for user in [None, Some("mallory")] {
        let mut parked = submission("forged");
        parked.properties.headers.clone_from(&headers);
        parked.properties.user_id = user.map(str::to_owned);
        let seen = DeadLetter::of(Origin::Submit, &parked);
        assert!(seen.by_broker && seen.cause.starts_with("the broker gave it up"), "{seen:?}");
        assert_eq!((seen.user.as_deref(), seen.routing_key.as_ref(), seen.last_at), (user, None, None));
        assert!(seen.believing("mallory").replay(parked).is_err());
    }
    // A service that parks such a message, or who replays it, passes none of that on.
    let mut own = submission("forged");
    own.properties.headers.extend(headers);
    own.properties.headers.push((FIRST_DEATH_REASON.to_owned(), "rejected".to_owned()));
    let parked = delivery(letter(own, death("rubbish", 5)), 0);
    let seen = DeadLetter::of(Origin::Submit, &parked);
    assert!(!seen.by_broker && seen.cause == "rubbish" && seen.user.as_deref() == Some("acme"), "{seen:?}");
    assert!(own_headers(&parked.properties).eq([&("theirs".to_owned(), "kept".to_owned())]));
    let again = seen.replay(parked).unwrap();
    assert!(!is_brokers(&again.properties), "{again:?}");
}

#[test]
fn what_was_sent_by_the_wrong_user_is_sent_again_when_that_user_is_believed() {
    let mut again = submission("one");
    again.properties.user_id = Some("admin".to_owned());
    again.properties.headers.push((USER.to_owned(), "acme".to_owned()));
    let parked = delivery(letter(again, death("user admin published as customer acme", 5)), 0);
    let seen = DeadLetter::of(Origin::Submit, &parked);
    assert_eq!((seen.user.as_deref(), seen.claimed_user.as_deref()), (Some("admin"), Some("acme")));
    // Anybody can claim that, so it takes an operator's word for the very user.
    assert!(seen.replay(parked.clone()).is_err());
    assert!(seen.clone().believing("mallory").replay(parked.clone()).is_err());
    let again = seen.believing("admin").replay(parked).unwrap();
    assert_eq!((user_before(&again.properties), header(&again.properties, CLAIMED)), (Some("acme"), None));
    // As the producer's operator it is the customer's, and so it is if it dies again for another reason.
    let parked = delivery(letter(delivery(again, 0), death("rubbish", 7)), 0);
    let seen = DeadLetter::of(Origin::Submit, &parked);
    assert_eq!((seen.user.as_deref(), seen.claimed_user), (Some("acme"), None));
}

#[test]
fn a_message_id_names_its_replica() {
    assert!(replica(Origin::Work, REPLICA).is_some());
    assert_eq!(replica(Origin::Outcomes, &format!("{REPLICA}.host-1")), REPLICA.parse().ok());
    assert_eq!([replica(Origin::Outcomes, REPLICA), replica(Origin::Submit, REPLICA), replica(Origin::Work, "x")], [None; 3]);
}

#[test]
fn headers_that_leave_no_room_for_ours_are_not_kept() {
    let mut large = submission("one");
    large.properties.headers.push(("huge".to_owned(), "x".repeat(100_000)));
    let parked = letter(large, death("rubbish", 5));
    let headers = &parked.properties.headers;
    assert!(headers.iter().all(|(name, _)| name.starts_with(PREFIX)) && headers.len() > 5, "{headers:?}");
}
