//! Identifiers, each a type of its own, so that one can never be passed for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {rule}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

impl IdError {
    pub(crate) fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { kind, text, rule }
    }
}

/// What a name is, as a regular expression.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9-]{0,47}$";

/// A name that becomes part of a queue's name and of a metric's label, so its alphabet is small and its length bounded.
fn check_name(kind: &'static str, text: &str) -> Result<(), IdError> {
    let rule = "1 to 48 of a-z, 0-9 and '-', beginning with a letter or digit";
    let ok = (1..=48).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-');
    if ok { Ok(()) } else { Err(IdError::new(kind, text, rule)) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the name's alphabet and length.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check_name($kind, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name!(
    /// Who submits jobs and pays; the name of their AMQP user.
    CustomerName,
    "customer name"
);
name!(
    /// A class of machines of one trust level.
    PoolName,
    "pool name"
);
name!(
    /// A machine running a worker.
    HostId,
    "host id"
);
name!(
    /// Scheme and version of the fuel count; only replicas of one meter form a quorum.
    MeterId,
    "meter id"
);

/// A job's id, a `UUIDv7`: ordered by time of admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = Uuid::try_parse(text).ok();
        id.map(Self).ok_or_else(|| IdError::new("job id", text, "a UUID, as the reply \"accepted\" gave it"))
    }
}

impl Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One unit of a job; units are numbered in the order they were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnitKey {
    /// The job.
    pub job: JobId,
    /// The unit's number within the job, from 0.
    pub unit: u32,
}

/// One dispatch of a unit; replicas are numbered from 0 and never reused, which fences late outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The job.
    pub job: JobId,
    /// The unit's number within the job.
    pub unit: u32,
    /// The replica's number within the unit.
    pub replica: u16,
}

impl ReplicaKey {
    /// The unit this is a replica of.
    pub fn unit_key(&self) -> UnitKey {
        UnitKey { job: self.job, unit: self.unit }
    }
}

impl UnitKey {
    /// The unit's replica of that number.
    pub fn replica(&self, replica: u16) -> ReplicaKey {
        ReplicaKey { job: self.job, unit: self.unit, replica }
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.unit)
    }
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job, self.unit, self.replica)
    }
}

impl FromStr for ReplicaKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut parts = text.splitn(3, '.');
            let job = parts.next()?.parse().ok()?;
            let unit = parts.next()?.parse().ok()?;
            let replica = parts.next()?.parse().ok()?;
            Some(Self { job, unit, replica })
        };
        parse().ok_or_else(|| IdError::new("replica key", text, "job.unit.replica"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_small_and_plain() {
        for good in ["a", "acme", "acme-7", "0x"] {
            assert_eq!(CustomerName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "A", "a.b", "a b", "é", &"a".repeat(49)] {
            let error = PoolName::new(bad).unwrap_err().to_string();
            assert!(error.starts_with("pool name"), "{error}");
        }
    }

    #[test]
    fn a_replica_key_reads_back() {
        let key = UnitKey { job: JobId(Uuid::now_v7()), unit: 7 }.replica(3);
        assert_eq!(key.to_string().parse::<ReplicaKey>().unwrap(), key);
        for bad in ["", "x.1.2", "1.2", &format!("{key}.4"), &format!("{}.1.70000", key.job)] {
            assert!(bad.parse::<ReplicaKey>().is_err(), "{bad}");
        }
    }
}
