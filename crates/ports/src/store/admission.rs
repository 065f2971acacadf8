//! What the producer needs to admit jobs.

use async_trait::async_trait;
use protocol::job::{EntryKind, JobSpec};
use protocol::{CustomerName, Digest, JobId, MeterId, Micros};

use super::{OutboxMessage, StoreError};

/// A job to be written.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, chosen by the producer.
    pub id: JobId,
    /// Whose it is; the customer is created with it if new.
    pub customer: CustomerName,
    /// The submission's `message_id`, unique per customer.
    pub submission: String,
    /// The digest of the submission's canonical body: the same id with another body is a conflict.
    pub submission_digest: Digest,
    /// The customer's own key, echoed on every reply.
    pub correlation_id: Option<String>,
    /// The content type of the submission, and so of the replies.
    pub content_type: String,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
    /// What is to be done.
    pub spec: JobSpec,
    /// How many items the input has.
    pub items: u64,
    /// The digest of the job's [`protocol::job::Brief`], which is stored as a blob before.
    pub brief: Digest,
    /// How the app's fuel is counted.
    pub meter: MeterId,
    /// When it was admitted.
    pub admitted_at: Micros,
    /// When what is left is cancelled.
    pub deadline_at: Option<Micros>,
}

/// What became of an admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The job is written.
    New,
    /// The same submission was admitted before, as this job with so many items.
    Known {
        /// The job.
        job: JobId,
        /// Its items.
        items: u64,
    },
    /// The same `message_id` was used for another body.
    Conflict {
        /// The job it was used for.
        job: JobId,
    },
    /// A blob that the job names is not one that its customer may use, now or any more; nothing is written.
    NoBlob {
        /// The first such blob.
        digest: Digest,
    },
}

/// What is known of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRecord {
    /// The module's digest.
    pub app: Digest,
    /// What the publisher said.
    pub verdict: AppVerdict,
}

/// What the publisher said of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppVerdict {
    /// It is ready to run.
    Accepted {
        /// The artefact, a blob.
        artefact: Digest,
        /// How it is entered.
        entry: EntryKind,
        /// How its fuel is counted.
        meter: MeterId,
        /// Whether it can reduce.
        reduces: bool,
        /// Its manifest.
        manifest: Option<String>,
    },
    /// It never will be; every reason.
    Rejected {
        /// Every reason.
        reasons: Vec<String>,
    },
}

/// Admission's transactions.
#[async_trait]
pub trait AdmissionStore: Send + Sync {
    /// Writes a job and its reply, unless its submission is known or a blob that it names is not there for its customer;
    /// `reply` is written in the case of `New` only. From then on the blobs stay until the job has ended.
    async fn admit(&self, job: NewJob, reply: OutboxMessage) -> Result<Admission, StoreError>;

    /// What a submission of that body was admitted as: `Known` or `Conflict`; `None` if its `message_id` is new.
    async fn admitted(
        &self,
        customer: &CustomerName,
        submission: &str,
        submission_digest: Digest,
    ) -> Result<Option<Admission>, StoreError>;

    /// What an admitted job was submitted as; `None` if there is no such job.
    async fn submitted(&self, job: JobId) -> Result<Option<JobSpec>, StoreError>;

    /// What is known of an app under this compiler generation (engine version and target); `None` if nothing.
    async fn app(&self, app: Digest, generation: &str) -> Result<Option<AppRecord>, StoreError>;

    /// Records the publisher's verdict; a second record of the same app and generation has no effect.
    async fn record_app(&self, record: AppRecord, generation: &str) -> Result<(), StoreError>;

    /// Marks a job of that customer to be cancelled; whether there is such a running job.
    async fn request_cancel(&self, customer: &CustomerName, job: JobId) -> Result<bool, StoreError>;
}
