//! What a customer is told about a job.

use serde::{Deserialize, Serialize};

use crate::job::{Certificate, ItemCounts, JobState};
use crate::{Fuel, JobId};

/// The job was admitted (`offpeak.job.accepted.v1`); said again, with the same job, to a submission that comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The job's id.
    pub job: JobId,
    /// How many items it has.
    pub items: u64,
}

/// A message was not accepted (`offpeak.job.rejected.v1`), in the shape of RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind in words.
    pub title: String,
    /// In the manner of HTTP.
    pub status: u16,
    /// What was wrong with this message, and the way out.
    pub detail: String,
    /// The kind as a word for programs.
    pub code: String,
    /// Whether the same message may succeed later.
    pub retryable: bool,
    /// Each mistake by itself.
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

/// One mistake in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem of that code; the type URI follows from it.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:offpeak:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
            code: code.to_owned(),
            retryable: matches!(status, 429 | 503 | 507),
            errors: Vec::new(),
        }
    }
}

/// How far the job is (`offpeak.job.progress.v1`); at most one a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// Its items so far.
    pub items: ItemCounts,
    /// Valid units so far.
    pub units: u64,
    /// Seconds to the end at the rate so far; `None` while that is unknown.
    pub eta_s: Option<u64>,
}

/// Validated outputs in item order (`offpeak.job.part.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The job.
    pub job: JobId,
    /// The part's number, from 0 without a gap.
    pub part: u32,
    /// Index of the first item.
    pub first: u64,
    /// A frame out, one entry an item ([`crate::frame`]).
    #[serde(with = "crate::codec::base64_bytes")]
    pub output: Vec<u8>,
}

/// The job ended (`offpeak.job.completed.v1`): said once for every accepted job (invariant I1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: JobState,
    /// What became of each item.
    pub certificate: Certificate,
    /// What was metered.
    pub usage: UsageSummary,
    /// How many parts were sent.
    pub parts: u32,
}

/// A job's use of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageSummary {
    /// Valid units: the ledger's rows.
    pub units: u64,
    /// Dispatches of them.
    pub replicas: u64,
    /// Billed fuel.
    pub fuel: Fuel,
    /// Billed bytes.
    pub bytes: u64,
    /// Computing time of all replicas; shown, never priced.
    pub compute_us: u64,
    /// Of that, time spent on outcomes that were not needed: failed, late, interrupted; never priced.
    pub wasted_us: u64,
}
