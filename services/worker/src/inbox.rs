//! The worker's own queue: parts of blobs it asked for, and announcements to every worker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::broker::{BrokerError, Delivery, Verdict};
use protocol::blob::BlobPart;
use protocol::job::DropJob;
use protocol::{Digest, Format, JobId, Message};
use service::CancellationToken;
use service::scope::TaskError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::Worker;

/// Parts and announcements under way at once.
const PREFETCH: u16 = 64;
/// Dropped jobs remembered; their units left the queues long before that many more have ended.
const MAX_DROPPED: usize = 4_096;
/// And for how long: a grid whose store was restored from a backup may want such a job after all.
const DROPPED_FOR: Duration = Duration::from_mins(10);

/// A part: which blob, and where it begins.
type PartKey = (Digest, u64);

/// Who waits for what.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<BTreeMap<PartKey, Vec<oneshot::Sender<BlobPart>>>>,
    dropped: Mutex<Dropped>,
    /// Told when a job is dropped.
    pub(crate) drops: Notify,
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

    fn read(&self, delivery: &Delivery) -> Result<(), protocol::CodecError> {
        let format = Format::from_content_type(delivery.properties.content_type.as_deref())?;
        match delivery.properties.kind.as_str() {
            BlobPart::KIND => self.arrived(&BlobPart::from_bytes(&delivery.body, format)?),
            DropJob::KIND => self.drop_job(DropJob::from_bytes(&delivery.body, format)?.job),
            other => tracing::debug!("an announcement of type {other:?} is none that this worker knows"),
        }
        Ok(())
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
            // Nothing is lost with such a message: parts are asked for again, announcements only save work.
            if let Err(error) = inbox.read(delivery) {
                tracing::warn!("a message to this worker cannot be read: {error}");
            }
        }
        let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
        consumer.settle(&verdicts).await?;
    }
}
