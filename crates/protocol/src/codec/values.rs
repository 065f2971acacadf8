//! How many values a body holds, counted before any is made: one of a byte may take forty bytes of memory.

use super::Format;

/// The most values of any message, a map's keys among them.
pub const MAX_VALUES: usize = 1_000_000;

/// Whether the body holds more values than any message may.
pub(super) fn are_too_many(bytes: &[u8], format: Format) -> bool {
    // Each has a byte at least.
    bytes.len() > MAX_VALUES
        && match format {
            Format::MessagePack => msgpack(bytes) > MAX_VALUES,
            Format::Json => json(bytes) > MAX_VALUES,
        }
}

/// Values in a MessagePack body; of one that is none, so many as are found.
fn msgpack(bytes: &[u8]) -> usize {
    let (mut rest, mut values) = (bytes, 0);
    while let Some((marker, after)) = rest.split_first() {
        values += 1;
        rest = after.get(payload(*marker, after)..).unwrap_or(&[]);
    }
    values
}

/// Bytes of a value after its marker; what a map or array holds counts by itself.
fn payload(marker: u8, after: &[u8]) -> usize {
    let length = |size: usize| {
        let length = after.iter().take(size).fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        size.saturating_add(length)
    };
    match marker {
        0x00..=0x9f | 0xc0..=0xc3 | 0xe0.. => 0,
        0xa0..=0xbf => usize::from(marker & 0x1f),
        0xc4 | 0xd9 => length(1),
        0xc5 | 0xda => length(2),
        0xc6 | 0xdb => length(4),
        0xc7 => length(1).saturating_add(1),
        0xc8 => length(2).saturating_add(1),
        0xc9 => length(4).saturating_add(1),
        0xcc | 0xd0 => 1,
        0xcd | 0xd1 | 0xd4 | 0xdc | 0xde => 2,
        0xd5 => 3,
        0xca | 0xce | 0xd2 | 0xdd | 0xdf => 4,
        0xd6 => 5,
        0xcb | 0xcf | 0xd3 => 8,
        0xd7 => 9,
        0xd8 => 17,
    }
}

/// Values in a JSON body: one, and one more for whatever begins an array, a map, or a further place in one.
fn json(bytes: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Value;

    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(values) => values.iter().map(count).sum(),
            Value::Map(entries) => entries.iter().map(|(key, value)| count(key) + count(value)).sum(),
            Value::Nil
            | Value::Boolean(_)
            | Value::Integer(_)
            | Value::F32(_)
            | Value::F64(_)
            | Value::String(_)
            | Value::Binary(_)
            | Value::Ext(..) => 0,
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0_usize..70_000).prop_map(|size| Value::from("a\"[,".repeat(size / 4))),
            (0_usize..70_000).prop_map(|size| Value::Binary(vec![0x93; size])),
            (any::<i8>(), 0_usize..300).prop_map(|(kind, size)| Value::Ext(kind, vec![0x93; size])),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_counted_as_they_are_read(value in any_value()) {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &value).unwrap();
            prop_assert_eq!(msgpack(&bytes), count(&value));
        }

        #[test]
        fn any_bytes_are_counted(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert!(msgpack(&bytes) <= bytes.len());
            prop_assert!(json(&bytes) <= bytes.len() + 1);
        }
    }

    #[test]
    fn values_of_json_are_counted_and_not_what_texts_hold() {
        // What is empty counts one too many.
        for (text, values) in [("1", 1), ("[1,2,[3]]", 5), (r#"{"a":1,"b":[2]}"#, 6), (r#"["a,b\",[",{}]"#, 3 + 1)] {
            assert_eq!(json(text.as_bytes()), values, "{text}");
        }
        assert_eq!(json(br#""[[[[,,,,\"::::""#), 1);
    }

    #[test]
    fn the_bound_is_where_it_is_said_to_be() {
        let array = |values: u32| {
            let mut bytes = vec![0xdd];
            bytes.extend(values.to_be_bytes());
            bytes.resize(5 + usize::try_from(values).unwrap(), 0x01);
            bytes
        };
        assert!(!are_too_many(&array(999_999), Format::MessagePack));
        assert!(are_too_many(&array(1_000_000), Format::MessagePack));
        let list = |values: usize| format!("[{}1]", "1,".repeat(values - 1));
        assert!(!are_too_many(list(999_999).as_bytes(), Format::Json));
        assert!(are_too_many(list(1_000_000).as_bytes(), Format::Json));
    }
}
