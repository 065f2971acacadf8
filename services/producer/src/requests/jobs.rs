//! Jobs: cancelled, paused, resumed, looked at and listed by their customer.

use std::time::Duration;

use ports::store::JobReport;
use protocol::JobId;
use protocol::job::{CancelJob, Delivery, JobState};
use protocol::problem::Code;
use protocol::query::{GetJobStatus, JobLine, JobStatus, JobsListed, ListJobs, PauseJob, ResultsState, ResumeJob};
use rules::eta;

use super::{cut, no_such_job, own_job, page};
use crate::Producer;
use crate::asked::{Answer, Asked, Refusal};

/// A page of jobs.
const MAX_JOBS: u32 = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Marks a job to be cancelled; its answer is the job's end, which may have come already.
pub(super) async fn cancel(producer: &Producer, asked: &Asked, request: &CancelJob) -> Result<Answer, Refusal> {
    if producer.store.request_cancel(&asked.customer, request.job).await? {
        return Ok(Answer::new());
    }
    let own = producer.store.job(request.job).await?.filter(|report| report.customer == asked.customer);
    if own.is_some_and(|report| report.state == JobState::Cancelled) {
        return Ok(Answer::new());
    }
    Err(Refusal::of(Code::NoSuchJob, format!("customer {} has no running job {}", asked.customer, request.job)))
}

/// Lets a job rest.
pub(super) async fn pause(producer: &Producer, asked: &Asked, request: &PauseJob) -> Result<Answer, Refusal> {
    wish(producer, asked, request.job, true).await
}

/// Lets a job go on.
pub(super) async fn resume(producer: &Producer, asked: &Asked, request: &ResumeJob) -> Result<Answer, Refusal> {
    wish(producer, asked, request.job, false).await
}

async fn wish(producer: &Producer, asked: &Asked, job: JobId, paused: bool) -> Result<Answer, Refusal> {
    match producer.store.pause_job(&asked.customer, job, paused, Some(&asked.message_id)).await? {
        Some(JobState::Running) => report(producer, asked, job).await,
        Some(JobState::Completed | JobState::Cancelled | JobState::Expired | JobState::Exhausted) => {
            Err(Refusal::of(Code::JobEnded, format!("job {job} has ended")))
        }
        None => Err(no_such_job(asked, job)),
    }
}

/// Tells how a job stands.
pub(super) async fn status(producer: &Producer, asked: &Asked, request: &GetJobStatus) -> Result<Answer, Refusal> {
    report(producer, asked, request.job).await
}

async fn report(producer: &Producer, asked: &Asked, job: JobId) -> Result<Answer, Refusal> {
    let report = own_job(producer, asked, job).await?;
    Ok(vec![asked.answer(&status_of(producer, report))?])
}

fn status_of(producer: &Producer, report: JobReport) -> JobStatus {
    let settings = &producer.settings;
    let cost = settings
        .rates
        .as_ref()
        .and_then(|rates| rates.cost(&report.spec.pool, report.usage.fuel.get().into(), report.usage.bytes.into()));
    let kept = report.ended_at.filter(|_| report.results_gone_at.is_none() && settings.results_days > 0);
    JobStatus {
        job: report.id,
        eta_s: eta_s(producer, &report),
        parts: parts(&report),
        results: if report.results_gone_at.is_some() { ResultsState::Gone } else { ResultsState::Kept },
        results_until_us: kept.map(|ended| ended.plus(DAY.saturating_mul(settings.results_days))),
        message_id: report.submission,
        state: report.state,
        paused: report.paused,
        items: report.items,
        stage: report.stage.0,
        stage_items: report.stage.1,
        units_open: report.units.open,
        units_valid: report.units.valid,
        units_failed: report.units.failed,
        usage: report.usage,
        budget_fuel: report.spec.budget_fuel,
        cost,
        admitted_at_us: report.admitted_at,
        ended_at_us: report.ended_at,
        deadline_at_us: report.deadline_at,
        certificate: report.certificate,
    }
}

/// Whether a job's parts have no numbers yet: one whose outputs come whole may have another number of them from its end on.
pub(super) fn is_unnumbered(report: &JobReport) -> bool {
    report.spec.delivery == Delivery::Whole && !report.state.is_terminal()
}

/// How many parts of a job can be fetched.
pub(super) fn parts(report: &JobReport) -> u32 {
    if is_unnumbered(report) { 0 } else { report.parts }
}

/// Seconds to the end; `None` for a job that rests or has ended, and while a reduction runs.
pub(super) fn eta_s(producer: &Producer, report: &JobReport) -> Option<u64> {
    let runs = report.state == JobState::Running && !report.paused;
    runs.then(|| eta::seconds(report.stage.0, &report.items, producer.clock.now().since(report.admitted_at)))?
}

/// Lists the customer's jobs.
pub(super) async fn list(producer: &Producer, asked: &Asked, request: &ListJobs) -> Result<Answer, Refusal> {
    let limit = page(request.limit, MAX_JOBS)?;
    let wanted = limit.saturating_add(1);
    let mut reports = producer.store.own_jobs(&asked.customer, request.state, request.before, wanted).await?;
    let more = cut(&mut reports, limit);
    let line = |report: JobReport| JobLine {
        job: report.id,
        message_id: report.submission,
        correlation_id: report.correlation_id,
        state: report.state,
        paused: report.paused,
        items: report.items,
        admitted_at_us: report.admitted_at,
        ended_at_us: report.ended_at,
    };
    Ok(vec![asked.answer(&JobsListed { jobs: reports.into_iter().map(line).collect(), more })?])
}
