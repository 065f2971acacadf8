//! Performing: one request from its decoding to its answer, with the places it takes meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ports::broker::Delivery;
use ports::store::StoreError;
use protocol::blob::PutBlob;
use protocol::codec::MAX_BODY_BYTES;
use protocol::job::JobSpec;
use protocol::problem::{Code, Problem};
use protocol::{Digest, Message};
use service::CancellationToken;

use crate::asked::{Answer, Asked, Refusal, mistake};
use crate::damage::{Damage, until_told};
use crate::metrics::{ACCEPTED, FAILED, REFUSED};
use crate::requests::{Effect, Request};
use crate::room::{Held, Room, is_fetch};
use crate::standing::Slow;
use crate::trouble::is_away;
use crate::{Producer, apps};

/// How often a blob that is not here is looked for.
const BLOB_POLL: Duration = Duration::from_millis(50);
/// And how many times for one request, 10 s in all: it may still be under way in another producer; after this it is missing.
const BLOB_POLLS: u32 = 200;

/// A request that takes longer counts among those of its customer that take long.
const SHORT: Duration = Duration::from_secs(1);

/// A request that was read, with the places it takes while it is done.
pub(crate) struct Begun<'a> {
    request: Request,
    _held: Held<'a>,
    slow: Option<Slow<'a>>,
}

/// The request with room for it, if its customer may make it now and it can be decoded.
pub(crate) async fn begin<'a>(
    producer: &'a Producer,
    asked: &'a Asked,
    delivery: &Delivery,
    room: &'a Room,
) -> Result<Begun<'a>, Box<Problem>> {
    let (bytes, limits) = (delivery.body.len(), &asked.standing.limits);
    let limit = usize::try_from(limits.message_bytes).unwrap_or(usize::MAX).min(MAX_BODY_BYTES);
    if bytes > limit {
        let detail = format!("the body has {bytes} bytes, and yours may have {limit}");
        return Err(Box::new(Problem::over(Code::MessageTooLarge, u64::try_from(limit).unwrap_or(u64::MAX), None, detail)));
    }
    if delivery.properties.kind != PutBlob::KIND {
        producer.standings.take(&asked.customer, producer.clock.now())?;
    }
    // The customer's own place comes before the room of all: who has none left is told so at once and is in nobody's way.
    let mut slow = is_fetch(delivery).then(|| producer.standings.slow(&asked.customer)).transpose()?;
    let held = patiently(producer, asked, &mut slow, room.hold(delivery)).await?;
    let request = read(asked, delivery)?;
    let (kind, effect) = request.about();
    let Asked { customer, message_id, traceparent, .. } = asked;
    if effect == Effect::Acts && kind != PutBlob::KIND {
        tracing::info!(%customer, traceparent, "{customer} sends {kind} {message_id:?}");
    } else {
        tracing::debug!(%customer, traceparent, "{customer} sends {kind} {message_id:?}");
    }
    Ok(Begun { request, _held: held, slow })
}

fn read(asked: &Asked, delivery: &Delivery) -> Result<Request, Box<Problem>> {
    let request = Request::read(delivery)?;
    let (kind, effect) = request.about();
    // A submission without a key has its own code, and its other mistakes are told with it.
    if effect == Effect::Acts && asked.message_id.is_empty() && kind != JobSpec::KIND {
        let detail = "message_id is missing: it is what makes a resend harmless";
        return Err(Box::new(Problem::with_errors(Code::InvalidRequest, vec![mistake("", detail)])));
    }
    Ok(request)
}

/// Does what is asked and counts submissions.
pub(crate) async fn perform<'a>(
    producer: &'a Producer,
    asked: &'a Asked,
    begun: Begun<'a>,
    source: (&Delivery, &'a Room),
    stopping: &CancellationToken,
) -> Result<Answer, End> {
    let metrics = &producer.metrics;
    let timer = (begun.request.about().0 == JobSpec::KIND).then(|| metrics.submission_seconds.start_timer());
    let done = until_answered(producer, asked, begun, source, stopping).await;
    let Some(timer) = timer else { return done };
    let (result, is_answered) = match &done {
        Ok(_) => (Some(ACCEPTED), true),
        Err(End::Refused(problem)) if problem.status >= 500 => (Some(FAILED), true),
        Err(End::Refused(_)) => (Some(REFUSED), true),
        Err(End::Damaged(_)) => (Some(FAILED), false),
        // That the store was away was counted when it was.
        Err(End::Stopping) => (None, false),
    };
    if let Some(result) = result {
        metrics.submissions.with_label_values(&[result]).inc();
    }
    if is_answered {
        timer.observe_duration();
    } else {
        timer.stop_and_discard();
    }
    done
}

/// Why nothing is done.
pub(crate) enum End {
    /// That is told to the customer.
    Refused(Box<Problem>),
    /// It meets rows that cannot be used.
    Damaged(Damage),
    /// The producer is stopping.
    Stopping,
}

impl From<Box<Problem>> for End {
    fn from(problem: Box<Problem>) -> Self {
        Self::Refused(problem)
    }
}

