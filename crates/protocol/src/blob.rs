//! Blobs (apps, inputs, artefacts, briefs) named by digest and moved in parts over the broker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, HostId, Micros};

/// A part's size: small enough to interleave with other messages, large enough to amortise a hop.
pub const PART_BYTES: usize = 1 << 20;
/// The largest blob the grid takes.
pub const MAX_BLOB_BYTES: u64 = 1 << 30;
/// A customer has no more blobs, those begun included: the smallest still costs rows.
pub const MAX_BLOBS: u64 = 1_000_000;

/// A customer uploads a part of a blob (`offpeak.blob.put.v1`); parts may come in any order, and again. One that comes again
/// after its blob was deleted is refused (`already-handled`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PutBlob {
    /// The whole blob's digest, checked when all parts are there.
    pub digest: Digest,
    /// The whole blob's size.
    #[schemars(range(min = 0, max = MAX_BLOB_BYTES))]
    pub size: u64,
    /// Where this part begins: a multiple of 1,048,576 (1 MiB).
    pub offset: u64,
    /// 1,048,576 bytes (1 MiB) of data, fewer only at the blob's end.
    #[serde(with = "crate::codec::base64_bytes")]
    #[schemars(with = "crate::schema::Bytes")]
    pub data: Vec<u8>,
}

/// A worker asks for a part of a blob (`offpeak.blob.get.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetBlob {
    /// Which blob.
    pub digest: Digest,
    /// Where the part begins.
    pub offset: u64,
    /// Who asks: the routing key of the answer.
    pub host: HostId,
}

/// The answer (`offpeak.blob.part.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobPart {
    /// Which blob.
    pub digest: Digest,
    /// Where the part begins.
    pub offset: u64,
    /// The whole blob's size; `None` if the grid does not have the blob.
    pub size: Option<u64>,
    /// The data.
    #[serde(with = "crate::codec::base64_bytes")]
    pub data: Vec<u8>,
}

/// A part was stored (`offpeak.blob.stored.v1`): the answer to a part that has a `correlation_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobStored {
    /// Which blob.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Bytes of it that are there.
    pub received: u64,
    /// Whether all of it is there and of that digest.
    pub whole: bool,
}

/// A customer asks for its blobs (`offpeak.blob.list.v1`), in the order of their digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListBlobs {
    /// Only those after this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Digest>,
    /// How many at most; 1 to 1,000.
    #[serde(default = "crate::query::hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: u32,
}

/// The answer (`offpeak.blob.listed.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobsListed {
    /// The blobs.
    pub blobs: Vec<BlobEntry>,
    /// Whether there are more after the last.
    pub more: bool,
    /// Bytes of all the customer's blobs, those begun counted whole.
    pub stored_bytes: u64,
    /// How many that may be.
    pub limit_bytes: u64,
}

/// A customer's blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Bytes of it that are there.
    pub received: u64,
    /// Whether all of it is there and of that digest.
    pub whole: bool,
    /// Where parts are missing: offset and length of each gap, the first 1,000.
    pub missing: Vec<(u64, u64)>,
    /// When its upload began, in microseconds since 1970.
    pub begun_at_us: Micros,
}

/// A customer gives a blob up (`offpeak.blob.delete.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteBlob {
    /// Which.
    pub digest: Digest,
}

/// The answer (`offpeak.blob.deleted.v1`): it is no longer the customer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobDeleted {
    /// Which.
    pub digest: Digest,
    /// Bytes that the customer stores no longer.
    pub freed_bytes: u64,
}
