//! The worker's own queue: parts of blobs it asked for, and announcements to every worker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::broker::{BrokerError, Delivery, Verdict};
use protocol::blob::BlobPart;
use protocol::job::DropJob;
use protocol::{CodecError, Digest, Format, JobId, Message};
use service::CancellationToken;
use service::scope::TaskError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::{Worker, WorkerMetrics};

/// Parts and announcements under way at once.
const PREFETCH: u16 = 64;
/// Dropped jobs remembered; their units left the queues long before that many more have ended.
const MAX_DROPPED: usize = 4_096;
/// And for how long: a grid whose store was restored from a backup may want such a job after all.
const DROPPED_FOR: Duration = Duration::from_mins(10);
/// That a message is of no use is logged so often: anybody may send rubbish, and fast.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Its body cannot be read.
const UNREADABLE: &str = "unreadable";
/// Its type is missing, or none that a worker reads.
const UNKNOWN_TYPE: &str = "unknown_type";
/// Why messages are of no use.
pub(crate) const USELESS: [&str; 2] = [UNREADABLE, UNKNOWN_TYPE];

/// A part: which blob, and where it begins.
type PartKey = (Digest, u64);

/// Who waits for what.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<BTreeMap<PartKey, Vec<oneshot::Sender<BlobPart>>>>,
    dropped: Mutex<Dropped>,
    /// Told when a job is dropped.
    pub(crate) drops: Notify,
    /// When it was last said that a message is of no use.
    said: Mutex<Option<Instant>>,
}

/// Why a message has no effect.
#[derive(Debug, thiserror::Error)]
enum Useless {
    /// Its body.
    #[error(transparent)]
    Unreadable(#[from] CodecError),
    /// Its type.
    #[error("a worker reads nothing of type {0:?}")]
    UnknownType(String),
}

impl Useless {
    /// The reason in metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => UNREADABLE,
            Self::UnknownType(_) => UNKNOWN_TYPE,
        }
    }
}

#[derive(Default)]
struct Dropped {
    jobs: BTreeMap<JobId, Instant>,
    order: VecDeque<JobId>,
}

impl Inbox {
    /// The part at that offset, when it comes.
    pub(crate) fn expect(&self, digest: Digest, offset: u64) -> oneshot::Receiver<BlobPart> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        // Those who gave up leave their place when the next one asks.
        waiting.retain(|_, senders| {
            senders.retain(|sender| !sender.is_closed());
            !senders.is_empty()
        });
        waiting.entry((digest, offset)).or_default().push(sender);
        receiver
    }

    /// Whether the job's units are to be dropped.
    pub(crate) fn is_dropped(&self, job: JobId) -> bool {
        lock(&self.dropped).jobs.get(&job).is_some_and(|since| since.elapsed() < DROPPED_FOR)
    }

    fn arrived(&self, part: &BlobPart) {
        for sender in lock(&self.waiting).remove(&(part.digest, part.offset)).into_iter().flatten() {
            if sender.send(part.clone()).is_err() {
                tracing::trace!("a part of {} came after its asker had gone", part.digest);
            }
        }
    }

    fn drop_job(&self, job: JobId) {
        let mut dropped = lock(&self.dropped);
        if dropped.jobs.insert(job, Instant::now()).is_none() {
            dropped.order.push_back(job);
        }
        if dropped.order.len() > MAX_DROPPED
            && let Some(oldest) = dropped.order.pop_front()
        {
            dropped.jobs.remove(&oldest);
        }
        drop(dropped);
        self.drops.notify_waiters();
    }

    /// Takes a message. One that is of no use is counted, and gone: parts are asked for again, announcements only save work.
    fn take(&self, delivery: &Delivery, metrics: &WorkerMetrics) {
        let Err(useless) = self.read(delivery) else { return };
        metrics.inbox_dropped.with_label_values(&[useless.reason()]).inc();
        if self.may_say() {
            tracing::warn!(
                message = delivery.properties.message_id,
                "a message to this worker is dropped: {useless}; further ones are counted, and said once a minute"
            );
        }
    }

    fn read(&self, delivery: &Delivery) -> Result<(), Useless> {
        let format = Format::from_content_type(delivery.properties.content_type.as_deref())?;
        match delivery.properties.kind.as_str() {
            BlobPart::KIND => self.arrived(&BlobPart::from_bytes(&delivery.body, format)?),
            DropJob::KIND => self.drop_job(DropJob::from_bytes(&delivery.body, format)?.job),
            other => return Err(Useless::UnknownType(other.to_owned())),
        }
        Ok(())
    }

    /// Whether it is time to say again that a message is of no use.
    fn may_say(&self) -> bool {
        let mut said = lock(&self.said);
        let due = said.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if due {
            *said = Some(Instant::now());
        }
        due
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the queue until the worker closes.
pub(crate) async fn run(worker: Worker, inbox: Arc<Inbox>, closing: CancellationToken) -> Result<(), TaskError> {
    match read_all(&worker, &inbox, &closing).await {
        // The broker's connections end with the same token as this task.
        Err(BrokerError::Closed) if closing.is_cancelled() => Ok(()),
        ended => Ok(ended?),
    }
}

async fn read_all(worker: &Worker, inbox: &Inbox, closing: &CancellationToken) -> Result<(), BrokerError> {
    let queue = worker.broker.declare_worker_queue(&worker.host).await?;
    let consumer = worker.broker.consume(&queue, PREFETCH).await?;
    loop {
        let batch = tokio::select! {
            biased;
            () = closing.cancelled() => return Ok(()),
            batch = consumer.next(usize::from(PREFETCH)) => batch?,
        };
        if batch.is_empty() {
            return Ok(());
        }
        for delivery in &batch {
            inbox.take(delivery, &worker.metrics);
        }
        let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        consumer.settle(&verdicts).await?;
    }
}

#[cfg(test)]
mod tests {
    use ports::broker::{Properties, Tag};
    use protocol::CustomerName;
    use service::Metrics;

    use super::*;

    fn message(kind: &str, body: Vec<u8>) -> Delivery {
        let properties = Properties { kind: kind.to_owned(), ..Properties::default() };
        let tag = Tag { generation: 1, tag: 1 };
        Delivery { tag, routing_key: String::new(), redelivered: false, delivery_count: 0, properties, body }
    }

    #[test]
    fn what_is_of_no_use_is_counted_and_not_said_each_time() {
        let metrics = WorkerMetrics::new(&Metrics::new("worker", "0").expect("registry")).expect("metrics");
        let inbox = Inbox::default();
        let counts = || USELESS.map(|reason| metrics.inbox_dropped.with_label_values(&[reason]).get());
        let job: JobId = "01890000-0000-7000-8000-000000000001".parse().expect("an id");
        let customer = CustomerName::new("acme").expect("a name");
        let body = DropJob { job, customer }.to_bytes(Format::MessagePack).expect("bytes");
        for kind in ["", "offpeak.job.drop.v2"] {
            inbox.take(&message(kind, body.clone()), &metrics);
        }
        assert!(!inbox.is_dropped(job), "it is another message");
        inbox.take(&message(BlobPart::KIND, b"\xc1".to_vec()), &metrics);
        assert_eq!(counts(), [1, 2]);
        assert!(!inbox.may_say());
        inbox.take(&message(DropJob::KIND, body), &metrics);
        assert!(inbox.is_dropped(job));
        assert_eq!(counts(), [1, 2], "what is of use is not counted");
    }
}
