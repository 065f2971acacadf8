//! Every message of version 1: its type, by which a receiver knows what the body is.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::{AppRegistered, RegisterApp};
use crate::blob::{BlobDeleted, BlobPart, BlobStored, BlobsListed, DeleteBlob, GetBlob, ListBlobs, PutBlob};
use crate::codec::{self, CodecError, Format};
use crate::job::{CancelJob, DropJob, JobSpec};
use crate::outcome::Outcome;
use crate::problem::{Problem, Refused};
use crate::query::{
    ExplainJob, FetchResults, GetJobStatus, JobExplained, JobStatus, JobsListed, ListJobs, PauseJob, ReleaseResults,
    ResultsFetched, ResultsReleased, ResumeJob,
};
use crate::quote::{QuoteJob, Quoted};
use crate::reply::{Accepted, Completed, Part, Progress};
use crate::unit::Work;
use crate::usage::{ReportUsage, UsageReported};

/// Of a type that is none of ours so many characters are told.
const MAX_TOLD_KIND: usize = 80;

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

    /// Reads a body that came under that type. Another type is another message, also where its fields look like this one's; a
    /// body that came without a type is taken for this message.
    fn from_typed(kind: &str, bytes: &[u8], format: Format) -> Result<Self, CodecError> {
        if kind.is_empty() || kind == Self::KIND {
            return Self::from_bytes(bytes, format);
        }
        let kind: String = kind.chars().take(MAX_TOLD_KIND).collect();
        Err(CodecError::Invalid { kind: Self::KIND, detail: format!("it came under type {kind:?}"), pointer: None })
    }
}

macro_rules! messages {
    ($($type:ty = $kind:literal,)*) => {
        $(impl Message for $type { const KIND: &'static str = $kind; })*
        /// Every type of message there is.
        pub const KINDS: &[&str] = &[$($kind),*];
        #[cfg(test)]
        pub(crate) const READERS: &[(&str, Reader)] = &[$(($kind, read_as::<$type>)),*];
    };
}

messages! {
    RegisterApp = "offpeak.app.register.v1",
    AppRegistered = "offpeak.app.registered.v1",
    PutBlob = "offpeak.blob.put.v1",
    BlobStored = "offpeak.blob.stored.v1",
    ListBlobs = "offpeak.blob.list.v1",
    BlobsListed = "offpeak.blob.listed.v1",
    DeleteBlob = "offpeak.blob.delete.v1",
    BlobDeleted = "offpeak.blob.deleted.v1",
    QuoteJob = "offpeak.job.quote.v1",
    Quoted = "offpeak.job.quoted.v1",
    JobSpec = "offpeak.job.submit.v1",
    CancelJob = "offpeak.job.cancel.v1",
    Accepted = "offpeak.job.accepted.v1",
    Problem = "offpeak.job.rejected.v1",
    Progress = "offpeak.job.progress.v1",
    Part = "offpeak.job.part.v1",
    Completed = "offpeak.job.completed.v1",
    Refused = "offpeak.request.refused.v1",
    PauseJob = "offpeak.job.pause.v1",
    ResumeJob = "offpeak.job.resume.v1",
    GetJobStatus = "offpeak.job.status.v1",
    JobStatus = "offpeak.job.status-reported.v1",
    ListJobs = "offpeak.job.list.v1",
    JobsListed = "offpeak.job.listed.v1",
    ExplainJob = "offpeak.job.explain.v1",
    JobExplained = "offpeak.job.explained.v1",
    FetchResults = "offpeak.job.fetch.v1",
    ResultsFetched = "offpeak.job.fetched.v1",
    ReleaseResults = "offpeak.job.release.v1",
    ResultsReleased = "offpeak.job.released.v1",
    ReportUsage = "offpeak.usage.report.v1",
    UsageReported = "offpeak.usage.reported.v1",
    Work = "offpeak.unit.compute.v1",
    Outcome = "offpeak.unit.outcome.v1",
    DropJob = "offpeak.job.drop.v1",
    GetBlob = "offpeak.blob.get.v1",
    BlobPart = "offpeak.blob.part.v1",
}

/// Reads a body as one type, and writes what was read in both formats: MessagePack, JSON.
#[cfg(test)]
pub(crate) type Reader = fn(&[u8], Format) -> Result<[Vec<u8>; 2], CodecError>;

#[cfg(test)]
fn read_as<M: Message>(bytes: &[u8], format: Format) -> Result<[Vec<u8>; 2], CodecError> {
    let message = M::from_bytes(bytes, format)?;
    Ok([message.to_bytes(Format::MessagePack)?, message.to_bytes(Format::Json)?])
}

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod tests;
