//! What came back for a replica.

use serde::{Deserialize, Serialize};

use crate::unit::Slice;
use crate::{Digest, Fuel, HostId, MeterId, ReplicaKey};

/// A worker's answer to one replica (`offpeak.unit.outcome.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which replica.
    pub replica: ReplicaKey,
    /// Which items it was to compute.
    pub slice: Slice,
    /// The machine that computed.
    pub host: HostId,
    /// What happened.
    pub result: OutcomeResult,
    /// Wall time of the computation, for unit sizing; never priced.
    pub compute_us: u64,
}

/// What happened to a replica at its worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// Every item has an output or failed by itself.
    Computed(Computed),
    /// The app could not be brought to compute the unit: it refused its parameters, or cannot be instantiated.
    AppFailed {
        /// Why, for the customer.
        reason: String,
    },
    /// The unit is beyond the time or size of one unit, or its executor died under it: it is to be cut in halves.
    TooLarge {
        /// Which bound, for people.
        reason: String,
    },
    /// The machine was needed by its owner, or is shutting down; nobody's fault.
    Interrupted {
        /// Why, for people.
        reason: String,
    },
    /// This worker cannot run this unit.
    Refused {
        /// Why, for operators.
        reason: String,
    },
    /// The broker gave up on the replica after it killed its workers; reported on their behalf.
    Dead {
        /// Why, for the customer.
        reason: String,
    },
}

/// A computed unit; the parts that replicas must agree on, and the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Computed {
    /// How the fuel was counted.
    pub meter: MeterId,
    /// Metered instructions of the items that succeeded.
    pub fuel: Fuel,
    /// The digest of the frame.
    pub digest: Digest,
    /// A frame out, one entry an item.
    #[serde(with = "crate::codec::base64_bytes")]
    pub output: Vec<u8>,
    /// Bytes of the items that succeeded, without what frames them: how items are cut into units does not show.
    pub input_bytes: u64,
}

/// A unit's whole output frame is at most this large, so that its outcome fits one message.
pub const MAX_UNIT_OUTPUT_BYTES: usize = 7 << 20;
/// A reason is cut to this many bytes at its source.
pub const MAX_REASON_BYTES: usize = 1_000;

/// Cuts a reason to its bound, at a character's border.
pub fn bounded_reason(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        let end = reason.floor_char_boundary(MAX_REASON_BYTES);
        reason.truncate(end);
        reason.push('…');
    }
    reason
}
