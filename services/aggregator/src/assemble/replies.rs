//! Replies: how far a job is, and how it ended.

use std::time::Duration;

use ports::store::{Assembly, AssemblyView, JobFacts, OutboxMessage, StageStep};
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::reply::{Completed, Progress};
use protocol::{CodecError, Format, Message, Micros};
use rules::delivery::may_tell_progress;
use rules::eta;
use rules::pricing::RateCard;

use super::delivery::is_withheld;

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What progress said last: items that succeeded and that failed, and valid units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Told(u64, u64, u64);

/// Says that the job ended.
pub(super) fn completed(
    view: &AssemblyView,
    assembly: &mut Assembly,
    state: JobState,
    certificate: &Certificate,
    rates: Option<&RateCard>,
) -> Result<(), CodecError> {
    let usage = view.sums.usage;
    let cost = rates.and_then(|card| card.cost(&view.job.spec.pool, usage.fuel.get().into(), usage.bytes.into()));
    let completed = Completed {
        job: view.job.id,
        state,
        certificate: certificate.clone(),
        usage,
        parts: assembly.parts_sent,
        withheld: is_withheld(view, assembly),
        cost,
    };
    assembly.replies.push(reply(&view.job, "completed", &completed)?);
    Ok(())
}

/// Says how far the job is, if that is news, the last time is a while ago, and the customer reads; what it then said.
pub(super) fn progress(
    view: &AssemblyView,
    assembly: &mut Assembly,
    told: Told,
    now: Micros,
) -> Result<Option<Told>, CodecError> {
    match assembly.step {
        StageStep::Stay | StageStep::Next { .. } | StageStep::Cancel { .. } => {}
        StageStep::End { .. } => return Ok(None),
    }
    let sums = &view.sums;
    let news = Told(sums.items_succeeded, sums.items_failed, sums.usage.units);
    let due = view.progress_at.is_none_or(|last| now.since(last) >= PROGRESS_EVERY);
    if !due || news == told || !may_tell_progress(view.unsent.messages) {
        return Ok(None);
    }
    let items =
        ItemCounts { submitted: view.items.submitted, succeeded: sums.items_succeeded, failed: sums.items_failed, cancelled: 0 };
    let eta_s = eta::seconds(view.stage, &items, now.since(view.job.admitted_at));
    let progress = Progress { job: view.job.id, items, units: sums.usage.units, eta_s };
    assembly.replies.push(reply(&view.job, &format!("progress.{}", now.0), &progress)?);
    assembly.progress_at = Some(now);
    Ok(Some(news))
}

/// A message to the job's customer, in the format and the trace of its submission.
pub(super) fn reply<M: Message>(job: &JobFacts, what: &str, message: &M) -> Result<OutboxMessage, CodecError> {
    let format = Format::from_content_type(Some(&job.content_type))?;
    Ok(OutboxMessage {
        id: format!("{}.{what}", job.id),
        customer: job.customer.clone(),
        kind: M::KIND.to_owned(),
        content_type: job.content_type.clone(),
        correlation_id: job.correlation_id.clone(),
        traceparent: job.traceparent.clone(),
        body: message.to_bytes(format)?,
    })
}
