//! Blobs (apps, inputs, artefacts, briefs) named by digest and moved in parts over the broker.

use serde::{Deserialize, Serialize};

use crate::{Digest, HostId};

/// A part's size: small enough to interleave with other messages, large enough to amortise a hop.
pub const PART_BYTES: usize = 1 << 20;
/// The largest blob the grid takes.
pub const MAX_BLOB_BYTES: u64 = 1 << 30;

/// A customer uploads a part of a blob (`offpeak.blob.put.v1`); parts may come again, and in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBlob {
    /// The whole blob's digest, checked when all parts are there.
    pub digest: Digest,
    /// The whole blob's size.
    pub size: u64,
    /// Where this part begins: a multiple of [`PART_BYTES`].
    pub offset: u64,
    /// [`PART_BYTES`] of data, fewer only at the blob's end.
    #[serde(with = "crate::codec::base64_bytes")]
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
