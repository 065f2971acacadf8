//! The sandbox: publishing an app (with the compiler) and executing its units (without).

use std::sync::Arc;

use async_trait::async_trait;
use protocol::job::{EntryKind, Limits};
use protocol::unit::Call;
use protocol::{CustomerName, Digest, Fuel, MeterId};

/// The largest module, in bytes: larger data belongs into the job's shared input.
pub const MAX_MODULE_BYTES: u64 = 32 << 20;

/// Why a module of so many bytes is not accepted, if it is too large.
pub fn module_too_large(bytes: u64) -> Option<String> {
    let limit = MAX_MODULE_BYTES;
    let way_out = "strip debug sections, move data to the job's shared input";
    (bytes > limit).then(|| format!("the module has {bytes} bytes, over the limit of {limit}: {way_out}"))
}

/// An app made ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The digest of the module as the customer gave it.
    pub app: Digest,
    /// The compiled app; native code, to be run only if its digest is the one recorded.
    pub artefact: Vec<u8>,
    /// The artefact's digest.
    pub digest: Digest,
    /// How the app is entered.
    pub entry: EntryKind,
    /// How its fuel is counted.
    pub meter: MeterId,
    /// Whether it can reduce.
    pub reduces: bool,
    /// The app's manifest (custom section `offpeak.manifest`, JSON), if it has one.
    pub manifest: Option<String>,
}

/// Why a module is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The module is wrong; each reason names the place and the way out.
    #[error("module is not accepted: {}", reasons.join("; "))]
    Rejected {
        /// Every reason found.
        reasons: Vec<String>,
    },
    /// The publisher itself failed; the same module may pass later.
    #[error("compiler process failed: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What a module needs and offers, as far as it can be told without compiling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// `module.name: type` of each import.
    pub imports: Vec<String>,
    /// `name: type` of each export.
    pub exports: Vec<String>,
    /// How it would be entered, if that can be told.
    pub entry: Option<EntryKind>,
    /// The manifest, if it has one.
    pub manifest: Option<String>,
    /// Why it would be rejected; empty if it would be accepted.
    pub reasons: Vec<String>,
}

/// Makes apps ready to run.
#[async_trait]
pub trait Publish: Send + Sync {
    /// Validates the module, checks imports, exports and caps, and compiles it in a limited child process.
    async fn publish(&self, module: &[u8]) -> Result<Published, PublishError>;

    /// Looks at a module without compiling it.
    fn inspect(&self, module: &[u8]) -> Inspection;
}

/// What an executor needs of a job, all by value; kept by it for the next unit of the same job.
#[derive(Debug, Clone)]
pub struct Program {
    /// Names the program: equal for equal contents (the brief's digest).
    pub brief: Digest,
    /// Whose program it is: executors never serve two customers.
    pub customer: CustomerName,
    /// The compiled app, whose digest the caller has checked.
    pub artefact: Arc<Vec<u8>>,
    /// How it is entered.
    pub entry: EntryKind,
    /// The parameters, as MessagePack.
    pub params: Arc<Vec<u8>>,
    /// The shared input; empty if there is none.
    pub shared: Arc<Vec<u8>>,
    /// What one item may use.
    pub limits: Limits,
}

/// A unit to execute.
#[derive(Debug, Clone)]
pub struct Task {
    /// The program.
    pub program: Program,
    /// What to call for each item.
    pub call: Call,
    /// Index of the first item within its stage, for seeds and messages.
    pub first: u64,
    /// A frame in ([`protocol::frame`]).
    pub items: Vec<u8>,
    /// The executor is ended after this much computing.
    pub time_limit: std::time::Duration,
}

/// A unit executed: each item has an output or a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// A frame out, one entry an item.
    pub output: Vec<u8>,
    /// Metered instructions of the items that succeeded.
    pub fuel: Fuel,
    /// Wall time of the computation.
    pub compute: std::time::Duration,
}

/// Why a unit has no result; the worker lives on in every case.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecuteError {
    /// The app cannot be brought to compute (it refuses its parameters, cannot be instantiated).
    #[error("app failed: {reason}")]
    App {
        /// Why, for the customer.
        reason: String,
    },
    /// The executor died under the unit.
    #[error("executor died: {reason}")]
    Died {
        /// Why (a signal, an exit code, a broken answer).
        reason: String,
    },
    /// The time limit passed.
    #[error("unit exceeded its time limit of {limit:?}")]
    TimeLimit {
        /// The limit.
        limit: std::time::Duration,
    },
    /// The output frame would be beyond one message.
    #[error("unit output exceeds {limit} bytes")]
    OutputLimit {
        /// The limit.
        limit: usize,
    },
    /// The artefact does not run here (another target or version).
    #[error("artefact does not run on this host: {reason}")]
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The unit was stopped from outside.
    #[error("unit was interrupted")]
    Interrupted,
}

/// Runs units.
#[async_trait]
pub trait Execute: Send + Sync {
    /// Runs a unit in a fresh instance, on an idle slot (waits for one). Dropping the future ends the executor.
    async fn execute(&self, task: Task) -> Result<Executed, ExecuteError>;

    /// Stops computing at once and keeps the state (the owner is back), until `resume`.
    fn pause(&self);

    /// Goes on.
    fn resume(&self);

    /// How many units run at the same time.
    fn slots(&self) -> usize;
}
