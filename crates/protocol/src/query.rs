//! What a customer asks about its jobs, and the answers: status, list, explain, results again; and what it does to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::{Certificate, ItemCounts, JobState};
use crate::money::Money;
use crate::reply::UsageSummary;
use crate::{Fuel, JobId, Micros};

/// A customer lets a job rest (`offpeak.job.pause.v1`): what is on its way is finished, nothing more is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PauseJob {
    /// The job.
    pub job: JobId,
}

/// A customer lets a job go on (`offpeak.job.resume.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResumeJob {
    /// The job.
    pub job: JobId,
}

/// A customer asks how a job stands (`offpeak.job.status.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GetJobStatus {
    /// The job.
    pub job: JobId,
}

/// The answer (`offpeak.job.status-reported.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobStatus {
    /// The job.
    pub job: JobId,
    /// The submission's `message_id`.
    pub message_id: String,
    /// Its state.
    pub state: JobState,
    /// Whether it rests.
    pub paused: bool,
    /// Its items so far; cancelled ones appear when it has ended.
    pub items: ItemCounts,
    /// The stage: 0 maps the items, each further one reduces the one before.
    pub stage: u8,
    /// Items of that stage.
    pub stage_items: u64,
    /// Units not decided.
    pub units_open: u64,
    /// Valid units.
    pub units_valid: u64,
    /// Units given up.
    pub units_failed: u64,
    /// What was metered so far.
    pub usage: UsageSummary,
    /// The most fuel that the whole job may be metered, if it has such a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_fuel: Option<Fuel>,
    /// What that costs by the grid's prices, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Seconds to the end at the rate so far; `None` while that is unknown.
    pub eta_s: Option<u64>,
    /// Parts that can be fetched; of a job whose outputs come whole, none before its end.
    pub parts: u32,
    /// Whether its outputs are kept.
    pub results: ResultsState,
    /// Until when they are, if nobody releases them; microseconds since 1970. `None` until it has ended.
    pub results_until_us: Option<Micros>,
    /// When it was admitted, in microseconds since 1970.
    pub admitted_at_us: Micros,
    /// When it ended.
    pub ended_at_us: Option<Micros>,
    /// When what is left is cancelled.
    pub deadline_at_us: Option<Micros>,
    /// The proof, once it has ended.
    pub certificate: Option<Certificate>,
}

/// Whether a job's outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultsState {
    /// They are, as far as there are any.
    Kept,
    /// The customer released them, or their time was over.
    Gone,
}

/// A customer asks for its jobs (`offpeak.job.list.v1`), the youngest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListJobs {
    /// Only those in that state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only those admitted before this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<JobId>,
    /// How many at most; 1 to 1,000.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
}

/// How many a list has at most if it is not said.
pub(crate) fn hundred() -> u32 {
    100
}

/// The answer (`offpeak.job.listed.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobsListed {
    /// The jobs.
    pub jobs: Vec<JobLine>,
    /// Whether there are more before the last.
    pub more: bool,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobLine {
    /// The job.
    pub job: JobId,
    /// The submission's `message_id`.
    pub message_id: String,
    /// The submission's `correlation_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Its state.
    pub state: JobState,
    /// Whether it rests.
    pub paused: bool,
    /// Its items so far.
    pub items: ItemCounts,
    /// When it was admitted, in microseconds since 1970.
    pub admitted_at_us: Micros,
    /// When it ended.
    pub ended_at_us: Option<Micros>,
}

/// A customer asks why a job is not done (`offpeak.job.explain.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainJob {
    /// The job.
    pub job: JobId,
}

/// The answer (`offpeak.job.explained.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobExplained {
    /// The job.
    pub job: JobId,
    /// Why, in the order in which a person should read it; never empty.
    pub reasons: Vec<Explanation>,
    /// Its place among the customer's jobs that wait for the same pool, from 1; `None` if it does not wait.
    pub position: Option<u64>,
    /// The pool's lanes that have a queue.
    pub lanes: Vec<LaneDepth>,
    /// Hosts that listen on the pool.
    pub live_hosts: u32,
    /// Why replicas failed or were given back, most frequent first, at most 20.
    pub failures: Vec<FailureCount>,
    /// Seconds until the next waiting replica may be sent; zero if one may be now, `None` if none waits.
    pub next_attempt_s: Option<u64>,
    /// Seconds to the end at the rate so far; `None` while that is unknown.
    pub eta_s: Option<u64>,
}

/// One reason why a job is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The kind as a word for programs.
    pub code: String,
    /// In words, with the numbers.
    pub detail: String,
}

/// How full a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LaneDepth {
    /// The lane's number.
    pub lane: u16,
    /// Units in its queue, of all customers.
    pub ready: u32,
    /// Workers that listen on it.
    pub workers: u32,
}

/// How often replicas ended for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureCount {
    /// The reason.
    pub reason: String,
    /// How many replicas.
    pub replicas: u64,
}

/// A customer asks for results again (`offpeak.job.fetch.v1`): their parts come, then the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FetchResults {
    /// The job.
    pub job: JobId,
    /// From this part on.
    #[serde(default)]
    pub part: u32,
    /// How many parts at most; 1 to 1,000. An answer has about 16 MiB at most.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
}

/// The answer (`offpeak.job.fetched.v1`), after the parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResultsFetched {
    /// The job.
    pub job: JobId,
    /// How many parts came.
    pub parts: u32,
    /// The part to ask for next, if there are more now.
    pub next_part: Option<u32>,
    /// Whether the job has ended, so that these are all parts there will be.
    pub ended: bool,
}

/// A customer has what it wants of a job (`offpeak.job.release.v1`): its outputs need not be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseResults {
    /// The job.
    pub job: JobId,
}

/// The answer (`offpeak.job.released.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResultsReleased {
    /// The job.
    pub job: JobId,
}
