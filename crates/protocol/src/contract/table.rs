//! The customer's messages as a table: what each is for, and what answers it.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::Message;
use crate::app::{AppRegistered, RegisterApp};
use crate::blob::{BlobDeleted, BlobStored, BlobsListed, DeleteBlob, ListBlobs, PutBlob};
use crate::job::{CancelJob, JobSpec};
use crate::problem::{Problem, Refused};
use crate::query::{
    ExplainJob, FetchResults, GetJobStatus, JobExplained, JobStatus, JobsListed, ListJobs, PauseJob, ReleaseResults,
    ResultsFetched, ResultsReleased, ResumeJob,
};
use crate::quote::{QuoteJob, Quoted};
use crate::reply::{Accepted, Completed, Part, Progress};
use crate::usage::{ReportUsage, UsageReported};

/// A message between a customer and the grid.
pub struct Row {
    /// Its type.
    pub kind: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// Who sends it.
    pub role: Role,
    /// Its body.
    pub(super) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The customer; the grid answers with one of these, or with a problem.
    Request {
        /// Types of the answers, in the order in which they may come.
        answers: &'static [&'static str],
        /// The type that says it was refused.
        refused: &'static str,
    },
    /// The grid, as the answer to a request.
    Answer,
    /// The grid, of its own accord, about a job that was accepted.
    News,
}

const fn row<M: Message + JsonSchema>(title: &'static str, summary: &'static str, role: Role) -> Row {
    Row { kind: M::KIND, title, summary, role, schema: SchemaGenerator::subschema_for::<M> }
}

const fn request<M: Message + JsonSchema>(title: &'static str, summary: &'static str, answers: &'static [&'static str]) -> Row {
    row::<M>(title, summary, Role::Request { answers, refused: Refused::KIND })
}

/// Every message of the contract, each request before its answers.
pub const TABLE: &[Row] = &[
    request::<RegisterApp>(
        "Register an app",
        "Has a module checked and compiled before the first job needs it. Jobs may name an uploaded module without it.",
        &[AppRegistered::KIND],
    ),
    row::<AppRegistered>("App is registered", "Jobs may use the app.", Role::Answer),
    request::<PutBlob>(
        "Upload a part of a blob",
        "Stores 1 MiB of a blob. Parts may come in any order and again; one that comes again after its blob was deleted is \
         refused (already-handled). Only a part with a correlation_id is answered.",
        &[BlobStored::KIND],
    ),
    row::<BlobStored>("Part is stored", "How much of the blob is there.", Role::Answer),
    request::<ListBlobs>(
        "List blobs",
        "Lists your blobs, and what is missing of those that are not whole.",
        &[BlobsListed::KIND],
    ),
    row::<BlobsListed>("Blobs", "Your blobs, in the order of their digests.", Role::Answer),
    request::<DeleteBlob>("Delete a blob", "Gives a blob up; running jobs keep what they need.", &[BlobDeleted::KIND]),
    row::<BlobDeleted>("Blob is deleted", "The blob no longer counts for you.", Role::Answer),
    request::<QuoteJob>("Quote a job", "Asks what a job would take; nothing is submitted.", &[Quoted::KIND]),
    row::<Quoted>("Quote", "An estimate; it binds nobody.", Role::Answer),
    row::<JobSpec>(
        "Submit a job",
        "Hands a job in. The message_id is its key: the same one with the same body is the same job, however often it comes.",
        Role::Request { answers: &[Accepted::KIND], refused: Problem::KIND },
    ),
    row::<Accepted>("Job is accepted", "The job has an id and will end with exactly one completed.", Role::Answer),
    row::<Problem>("Job is rejected", "The job was not taken; why, and what to do.", Role::Answer),
    row::<Progress>("Progress", "How far a job is, at most once a second.", Role::News),
    row::<Part>(
        "Part of the outputs",
        "Validated outputs in item order: sent as they come (delivery parts), at the end (whole), or when fetched.",
        Role::News,
    ),
    row::<Completed>("Job has ended", "Certificate, usage and cost; exactly once for each accepted job.", Role::News),
    request::<CancelJob>(
        "Cancel a job",
        "Ends a job; what was computed is kept and billed. No answer of its own: the job's completed comes, with the state cancelled.",
        &[],
    ),
    request::<PauseJob>(
        "Pause a job",
        "Nothing more of the job is sent out; what is on its way is finished.",
        &[JobStatus::KIND],
    ),
    request::<ResumeJob>("Resume a job", "Lets a paused job go on.", &[JobStatus::KIND]),
    request::<GetJobStatus>("Ask for a job's status", "Asks how a job stands.", &[JobStatus::KIND]),
    row::<JobStatus>("Job's status", "How a job stands.", Role::Answer),
    request::<ListJobs>("List jobs", "Lists your jobs, the youngest first.", &[JobsListed::KIND]),
    row::<JobsListed>("Jobs", "A page of your jobs.", Role::Answer),
    request::<ExplainJob>("Ask why a job is not done", "Asks why a job waits, is slow or failed.", &[JobExplained::KIND]),
    row::<JobExplained>("Why a job is not done", "The reasons in words, and the numbers behind them.", Role::Answer),
    request::<FetchResults>(
        "Fetch results again",
        "Asks for parts of the outputs, from a part on. The parts come first, then the answer.",
        &[Part::KIND, ResultsFetched::KIND],
    ),
    row::<ResultsFetched>("Results were fetched", "How many parts came, and which to ask for next.", Role::Answer),
    request::<ReleaseResults>(
        "Release results",
        "You have all you want of a job: its outputs may be deleted.",
        &[ResultsReleased::KIND],
    ),
    row::<ResultsReleased>("Results are released", "The outputs can no longer be fetched.", Role::Answer),
    request::<ReportUsage>(
        "Ask for a month's usage",
        "Asks for your rows of the ledger, and their sums.",
        &[UsageReported::KIND],
    ),
    row::<UsageReported>(
        "Usage of a month",
        "A row for each valid unit, with the digest of its output; sums over the whole month.",
        Role::Answer,
    ),
    row::<Refused>("Request is refused", "A request other than a submission was refused; why, and what to do.", Role::Answer),
];