/// Does what is asked, again once what it waits for is there.
///
/// A submission waits without what it was decoded to, and without the room for that: many that wait stand in nobody's way.
async fn until_answered<'a>(
    producer: &'a Producer,
    asked: &'a Asked,
    mut begun: Begun<'a>,
    (delivery, room): (&Delivery, &'a Room),
    stopping: &CancellationToken,
) -> Result<Answer, End> {
    let (mut polls, mut published) = (BLOB_POLLS, false);
    loop {
        let Begun { request, slow, .. } = &mut begun;
        let attempt = attempt(producer, asked, request, stopping);
        // What has an effect is not ended in its middle: it might be done, and its customer told that it is refused.
        let asks = request.about().1 == Effect::Asks;
        let done = if asks { patiently(producer, asked, slow, attempt).await?? } else { attempt.await? };
        let mut slow = begun.slow.take();
        drop(begun);
        match done {
            Done::Answered(answer) => return Ok(answer),
            Done::Absent(digest, problem) => {
                if slow.is_none() {
                    slow = Some(producer.standings.slow(&asked.customer)?);
                }
                if !comes(producer, asked, (digest, &mut polls), stopping).await? {
                    return Err(problem.into());
                }
            }
            Done::Unpublished(app) if published => return Err(unpublished(app).into()),
            Done::Unpublished(app) => {
                patiently(producer, asked, &mut slow, publish(producer, app, stopping)).await??;
                published = true;
            }
        }
        let held = patiently(producer, asked, &mut slow, room.hold(delivery)).await?;
        begun = Begun { request: read(asked, delivery)?, _held: held, slow };
    }
}

/// Waits for what a request needs: after a while only if its customer may have one more under way that takes long.
async fn patiently<'a, T>(
    producer: &'a Producer,
    asked: &'a Asked,
    slow: &mut Option<Slow<'a>>,
    work: impl Future<Output = T>,
) -> Result<T, Box<Problem>> {
    let mut work = std::pin::pin!(work);
    if slow.is_none() {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(SHORT) => *slow = Some(producer.standings.long(&asked.customer)?),
        }
    }
    Ok(work.await)
}

/// What came of an attempt.
enum Done {
    Answered(Answer),
    /// It waits for that blob; the problem is told if it does not come.
    Absent(Digest, Box<Problem>),
    /// It waits for that app to be published.
    Unpublished(Digest),
}

/// Attempts what is asked, again while the store is away.
async fn attempt(producer: &Producer, asked: &Asked, request: &Request, stopping: &CancellationToken) -> Result<Done, End> {
    let (kind, _) = request.about();
    let failed = AtomicBool::new(false);
    let attempt = || async {
        match request.perform(producer, asked).await {
            Ok(answer) => Ok(Ok(Done::Answered(answer))),
            Err(Refusal::Problem(problem)) => Ok(Err(problem)),
            Err(Refusal::Absent { digest, problem }) => Ok(Ok(Done::Absent(digest, problem))),
            Err(Refusal::Unpublished { app }) => Ok(Ok(Done::Unpublished(app))),
            Err(Refusal::Store(error)) => {
                if is_away(&error) && !failed.swap(true, Ordering::Relaxed) && kind == JobSpec::KIND {
                    producer.metrics.submissions.with_label_values(&[FAILED]).inc();
                }
                Err(error)
            }
        }
    };
    Ok(until_there(producer, kind, stopping, attempt).await??)
}

/// Makes attempts at what a request needs, again while the store is away.
async fn until_there<T, F>(
    producer: &Producer,
    what: &str,
    stopping: &CancellationToken,
    attempt: impl FnMut() -> F,
) -> Result<T, End>
where
    F: Future<Output = Result<T, StoreError>>,
{
    until_told(producer, what, stopping, attempt).await.ok_or(End::Stopping)?.map_err(End::Damaged)
}

/// Publishes an app, again while the store is away. Compiling may take minutes and does the same when it is done again, so it is
/// given up once the producer stops.
async fn publish(producer: &Producer, app: Digest, stopping: &CancellationToken) -> Result<(), End> {
    let publish = || async {
        match apps::publish(producer, app).await {
            Ok(()) => Ok(Ok(())),
            Err(Refusal::Problem(problem) | Refusal::Absent { problem, .. }) => Ok(Err(problem)),
            Err(Refusal::Unpublished { app }) => Ok(Err(unpublished(app))),
            Err(Refusal::Store(error)) => Err(error),
        }
    };
    tokio::select! {
        biased;
        () = stopping.cancelled() => Err(End::Stopping),
        published = until_there(producer, "publishing an app", stopping, publish) => Ok(published??),
    }
}

fn unpublished(app: Digest) -> Box<Problem> {
    Box::new(Problem::new(Code::PublisherUnavailable, format!("app {app} is published, and nothing is known of it")))
}

/// Whether the customer has that blob within the looks that are left.
async fn comes(
    producer: &Producer,
    asked: &Asked,
    (digest, polls): (Digest, &mut u32),
    stopping: &CancellationToken,
) -> Result<bool, End> {
    while *polls > 0 {
        *polls -= 1;
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Err(End::Stopping),
            () = tokio::time::sleep(BLOB_POLL) => {}
        }
        let look = || producer.store.own_blob_size(&asked.customer, digest);
        if until_there(producer, "looking for a blob", stopping, look).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
