//! The customers: upload, submit, submit again when in doubt, cancel; and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::Broker;
use ports::broker::{Confirm, Delivery, Outgoing, Properties};
use protocol::address::SUBMIT_EXCHANGE;
use protocol::blob::PutBlob;
use protocol::job::{CancelJob, JobSpec};
use protocol::problem::{Problem, Refused};
use protocol::query::{FetchResults, JobStatus, PauseJob, ReleaseResults, ResultsFetched, ResultsReleased, ResumeJob};
use protocol::reply::{Accepted, Completed, Part};
use protocol::{CustomerName, Digest, Format, JobId, Message};
use testkit::simulator::{Ether, Network};
use tokio::time::{Instant, sleep, sleep_until};

use crate::plan::JobPlan;

/// How often a customer looks at what came back.
const LOOK: Duration = Duration::from_millis(500);
/// A question that was not answered within so many looks is asked again.
const LOOKS: u32 = 60;
/// A customer who wants a job to go on says so again after this, in case something older came later.
const AGAIN: Duration = Duration::from_secs(20);
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
    /// Answers to questions by what they are about.
    pub(crate) answers: BTreeMap<String, Said>,
    /// Submissions whose customers want nothing more.
    pub(crate) done: BTreeSet<String>,
    /// What is wrong in itself.
    pub(crate) wrong: Vec<String>,
    /// How often customers had reason to doubt that what they sent is still there.
    doubts: u32,
    /// Whether the grid has forgotten something, so that the same message may say something else.
    pub(crate) forgetful: bool,
}

/// What a question came to.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Fetched(ResultsFetched),
    Released,
    Status { rests: bool },
    Refused(Problem),
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
                Ok(part) => self.take_part(part),
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
            _ => match Said::read(kind, bytes) {
                Ok(Some(said)) => drop(self.answers.insert(submission.1, said)),
                Ok(None) => {}
                Err(error) => self.wrong.push(format!("message {id}: {error}")),
            },
        }
    }

    /// A part is the same however often it comes.
    fn take_part(&mut self, part: Part) {
        let key = (part.job, part.part);
        let before = self.parts.insert(key, part);
        if before.is_some() && before.as_ref() != self.parts.get(&key) && !self.forgetful {
            self.wrong.push(format!("part {} of job {} came with two contents", key.1, key.0));
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

impl Said {
    fn read(kind: &str, bytes: &[u8]) -> Result<Option<Self>, protocol::CodecError> {
        let format = Format::MessagePack;
        Ok(match kind {
            ResultsFetched::KIND => Some(Self::Fetched(ResultsFetched::from_bytes(bytes, format)?)),
            ResultsReleased::KIND => ResultsReleased::from_bytes(bytes, format).map(|_| Some(Self::Released))?,
            JobStatus::KIND => JobStatus::from_bytes(bytes, format).map(|status| Some(Self::Status { rests: status.paused }))?,
            Refused::KIND => Some(Self::Refused(Refused::from_bytes(bytes, format)?.0)),
            _ => None,
        })
    }
}

/// How far a job's rest is.
#[derive(Default)]
struct Rest {
    begun: bool,
    /// When it was last told to go on.
    woken_at: Duration,
}

/// A customer's part in one job.
pub(crate) struct Errand {
    pub(crate) job: JobPlan,
    pub(crate) network: Network,
    pub(crate) mailbox: Mailbox,
    pub(crate) ether: Arc<Ether>,
    pub(crate) begun: Instant,
    /// The store forgets something in this run: what was asked of it may be among that, so nothing is.
    pub(crate) forgetful: bool,
}

impl Errand {
    /// Runs for as long as the simulation does.
    pub(crate) async fn run(self) {
        sleep_until(self.begun + self.job.submit_at).await;
        let mut again_at = self.job.again_at.map(|at| self.begun + at);
        let mut cancel_at = self.job.cancel_at.map(|at| self.begun + at);
        let mut known = (self.mailbox.open().doubts, 0);
        let mut rest = Rest::default();
        let mut done = false;
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
            if ended && !done {
                done = true;
                for job in jobs.iter().filter(|_| !self.forgetful) {
                    self.take_results(*job).await;
                }
                self.mailbox.open().done.insert(self.job.submission.clone());
            }
            if !ended && !self.forgetful {
                self.let_rest(&jobs, &mut rest).await;
            }
            if cancel_at.is_some_and(|at| at <= Instant::now()) && !jobs.is_empty() {
                cancel_at = None;
                for job in jobs {
                    let id = format!("{}.cancel", self.job.submission);
                    self.send(&id, &CancelJob { job }).await;
                }
            }
        }
    }

    /// Lets the job rest and go on, when its time has come.
    async fn let_rest(&self, jobs: &[JobId], rest: &mut Rest) {
        let Some((from, until)) = self.job.habits.rests else { return };
        let (Some(job), now) = (jobs.first().copied(), self.begun.elapsed()) else { return };
        if now >= from && !rest.begun {
            rest.begun = true;
            self.send(&format!("{}.pause", self.job.submission), &PauseJob { job }).await;
        } else if now >= until.max(rest.woken_at + AGAIN) && rest.begun {
            rest.woken_at = now;
            self.send(&format!("{}.resume.{}", self.job.submission, now.as_millis()), &ResumeJob { job }).await;
        }
    }

    /// Fetches what was withheld or is wanted again, and lets it go.
    async fn take_results(&self, job: JobId) {
        let completed = self.mailbox.open().completed.get(&job).and_then(|all| all.last()).map(|(_, last)| last.clone());
        let Some(completed) = completed else { return };
        if completed.withheld {
            self.fetch(job, completed.parts).await;
        }
        if self.job.habits.fetches {
            self.fetch(job, 0).await;
        }
        if self.job.habits.releases {
            let said = self.ask("release", &ReleaseResults { job }).await;
            self.expect(matches!(said, Said::Released), "a release", &said);
            let said = self.ask("fetch gone", &FetchResults { job, part: 0, limit: 1 }).await;
            let gone = matches!(&said, Said::Refused(problem) if problem.code == "results-gone");
            self.expect(gone, "what was released", &said);
        }
    }

    /// Fetches all parts from one on.
    async fn fetch(&self, job: JobId, from: u32) {
        let mut next = Some(from);
        while let Some(part) = next {
            match self.ask(&format!("fetch {part}"), &FetchResults { job, part, limit: self.job.habits.page }).await {
                Said::Fetched(fetched) => {
                    let goes_on = fetched.ended && fetched.next_part.is_none_or(|next| next > part);
                    self.expect(goes_on, "a fetch", &fetched);
                    next = fetched.next_part.filter(|_| goes_on);
                }
                said @ (Said::Released | Said::Status { .. } | Said::Refused(_)) => {
                    return self.expect(false, "a fetch", &said);
                }
            }
        }
    }

    fn expect(&self, holds: bool, what: &str, said: &impl std::fmt::Debug) {
        if !holds {
            self.mailbox.open().wrong.push(format!("{}: {what} is answered {said:?}", self.job.submission));
        }
    }

    /// Asks until there is an answer.
    async fn ask<M: Message>(&self, what: &str, message: &M) -> Said {
        loop {
            let id = format!("{}.{what}.{}", self.job.submission, self.begun.elapsed().as_millis());
            self.send(&id, message).await;
            for _ in 0..LOOKS {
                sleep(LOOK).await;
                if let Some(said) = self.mailbox.open().answers.get(&format!("about {id}")) {
                    return said.clone();
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
