//! Problems: what a refused request is told, in the shape of RFC 9457, and the table of every code there is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The content type of a problem in JSON (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A request was refused, in the shape of RFC 9457.
///
/// As the answer to a submission it is `offpeak.job.rejected.v1`, as that to any other request `offpeak.request.refused.v1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind in words.
    pub title: String,
    /// In the manner of HTTP.
    pub status: u16,
    /// What was wrong with this message, and the way out.
    pub detail: String,
    /// The kind as a word for programs.
    pub code: String,
    /// Whether the same message may succeed later.
    pub retryable: bool,
    /// Each mistake by itself.
    #[serde(default)]
    pub errors: Vec<FieldError>,
    /// The limit that was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Seconds after which the same message may succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

/// A request other than a submission was refused (`offpeak.request.refused.v1`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Refused(pub Problem);

/// One mistake in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is no message of its type.
    Undecodable,
    /// The type is none that the grid knows.
    UnknownType,
    /// The customer's fuel of this month is spent.
    BudgetSpent,
    /// The message names no user.
    UserIdRequired,
    /// No such job of this customer.
    NoSuchJob,
    /// No such blob of this customer.
    NoSuchBlob,
    /// The `message_id` was used for another body.
    MessageIdReused,
    /// A running job needs the blob.
    BlobInUse,
    /// The job has ended.
    JobEnded,
    /// The outputs are no longer kept.
    ResultsGone,
    /// The message had its effect, and what it brought was given up.
    AlreadyHandled,
    /// The message is larger than the customer's may be.
    MessageTooLarge,
    /// The job has mistakes.
    InvalidJob,
    /// The request has mistakes.
    InvalidRequest,
    /// The parts are not the blob they are said to be.
    BlobMismatch,
    /// The module cannot be an app.
    AppRejected,
    /// The customer sends requests faster than it may.
    RateExceeded,
    /// The customer has as many unfinished jobs as it may.
    TooManyJobs,
    /// The module could not be compiled now.
    PublisherUnavailable,
    /// The customer stores as many bytes as it may.
    StorageFull,
}

/// What is documented of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its status, in the manner of HTTP.
    pub status: u16,
    /// Its word.
    pub code: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Whether the same message may succeed later.
    pub retryable: bool,
    /// How it comes about.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

const fn about(status: u16, code: &'static str, title: &'static str, cause: &'static str, cure: &'static str) -> About {
    About { status, code, title, retryable: matches!(status, 402 | 429 | 503 | 507), cause, cure }
}

impl Code {
    /// Every code, in the order of their statuses.
    pub const ALL: [Self; 20] = [
        Self::Undecodable,
        Self::UnknownType,
        Self::BudgetSpent,
        Self::UserIdRequired,
        Self::NoSuchJob,
        Self::NoSuchBlob,
        Self::MessageIdReused,
        Self::BlobInUse,
        Self::JobEnded,
        Self::ResultsGone,
        Self::AlreadyHandled,
        Self::MessageTooLarge,
        Self::InvalidJob,
        Self::InvalidRequest,
        Self::BlobMismatch,
        Self::AppRejected,
        Self::RateExceeded,
        Self::TooManyJobs,
        Self::PublisherUnavailable,
        Self::StorageFull,
    ];

