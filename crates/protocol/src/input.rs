//! A job's input: how its items are given, how many there are, and the bytes of each that needs no blob.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CodecError, Digest, Format, Value, codec};

/// A line is at most so long: it is an item, and its unit must fit a message.
pub const MAX_LINE_BYTES: u32 = 4 << 20;
/// A record is at most so long.
pub const MAX_RECORD_BYTES: u32 = 1 << 20;

/// Where a job's items come from; an item's index is its place in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The whole numbers from `start` to before `end`.
    Range {
        /// The first.
        start: u64,
        /// The first that is no longer an item.
        end: u64,
    },
    /// The values as they stand.
    Items(#[schemars(with = "Vec<crate::schema::Anything>")] Vec<Value>),
    /// The lines of a blob, without their line ends.
    Lines {
        /// The text.
        blob: Digest,
    },
    /// A blob cut into records of equal size.
    Records {
        /// The data.
        blob: Digest,
        /// A record's size.
        #[schemars(range(min = 1, max = MAX_RECORD_BYTES))]
        bytes: u32,
    },
    /// Every combination of the axes' values, the last axis changing fastest.
    Grid(Vec<Axis>),
}

/// One axis of a grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Axis {
    /// The name under which items carry this axis's value.
    pub name: String,
    /// Its values in order.
    #[schemars(with = "Vec<crate::schema::Anything>")]
    pub values: Vec<Value>,
}

impl Input {
    /// How many items there are, where that is known without reading a blob; `None` beyond 64 bits too.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Range { start, end } => end.checked_sub(*start),
            Self::Items(values) => u64::try_from(values.len()).ok(),
            Self::Lines { .. } | Self::Records { .. } => None,
            Self::Grid(axes) => {
                axes.iter().try_fold(1_u64, |count, axis| count.checked_mul(u64::try_from(axis.values.len()).ok()?))
            }
        }
    }

    /// The blob that holds the items, if one does.
    pub fn blob(&self) -> Option<Digest> {
        match self {
            Self::Lines { blob } | Self::Records { blob, .. } => Some(*blob),
            Self::Range { .. } | Self::Items(_) | Self::Grid(_) => None,
        }
    }

    /// The bytes the app is handed for an item (a MessagePack value), where no blob is needed to know them.
    pub fn item(&self, index: u64) -> Option<Result<Vec<u8>, CodecError>> {
        match self {
            Self::Range { start, .. } => Some(value_bytes(&Value::from(start.checked_add(index)?))),
            Self::Items(values) => values.get(usize::try_from(index).ok()?).map(value_bytes),
            Self::Lines { .. } | Self::Records { .. } => None,
            Self::Grid(axes) => grid_point(axes, index).map(|point| value_bytes(&point)),
        }
    }
}

/// A line's or a record's bytes as the app is handed them: MessagePack `bin`.
pub fn bin_item(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    value_bytes(&Value::Binary(bytes.to_vec()))
}

fn value_bytes(value: &Value) -> Result<Vec<u8>, CodecError> {
    codec::encode("item", value, Format::MessagePack)
}

fn grid_point(axes: &[Axis], index: u64) -> Option<Value> {
    let mut rest = index;
    let mut point = Vec::with_capacity(axes.len());
    for axis in axes.iter().rev() {
        let length = u64::try_from(axis.values.len()).ok().filter(|n| *n > 0)?;
        let value = axis.values.get(usize::try_from(rest % length).ok()?)?;
        point.push((Value::from(axis.name.as_str()), value.clone()));
        rest /= length;
    }
    point.reverse();
    (rest == 0).then_some(Value::Map(point))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(name: &str, values: &[i64]) -> Axis {
        Axis { name: name.to_owned(), values: values.iter().map(|v| Value::from(*v)).collect() }
    }

    #[test]
    fn a_grid_counts_and_orders_its_points() {
        let grid = Input::Grid(vec![axis("a", &[1, 2]), axis("b", &[3, 4, 5])]);
        assert_eq!(grid.count(), Some(6));
        let point = |index| {
            let bytes = grid.item(index)?.unwrap();
            Some(codec::decode::<Value>("item", &bytes, Format::MessagePack).unwrap().to_string())
        };
        assert_eq!(point(0).unwrap(), r#"{"a": 1, "b": 3}"#);
        assert_eq!(point(1).unwrap(), r#"{"a": 1, "b": 4}"#);
        assert_eq!(point(5).unwrap(), r#"{"a": 2, "b": 5}"#);
        assert_eq!(point(6), None);
        assert_eq!(Input::Grid(vec![axis("a", &[])]).count(), Some(0));
        assert!(Input::Grid(vec![axis("a", &[])]).item(0).is_none());
    }

    #[test]
    fn a_range_hands_out_its_numbers() {
        let range = Input::Range { start: 10, end: 12 };
        assert_eq!(range.count(), Some(2));
        assert_eq!(range.item(1).unwrap().unwrap(), [11]);
        assert_eq!(Input::Range { start: 2, end: 1 }.count(), None);
    }
}
