//! Money, exact: an amount in decimal and a currency; never a float.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::IdError;

/// Decimal places of an [`Amount`].
pub const PLACES: usize = 12;
/// One, in an amount's smallest parts.
const ONE: i128 = 1_000_000_000_000;

/// An exact amount in steps of 10^-12; as text in decimal, without trailing zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Amount(pub i128);

/// An amount in a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Currency,
}

/// A currency by its three letters (ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let parts = self.0.unsigned_abs();
        let one = ONE.unsigned_abs();
        let fraction = format!("{:0PLACES$}", parts % one);
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{sign}{}", parts / one),
            fraction => write!(f, "{sign}{}.{fraction}", parts / one),
        }
    }
}

impl FromStr for Amount {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
            let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !plain(whole) || !plain(fraction) || fraction.len() > PLACES {
                return None;
            }
            let whole: i128 = whole.parse().ok()?;
            let fraction: i128 = format!("{fraction:0<PLACES$}").parse().ok()?;
            let parts = whole.checked_mul(ONE)?.checked_add(fraction)?;
            Some(Self(if negative { -parts } else { parts }))
        };
        parse().ok_or_else(|| IdError::new("amount", text, "a decimal number with at most 12 places, such as 0.125"))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl FromStr for Currency {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let letters: Option<[u8; 3]> = text.as_bytes().try_into().ok();
        let letters = letters.filter(|letters| letters.iter().all(u8::is_ascii_uppercase));
        letters.map(Self).ok_or_else(|| IdError::new("currency", text, "three capital letters (ISO 4217), such as EUR"))
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {
        $(impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        })*
    };
}

as_text!(Amount, Currency);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_they_are_read() {
        for text in ["0", "1", "-1", "0.5", "-0.000000000001", "123456789012345678.25"] {
            assert_eq!(text.parse::<Amount>().unwrap().to_string(), text);
        }
        assert_eq!("1.50".parse::<Amount>().unwrap().to_string(), "1.5");
        for text in
            ["", ".", "1.", ".5", "1e3", "0.0000000000001", "+1", "--1", "1,5", "9999999999999999999999999999999999999999"]
        {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
        assert_eq!("EUR".parse::<Currency>().unwrap().to_string(), "EUR");
        assert!("eur".parse::<Currency>().is_err() && "EURO".parse::<Currency>().is_err());
    }
}
