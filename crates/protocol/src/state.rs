//! The states of replicas and units, and what is known of them when a decision is taken.
//!
//! ```text
//! replica  Due --> Sent --> Computed --(lost the vote)--> Failed          unit  Open --> Valid | Failed | Cancelled
//!                  Sent --> Failed | Interrupted | Lost                         Open --(split)--> Open + a new Open unit
//!                  Lost --> Computed | Failed | Interrupted  (a late outcome, while the unit is open)
//!                  Computed --(its host answered another replica)--> Interrupted
//! ```

use crate::unit::Slice;
use crate::{Digest, Fuel, HostId, MeterId, UnitKey};

/// A replica's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplicaState {
    /// To be sent.
    Due,
    /// The broker or a worker has it.
    Sent,
    /// Its deadline passed; an outcome that comes after all is still used while the unit is open.
    Lost,
    /// Its outcome is recorded and counts toward the quorum.
    Computed,
    /// Its outcome is recorded as a failure of the app or of the executor, or its computed result lost the vote.
    Failed,
    /// It was given back without fault.
    Interrupted,
}

/// What replicas must agree on: the output, and all that is billed for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// How the fuel was counted.
    pub meter: MeterId,
    /// The fuel.
    pub fuel: Fuel,
    /// Bytes of the items that succeeded.
    pub input_bytes: u64,
    /// The output frame's digest.
    pub output: Digest,
}

/// A replica as settling sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// Its number within the unit.
    pub replica: u16,
    /// Its lane, once assigned.
    pub lane: Option<u16>,
    /// Its state.
    pub state: ReplicaState,
    /// Who computed it.
    pub host: Option<HostId>,
    /// What a computed replica must agree on with others.
    pub vote: Option<Vote>,
}

/// A unit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitState {
    /// Not decided.
    Open,
    /// Its output is valid and metered.
    Valid,
    /// Given up: all its items failed.
    Failed,
    /// Cancelled with its job.
    Cancelled,
}

/// A unit as settling sees it, its replicas in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// Which.
    pub key: UnitKey,
    /// Its stage.
    pub stage: u8,
    /// Its first item.
    pub first: u64,
    /// The first item that is no longer its own.
    pub end: u64,
    /// Its bytes in the input's blob.
    pub bytes: (u64, u64),
    /// Its state.
    pub state: UnitState,
    /// Its replicas.
    pub replicas: Vec<ReplicaFacts>,
}

impl UnitFacts {
    /// Its items.
    pub fn slice(&self) -> Slice {
        Slice { stage: self.stage, first: self.first, end: self.end }
    }
}
