//! The customers: upload, submit, submit again when in doubt, cancel; and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::Broker;
use ports::broker::{Confirm, Delivery, Outgoing, Properties};
use protocol::address::SUBMIT_EXCHANGE;
use protocol::blob::PutBlob;
use protocol::job::{CancelJob, JobSpec};
use protocol::reply::{Accepted, Completed, Part, Problem};
use protocol::{CustomerName, Digest, Format, JobId, Message};
use testkit::simulator::{Ether, Network};
use tokio::time::{Instant, sleep, sleep_until};

use crate::plan::JobPlan;

/// How often a customer looks at what came back.
const LOOK: Duration = Duration::from_millis(500);
/// The broker is given so long to take a message.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all customers were told.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Letters>>);

/// The letters, read.
#[derive(Default)]
pub(crate) struct Letters {
    /// Every message by its id, with how often it came.
    pub(crate) bodies: BTreeMap<String, (Vec<u8>, u32)>,
    /// Jobs by customer and submission.
    pub(crate) accepted: BTreeMap<(CustomerName, String), BTreeSet<JobId>>,
    /// Problems told of a submission.
    pub(crate) problems: BTreeMap<(CustomerName, String), Vec<Problem>>,
    /// Terminal replies by job: the message's id and what it says.
    pub(crate) completed: BTreeMap<JobId, Vec<(String, Completed)>>,
    /// Parts by job and number.
    pub(crate) parts: BTreeMap<(JobId, u32), Part>,
    /// What is wrong in itself.
    pub(crate) wrong: Vec<String>,
    /// How often customers had reason to doubt that what they sent is still there.
    doubts: u32,
    /// Whether the grid has forgotten something, so that the same message may say something else.
    pub(crate) forgetful: bool,
}

impl Mailbox {
    /// The letters.
    pub(crate) fn open(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Customers were told that messages may be lost.
    pub(crate) fn doubt(&self) {
        self.open().doubts += 1;
    }
}

impl Letters {
    /// Reads a letter to that customer.
    pub(crate) fn read(&mut self, customer: &CustomerName, delivery: &Delivery) {
        let id = &delivery.properties.message_id;
        let known = self.bodies.entry(id.clone()).or_insert_with(|| (delivery.body.clone(), 0));
        known.1 += 1;
        let kind = delivery.properties.kind.as_str();
        if known.0 != delivery.body && kind != Problem::KIND && !self.forgetful {
            self.wrong.push(format!("message {id} came with two bodies"));
        }
        let correlation = delivery.properties.correlation_id.clone().unwrap_or_default();
        let submission = (customer.clone(), correlation);
        let bytes = &delivery.body;
        match kind {
            Accepted::KIND => match Accepted::from_bytes(bytes, Format::MessagePack) {
                Ok(accepted) => drop(self.accepted.entry(submission).or_default().insert(accepted.job)),
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
            Problem::KIND => match Problem::from_bytes(bytes, Format::MessagePack) {
                Ok(problem) => self.problems.entry(submission).or_default().push(problem),
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
            Completed::KIND => match Completed::from_bytes(bytes, Format::MessagePack) {
                Ok(completed) => self.completed.entry(completed.job).or_default().push((id.clone(), completed)),
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
            Part::KIND => match Part::from_bytes(bytes, Format::MessagePack) {
                Ok(part) => drop(self.parts.insert((part.job, part.part), part)),
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
            _ => {}
        }
    }

    /// The jobs that a submission became.
    pub(crate) fn jobs(&self, job: &JobPlan) -> Vec<JobId> {
        let jobs = self.accepted.get(&(job.customer.clone(), job.submission.clone()));
        jobs.into_iter().flatten().copied().collect()
    }

    fn refusals(&self, job: &JobPlan) -> usize {
        self.problems.get(&(job.customer.clone(), job.submission.clone())).map_or(0, Vec::len)
    }

    /// Whether one of the submission's jobs has ended.
    pub(crate) fn has_ended(&self, job: &JobPlan) -> bool {
        self.jobs(job).iter().any(|id| self.completed.contains_key(id))
    }
}

/// A customer's part in one job.
pub(crate) struct Errand {
    pub(crate) job: JobPlan,
    pub(crate) network: Network,
    pub(crate) mailbox: Mailbox,
    pub(crate) ether: Arc<Ether>,
    pub(crate) begun: Instant,
}

impl Errand {
    /// Runs for as long as the simulation does.
    pub(crate) async fn run(self) {
        sleep_until(self.begun + self.job.submit_at).await;
        let mut again_at = self.job.again_at.map(|at| self.begun + at);
        let mut cancel_at = self.job.cancel_at.map(|at| self.begun + at);
        let mut known = (self.mailbox.open().doubts, 0);
        self.submit().await;
        loop {
            sleep(LOOK).await;
            let (doubts, refusals, ended, jobs) = {
                let letters = self.mailbox.open();
                (letters.doubts, letters.refusals(&self.job), letters.has_ended(&self.job), letters.jobs(&self.job))
            };
            // A confirmed submission is answered, so it is sent again only if the broker or the grid lost it, or the answer was a refusal.
            let refused = refusals > known.1 && jobs.is_empty();
            let again = again_at.is_some_and(|at| at <= Instant::now());
            if refused || again || (doubts > known.0 && !ended) {
                again_at = again_at.filter(|_| !again);
                self.submit().await;
            }
            known = (doubts, refusals);
            if cancel_at.is_some_and(|at| at <= Instant::now()) && !jobs.is_empty() {
                cancel_at = None;
                for job in jobs {
                    let id = format!("{}.cancel", self.job.submission);
                    self.send(&id, &CancelJob { job }).await;
                }
            }
        }
    }

    /// Uploads and submits, each message until the broker has it.
    async fn submit(&self) {
        for blob in &self.job.blobs {
            let (digest, size) = (Digest::of(blob), u64::try_from(blob.len()).expect("small"));
            let put = PutBlob { digest, size, offset: 0, data: blob.clone() };
            self.send(&format!("{digest}.0"), &put).await;
        }
        self.send::<JobSpec>(&self.job.submission, &self.job.spec).await;
    }

    async fn send<M: Message>(&self, id: &str, message: &M) {
        let properties = Properties {
            message_id: id.to_owned(),
            kind: M::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            correlation_id: Some(if M::KIND == JobSpec::KIND { id.to_owned() } else { format!("about {id}") }),
            user_id: Some(self.job.customer.to_string()),
            ..Properties::default()
        };
        let body = message.to_bytes(Format::MessagePack).expect("a message");
        let routing_key = self.job.customer.to_string();
        let message = Outgoing { exchange: SUBMIT_EXCHANGE.to_owned(), routing_key, properties, body };
        loop {
            match self.network.publish(vec![message.clone()], PATIENCE).await.as_deref() {
                Ok([Confirm::Stored]) => return,
                other => {
                    self.ether.trace.note(format_args!("{} sends {id} again: {other:?}", self.job.customer));
                    sleep(LOOK).await;
                }
            }
        }
    }
}
