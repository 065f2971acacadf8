//! Submits a job and waits for the grid's answer.

use std::time::Duration;

use ports::broker::{Outgoing, Properties};
use protocol::address::SUBMIT_EXCHANGE;
use protocol::codec::Format;
use protocol::job::JobSpec;
use protocol::problem::{Code, Problem};
use protocol::{Digest, JobId, Message};
use uuid::Uuid;

use super::{Client, ClientError, Mailbox, POLL_EVERY, Reply, ask};

/// How long the grid may take to admit a job: it may have to compile a large app first.
const ADMISSION_PATIENCE: Duration = Duration::from_mins(10);

/// How long a job is still looked for in the store when its answer cannot be seen for other replies.
const UNSEEN_PATIENCE: Duration = Duration::from_secs(30);

/// How often the store is asked for jobs submitted together: the resolution of that time.
const ADMITTED_EVERY: Duration = Duration::from_millis(5);

/// A job about to be submitted under an id of its own; the same id and job again have no second effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The `message_id` and `correlation_id`.
    pub id: String,
    /// The message.
    body: Vec<u8>,
}

/// A submission that became a job.
pub struct Admitted {
    /// The job.
    pub job: JobId,
    /// Where further replies come.
    pub mailbox: Mailbox,
}

impl Submission {
    /// A submission whose id follows from the job alone: submitted again to the same grid, it is the same job.
    pub fn of_content(spec: &JobSpec) -> Result<Self, ClientError> {
        let mut submission = Self::with_id(spec, String::new())?;
        let digest = Digest::of(&submission.body);
        submission.id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &digest.0).to_string();
        Ok(submission)
    }

    /// A submission under a given id.
    pub fn with_id(spec: &JobSpec, id: String) -> Result<Self, ClientError> {
        Ok(Self { id, body: encoded(spec)? })
    }
}

impl Client {
    /// Submits and waits until the job is admitted or rejected.
    pub async fn submit(&self, submission: &Submission) -> Result<Admitted, ClientError> {
        let mut mailbox = self.mailbox(&submission.id).await?;
        let message = self.message(JobSpec::KIND, submission.id.clone(), submission.body.clone());
        self.publish("the job", vec![message]).await?;
        let answer = tokio::time::timeout(ADMISSION_PATIENCE, self.answer(submission, &mut mailbox)).await;
        match answer {
            Ok(Ok(job)) => Ok(Admitted { job, mailbox }),
            Ok(Err(error)) => {
                mailbox.close().await?;
                Err(error)
            }
            Err(_elapsed) => {
                mailbox.close().await?;
                Err(ClientError::NoAnswer { submission: submission.id.clone(), waited_s: ADMISSION_PATIENCE.as_secs() })
            }
        }
    }

    /// Submits many at once and waits until the store has them all as jobs; their replies are left to others.
    pub async fn submit_all(&self, submissions: &[Submission]) -> Result<Vec<JobId>, ClientError> {
        let message = |submission: &Submission| self.message(JobSpec::KIND, submission.id.clone(), submission.body.clone());
        self.publish("the jobs", submissions.iter().map(message).collect()).await?;
        let mut jobs = Vec::with_capacity(submissions.len());
        for Submission { id, .. } in submissions {
            let admitted = tokio::time::timeout(ADMISSION_PATIENCE, self.admitted(id)).await;
            let no_answer = |_elapsed| ClientError::NoAnswer { submission: id.clone(), waited_s: ADMISSION_PATIENCE.as_secs() };
            jobs.push(admitted.map_err(no_answer)??);
        }
        Ok(jobs)
    }

    async fn admitted(&self, submission: &str) -> Result<JobId, ClientError> {
        loop {
            let question = || self.store.job_of_submission(&self.customer, submission);
            if let Some(job) = ask("look for the job", question).await? {
                return Ok(job);
            }
            tokio::time::sleep(ADMITTED_EVERY).await;
        }
    }

    /// Waits for the first that tells: a reply, or the store.
    async fn answer(&self, submission: &Submission, mailbox: &mut Mailbox) -> Result<JobId, ClientError> {
        let mut poll = tokio::time::interval(POLL_EVERY);
        let mut unseen = std::pin::pin!(tokio::time::sleep(UNSEEN_PATIENCE));
        loop {
            tokio::select! {
                () = &mut unseen, if mailbox.is_full() => {
                    return Err(ClientError::Unread { customer: self.customer.clone(), submission: submission.id.clone() });
                }
                replies = mailbox.next() => {
                    if let Some(answer) = replies?.into_iter().find_map(answer_in) {
                        return self.own(submission, answer?).await;
                    }
                }
                _ = poll.tick() => {
                    let question = || self.store.job_of_submission(&self.customer, &submission.id);
                    if let Some(job) = ask("look for the job", question).await? {
                        return self.own(submission, job).await;
                    }
                }
            }
        }
    }

    /// The job that has the submission's id, if it is the one submitted. Store and queue also know what became of the id before,
    /// so that another job under it is refused here as the grid refuses it.
    async fn own(&self, submission: &Submission, job: JobId) -> Result<JobId, ClientError> {
        let submitted = ask("read the job", || self.store.submitted(job)).await?.ok_or(ClientError::UnknownJob(job))?;
        if encoded(&submitted)? == submission.body {
            return Ok(job);
        }
        let detail = format!("message_id {:?} was used for job {job} with another body: use a new one", submission.id);
        Err(ClientError::Rejected(Box::new(Problem::new(Code::MessageIdReused, detail))))
    }

    fn message(&self, kind: &str, id: String, body: Vec<u8>) -> Outgoing {
        let properties = Properties {
            correlation_id: Some(id.clone()),
            message_id: id,
            kind: kind.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            user_id: self.user_id.clone(),
            ..Properties::default()
        };
        Outgoing { exchange: SUBMIT_EXCHANGE.to_owned(), routing_key: self.customer.to_string(), properties, body }
    }
}

fn encoded(spec: &JobSpec) -> Result<Vec<u8>, ClientError> {
    spec.to_bytes(Format::MessagePack).map_err(|source| ClientError::Codec { what: "the job", source })
}

fn answer_in(reply: Reply) -> Option<Result<JobId, ClientError>> {
    match reply {
        Reply::Accepted(accepted) => Some(Ok(accepted.job)),
        Reply::Rejected(problem) => Some(Err(ClientError::Rejected(problem))),
        Reply::Progress(progress) => Some(Ok(progress.job)),
        Reply::Completed(completed) => Some(Ok(completed.job)),
        Reply::Part | Reply::Stored => None,
    }
}
