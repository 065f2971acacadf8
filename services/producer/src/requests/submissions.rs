//! Submissions: each becomes a job and a reply in one transaction, or a problem that names every mistake.

use std::time::Duration;

use ports::store::{Admission, AppVerdict, NewJob, OutboxMessage};
use protocol::input::Input;
use protocol::job::{Brief, EntryKind, JobSpec};
use protocol::problem::{Code, FieldError, Problem};
use protocol::reply::Accepted;
use protocol::{CustomerName, Digest, Format, JobId, Message, MeterId, Micros, codec};

use crate::asked::{Answer, Asked, Refusal, mistake};
use crate::standing::Slow;
use crate::{Producer, apps, blobs, check, inputs};

/// What was found out about a job that has no mistakes.
pub(super) struct Examined {
    /// Its app's artefact.
    artefact: Digest,
    /// How its app is entered.
    entry: EntryKind,
    /// How its app's fuel is counted.
    meter: MeterId,
    /// How many items it has.
    pub(super) items: u64,
}

/// Admits a job. One that was admitted before is accepted again, whatever became since of its customer's limits and blobs, of
/// the pools and of the compiler.
pub(super) async fn submit(producer: &Producer, asked: &Asked, spec: &JobSpec) -> Result<Answer, Refusal> {
    let submission_digest = Digest::of(&codec::encode("job", spec, Format::MessagePack)?);
    if let Some(known) = producer.store.admitted(&asked.customer, &asked.message_id, submission_digest).await? {
        return known_before(asked, spec, &known);
    }
    let place = producer.standings.place(producer, &asked.customer).await?.map_err(Refusal::Problem)?;
    let mut mistakes = Vec::new();
    if asked.message_id.is_empty() || asked.message_id.len() > 255 {
        mistakes.push(mistake("", "message_id must be 1 to 255 bytes: it is what makes a resend harmless"));
    }
    let examined = examine(producer, asked, spec, mistakes).await?;
    let (job, accepted) = job_of(producer, asked, (spec, submission_digest), examined).await?;
    let (id, items) = (job.id, job.items);
    match producer.store.admit(job, accepted).await? {
        Admission::New => {
            place.taken();
            producer.metrics.jobs_admitted.inc();
            let (customer, traceparent) = (&asked.customer, asked.traceparent.as_deref());
            tracing::info!(job = %id, customer = %customer, traceparent, "job {id} of {customer} is admitted: {items} items");
            Ok(Answer::new())
        }
        known @ (Admission::Known { .. } | Admission::Conflict { .. } | Admission::NoBlob { .. }) => {
            known_before(asked, spec, &known)
        }
    }
}

/// What is told of a submission that is no new job.
fn known_before(asked: &Asked, spec: &JobSpec, known: &Admission) -> Result<Answer, Refusal> {
    match *known {
        Admission::New => Ok(Answer::new()),
        Admission::Known { job, items } => Ok(vec![asked.answer(&Accepted { job, items })?]),
        Admission::Conflict { job } => {
            let detail = format!("message_id {:?} was used for job {job} with another body: use a new one", asked.message_id);
            Err(Refusal::of(Code::MessageIdReused, detail))
        }
        Admission::NoBlob { digest } => Err(invalid(vec![missing(spec, digest)])),
    }
}

/// Looks for everything that is wrong with a job, those `mistakes` included; compiles its app and counts its items.
pub(super) async fn examine(
    producer: &Producer,
    asked: &Asked,
    spec: &JobSpec,
    mut mistakes: Vec<FieldError>,
) -> Result<Examined, Refusal> {
    mistakes.extend(check::spec(spec, &producer.settings.pools));
    let units = asked.standing.limits.units;
    if u32::from(spec.quorum) > units {
        mistakes.push(mistake("/quorum", format!("{} replicas are more than the {units} you may have under way", spec.quorum)));
    }
    if !mistakes.is_empty() {
        return Err(invalid(mistakes));
    }
    look_for_blobs(producer, asked, spec).await?;
    let (artefact, entry, meter, reduces) = match apps::verdict(producer, spec.app).await? {
        AppVerdict::Accepted { artefact, entry, meter, reduces, .. } => (artefact, entry, meter, reduces),
        AppVerdict::Rejected { reasons } => return Err(apps::rejection(&reasons)),
    };
    if spec.reduce && !reduces {
        let detail = "the app does not export op_reduce: leave reduce out, or export it";
        return Err(invalid(vec![mistake("/reduce", detail)]));
    }
    let place = place_to_count(producer, asked, &spec.input).await?;
    let items = inputs::count(producer, &spec.input).await?;
    drop(place);
    match check::count(items, spec) {
        Some(error) => Err(invalid(vec![error])),
        None => Ok(Examined { artefact, entry, meter, items }),
    }
}