    /// What is documented of it.
    #[expect(clippy::too_many_lines, reason = "a table: one row for each code")]
    pub const fn about(self) -> About {
        match self {
            Self::Undecodable => about(
                400,
                "undecodable",
                "Message cannot be decoded",
                "The body is truncated, has bytes after its end, lacks a field, or is not what content_type and content_encoding say.",
                "Send the body that the type asks for; detail names the place.",
            ),
            Self::UnknownType => about(
                400,
                "unknown-type",
                "Unknown message type",
                "The property type is missing, or is none that this grid knows.",
                "Set type to one of the requests of the contract; an older grid may not know a newer one.",
            ),
            Self::BudgetSpent => about(
                402,
                "budget-spent",
                "Budget is spent",
                "The fuel metered for you in this month (UTC) has reached your budget.",
                "Wait for the next month, or have the operator raise the budget; limit is the budget.",
            ),
            Self::UserIdRequired => about(
                403,
                "user-id-required",
                "Message names no user",
                "This grid takes messages only with the property user_id, which the broker checks.",
                "Set user_id to the name of your AMQP user.",
            ),
            Self::NoSuchJob => about(
                404,
                "no-such-job",
                "No such job",
                "You have no job of that id, or what you ask needs a running one and it has ended.",
                "Use the id that accepted gave; offpeak.job.list.v1 lists your jobs.",
            ),
            Self::NoSuchBlob => about(
                404,
                "no-such-blob",
                "No such blob",
                "You have uploaded no blob of that digest, or not all of it.",
                "Upload it with offpeak.blob.put.v1; offpeak.blob.list.v1 says what is missing.",
            ),
            Self::MessageIdReused => about(
                409,
                "message-id-reused",
                "message_id was used for another body",
                "The message_id of a submission names its job for ever, and this body is another.",
                "Give each new job a new message_id (UUIDv7); resend an old one unchanged.",
            ),
            Self::BlobInUse => about(
                409,
                "blob-in-use",
                "Blob is in use",
                "A job of yours that has not ended needs the blob.",
                "Delete it when that job has ended, or cancel the job.",
            ),
            Self::JobEnded => about(
                409,
                "job-ended",
                "Job has ended",
                "A job that has ended can neither pause nor go on.",
                "Read its results; submit a new job for more.",
            ),
            Self::ResultsGone => about(
                410,
                "results-gone",
                "Results are no longer kept",
                "You released the job's results, or their time is over.",
                "Submit the job again under a new message_id.",
            ),
            Self::AlreadyHandled => about(
                410,
                "already-handled",
                "Message was handled before",
                "The message was handled before, and the blob that it brought was deleted or given another size since.",
                "Send it under a new message_id if you want the blob again.",
            ),
            Self::MessageTooLarge => about(
                413,
                "message-too-large",
                "Message is too large",
                "The body is over the largest that you may send; limit is that, in bytes.",
                "Upload data as a blob in parts, and name it by digest.",
            ),
            Self::InvalidJob => about(
                422,
                "invalid-job",
                "Job is not valid",
                "The job has mistakes; errors has each with a pointer to its place.",
                "Mend each of them and send it again, under the same message_id or a new one.",
            ),
            Self::InvalidRequest => about(
                422,
                "invalid-request",
                "Request is not valid",
                "The request has mistakes; errors has each with a pointer to its place.",
                "Mend each of them.",
            ),
            Self::BlobMismatch => about(
                422,
                "blob-mismatch",
                "Blob does not fit its digest",
                "A part has a wrong offset or size, or all parts together are not of that digest.",
                "Send all parts of the blob again.",
            ),
            Self::AppRejected => about(
                422,
                "app-rejected",
                "App is not accepted",
                "The module imports, exports or needs what no app may; detail has every reason.",
                "Mend the module; `offpeak app inspect` says the same without a grid.",
            ),
            Self::RateExceeded => about(
                429,
                "rate-exceeded",
                "Too many requests",
                "You sent more requests a second than you may, or have as many that take long under way; limit is that number.",
                "Send it again after retry_after_s seconds.",
            ),
            Self::TooManyJobs => about(
                429,
                "too-many-jobs",
                "Too many unfinished jobs",
                "You have as many unfinished jobs as you may; limit is that number.",
                "Send it again, under the same message_id, when one of them has ended.",
            ),
            Self::PublisherUnavailable => about(
                503,
                "publisher-unavailable",
                "App could not be compiled now",
                "The grid could not compile the module now; it says nothing about the module.",
                "Send it again after some seconds.",
            ),
            Self::StorageFull => about(
                507,
                "storage-full",
                "Storage is full",
                "Your blobs would take more bytes, or be more, than they may; limit is that number.",
                "Delete blobs with offpeak.blob.delete.v1, or have the operator raise the limit of bytes.",
            ),
        }
    }
}

impl Code {
    /// Seconds after which the same may succeed where only others know when: a job must end, a machine must have time, a blob
    /// must be deleted.
    const fn usual_pause_s(self) -> Option<u64> {
        if matches!(self, Self::TooManyJobs) {
            Some(5)
        } else if matches!(self, Self::PublisherUnavailable) {
            Some(10)
        } else if matches!(self, Self::StorageFull) {
            Some(60)
        } else {
            None
        }
    }
}

impl Problem {
    /// A problem of that code; the type URI follows from it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let about = code.about();
        Self {
            type_uri: format!("urn:offpeak:problem:{}", about.code),
            title: about.title.to_owned(),
            status: about.status,
            detail: detail.into(),
            code: about.code.to_owned(),
            retryable: about.retryable,
            errors: Vec::new(),
            limit: None,
            retry_after_s: code.usual_pause_s(),
        }
    }

    /// A problem with each mistake; they are in its detail, too.
    #[must_use]
    pub fn with_errors(code: Code, errors: Vec<FieldError>) -> Self {
        let list: Vec<String> = errors.iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect();
        Self { errors, ..Self::new(code, list.join("; ")) }
    }

    /// A problem of a limit that was exceeded, and when to try again.
    #[must_use]
    pub fn over(code: Code, limit: u64, retry_after_s: Option<u64>, detail: impl Into<String>) -> Self {
        Self { limit: Some(limit), retry_after_s: retry_after_s.or(code.usual_pause_s()), ..Self::new(code, detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_named_once_and_in_the_order_of_their_statuses() {
        let all = Code::ALL.map(Code::about);
        assert!(all.windows(2).all(|pair| pair[0].status <= pair[1].status));
        let mut words: Vec<&str> = all.iter().map(|about| about.code).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len());
    }
}
