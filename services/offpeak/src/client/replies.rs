//! The customer's results queue, read for the replies to one request; those to others are left there.

use ports::Consumer;
use ports::broker::{Delivery, Tag, Verdict};
use protocol::blob::BlobStored;
use protocol::codec::{CodecError, Format};
use protocol::problem::{Problem, Refused};
use protocol::reply::{Accepted, Completed, Part, Progress};
use protocol::{Message, address};

use super::{Client, ClientError};

/// Unsettled replies at a time, and so how many of others are held back at most.
const PREFETCH: u16 = 2_000;

/// A reply to the request.
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
    /// A part of a blob is stored.
    Stored,
}

/// Reads the replies with one correlation id.
pub struct Mailbox {
    consumer: Box<dyn Consumer>,
    correlation: String,
    /// Replies read and not yet handed out.
    read: Vec<Reply>,
    /// Replies read and not yet acknowledged.
    unsettled: Vec<(Tag, Verdict)>,
    /// Replies to others, given back at the end.
    held: Vec<Tag>,
    ended: bool,
}

impl Client {
    /// Opens the customer's results queue for the replies to one request.
    pub async fn mailbox(&self, correlation: &str) -> Result<Mailbox, ClientError> {
        let failed = |operation| move |source| ClientError::Broker { operation, source };
        let queue = address::results_queue(&self.customer);
        // Who was provisioned has a queue, bound, and may declare nothing.
        if self.broker.depth(&queue).await.map_err(failed("look for the results queue"))?.is_none() {
            self.broker.declare_customer(&self.customer).await.map_err(failed("declare the results queue"))?;
        }
        let consumer = self.broker.consume(&queue, PREFETCH).await.map_err(failed("consume the results queue"))?;
        Ok(Mailbox {
            consumer,
            correlation: correlation.to_owned(),
            read: Vec::new(),
            unsettled: Vec::new(),
            held: Vec::new(),
            ended: false,
        })
    }
}

impl Mailbox {
    /// The next replies; waits for ever once the queue has ended, since the store tells the same. Cancel-safe.
    pub async fn next(&mut self) -> Result<Vec<Reply>, ClientError> {
        // Whatever was read before is kept here until it is handed out: the caller may turn to something else at each wait.
        if self.read.is_empty() {
            self.receive().await?;
        }
        self.acknowledge().await?;
        Ok(std::mem::take(&mut self.read))
    }

    /// Waits for replies and keeps them.
    async fn receive(&mut self) -> Result<(), ClientError> {
        if self.ended {
            return std::future::pending().await;
        }
        let deliveries = self.consumer.next(usize::from(PREFETCH)).await;
        let deliveries = deliveries.map_err(|source| ClientError::Broker { operation: "read replies", source })?;
        self.ended = deliveries.is_empty();
        let (ours, others): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| delivery.properties.correlation_id.as_ref() == Some(&self.correlation));
        self.held.extend(others.into_iter().map(|delivery| delivery.tag));
        self.unsettled.extend(ours.iter().map(|delivery| (delivery.tag, Verdict::Ack)));
        self.read = ours.iter().filter_map(read).collect();
        Ok(())
    }

    /// Acknowledges what was read; a reply whose acknowledgement is lost comes again and is acknowledged then.
    async fn acknowledge(&mut self) -> Result<(), ClientError> {
        self.settle(&self.unsettled).await?;
        self.unsettled.clear();
        Ok(())
    }

    /// Whether as many replies to others are held as may be: those that come after them are not seen.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= usize::from(PREFETCH)
    }

    /// Gives back the replies to others and stops listening.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.consumer.cancel().await.map_err(|source| ClientError::Broker { operation: "stop reading replies", source })?;
        let held = std::mem::take(&mut self.held).into_iter().map(|tag| (tag, Verdict::Requeue));
        self.unsettled.extend(held);
        self.acknowledge().await
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
        Refused::KIND => Refused::from_bytes(body, format).map(|Refused(problem)| Reply::Rejected(Box::new(problem))),
        Progress::KIND => Progress::from_bytes(body, format).map(Reply::Progress),
        Completed::KIND => Completed::from_bytes(body, format).map(Reply::Completed),
        Part::KIND => Ok(Reply::Part),
        BlobStored::KIND => Ok(Reply::Stored),
        other => {
            tracing::warn!("a reply of unknown type {other:?} was passed over");
            return None;
        }
    };
    reply.inspect_err(|error| tracing::warn!("a reply was passed over: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use ports::broker::{BrokerError, Properties};
    use protocol::JobId;
    use tokio::sync::Notify;

    use super::*;

    /// Has one reply, and settles only when it may.
    #[derive(Clone, Default)]
    struct Slow {
        replies: Arc<Mutex<Vec<Delivery>>>,
        settled: Arc<Mutex<Vec<Tag>>>,
        may_settle: Arc<Notify>,
    }

    #[async_trait]
    impl Consumer for Slow {
        async fn next(&self, _max: usize) -> Result<Vec<Delivery>, BrokerError> {
            let replies = std::mem::take(&mut *self.replies.lock().unwrap());
            if replies.is_empty() { std::future::pending().await } else { Ok(replies) }
        }

        async fn settle(&self, verdicts: &[(Tag, Verdict)]) -> Result<usize, BrokerError> {
            self.may_settle.notified().await;
            self.settled.lock().unwrap().extend(verdicts.iter().map(|(tag, _)| *tag));
            Ok(0)
        }

        async fn cancel(&self) -> Result<(), BrokerError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_dropped_at_any_point_loses_no_reply() {
        let slow = Slow::default();
        let correlation = "mine".to_owned();
        let (read, unsettled, held) = (Vec::new(), Vec::new(), Vec::new());
        let consumer = Box::new(slow.clone());
        let mut mailbox = Mailbox { consumer, correlation: correlation.clone(), read, unsettled, held, ended: false };
        let (accepted, tag) = (Accepted { job: JobId(uuid::Uuid::now_v7()), items: 3 }, Tag { generation: 1, tag: 7 });
        // Dropped while there is nothing, and then in the middle of the acknowledgement.
        for replies in [vec![], vec![delivery(tag, correlation, &accepted)], vec![]] {
            slow.replies.lock().unwrap().extend(replies);
            assert!(dropped_at_its_wait(&mut mailbox).await);
            assert_eq!(slow.settled.lock().unwrap().as_slice(), []);
        }
        slow.may_settle.notify_one();
        assert_eq!(mailbox.next().await.unwrap(), [Reply::Accepted(accepted)]);
        assert_eq!(slow.settled.lock().unwrap().as_slice(), [tag]);
        assert!(dropped_at_its_wait(&mut mailbox).await, "it was handed out once");
        mailbox.close().await.unwrap();
        assert_eq!(slow.settled.lock().unwrap().as_slice(), [tag], "and acknowledged once");
    }

    async fn dropped_at_its_wait(mailbox: &mut Mailbox) -> bool {
        tokio::select! {
            biased;
            _ = mailbox.next() => false,
            () = std::future::ready(()) => true,
        }
    }

    fn delivery(tag: Tag, correlation: String, accepted: &Accepted) -> Delivery {
        let properties = Properties {
            kind: Accepted::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            correlation_id: Some(correlation),
            ..Properties::default()
        };
        let body = accepted.to_bytes(Format::MessagePack).unwrap();
        Delivery { tag, routing_key: String::new(), redelivered: false, delivery_count: 0, properties, body }
    }
}
