//! The head of a job: what its customer asks for but its items and parameters, which may be a million values.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::input::Input;
use crate::job::{self, Delivery, JobSpec, Limits, UnitSizing};
use crate::{Digest, Fuel, PoolName};

/// What of a [`JobSpec`] is read where nothing of the job is computed. It is read from the same bytes, so every field that it
/// has is there under the same name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JobHead {
    /// The app.
    pub app: Digest,
    /// Where the items come from.
    pub input: Source,
    /// The blob that every unit may read.
    #[serde(default)]
    pub shared: Option<Digest>,
    /// The machines' trust level.
    pub pool: PoolName,
    /// How many hosts must agree on a unit.
    #[serde(default = "job::one")]
    pub quorum: u8,
    /// Its place among its customer's jobs.
    #[serde(default)]
    pub priority: i8,
    /// The most fuel that it may be metered.
    #[serde(default)]
    pub budget_fuel: Option<Fuel>,
    /// How many failed computations of one unit are tolerated.
    #[serde(default = "job::default_max_failures")]
    pub max_failures: u16,
    /// What one item may use.
    #[serde(default)]
    pub limits: Limits,
    /// How large units become.
    #[serde(default)]
    pub unit: UnitSizing,
    /// Whether outputs are reduced to one.
    #[serde(default)]
    pub reduce: bool,
    /// How outputs reach the customer.
    #[serde(default)]
    pub delivery: Delivery,
}

impl JobHead {
    /// The blobs that the job names: app, shared input, and the input's own.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        [Some(self.app), self.shared, self.input.blob()].into_iter().flatten()
    }
}

impl From<&JobSpec> for JobHead {
    fn from(spec: &JobSpec) -> Self {
        Self {
            app: spec.app,
            input: Source::from(&spec.input),
            shared: spec.shared,
            pool: spec.pool.clone(),
            quorum: spec.quorum,
            priority: spec.priority,
            budget_fuel: spec.budget_fuel,
            max_failures: spec.max_failures,
            limits: spec.limits,
            unit: spec.unit,
            reduce: spec.reduce,
            delivery: spec.delivery,
        }
    }
}

/// Where a job's items come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Skimmed")]
pub enum Source {
    /// The job itself has them, or says how they are made.
    Job,
    /// The lines of a blob.
    Lines {
        /// The text.
        blob: Digest,
    },
    /// A blob cut into records of equal size.
    Records {
        /// The data.
        blob: Digest,
        /// A record's size.
        bytes: u32,
    },
}

impl Source {
    /// The blob that holds the items, if one does.
    pub fn blob(&self) -> Option<Digest> {
        match self {
            Self::Lines { blob } | Self::Records { blob, .. } => Some(*blob),
            Self::Job => None,
        }
    }
}

impl From<&Input> for Source {
    fn from(input: &Input) -> Self {
        match input {
            Input::Range { .. } | Input::Items(_) | Input::Grid(_) => Self::Job,
            Input::Lines { blob } => Self::Lines { blob: *blob },
            Input::Records { blob, bytes } => Self::Records { blob: *blob, bytes: *bytes },
        }
    }
}

/// An [`Input`] of which no value is made.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Skimmed {
    Range(IgnoredAny),
    Items(IgnoredAny),
    Lines { blob: Digest },
    Records { blob: Digest, bytes: u32 },
    Grid(IgnoredAny),
}

impl From<Skimmed> for Source {
    fn from(skimmed: Skimmed) -> Self {
        match skimmed {
            Skimmed::Range(_) | Skimmed::Items(_) | Skimmed::Grid(_) => Self::Job,
            Skimmed::Lines { blob } => Self::Lines { blob },
            Skimmed::Records { blob, bytes } => Self::Records { blob, bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Axis;
    use crate::{Format, Value, codec};

    fn spec(input: Input) -> JobSpec {
        let shared = Some(Digest([2; 32]));
        // Each kind of value, those that only MessagePack has among them, is skipped.
        let params = Value::Map(vec![
            (Value::from("a"), Value::Array(vec![Value::Nil, Value::from(1.5), Value::Binary(vec![0x93; 9])])),
            (Value::from(7), Value::Ext(-1, vec![0x93; 12])),
            (Value::from("c"), Value::from(u64::MAX)),
        ]);
        let (limits, unit) = (Limits { output_bytes: 7, ..Limits::default() }, UnitSizing { target_ms: 5, max_items: 6 });
        let pool = PoolName::new("open").unwrap();
        JobSpec {
            app: Digest([1; 32]),
            input,
            shared,
            params,
            pool,
            quorum: 2,
            priority: -3,
            deadline_s: Some(4),
            budget_fuel: Some(Fuel::MAX),
            max_failures: 9,
            limits,
            unit,
            reduce: true,
            delivery: Delivery::Parts,
        }
    }

    #[test]
    fn a_head_is_read_from_the_bytes_of_its_job() {
        let values = vec![Value::from(1), Value::Map(vec![(Value::from("x"), Value::Ext(3, vec![0; 5]))]), Value::from("y")];
        for input in [
            Input::Range { start: 3, end: 9 },
            Input::Items(values.clone()),
            Input::Lines { blob: Digest([3; 32]) },
            Input::Records { blob: Digest([4; 32]), bytes: 8 },
            Input::Grid(vec![Axis { name: "z".to_owned(), values }]),
        ] {
            let spec = spec(input);
            let bytes = codec::encode("job", &spec, Format::MessagePack).unwrap();
            let head: JobHead = codec::decode_head("job", &bytes, Format::MessagePack).unwrap();
            assert_eq!(head, JobHead::from(&spec));
            assert!(head.blobs().eq(spec.blobs()));
        }
    }

    #[test]
    fn what_is_left_out_is_for_a_head_what_it_is_for_its_job() {
        let text = format!(r#"{{"app":"{}","pool":"open","input":{{"items":[1,[2],{{"a":3}}]}}}}"#, Digest([1; 32]));
        let spec: JobSpec = codec::decode("job", text.as_bytes(), Format::Json).unwrap();
        let head: JobHead = codec::decode_head("job", text.as_bytes(), Format::Json).unwrap();
        assert_eq!(head, JobHead::from(&spec));
    }

    #[test]
    fn a_job_of_too_many_values_has_a_head_all_the_same() {
        let few = spec(Input::Items(vec![Value::from(1); 70_000]));
        let mut bytes = codec::encode("job", &few, Format::MessagePack).unwrap();
        // An array of 70,000 values becomes one of a million: its marker, its length, and the values themselves.
        let at = bytes.windows(5).position(|five| five == [0xdd, 0x00, 0x01, 0x11, 0x70]).unwrap();
        drop(bytes.splice(at + 1..at + 5, 1_000_000_u32.to_be_bytes()));
        drop(bytes.splice(at + 5..at + 5, vec![0x01; 930_000]));
        codec::decode::<JobSpec>("job", &bytes, Format::MessagePack).unwrap_err();
        let head: JobHead = codec::decode_head("job", &bytes, Format::MessagePack).unwrap();
        assert_eq!(head, JobHead::from(&few));
    }
}
