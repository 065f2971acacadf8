//! A job as its customer describes it, and what an admitted job's units have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::input::Input;
use crate::{CustomerName, Digest, Fuel, MeterId, PoolName, Value};

/// What a customer submits (`offpeak.job.submit.v1`): app, input, parameters and requirements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobSpec {
    /// The WebAssembly module, by the digest of its bytes.
    pub app: Digest,
    /// The items.
    pub input: Input,
    /// A blob every unit may read; workers keep it by digest.
    #[serde(default)]
    pub shared: Option<Digest>,
    /// Handed to the app as MessagePack before the first item.
    #[serde(default = "empty_map")]
    #[schemars(with = "crate::schema::Parameters")]
    pub params: Value,
    /// The machines' trust level.
    pub pool: PoolName,
    /// How many hosts must agree on a unit.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = Self::MAX_QUORUM))]
    pub quorum: u8,
    /// Among the same customer's jobs, higher runs first; -100 to 100.
    #[serde(default)]
    #[schemars(range(min = -Self::MAX_PRIORITY, max = Self::MAX_PRIORITY))]
    pub priority: i8,
    /// Seconds from admission after which what is not yet computed is cancelled.
    #[serde(default)]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub deadline_s: Option<u32>,
    /// The most fuel that the whole job may be metered. What is under way counts as if each of its items took `fuel_per_item`,
    /// so that it is never exceeded; what it does not suffice for is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_fuel: Option<Fuel>,
    /// How many failed computations of one unit are tolerated before its items are given up.
    #[serde(default = "default_max_failures")]
    pub max_failures: u16,
    /// What one item may use.
    #[serde(default)]
    pub limits: Limits,
    /// How large units become.
    #[serde(default)]
    pub unit: UnitSizing,
    /// Whether outputs are reduced to one by the app.
    #[serde(default)]
    pub reduce: bool,
    /// How outputs reach the customer.
    #[serde(default)]
    pub delivery: Delivery,
}

impl JobSpec {
    /// The largest quorum: more agreeing hosts than this prove nothing further.
    pub const MAX_QUORUM: u8 = 16;
    /// The highest priority; the lowest is as far below 0.
    pub const MAX_PRIORITY: i8 = 100;
    /// The largest parameters, as MessagePack: they are part of the brief that every worker keeps in memory.
    pub const MAX_PARAMS_BYTES: usize = 1 << 20;

    /// The blobs that it names: app, shared input, and the input's own.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        [Some(self.app), self.shared, self.input.blob()].into_iter().flatten()
    }
}

fn empty_map() -> Value {
    Value::Map(Vec::new())
}

pub(crate) fn one() -> u8 {
    1
}

pub(crate) fn default_max_failures() -> u16 {
    3
}

/// What one item may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// Fuel of one item (of one node in a reduction); beyond it the item fails.
    pub fuel_per_item: Fuel,
    /// Memory of one app instance; beyond it the item fails.
    #[schemars(range(min = 65536, max = Self::MAX_MEMORY_BYTES))]
    pub memory_bytes: u64,
    /// Output of one item; beyond it the item fails.
    #[schemars(range(min = 1, max = Self::MAX_OUTPUT_BYTES))]
    pub output_bytes: u32,
}

impl Limits {
    /// The largest memory an app instance may ask for: 32-bit WebAssembly ends there.
    pub const MAX_MEMORY_BYTES: u64 = 4 << 30;
    /// The largest output of one item: with its frame it must fit one message.
    pub const MAX_OUTPUT_BYTES: u32 = 4 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel_per_item: Fuel::new(1_000_000_000_000).unwrap_or(Fuel::MAX), memory_bytes: 256 << 20, output_bytes: 1 << 20 }
    }
}

/// How large units become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UnitSizing {
    /// The duration that unit sizes are steered toward.
    #[schemars(range(min = 1, max = Self::MAX_TARGET_MS))]
    pub target_ms: u32,
    /// A unit never has more items.
    #[schemars(range(min = 1, max = u32::MAX))]
    pub max_items: u32,
}

impl UnitSizing {
    /// The longest target: a unit is to be over long before the broker gives up waiting for it.
    pub const MAX_TARGET_MS: u32 = 10 * 60 * 1_000;
}

impl Default for UnitSizing {
    fn default() -> Self {
        Self { target_ms: 10_000, max_items: 10_000 }
    }
}

/// How outputs reach the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// They stay in the store, to be read from there.
    #[default]
    Stored,
    /// They are sent as validated, in item order.
    Parts,
    /// They are sent as one part when the job has ended, if they have at most 4 MiB; else they are fetched.
    Whole,
}

/// How an app is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// The ABI `offpeak1`.
    Offpeak1,
    /// A WASI preview 1 program, run once per item from stdin to stdout.
    Command,
}

/// What all units of a job have in common; a blob, so that workers fetch it once and keep it by digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    /// The app.
    pub app: Digest,
    /// The compiled app, made by the grid's own publisher.
    pub artefact: Digest,
    /// How it is entered.
    pub entry: EntryKind,
    /// How its fuel is counted.
    pub meter: MeterId,
    /// The parameters, as MessagePack.
    #[serde(with = "crate::codec::base64_bytes")]
    pub params: Vec<u8>,
    /// The shared input.
    pub shared: Option<Digest>,
    /// What one item may use.
    pub limits: Limits,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Units are cut, computed and settled.
    Running,
    /// Ended: every item succeeded or failed.
    Completed,
    /// Ended by its customer: the rest was cancelled.
    Cancelled,
    /// Ended by its deadline: the rest was cancelled.
    Expired,
    /// Ended by its budget: the rest was cancelled.
    Exhausted,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Completed, Self::Cancelled, Self::Expired, Self::Exhausted];

    /// The state as a word, in messages, tables, metrics and logs alike; the words stay.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
        }
    }

    /// Whether the job has had its terminal reply.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Running => false,
            Self::Completed | Self::Cancelled | Self::Expired | Self::Exhausted => true,
        }
    }
}

/// A job's counts; every item is in exactly one of them when the job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ItemCounts {
    /// Items of the input.
    pub submitted: u64,
    /// Items with an output.
    pub succeeded: u64,
    /// Items with a reason instead.
    pub failed: u64,
    /// Items never computed.
    pub cancelled: u64,
}

impl ItemCounts {
    /// Whether each item is accounted for exactly once (invariant I2).
    pub fn is_complete(&self) -> bool {
        let sum = self.succeeded.checked_add(self.failed).and_then(|s| s.checked_add(self.cancelled));
        sum == Some(self.submitted)
    }
}

/// Proof of what became of each item, in the terminal reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// The job's items.
    pub items: ItemCounts,
    /// The output chain over all items in order.
    pub items_digest: Digest,
    /// The output chain over what the customer gets: the items, or the one result of the reduction.
    pub output_digest: Digest,
}

/// A customer asks for a job's end (`offpeak.job.cancel.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelJob {
    /// The job.
    pub job: crate::JobId,
}

/// The grid tells its workers to drop a job's units (`offpeak.job.drop.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropJob {
    /// The job.
    pub job: crate::JobId,
    /// Whose it was.
    pub customer: CustomerName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_a_state_by_its_word() {
        for state in JobState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
