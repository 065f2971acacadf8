//! Performing: one request from its decoding to its answer, with the places it takes meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ports::broker::Delivery;
use protocol::blob::PutBlob;
use protocol::codec::MAX_BODY_BYTES;
use protocol::job::JobSpec;
use protocol::problem::{Code, Problem};
use protocol::{Digest, Message};
use service::CancellationToken;
use service::patience::until_done;

use crate::Producer;
use crate::asked::{Answer, Asked, Refusal, mistake};
use crate::metrics::{ACCEPTED, FAILED, REFUSED};
use crate::requests::{Effect, Request};
use crate::room::{Held, Room, is_fetch};
use crate::standing::Slow;

/// How often a blob that is not here is looked for.
const BLOB_POLL: Duration = Duration::from_millis(50);
/// And how many times for one request, 10 s in all: it may still be under way in another producer; after this it is missing.
const BLOB_POLLS: u32 = 200;

/// A request that was read, with the places it takes while it is done.
pub(crate) struct Begun<'a> {
    request: Request,
    _held: Held<'a>,
    _slow: Option<Slow<'a>>,
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
    let slow = is_fetch(delivery).then(|| producer.standings.slow(&asked.customer)).transpose()?;
    let held = room.hold(delivery).await;
    let request = read(asked, delivery)?;
    let (kind, effect) = request.about();
    let Asked { customer, message_id, traceparent, .. } = asked;
    if effect == Effect::Acts && kind != PutBlob::KIND {
        tracing::info!(%customer, traceparent, "{customer} sends {kind} {message_id:?}");
    } else {
        tracing::debug!(%customer, traceparent, "{customer} sends {kind} {message_id:?}");
    }
    Ok(Begun { request, _held: held, _slow: slow })
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

/// Does what is asked and counts submissions; `None` if the producer is stopping.
pub(crate) async fn perform<'a>(
    producer: &'a Producer,
    asked: &'a Asked,
    begun: Begun<'a>,
    source: (&Delivery, &'a Room),
    stopping: &CancellationToken,
) -> Option<Result<Answer, Box<Problem>>> {
    let metrics = &producer.metrics;
    if begun.request.about().0 != JobSpec::KIND {
        return until_answered(producer, asked, begun, source, stopping).await;
    }
    let timer = metrics.submission_seconds.start_timer();
    let done = until_answered(producer, asked, begun, source, stopping).await;
    let result = match &done {
        None => {
            timer.stop_and_discard();
            return None;
        }
        Some(Ok(_)) => ACCEPTED,
        Some(Err(problem)) => {
            if problem.status >= 500 {
                FAILED
            } else {
                REFUSED
            }
        }
    };
    metrics.submissions.with_label_values(&[result]).inc();
    timer.observe_duration();
    done
}

/// Does what is asked, again once a blob has come that it waits for; `None` if the producer is stopping.
///
/// A submission waits without what it was decoded to, and without the room for that: many that wait stand in nobody's way.
async fn until_answered<'a>(
    producer: &'a Producer,
    asked: &'a Asked,
    mut begun: Begun<'a>,
    (delivery, room): (&Delivery, &'a Room),
    stopping: &CancellationToken,
) -> Option<Result<Answer, Box<Problem>>> {
    let mut polls = BLOB_POLLS;
    loop {
        let (digest, problem) = match attempt(producer, asked, &begun.request, stopping).await? {
            Done::Answered(answer) => return Some(Ok(answer)),
            Done::Refused(problem) => return Some(Err(problem)),
            Done::Absent(digest, problem) => (digest, problem),
        };
        drop(begun);
        let slow = match producer.standings.slow(&asked.customer) {
            Ok(slow) => slow,
            Err(many) => return Some(Err(many)),
        };
        if !comes(producer, asked, (digest, &mut polls), stopping).await? {
            return Some(Err(problem));
        }
        let held = room.hold(delivery).await;
        begun = match read(asked, delivery) {
            Ok(request) => Begun { request, _held: held, _slow: Some(slow) },
            Err(problem) => return Some(Err(problem)),
        };
    }
}

/// What came of an attempt.
enum Done {
    Answered(Answer),
    Refused(Box<Problem>),
    /// It waits for that blob; the problem is told if it does not come.
    Absent(Digest, Box<Problem>),
}

/// Attempts what is asked, again while the store is away; `None` if the producer is stopping.
async fn attempt(producer: &Producer, asked: &Asked, request: &Request, stopping: &CancellationToken) -> Option<Done> {
    let (kind, _) = request.about();
    let failed = AtomicBool::new(false);
    let attempt = || async {
        match request.perform(producer, asked).await {
            Ok(answer) => Ok(Done::Answered(answer)),
            Err(Refusal::Problem(problem)) => Ok(Done::Refused(problem)),
            Err(Refusal::Absent { digest, problem }) => Ok(Done::Absent(digest, problem)),
            Err(Refusal::Store(error)) => {
                if !failed.swap(true, Ordering::Relaxed) && kind == JobSpec::KIND {
                    producer.metrics.submissions.with_label_values(&[FAILED]).inc();
                }
                Err(with_source(&error))
            }
        }
    };
    until_done(kind, stopping, attempt).await
}

/// Whether the customer has that blob within the looks that are left; `None` if the producer is stopping.
async fn comes(
    producer: &Producer,
    asked: &Asked,
    (digest, polls): (Digest, &mut u32),
    stopping: &CancellationToken,
) -> Option<bool> {
    while *polls > 0 {
        *polls -= 1;
        tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            () = tokio::time::sleep(BLOB_POLL) => {}
        }
        let look = || producer.store.own_blob_size(&asked.customer, digest);
        if until_done("looking for a blob", stopping, look).await?.is_some() {
            return Some(true);
        }
    }
    Some(false)
}

fn with_source(error: &ports::store::StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
