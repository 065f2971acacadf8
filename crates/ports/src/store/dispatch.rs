//! What the producer needs to dispatch work.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::job::JobSpec;
use protocol::{CustomerName, Digest, Fuel, JobId, Micros, ReplicaKey, UnitKey};

use super::{ReplicaFacts, ReplicaState, StoreError};

/// How far a job's current stage is cut into units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The stage: 0 maps the items, each further one reduces the one before.
    pub stage: u8,
    /// The next item of the stage to be cut; the stage's item count when all are.
    pub item: u64,
    /// Where that item begins in the input's blob, if there is one.
    pub byte: u64,
    /// The number of the next unit, over all stages.
    pub unit: u32,
}

/// What has been measured of a job's current stage, for sizing and fair shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobProgress {
    /// Items of valid units.
    pub items: u64,
    /// Valid units.
    pub units: u64,
    /// Their fuel.
    pub fuel: Fuel,
    /// Their computing time.
    pub compute_us: u64,
    /// Their output bytes.
    pub output_bytes: u64,
}

/// A running job under this producer's lease.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub customer: CustomerName,
    /// The customer's weight in the fair share.
    pub weight: u32,
    /// What is to be done; shared, since it may hold a million items.
    pub spec: Arc<JobSpec>,
    /// The digest of its brief.
    pub brief: Digest,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// How many items the job's input has.
    pub items: u64,
    /// How many items the current stage has.
    pub stage_items: u64,
    /// Whether the current stage is the last (its result is the job's).
    pub last_stage: bool,
    /// How far it is cut.
    pub cursor: Cursor,
    /// What was measured of the current stage.
    pub progress: JobProgress,
    /// What was metered of it, in all stages.
    pub spent: Fuel,
    /// Items of its units that are not decided, of the same moment as `spent` and the cursor; zero for one without a budget.
    pub open_items: u64,
    /// Replicas waiting to be sent now (retries, further replicas, those whose sending was not confirmed).
    pub due: u32,
    /// How many further replicas of this customer, over all its jobs, may be with the broker or a worker.
    pub customer_units_left: u32,
    /// When it was admitted.
    pub admitted_at: Micros,
}

/// A unit being cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUnit {
    /// Its key; the number is the cursor's.
    pub key: UnitKey,
    /// Its stage.
    pub stage: u8,
    /// Its first item.
    pub first: u64,
    /// The first item that is no longer its own.
    pub end: u64,
    /// Its bytes in the input's blob, from and to; zero without one.
    pub bytes: (u64, u64),
    /// The lanes its first replicas (numbered from 0) go to; as many as the quorum.
    pub lanes: Vec<u16>,
}

/// A replica that is there and due to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueReplica {
    /// Which.
    pub key: ReplicaKey,
    /// The unit's stage.
    pub stage: u8,
    /// The unit's first item.
    pub first: u64,
    /// The first item that is no longer the unit's.
    pub end: u64,
    /// The unit's bytes in the input's blob.
    pub bytes: (u64, u64),
    /// The lane it was assigned before, if its sending was not confirmed.
    pub lane: Option<u16>,
    /// Lanes of the unit's other replicas that are computing or have an answer: it is to go to another.
    pub taken: Vec<u16>,
    /// Those of them that have no answer yet: where no other lane is served, it goes to one of the rest.
    pub computing: Vec<u16>,
    /// If the answers that count so far differ, the lanes that these came from, and those that a later one of the same host replaced.
    pub disputed: Vec<u16>,
}

impl DueReplica {
    /// The same beside the replicas of its unit.
    #[must_use]
    pub fn beside(self, replicas: &[&ReplicaFacts]) -> Self {
        let others = || replicas.iter().filter(|other| other.replica != self.key.replica);
        let lanes = |states: &[ReplicaState]| others().filter(|o| states.contains(&o.state)).filter_map(|o| o.lane).collect();
        let answers = || others().filter(|other| other.vote.is_some());
        let counted = || answers().filter(|other| other.state == ReplicaState::Computed);
        let differ = counted().any(|other| Some(&other.vote) != counted().next().map(|first| &first.vote));
        Self {
            taken: lanes(&[ReplicaState::Due, ReplicaState::Sent, ReplicaState::Computed]),
            computing: lanes(&[ReplicaState::Due, ReplicaState::Sent]),
            disputed: answers().filter(|_| differ).filter_map(|other| other.lane).collect(),
            ..self
        }
    }
}

/// A lane given to a due replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The replica.
    pub key: ReplicaKey,
    /// Its lane.
    pub lane: u16,
}

/// One step of dispatch: all of it is written, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Dispatch {
    /// When: the first replicas of what is cut are due since then.
    pub at: Micros,
    /// Units cut, each with its first replicas due and assigned.
    pub cuts: Vec<NewUnit>,
    /// Lanes given to replicas that were due.
    pub assignments: Vec<Assignment>,
    /// The new cursor of each job cut from, and the number of its next unit as it was before: if it has
    /// moved meanwhile (another producer), the whole step is refused. So it is if the cursor is in another stage, or not where the
    /// first unit begins that is cut of the job.
    pub cursors: Vec<(JobId, u32, Cursor)>,
}

impl Dispatch {
    /// The item at which a job's cursor was before the step: the first that is cut of the job, whose units follow each other.
    pub fn cut_from(&self, job: JobId) -> Option<u64> {
        self.cuts.iter().find(|unit| unit.key.job == job).map(|unit| unit.first)
    }
}

/// Dispatch's transactions.
#[async_trait]
pub trait DispatchStore: Send + Sync {
    /// Takes or renews the lease on up to `limit` running, uncancelled jobs that have something to cut or to send and that no other
    /// holds, and returns them in the order of their ids: the most urgent of each customer (highest priority, then oldest), then
    /// the second of each, and so on. What `owner` held and must give way to these, it gives back.
    /// Where jobs have more items inside than may be held at one time, some of these are left out, others in the time of
    /// each lease. A job that cannot be read, or whose specification cannot, is left out too.
    async fn claim_jobs(&self, owner: &str, now: Micros, until: Micros, limit: u32) -> Result<Vec<ClaimedJob>, StoreError>;

    /// Gives back every lease of `owner`.
    async fn release_jobs(&self, owner: &str) -> Result<(), StoreError>;

    /// Up to `limit` of a job's replicas that are due at `now`, in the order of their units.
    async fn due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Result<Vec<DueReplica>, StoreError>;

    /// Writes a step of dispatch; `false` if it was refused because a cursor had moved.
    async fn dispatch(&self, step: Dispatch) -> Result<bool, StoreError>;

    /// The broker has these replicas: due replicas become sent, with a deadline after which they are lost.
    async fn mark_sent(&self, keys: &[ReplicaKey], deadline: Micros) -> Result<(), StoreError>;

    /// Marks up to `limit` sent replicas whose deadline has passed as lost, and makes a further replica of each of
    /// their open units due. With `everything`, all sent replicas are taken for lost: the broker was wiped. Returns how many.
    async fn expire_replicas(&self, now: Micros, limit: u32, everything: bool) -> Result<u32, StoreError>;

    /// The output frames of a stage's units that overlap the items from `first` to before `end`, in item order:
    /// for each its first item, the first item no longer its own, and the frame (a failed unit's is synthesised).
    async fn stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<Vec<(u64, u64, Vec<u8>)>, StoreError>;
}
