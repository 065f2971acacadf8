//! The customer's results queue, read for the replies to one submission; those of others are left there.

use ports::Consumer;
use ports::broker::{Delivery, Tag, Verdict};
use protocol::codec::{CodecError, Format};
use protocol::job::CancelJob;
use protocol::reply::{Accepted, Completed, Part, Problem, Progress};
use protocol::{Message, address};

use super::{Client, ClientError};

/// Unsettled replies at a time, and so how many of others are held back at most.
const PREFETCH: u16 = 100;

/// A reply to the submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It became a job.
    Accepted(Accepted),
    /// It was refused.
    Rejected(Box<Problem>),
    /// How far it is.
    Progress(Progress),
    /// The job ended.
    Completed(Completed),
    /// Validated outputs.
    Part,
}

/// Reads the replies with one correlation id.
pub struct Mailbox {
    consumer: Box<dyn Consumer>,
    correlation: String,
    /// Replies read and not yet handed out.
    read: Vec<Reply>,
    /// Replies to others, given back at the end.
    held: Vec<Tag>,
    ended: bool,
}

impl Client {
    /// Opens the customer's results queue for the replies to one submission.
    pub async fn mailbox(&self, correlation: &str) -> Result<Mailbox, ClientError> {
        let failed = |operation| move |source| ClientError::Broker { operation, source };
        self.broker.declare_customer(&self.customer).await.map_err(failed("declare the results queue"))?;
        let queue = address::results_queue(&self.customer);
        let consumer = self.broker.consume(&queue, PREFETCH).await.map_err(failed("consume the results queue"))?;
        Ok(Mailbox { consumer, correlation: correlation.to_owned(), read: Vec::new(), held: Vec::new(), ended: false })
    }
}

impl Mailbox {
    /// The next replies; waits for ever once the queue has ended, since the store tells the same. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Reply>, ClientError> {
        if !self.read.is_empty() {
            return Ok(std::mem::take(&mut self.read));
        }
        if self.ended {
            return std::future::pending().await;
        }
        let deliveries = self.consumer.next(usize::from(PREFETCH)).await;
        let deliveries = deliveries.map_err(|source| ClientError::Broker { operation: "read replies", source })?;
        self.ended = deliveries.is_empty();
        let (ours, others): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| delivery.properties.correlation_id.as_ref() == Some(&self.correlation));
        self.held.extend(others.into_iter().map(|delivery| delivery.tag));
        let verdicts: Vec<_> = ours.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        // Kept before the next wait, in which the caller may turn to something else.
        self.read = ours.iter().filter_map(read).collect();
        // A reply whose acknowledgement is lost comes again and is acknowledged then.
        self.settle(&verdicts).await?;
        Ok(std::mem::take(&mut self.read))
    }

    /// Gives back the replies to others and stops listening.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.consumer.cancel().await.map_err(|source| ClientError::Broker { operation: "stop reading replies", source })?;
        let held: Vec<_> = std::mem::take(&mut self.held).into_iter().map(|tag| (tag, Verdict::Requeue)).collect();
        self.settle(&held).await
    }

    async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<(), ClientError> {
        if verdicts.is_empty() {
            return Ok(());
        }
        let settled = self.consumer.settle(verdicts).await;
        settled.map(|_come_again| ()).map_err(|source| ClientError::Broker { operation: "settle replies", source })
    }
}

/// What a reply says; one that cannot be read is said in the log, and the store tells the rest.
fn read(delivery: &Delivery) -> Option<Reply> {
    let format = match delivery.properties.content_type.as_deref() {
        Some(problem) if problem.contains("json") => Format::Json,
        Some(_) | None => Format::MessagePack,
    };
    let body = &delivery.body;
    let reply: Result<Reply, CodecError> = match delivery.properties.kind.as_str() {
        Accepted::KIND => Accepted::from_bytes(body, format).map(Reply::Accepted),
        Problem::KIND => Problem::from_bytes(body, format).map(|problem| Reply::Rejected(Box::new(problem))),
        Progress::KIND => Progress::from_bytes(body, format).map(Reply::Progress),
        Completed::KIND => Completed::from_bytes(body, format).map(Reply::Completed),
        Part::KIND => Ok(Reply::Part),
        other => {
            tracing::warn!("a reply of unknown type {other:?} was passed over");
            return None;
        }
    };
    reply.inspect_err(|error| tracing::warn!("a reply was passed over: {error}")).ok()
}

/// The body of a request to cancel.
pub(super) fn cancel_body(job: protocol::JobId) -> Result<Vec<u8>, ClientError> {
    CancelJob { job }.to_bytes(Format::MessagePack).map_err(|source| ClientError::Codec { what: "the request", source })
}
