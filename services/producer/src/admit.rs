//! Admission: a submission becomes a job and a reply in one transaction, or a problem that names every mistake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ports::broker::Properties;
use ports::store::{Admission, AppVerdict, NewJob, OutboxMessage, StoreError};
use protocol::job::{Brief, CancelJob, JobSpec};
use protocol::reply::{Accepted, FieldError, Problem};
use protocol::{CodecError, CustomerName, Digest, Format, JobId, Message, Micros, codec};
use service::CancellationToken;
use service::patience::until_done;

use crate::metrics::{ACCEPTED, FAILED, REFUSED};
use crate::{Producer, apps, blobs, check, inputs};

/// A blob may still be under way in another producer when the submission that names it is read; after this it is missing.
const BLOB_PATIENCE: Duration = Duration::from_secs(10);
/// How often a missing blob is looked for.
const BLOB_POLL: Duration = Duration::from_millis(50);

/// Why a submission was not admitted.
pub(crate) enum Refusal {
    /// It is wrong: told to the customer.
    Problem(Problem),
    /// The store is away: tried again.
    Store(StoreError),
    /// The submission cannot be written again, which reading it has ruled out.
    Codec(CodecError),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Problem(problem) => problem.fmt(f),
            Self::Store(error) => match std::error::Error::source(error) {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Self::Codec(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CodecError> for Refusal {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

/// Admits a job; whether the message is done with (else it goes back to the queue).
pub(crate) async fn submit(
    producer: &Producer,
    customer: &CustomerName,
    properties: &Properties,
    spec: JobSpec,
    stopping: &CancellationToken,
) -> bool {
    let metrics = &producer.metrics;
    let timer = metrics.submission_seconds.start_timer();
    let count = |result| metrics.submissions.with_label_values(&[result]).inc();
    let failed = AtomicBool::new(false);
    let attempt = || async {
        match admit(producer, customer, properties, &spec).await {
            Ok(admitted) => Ok(Ok(admitted)),
            Err(Refusal::Problem(problem)) => Ok(Err(problem)),
            Err(other) => {
                if !failed.swap(true, Ordering::Relaxed) {
                    count(FAILED);
                }
                Err(other)
            }
        }
    };
    let answered = match until_done("admitting a job", stopping, attempt).await {
        Some(Ok(job)) => {
            tracing::info!(job = %job, customer = %customer, traceparent = properties.traceparent, "job {job} of {customer} is admitted");
            count(ACCEPTED);
            true
        }
        Some(Err(problem)) => {
            count(if problem.status >= 500 { FAILED } else { REFUSED });
            refuse(producer, customer, properties, problem, stopping).await
        }
        None => false,
    };
    if answered {
        timer.observe_duration();
    } else {
        timer.stop_and_discard();
    }
    answered
}

/// Marks a job to be cancelled.
pub(crate) async fn cancel(
    producer: &Producer,
    customer: &CustomerName,
    properties: &Properties,
    cancel: &CancelJob,
    stopping: &CancellationToken,
) -> bool {
    let request = || producer.store.request_cancel(customer, cancel.job);
    match until_done("cancelling a job", stopping, request).await {
        Some(true) => true,
        Some(false) => {
            let detail = format!("customer {customer} has no running job {}", cancel.job);
            let problem = Problem::new(404, "no-such-job", "No such running job", detail);
            refuse(producer, customer, properties, problem, stopping).await
        }
        None => false,
    }
}

/// Tells the customer of a problem; whether that is durable.
pub(crate) async fn refuse(
    producer: &Producer,
    customer: &CustomerName,
    properties: &Properties,
    problem: Problem,
    stopping: &CancellationToken,
) -> bool {
    tracing::info!(customer = %customer, "message {:?} of {customer} is refused: {problem}", properties.message_id);
    producer.metrics.submissions_refused.with_label_values(&[problem.code.as_str()]).inc();
    let id = format!("{customer}.{}.problem", properties.message_id);
    let reply = match reply(customer, properties, id, &problem) {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!("a problem cannot be written: {error}");
            return true;
        }
    };
    until_done("telling a customer of a problem", stopping, || producer.store.reply(reply.clone())).await.is_some()
}

fn reply<M: Message>(customer: &CustomerName, to: &Properties, id: String, message: &M) -> Result<OutboxMessage, CodecError> {
    // A content type that cannot be read is answered in the grid's own format.
    let format = Format::from_content_type(to.content_type.as_deref()).unwrap_or(Format::MessagePack);
    Ok(OutboxMessage {
        id,
        customer: customer.clone(),
        kind: M::KIND.to_owned(),
        content_type: format.content_type().to_owned(),
        correlation_id: to.correlation_id.clone(),
        traceparent: to.traceparent.clone(),
        body: message.to_bytes(format)?,
    })
}

async fn admit(producer: &Producer, customer: &CustomerName, properties: &Properties, spec: &JobSpec) -> Result<JobId, Refusal> {
    let mut errors = check::spec(spec, &producer.settings.pools);
    if properties.message_id.is_empty() || properties.message_id.len() > 255 {
        let detail = "message_id must be 1 to 255 bytes: it is what makes a resend harmless".to_owned();
        errors.push(FieldError { pointer: String::new(), detail });
    }
    if !errors.is_empty() {
        return Err(Refusal::Problem(invalid(errors)));
    }
    wait_for_blobs(producer, spec).await?;
    let AppVerdict::Accepted { artefact, entry, meter, reduces, .. } = apps::verdict(producer, spec.app).await? else {
        return Err(Refusal::Problem(apps::rejection(producer, spec.app).await?));
    };
    if spec.reduce && !reduces {
        let detail = "the app does not export op_reduce: leave reduce out, or export it".to_owned();
        return Err(Refusal::Problem(invalid(vec![FieldError { pointer: "/reduce".to_owned(), detail }])));
    }
    let items = inputs::count(producer, &spec.input).await?;
    if let Some(error) = check::count(items, spec) {
        return Err(Refusal::Problem(invalid(vec![error])));
    }
    let params = codec::encode("params", &spec.params, Format::MessagePack)?;
    let (app, shared, limits) = (spec.app, spec.shared, spec.limits);
    let brief = Brief { app, artefact, entry, meter: meter.clone(), params, shared, limits };
    let brief = blobs::store(producer, &codec::encode("brief", &brief, Format::MessagePack)?).await?;

    let admitted_at = producer.clock.now();
    let id = job_id(admitted_at, customer, &properties.message_id);
    let accepted = reply(customer, properties, format!("{id}.accepted"), &Accepted { job: id, items })?;
    let job = NewJob {
        id,
        customer: customer.clone(),
        submission: properties.message_id.clone(),
        submission_digest: Digest::of(&codec::encode("job", spec, Format::MessagePack)?),
        correlation_id: properties.correlation_id.clone(),
        content_type: accepted.content_type.clone(),
        traceparent: properties.traceparent.clone(),
        spec: spec.clone(),
        items,
        brief,
        meter,
        admitted_at,
        deadline_at: spec.deadline_s.map(|s| admitted_at.plus(Duration::from_secs(s.into()))),
    };
    write(producer, customer, properties, job, accepted).await
}

async fn write(
    producer: &Producer,
    customer: &CustomerName,
    properties: &Properties,
    job: NewJob,
    accepted: OutboxMessage,
) -> Result<JobId, Refusal> {
    let id = job.id;
    match producer.store.admit(job, accepted).await? {
        Admission::New => {
            producer.metrics.jobs_admitted.inc();
            Ok(id)
        }
        Admission::Known { job, items } => {
            // Said again under an id of its own: the first answer may be lost, and this one's arrival twice is harmless.
            let again = format!("{job}.accepted.{}", producer.clock.now().0);
            producer.store.reply(reply(customer, properties, again, &Accepted { job, items })?).await?;
            Ok(job)
        }
        Admission::Conflict { job } => {
            let detail =
                format!("message_id {:?} was used for job {job} with another body: use a new one", properties.message_id);
            Err(Refusal::Problem(Problem::new(409, "message-id-reused", "message_id was used for another body", detail)))
        }
    }
}

fn invalid(errors: Vec<FieldError>) -> Problem {
    let list: Vec<String> = errors.iter().map(|e| format!("{} {}", e.pointer, e.detail)).collect();
    Problem { errors, ..Problem::new(422, "invalid-job", "Job is not valid", list.join("; ")) }
}

async fn wait_for_blobs(producer: &Producer, spec: &JobSpec) -> Result<(), Refusal> {
    let needed = [("/app", Some(spec.app)), ("/shared", spec.shared), ("/input", spec.input.blob())];
    let polls = BLOB_PATIENCE.as_millis() / BLOB_POLL.as_millis().max(1);
    for (pointer, digest) in needed {
        let Some(digest) = digest else { continue };
        let mut found = producer.store.blob_size(digest).await?.is_some();
        for _ in 0..polls {
            if found {
                break;
            }
            tokio::time::sleep(BLOB_POLL).await;
            found = producer.store.blob_size(digest).await?.is_some();
        }
        if !found {
            let detail = format!("blob {digest} is not here: upload it with {} first", protocol::blob::PutBlob::KIND);
            return Err(Refusal::Problem(invalid(vec![FieldError { pointer: pointer.to_owned(), detail }])));
        }
    }
    Ok(())
}

/// A `UUIDv7` at that time; instead of random bits it has a digest of what is unique about the submission.
fn job_id(at: Micros, customer: &CustomerName, submission: &str) -> JobId {
    let unique = Digest::of(format!("{customer}/{}/{submission}", at.0).as_bytes());
    let mut bits = [0; 10];
    bits.copy_from_slice(&unique.0[..10]);
    let millis = u64::try_from(at.0).unwrap_or(0) / 1_000;
    JobId(uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
}
