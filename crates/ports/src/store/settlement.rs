//! What the aggregator needs to settle, assemble and reply.

use async_trait::async_trait;
use protocol::head::JobHead;
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::reply::UsageSummary;
pub use protocol::state::{ReplicaFacts, ReplicaState, UnitFacts, UnitState, Vote};
use protocol::usage::Usage;
use protocol::{CustomerName, HostId, JobId, MeterId, Micros, OutputChain, ReplicaKey, UnitKey};

use super::StoreError;

/// A message to a customer, written in the transaction whose effect it tells of, sent after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// The `message_id`; a second message of the same id has no effect.
    pub id: String,
    /// To whom.
    pub customer: CustomerName,
    /// The message's type.
    pub kind: String,
    /// How the body is written.
    pub content_type: String,
    /// The customer's own key.
    pub correlation_id: Option<String>,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// An outbox message that was claimed for sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// Its place in the order of writing.
    pub sequence: i64,
    /// The message.
    pub message: OutboxMessage,
}

impl Outbox {
    /// Which it is.
    pub fn key(&self) -> OutboxKey {
        (self.sequence, self.message.id.clone())
    }
}

/// A claimed message, by its number and its id: numbers are given out anew when the database is put back to where it was before.
pub type OutboxKey = (i64, String);

/// A job as settling and assembling see it.
#[derive(Debug, Clone)]
pub struct JobFacts {
    /// Which.
    pub id: JobId,
    /// Whose.
    pub customer: CustomerName,
    /// The customer's own key.
    pub correlation_id: Option<String>,
    /// The content type of replies.
    pub content_type: String,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// What is to be done, but for the items and parameters.
    pub spec: JobHead,
    /// How its app's fuel is counted.
    pub meter: MeterId,
    /// Its state.
    pub state: JobState,
    /// The number the next unit cut will have; a split takes it.
    pub next_unit: u32,
    /// When it was admitted.
    pub admitted_at: Micros,
    /// When what is left is cancelled.
    pub deadline_at: Option<Micros>,
    /// Whether its customer asked for its end.
    pub cancel_requested: bool,
    /// How it will end before its time: nothing of it is open, and only what is decided is still assembled.
    pub ending: Option<JobState>,
}

/// What a batch of outcomes is judged by, read under lock.
#[derive(Debug, Clone, Default)]
pub struct SettlementView {
    /// The units the outcomes belong to; unknown ones are missing.
    pub units: Vec<UnitFacts>,
    /// Their jobs.
    pub jobs: Vec<JobFacts>,
    /// Since when each of their replicas was due, where that is known.
    pub due: Vec<(ReplicaKey, Micros)>,
}

/// A replica's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaEnd {
    /// Which.
    pub key: ReplicaKey,
    /// Its new state.
    pub state: ReplicaState,
    /// Who computed it.
    pub host: Option<HostId>,
    /// A computed replica's vote.
    pub vote: Option<Vote>,
    /// Why, where it failed or was given back.
    pub reason: Option<String>,
    /// Its computing time.
    pub compute_us: u64,
}

/// How a unit ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitEnd {
    /// A quorum agrees.
    Valid {
        /// The ledger's row, written with it.
        usage: Usage,
        /// The output frame.
        output: Vec<u8>,
        /// How many of its items failed by themselves.
        failed_items: u32,
        /// Computing time of the replica whose bytes are kept.
        compute_us: u64,
    },
    /// Given up.
    Failed {
        /// Why, said of each of its items.
        reason: String,
    },
    /// Too large: it keeps the items before `middle`, and a new unit of that number takes the rest, with as many due
    /// replicas as `replicas`. Both are open. The kept half's replicas are all ended, and as many further ones are due.
    Split {
        /// The first item of the new unit.
        middle: u64,
        /// Where that item begins in the input's blob.
        middle_byte: u64,
        /// The new unit's number: the job's `next_unit`, which moves on.
        unit: u32,
        /// The quorum.
        replicas: u16,
    },
}

/// A unit's end with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitSettled {
    /// Which.
    pub key: UnitKey,
    /// How.
    pub end: UnitEnd,
}

/// What settling decided: all of it is written, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    /// Replicas that ended.
    pub replicas: Vec<ReplicaEnd>,
    /// Further replicas, due from that time on.
    pub due: Vec<(ReplicaKey, Micros)>,
    /// Units that ended or were split. A unit that is no longer open is left as it is.
    pub units: Vec<UnitSettled>,
    /// Computing time per job that was of no use.
    pub wasted_us: Vec<(JobId, u64)>,
}

