//! A unit as it travels to a worker.

use serde::{Deserialize, Serialize};

use crate::{CustomerName, Digest, ReplicaKey};

/// One replica to compute (`offpeak.unit.compute.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which replica this is; the message's id.
    pub replica: ReplicaKey,
    /// Whose job it is: an executor serves one customer at a time.
    pub customer: CustomerName,
    /// What the job's units have in common ([`crate::job::Brief`]), by digest.
    pub brief: Digest,
    /// What is to be called.
    pub call: Call,
    /// Which items of the job these are.
    pub slice: Slice,
    /// The items.
    pub items: Items,
    /// After this much computing the worker gives the unit back as too large.
    pub time_limit_ms: u32,
    /// W3C trace context of the submission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A contiguous slice of a stage's items; an outcome carries that of its unit back, so that it can never be taken for one of
/// other items that were given the same number after the store was restored from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slice {
    /// The stage.
    pub stage: u8,
    /// Its first item.
    pub first: u64,
    /// The first item that is no longer its own.
    pub end: u64,
}

/// What is to be called for each item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `op_map`, or the program.
    Map,
    /// `op_reduce`; each item is a frame of partial results.
    Reduce,
    /// `op_reduce`, then `op_finish` on what it gave: the top of the tree.
    ReduceAndFinish,
}

/// The items of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// Whole numbers, each a MessagePack value of its own.
    Range {
        /// The first.
        start: u64,
        /// The first that is no longer an item.
        end: u64,
    },
    /// A frame in.
    #[serde(with = "crate::codec::base64_bytes")]
    Frame(Vec<u8>),
    /// A frame in, too large for a message, to be fetched by digest.
    Blob {
        /// The frame.
        digest: Digest,
        /// Its size.
        bytes: u64,
    },
}

/// A frame above this size is sent as a blob, so that queues hold little.
pub const MAX_INLINE_ITEMS_BYTES: usize = 1 << 20;
