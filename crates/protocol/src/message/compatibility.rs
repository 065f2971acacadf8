//! Version 1 for ever: every golden message is read, also with fields that this version does not know yet.
//!
//! A new optional field gives its type a further golden line, and the old ones stay: they are what old clients send, and
//! what is stored in queues and outboxes while a grid is upgraded.

use super::{KINDS, READERS, Reader};
use crate::{Format, Value, codec};

const GOLDEN: &str = include_str!("../../golden/v1.txt");

/// Values below these are the customer's data, or maps whose one key says what they are: a further key is no further field.
const NOT_OURS: &[&str] = &["params", "input", "items", "result"];

/// A golden line: its type, and the body in both formats.
struct Line {
    kind: &'static str,
    bodies: [(Vec<u8>, Format); 2],
}

fn lines() -> Vec<Line> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    let of_line = |line: &'static str| {
        let mut parts = line.splitn(3, ' ');
        let (kind, hex, json) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let msgpack = hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        Line { kind, bodies: [(msgpack, Format::MessagePack), (json.as_bytes().to_vec(), Format::Json)] }
    };
    GOLDEN.lines().map(of_line).collect()
}

fn reader(kind: &str) -> Reader {
    READERS.iter().find(|(known, _)| *known == kind).unwrap_or_else(|| panic!("{kind} is no message any more")).1
}

#[test]
fn every_message_ever_written_is_read_and_means_the_same_in_both_formats() {
    for Line { kind, bodies } in lines() {
        let read = bodies.map(|(body, format)| {
            reader(kind)(&body, format).unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(&body)))
        });
        assert_eq!(read[0], read[1], "{kind}");
    }
    assert!(KINDS.iter().all(|kind| lines().iter().any(|line| line.kind == *kind)));
}

#[test]
fn unknown_fields_are_ignored_wherever_they_are() {
    for Line { kind, bodies } in lines() {
        for (body, format) in bodies {
            let known = reader(kind)(&body, format).unwrap();
            let value: Value = codec::decode(kind, &body, format).unwrap();
            let newer = with_another_field(&value);
            assert!(!newer.is_empty(), "{kind} is a map");
            for value in newer {
                let body = codec::encode(kind, &value, format).unwrap();
                let read = reader(kind)(&body, format).unwrap_or_else(|error| panic!("{value}: {error}"));
                assert_eq!(read, known, "{value}");
            }
        }
    }
}

#[test]
fn a_field_in_another_order_is_the_same_field() {
    for Line { kind, bodies } in lines() {
        for (body, format) in bodies {
            let Value::Map(mut entries) = codec::decode(kind, &body, format).unwrap() else { panic!("{kind} is a map") };
            entries.reverse();
            let reversed = codec::encode(kind, &Value::Map(entries), format).unwrap();
            assert_eq!(reader(kind)(&reversed, format).unwrap(), reader(kind)(&body, format).unwrap(), "{kind}");
        }
    }
}

/// The value with a field that no version knows, in each of its maps in turn.
fn with_another_field(value: &Value) -> Vec<Value> {
    match value {
        Value::Map(entries) => {
            let another = (Value::from("colour"), Value::Map(vec![(Value::from("red"), Value::from(255))]));
            let mut all = vec![Value::Map([entries.as_slice(), &[another]].concat())];
            for (at, (key, inner)) in entries.iter().enumerate() {
                let ours = !NOT_OURS.contains(&key.as_str().unwrap_or_default()) || is_counts(inner);
                for inner in ours.then(|| with_another_field(inner)).into_iter().flatten() {
                    let mut entries = entries.clone();
                    entries[at].1 = inner;
                    all.push(Value::Map(entries));
                }
            }
            all
        }
        Value::Array(elements) => {
            let replaced = |at: usize, inner: Value| {
                let mut elements = elements.clone();
                elements[at] = inner;
                Value::Array(elements)
            };
            let each = elements.iter().enumerate();
            each.flat_map(|(at, inner)| with_another_field(inner).into_iter().map(move |inner| (at, inner)))
                .map(|(at, inner)| replaced(at, inner))
                .collect()
        }
        Value::Nil
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Binary(_)
        | Value::Ext(..) => Vec::new(),
    }
}

/// A reply's `items` are counts, which may get further fields; a unit's are one of several kinds.
fn is_counts(value: &Value) -> bool {
    value["submitted"].is_u64()
}