/// What assembling a job continues from.
#[derive(Debug, Clone)]
pub struct AssemblyView {
    /// The job.
    pub job: JobFacts,
    /// The current stage.
    pub stage: u8,
    /// How many items the current stage has.
    pub stage_items: u64,
    /// Whether the current stage is the last.
    pub last_stage: bool,
    /// Items of the current stage that are cut into units.
    pub cut: u64,
    /// Items of those units that are not decided; zero for a job without a budget.
    pub open_items: u64,
    /// Items of the current stage that are assembled.
    pub assembled: u64,
    /// The chain over those.
    pub chain: OutputChain,
    /// The chain over all items of stage 0, once that stage is assembled.
    pub items_chain: Option<OutputChain>,
    /// Item counts of stage 0 over what is assembled.
    pub items: ItemCounts,
    /// Parts so far, sent or withheld.
    pub parts: u32,
    /// How many of them were sent: those before the first that was withheld.
    pub parts_sent: u32,
    /// Bytes and messages that wait in the outbox for the customer; of more than 10,001 messages only so many are counted.
    pub unsent: Unsent,
    /// The next ended units of the stage in item order without a gap from `assembled`: first item, end, state, output frame.
    pub units: Vec<(u64, u64, UnitState, Vec<u8>)>,
    /// Sums over the job so far.
    pub sums: JobSums,
    /// When the last progress reply was written.
    pub progress_at: Option<Micros>,
}

/// Sums over a job, kept as units settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobSums {
    /// Items of stage 0 in valid units with an output, settled though perhaps not yet assembled.
    pub items_succeeded: u64,
    /// Items of stage 0 that failed, likewise.
    pub items_failed: u64,
    /// What was metered so far.
    pub usage: UsageSummary,
}

/// What follows when a stage is assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageStep {
    /// More is to come.
    Stay,
    /// The next stage reduces this one.
    Next {
        /// How many items it has.
        stage_items: u64,
        /// Whether it is the last.
        last_stage: bool,
    },
    /// The job is cut short: its open units and replicas are cancelled, and what is not cut never will be.
    Cancel {
        /// How it will end.
        state: JobState,
    },
    /// The job ends; open units and replicas are cancelled.
    End {
        /// How.
        state: JobState,
        /// The proof.
        certificate: Certificate,
    },
}

/// What waits in the outbox for one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsent {
    /// Messages.
    pub messages: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// What assembling decided.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// Items of the stage now assembled.
    pub assembled: u64,
    /// The chain over those.
    pub chain: OutputChain,
    /// The chain over all of stage 0, when that stage is done.
    pub items_chain: Option<OutputChain>,
    /// Item counts of stage 0 over what is assembled.
    pub items: ItemCounts,
    /// Parts so far, sent or withheld.
    pub parts: u32,
    /// How many of them were sent, including those of `replies`.
    pub parts_sent: u32,
    /// The first part of each of the view's units that has an output, in the last stage: its first item, and the part's
    /// number. If one is missing, the store numbers them all itself when parts are asked for.
    pub numbered: Vec<(u64, u32)>,
    /// What follows.
    pub step: StageStep,
    /// Messages to the customer.
    pub replies: Vec<OutboxMessage>,
    /// Set if a progress reply is among them.
    pub progress_at: Option<Micros>,
}

/// Decides on a batch of outcomes, from what was read under lock.
pub type Settle = Box<dyn FnOnce(&SettlementView) -> Settlement + Send>;
/// Decides how a job's assembly goes on.
pub type Assemble = Box<dyn FnOnce(&AssemblyView) -> Assembly + Send>;

/// Settlement's transactions.
#[async_trait]
pub trait SettlementStore: Send + Sync {
    /// Reads the units of these replicas with all their replicas and jobs under lock (jobs first, in id order), lets
    /// `decide` decide, and writes it: replicas, units, outputs, ledger rows, sums of the jobs.
    async fn settle(&self, keys: &[ReplicaKey], decide: Settle) -> Result<(), StoreError>;

    /// Reads a job's assembly state under lock with up to `max_units` further units (at most about 16 MiB of output),
    /// lets `decide` decide, and writes it. `None` and no call if the job is unknown or has ended; else whether anything may follow at once.
    async fn assemble(&self, job: JobId, max_units: u32, decide: Assemble) -> Result<Option<bool>, StoreError>;

    /// Running jobs that assembling may bring forward: units ended since, cancel requested, deadline passed; at most `limit`.
    async fn jobs_to_assemble(&self, now: Micros, limit: u32) -> Result<Vec<JobId>, StoreError>;

    /// Claims up to `limit` unsent messages (about 16 MiB at most), oldest first, until `until`; never overtaking an earlier unsent message of the same customer.
    async fn claim_outbox(&self, now: Micros, until: Micros, limit: u32) -> Result<Vec<Outbox>, StoreError>;

    /// Drops the outputs of up to `limit` jobs that ended before that time or whose outputs were released: nobody reads them
    /// from the first moment on, and their rows are deleted step by step, as many as one call may. Returns of how many jobs
    /// nothing is left.
    async fn expire_results(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<u32, StoreError>;

    /// Forgets sent messages, and gives back those that were refused, to be claimed again at that time. A message of one of these
    /// numbers that has another id stays as it is.
    async fn settle_outbox(&self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) -> Result<(), StoreError>;
}