/// The place in which a job's items are counted, where that takes long: lines are counted by reading all of their blob.
async fn place_to_count<'a>(producer: &'a Producer, asked: &'a Asked, input: &Input) -> Result<Option<Slow<'a>>, Refusal> {
    let Input::Lines { blob } = input else { return Ok(None) };
    let bytes = producer.store.blob_size(*blob).await?.unwrap_or(0);
    producer.standings.reading(&asked.customer, bytes).map_err(Refusal::Problem)
}

/// The job to be written, with the reply that goes with it.
async fn job_of(
    producer: &Producer,
    asked: &Asked,
    (spec, submission_digest): (&JobSpec, Digest),
    examined: Examined,
) -> Result<(NewJob, OutboxMessage), Refusal> {
    let Examined { artefact, entry, meter, items } = examined;
    let params = codec::encode("params", &spec.params, Format::MessagePack)?;
    let (app, shared, limits) = (spec.app, spec.shared, spec.limits);
    let brief = Brief { app, artefact, entry, meter: meter.clone(), params, shared, limits };
    let brief = blobs::store(producer, &codec::encode("brief", &brief, Format::MessagePack)?).await?;
    let admitted_at = producer.clock.now();
    let id = job_id(admitted_at, &asked.customer, &asked.message_id);
    let accepted = asked.answer(&Accepted { job: id, items })?;
    let job = NewJob {
        id,
        customer: asked.customer.clone(),
        submission: asked.message_id.clone(),
        submission_digest,
        correlation_id: asked.correlation_id.clone(),
        content_type: accepted.content_type.clone(),
        traceparent: asked.traceparent.clone(),
        spec: spec.clone(),
        items,
        brief,
        meter,
        admitted_at,
        deadline_at: spec.deadline_s.map(|s| admitted_at.plus(Duration::from_secs(s.into()))),
    };
    Ok((job, accepted))
}

fn invalid(mistakes: Vec<FieldError>) -> Refusal {
    Problem::with_errors(Code::InvalidJob, mistakes).into()
}

/// Every blob that a job names must be one that its customer may use.
async fn look_for_blobs(producer: &Producer, asked: &Asked, spec: &JobSpec) -> Result<(), Refusal> {
    for digest in spec.blobs() {
        if producer.store.own_blob_size(&asked.customer, digest).await?.is_none() {
            let problem = Problem::with_errors(Code::InvalidJob, vec![missing(spec, digest)]);
            return Err(Refusal::Absent { digest, problem: Box::new(problem) });
        }
    }
    Ok(())
}

/// The mistake in naming a blob that is not there.
fn missing(spec: &JobSpec, digest: Digest) -> FieldError {
    let pointer = match digest {
        app if app == spec.app => "/app",
        shared if Some(shared) == spec.shared => "/shared",
        _ => "/input",
    };
    mistake(pointer, format!("blob {digest} is not here: upload it with {} first", protocol::blob::PutBlob::KIND))
}

/// A `UUIDv7` at that time; instead of random bits it has a digest of what is unique about the submission.
fn job_id(at: Micros, customer: &CustomerName, submission: &str) -> JobId {
    let unique = Digest::of(format!("{customer}/{}/{submission}", at.0).as_bytes());
    let mut bits = [0; 10];
    bits.copy_from_slice(&unique.0[..10]);
    let millis = u64::try_from(at.0).unwrap_or(0) / 1_000;
    JobId(uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
}
