//! A customer of the grid: uploads blobs, submits jobs, hears replies, and looks at the store for how they fare.

mod replies;
mod submit;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use ports::broker::{BrokerError, Confirm, Outgoing};
use ports::store::StoreError;
use ports::{Broker, Clock, Store};
use protocol::codec::CodecError;
use protocol::problem::Problem;
use protocol::{CustomerName, Digest, JobId};

pub use replies::{Mailbox, Reply};
pub use submit::{Admitted, Submission};
pub use upload::UploadProgress;

/// How long one attempt to publish may wait for the broker.
const PUBLISH_PATIENCE: Duration = Duration::from_secs(30);
/// Attempts to publish what was refused or not confirmed; with the pauses between, about two minutes.
const PUBLISH_ATTEMPTS: u32 = 60;
/// Pause after a full queue refused a message.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How often the store is asked again while it is away, a second apart.
const STORE_ATTEMPTS: u32 = 60;
/// How often the store is asked while waiting.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(100);

/// Why the client could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The broker did not.
    #[error("broker: {operation}")]
    Broker {
        /// What was asked.
        operation: &'static str,
        /// The broker's error.
        #[source]
        source: BrokerError,
    },
    /// The store did not.
    #[error("database: {operation}")]
    Store {
        /// What was asked.
        operation: &'static str,
        /// The store's error.
        #[source]
        source: StoreError,
    },
    /// A message cannot be written.
    #[error("cannot encode {what}")]
    Codec {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// The broker took none of it.
    #[error("broker does not take {what} after {attempts} attempts: its queue is full or away, see that a producer is running")]
    NotTaken {
        /// What.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The exchange leads nowhere.
    #[error("no queue takes {what}: the broker knows no grid, start a producer with this broker first")]
    Unroutable {
        /// What.
        what: String,
    },
    /// A file to be uploaded cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it was when the job file was read.
    #[error("{path} was changed while it was uploaded: try again")]
    Changed {
        /// The file.
        path: std::path::PathBuf,
    },
    /// A blob is not with the grid although all of it was sent.
    #[error("grid has not taken {what} ({digest}) after {waited_s} s: see that a producer is running")]
    NotStored {
        /// What.
        what: String,
        /// The blob.
        digest: Digest,
        /// How long it was waited for.
        waited_s: u64,
    },
    /// Nobody answered the submission.
    #[error(
        "grid has not answered submission {submission} after {waited_s} s: see that a producer is running; submitting again is safe"
    )]
    NoAnswer {
        /// Its `message_id`.
        submission: String,
        /// How long it was waited for.
        waited_s: u64,
    },
    /// The answer may be there, behind so many replies that nobody reads.
    #[error(
        "the results queue of {customer} holds more replies to other requests than can be looked through for the answer to submission {submission}: read or purge offpeak.customer.{customer}.results; submitting again is safe"
    )]
    Unread {
        /// Whose queue.
        customer: CustomerName,
        /// The submission's `message_id`.
        submission: String,
    },
    /// The job is gone from the store.
    #[error("job {0} is not in the database")]
    UnknownJob(JobId),
    /// The grid said no.
    #[error("the grid rejects the job")]
    Rejected(#[source] Box<Problem>),
}

/// A customer with a broker to talk to and a store to look at.
#[derive(Clone)]
pub struct Client {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// Who submits.
    pub customer: CustomerName,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What messages say of their publisher: the AMQP user, if that is the customer. The broker checks it.
    pub user_id: Option<String>,
}

impl Client {
    /// Publishes until all of it is stored; what a full queue refused or a lost connection left open is sent again.
    pub(crate) async fn publish(&self, what: &str, messages: Vec<Outgoing>) -> Result<(), ClientError> {
        let mut left = messages;
        for attempt in 0..PUBLISH_ATTEMPTS {
            let confirms = self.broker.publish(left.clone(), PUBLISH_PATIENCE).await;
            let confirms = confirms.map_err(|source| ClientError::Broker { operation: "publish", source })?;
            if confirms.contains(&Confirm::Unroutable) {
                return Err(ClientError::Unroutable { what: what.to_owned() });
            }
            let open = left.into_iter().zip(confirms).filter(|(_, confirm)| *confirm != Confirm::Stored);
            left = open.map(|(message, _)| message).collect();
            if left.is_empty() {
                return Ok(());
            }
            tracing::debug!(attempt, "{} messages of {what} were not taken, sending them again", left.len());
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        Err(ClientError::NotTaken { what: what.to_owned(), attempts: PUBLISH_ATTEMPTS })
    }
}

/// Asks the store, again while it is away.
pub(crate) async fn ask<T, F>(operation: &'static str, question: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for attempt in 1..STORE_ATTEMPTS {
        match question().await {
            Err(StoreError::Unavailable { source, .. }) => {
                tracing::warn!(attempt, "database is not available to {operation}, asking again: {source}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answer => return answer.map_err(|source| ClientError::Store { operation, source }),
        }
    }
    question().await.map_err(|source| ClientError::Store { operation, source })
}
