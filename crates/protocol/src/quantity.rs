//! Quantities with their unit in the type: fuel and time.

use std::fmt;
use std::time::Duration;

use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Metered WebAssembly instructions, the unit of billing; below 2^63, so that every database holds it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fuel(u64);

/// A quantity of fuel at or above 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fuel {0} is not below 2^63")]
pub struct FuelError(pub u64);

impl Fuel {
    /// No fuel.
    pub const ZERO: Self = Self(0);
    /// The largest quantity.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// Checks the bound.
    pub fn new(count: u64) -> Result<Self, FuelError> {
        if count <= Self::MAX.0 { Ok(Self(count)) } else { Err(FuelError(count)) }
    }

    /// The count of instructions.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The sum, stopping at the largest quantity.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(Self::MAX.0))
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// In JSON a string, since many readers round numbers above 2^53; a number is accepted too.
impl Serialize for Fuel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&self.0) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Fuel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Fuel;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fuel: a whole number below 2^63, or its decimal digits as a string")
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Fuel, E> {
                Fuel::new(count).map_err(|_beyond| E::invalid_value(Unexpected::Unsigned(count), &self))
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Fuel, E> {
                u64::try_from(count).map(Fuel).map_err(|_negative| E::invalid_value(Unexpected::Signed(count), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Fuel, E> {
                Fuel::new(text.parse().map_err(E::custom)?).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A sum of fuel or bytes, beyond 64 bits if need be; in every format its decimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Total(pub u128);

impl Serialize for Total {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Total {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// An instant: microseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// The instant that much later, stopping at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time since an earlier instant; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
