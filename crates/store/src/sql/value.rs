//! Parameters of statements: three kinds of values, each of which may be missing, are all that both databases are asked to hold.

use protocol::{CustomerName, Digest, Fuel, HostId, JobId, MeterId, Micros, PoolName};

/// A parameter. The kind is known even where the value is missing, because PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// A row of parameters from values of any kind that has a place in the database.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Value::from($value)),*] };
}
pub(crate) use values;

/// A count as the databases hold it. Beyond 63 bits it stops at their largest number: items are checked on
/// admission, fuel by its type, and nothing else that is counted comes near.
pub(crate) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(Some(int(value)))
    }
}

macro_rules! small_integers {
    ($($type:ty),*) => { $(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::Int(Some(i64::from(value)))
            }
        }
    )* };
}
small_integers!(bool, u8, u16, u32);

impl From<Fuel> for Value {
    fn from(value: Fuel) -> Self {
        Self::from(value.get())
    }
}

impl From<Micros> for Value {
    fn from(value: Micros) -> Self {
        Self::Int(Some(value.0))
    }
}

impl From<Option<Micros>> for Value {
    fn from(value: Option<Micros>) -> Self {
        Self::Int(value.map(|time| time.0))
    }
}

impl From<Option<u16>> for Value {
    fn from(value: Option<u16>) -> Self {
        Self::Int(value.map(i64::from))
    }
}

impl From<Option<u64>> for Value {
    fn from(value: Option<u64>) -> Self {
        Self::Int(value.map(int))
    }
}

impl From<Option<Fuel>> for Value {
    fn from(value: Option<Fuel>) -> Self {
        Self::Int(value.map(|fuel| int(fuel.get())))
    }
}

/// A text as both databases hold it: `PostgreSQL` has no NUL in texts, and a guest's reason may have one.
fn text(value: String) -> String {
    if value.contains('\0') { value.replace('\0', "\u{fffd}") } else { value }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::from(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(text(value)))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(text))
    }
}

macro_rules! names {
    ($($type:ty),*) => { $(
        impl From<&$type> for Value {
            fn from(value: &$type) -> Self {
                Self::Text(Some(value.as_str().to_owned()))
            }
        }
        impl From<Option<&$type>> for Value {
            fn from(value: Option<&$type>) -> Self {
                Self::Text(value.map(|name| name.as_str().to_owned()))
            }
        }
    )* };
}
names!(CustomerName, HostId, MeterId, PoolName);

impl From<JobId> for Value {
    fn from(value: JobId) -> Self {
        Self::Bytes(Some(value.0.as_bytes().to_vec()))
    }
}

impl From<Digest> for Value {
    fn from(value: Digest) -> Self {
        Self::Bytes(Some(value.0.to_vec()))
    }
}

impl From<Option<Digest>> for Value {
    fn from(value: Option<Digest>) -> Self {
        Self::Bytes(value.map(|digest| digest.0.to_vec()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}
