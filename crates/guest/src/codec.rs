//! `MessagePack` for parameters, items and results: structs are maps with named fields.

use serde::{Deserialize, Serialize};

/// Encodes a value as `MessagePack`; a struct becomes a map with named fields.
///
/// # Errors
/// What of the value has no form in `MessagePack`.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    messagepack_serde::to_vec(value).map_err(|error| format!("a result could not be encoded: {error}"))
}

/// Decodes a `MessagePack` value.
///
/// # Errors
/// What is wrong with the bytes, or which field is missing or unknown.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    messagepack_serde::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Point {
        x: f64,
        n: u64,
        tags: Vec<String>,
    }

    #[test]
    fn a_struct_survives_the_round_trip() {
        let point = Point { x: -1.5, n: u64::MAX, tags: vec!["a".into(), String::new()] };
        assert_eq!(decode::<Point>(&encode(&point).unwrap()), Ok(point));
    }

    #[test]
    fn structs_are_maps_with_named_fields() {
        #[derive(Serialize)]
        struct One {
            a: bool,
        }
        assert_eq!(encode(&One { a: true }).unwrap(), [0x81, 0xa1, b'a', 0xc3]);
    }

    #[test]
    fn whole_numbers_are_taken_where_a_fraction_is_meant() {
        assert_eq!(decode::<f64>(&[7]), Ok(7.0));
        assert_eq!(decode::<f64>(&[0xff]), Ok(-1.0));
    }

    #[test]
    fn errors_name_the_field() {
        let error = decode::<Point>(&[0x81, 0xa1, b'q', 0xc3]).unwrap_err();
        assert!(error.contains('q'), "{error}");
        let error = decode::<Point>(&[0x80]).unwrap_err();
        assert!(error.contains('x'), "{error}");
    }
}
