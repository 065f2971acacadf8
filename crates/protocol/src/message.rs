//! Every message of version 1: its type, by which a receiver knows what the body is.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::blob::{BlobPart, GetBlob, PutBlob};
use crate::codec::{self, CodecError, Format};
use crate::job::{CancelJob, DropJob, JobSpec};
use crate::outcome::Outcome;
use crate::reply::{Accepted, Completed, Part, Problem, Progress};
use crate::unit::Work;

/// A body with a type of its own, carried in the AMQP property `type`.
pub trait Message: Serialize + DeserializeOwned {
    /// `offpeak.<noun>.<verb>.v<N>`; a breaking change is a new type.
    const KIND: &'static str;

    /// The body's bytes.
    fn to_bytes(&self, format: Format) -> Result<Vec<u8>, CodecError> {
        codec::encode(Self::KIND, self, format)
    }

    /// Reads a body.
    fn from_bytes(bytes: &[u8], format: Format) -> Result<Self, CodecError> {
        codec::decode(Self::KIND, bytes, format)
    }
}

macro_rules! messages {
    ($($type:ty = $kind:literal,)*) => {
        $(impl Message for $type { const KIND: &'static str = $kind; })*
        /// Every type of message there is.
        pub const KINDS: &[&str] = &[$($kind),*];
    };
}

messages! {
    PutBlob = "offpeak.blob.put.v1",
    JobSpec = "offpeak.job.submit.v1",
    CancelJob = "offpeak.job.cancel.v1",
    Accepted = "offpeak.job.accepted.v1",
    Problem = "offpeak.job.rejected.v1",
    Progress = "offpeak.job.progress.v1",
    Part = "offpeak.job.part.v1",
    Completed = "offpeak.job.completed.v1",
    Work = "offpeak.unit.compute.v1",
    Outcome = "offpeak.unit.outcome.v1",
    DropJob = "offpeak.job.drop.v1",
    GetBlob = "offpeak.blob.get.v1",
    BlobPart = "offpeak.blob.part.v1",
}

#[cfg(test)]
mod tests;
