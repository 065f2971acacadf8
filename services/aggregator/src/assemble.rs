//! Assembling: puts decided units together in item order, moves reductions on, and ends jobs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::broker::{Outgoing, Properties};
use ports::store::{
    Assembly, AssemblyView, CustomerTotals, JobFacts, OutboxMessage, StageStep, StoreError, UnitState, UsageFilter,
};
use protocol::address::CONTROL_EXCHANGE;
use protocol::job::{Delivery, DropJob, ItemCounts, JobState};
use protocol::reply::{Completed, Part, Progress as ProgressReply, UsageSummary};
use protocol::{CodecError, CustomerName, Format, JobId, Message, Micros};
use rules::assemble::{self, Progress};
use rules::invariants::{self, Invariant};
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::Notify;

use crate::Aggregator;

/// Units put together in one transaction.
const MAX_UNITS: u32 = 256;
/// Jobs looked for in one sweep.
const MAX_SWEPT: u32 = 1_000;
/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// An announcement to workers only saves work, so it is not worth more waiting.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(2);

/// Jobs whose units were settled since they were last assembled.
#[derive(Default)]
pub(crate) struct Touched {
    jobs: Mutex<BTreeSet<JobId>>,
    told: Notify,
}

impl Touched {
    /// More of them.
    pub(crate) fn add(&self, jobs: impl IntoIterator<Item = JobId>) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).extend(jobs);
        self.told.notify_one();
    }

    fn take(&self) -> BTreeSet<JobId> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs until stopped.
pub(crate) async fn run(
    aggregator: Aggregator,
    touched: Arc<Touched>,
    replies: Arc<Notify>,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    let mut sweep = tokio::time::interval(Duration::from_millis(aggregator.settings.sweep_ms.max(1)));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            _ = sweep.tick() => {
                let find = || aggregator.store.jobs_to_assemble(aggregator.clock.now(), MAX_SWEPT);
                let Some(found) = until_done("looking for jobs to assemble", &stopping, find).await else { return Ok(()) };
                touched.add(found);
            }
            () = touched.told.notified() => {}
        }
        for job in touched.take() {
            let step = || job_forward(&aggregator, job);
            if until_done("assembling a job", &stopping, step).await.is_none() {
                return Ok(());
            }
            replies.notify_one();
        }
    }
}

/// A job's end.
struct Ended {
    state: JobState,
    usage: UsageSummary,
    /// From its admission.
    took: Duration,
    /// Whether it was done by its deadline; a customer who cancels wants no answer.
    in_time: Option<bool>,
}

impl Ended {
    fn new(view: &AssemblyView, state: JobState, now: Micros) -> Self {
        let JobFacts { admitted_at, deadline_at, .. } = view.job;
        let deadline = deadline_at.filter(|_| state != JobState::Cancelled);
        let in_time = deadline.map(|deadline| state == JobState::Completed && now <= deadline);
        Self { state, usage: view.sums.usage, took: now.since(admitted_at), in_time }
    }
}

/// What the transaction tells beyond what it writes.
#[derive(Default)]
struct Aftermath {
    ended: Option<Ended>,
    broken: Option<String>,
    cut_short: bool,
    customer: Option<CustomerName>,
    error: Option<String>,
}

/// Brings a job as far forward as its decided units allow.
async fn job_forward(aggregator: &Aggregator, job: JobId) -> Result<(), StoreError> {
    loop {
        let aftermath = Arc::new(Mutex::new(Aftermath::default()));
        let told = Arc::clone(&aftermath);
        let now = aggregator.clock.now();
        let decide = move |view: &AssemblyView| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            decide(view, now, &mut told)
        };
        let more = aggregator.store.assemble(job, MAX_UNITS, Box::new(decide)).await?;
        let aftermath = std::mem::take(&mut *aftermath.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(error) = aftermath.error {
            aggregator.metrics.broken(Invariant::Assembly, &format!("job {job} cannot be assembled: {error}"));
            return Ok(());
        }
        if let Some(what) = aftermath.broken {
            aggregator.metrics.broken(Invariant::Items, &format!("job {job}: {what}"));
        }
        if let Some(customer) = aftermath.customer {
            match aftermath.ended {
                Some(end) => {
                    ended(aggregator, job, &end, &customer);
                    audit(aggregator, job, &end.usage).await?;
                }
                None if aftermath.cut_short => announce_drop(aggregator, job, customer).await,
                None => {}
            }
        }
        if more != Some(true) {
            return Ok(());
        }
    }
}

fn ended(aggregator: &Aggregator, job: JobId, end: &Ended, customer: &CustomerName) {
    let how = match end.state {
        JobState::Running => "running",
        JobState::Completed => "completed",
        JobState::Cancelled => "cancelled",
        JobState::Expired => "expired",
    };
    tracing::info!(job = %job, customer = %customer, "job {job} of {customer} is {how}");
    let metrics = &aggregator.metrics;
    metrics.jobs_ended.with_label_values(&[how]).inc();
    metrics.job_seconds.observe(end.took.as_secs_f64());
    if let Some(in_time) = end.in_time {
        metrics.jobs_deadline.with_label_values(&[if in_time { "met" } else { "missed" }]).inc();
    }
}

/// Compares what the customer was told with the ledger.
async fn audit(aggregator: &Aggregator, job: JobId, told: &UsageSummary) -> Result<(), StoreError> {
    let rows = aggregator.store.usage_totals(&UsageFilter { job: Some(job), ..UsageFilter::default() }).await?;
    let sum = |(units, fuel, bytes), row: &CustomerTotals| (units + row.units, fuel + row.fuel, bytes + row.bytes);
    let rows = rows.iter().fold((0, 0, 0), sum);
    if !invariants::ledger_holds(told, rows) {
        let what = format!("job {job} has {rows:?} units, fuel and bytes in the ledger, its customer was told {told:?}");
        aggregator.metrics.broken(Invariant::Ledger, &what);
    }
    Ok(())
}

/// Tells workers not to compute what is left of the job.
async fn announce_drop(aggregator: &Aggregator, job: JobId, customer: CustomerName) {
    let Ok(body) = (DropJob { job, customer }).to_bytes(Format::MessagePack) else { return };
    let properties = Properties {
        message_id: format!("{job}.drop"),
        kind: DropJob::KIND.to_owned(),
        content_type: Some(Format::MessagePack.content_type().to_owned()),
        ..Properties::default()
    };
    let message = Outgoing { exchange: CONTROL_EXCHANGE.to_owned(), routing_key: String::new(), properties, body };
    if let Err(error) = aggregator.broker.publish(vec![message], ANNOUNCE_PATIENCE).await {
        tracing::debug!("workers were not told of the end of job {job}: {error}");
    }
}

fn decide(view: &AssemblyView, now: Micros, told: &mut Aftermath) -> Assembly {
    match draft(view, now) {
        Ok(assembly) => {
            told.customer = Some(view.job.customer.clone());
            match &assembly.step {
                StageStep::End { state, certificate } => {
                    told.ended = Some(Ended::new(view, *state, now));
                    let settled = (view.sums.items_succeeded, view.sums.items_failed);
                    if !invariants::items_hold(&certificate.items, settled) {
                        told.broken = Some(format!("{:?} are certified, {settled:?} were settled", certificate.items));
                    }
                }
                StageStep::Cancel { .. } => told.cut_short = true,
                StageStep::Stay | StageStep::Next { .. } => {}
            }
            assembly
        }
        Err(error) => {
            told.error = Some(error);
            unchanged(view)
        }
    }
}

fn unchanged(view: &AssemblyView) -> Assembly {
    Assembly {
        assembled: view.assembled,
        chain: view.chain,
        items_chain: view.items_chain,
        items: view.items,
        parts: view.parts,
        step: StageStep::Stay,
        replies: Vec::new(),
        progress_at: view.progress_at,
    }
}

fn draft(view: &AssemblyView, now: Micros) -> Result<Assembly, String> {
    let mut assembly = unchanged(view);
    let mut progress = Progress { items: view.assembled, chain: view.chain, ..Progress::default() };
    for (first, end, state, output) in &view.units {
        progress.take((*first, *end, *state, output)).map_err(|e| e.to_string())?;
        let has_output = matches!(state, UnitState::Valid | UnitState::Failed);
        if view.job.spec.delivery == Delivery::Parts && view.last_stage && has_output {
            parts(view, *first, output, &mut assembly)?;
        }
    }
    if view.job.ending.is_some() && view.units.is_empty() {
        progress.cancel(view.stage_items - view.assembled);
    }
    assembly.assembled = progress.items;
    assembly.chain = progress.chain;
    if view.stage == 0 {
        assembly.items.succeeded += progress.succeeded;
        assembly.items.failed += progress.failed;
        assembly.items.cancelled += progress.cancelled;
    }
    let stage_done = progress.items == view.stage_items;
    if stage_done && view.stage == 0 {
        assembly.items_chain = Some(progress.chain);
    }
    assembly.step = next_step(view, &assembly, stage_done, now);
    tell(view, &mut assembly, now).map_err(|e| e.to_string())?;
    Ok(assembly)
}

fn next_step(view: &AssemblyView, assembly: &Assembly, stage_done: bool, now: Micros) -> StageStep {
    if let Some(state) = view.job.ending {
        // What is assembled above stage 0 is of no use without the rest.
        return if stage_done || view.stage > 0 { end(view, assembly, state) } else { StageStep::Stay };
    }
    if stage_done {
        return match assemble::next_stage(view.stage_items, view.last_stage) {
            Some(stage_items) => StageStep::Next { stage_items, last_stage: assemble::is_last(stage_items) },
            None => end(view, assembly, JobState::Completed),
        };
    }
    if view.job.cancel_requested {
        StageStep::Cancel { state: JobState::Cancelled }
    } else if view.job.deadline_at.is_some_and(|deadline| deadline <= now) {
        StageStep::Cancel { state: JobState::Expired }
    } else {
        StageStep::Stay
    }
}

fn end(view: &AssemblyView, assembly: &Assembly, state: JobState) -> StageStep {
    let reduced = state == JobState::Completed || (view.last_stage && view.stage == 0);
    let output = if reduced { assembly.chain } else { assemble::no_result() };
    let items_chain = assembly.items_chain.unwrap_or(assembly.chain);
    StageStep::End { state, certificate: assemble::certificate(assembly.items, items_chain, output) }
}

fn parts(view: &AssemblyView, first: u64, output: &[u8], assembly: &mut Assembly) -> Result<(), String> {
    for (first, output) in assemble::parts(first, output).map_err(|e| e.to_string())? {
        let part = Part { job: view.job.id, part: assembly.parts, first, output };
        let reply = reply(&view.job, &format!("part.{}", assembly.parts), &part).map_err(|e| e.to_string())?;
        assembly.replies.push(reply);
        assembly.parts += 1;
    }
    Ok(())
}

/// The terminal reply, or else progress once a second.
fn tell(view: &AssemblyView, assembly: &mut Assembly, now: Micros) -> Result<(), CodecError> {
    if let StageStep::End { state, certificate } = &assembly.step {
        let (usage, parts) = (view.sums.usage, assembly.parts);
        let completed = Completed { job: view.job.id, state: *state, certificate: certificate.clone(), usage, parts };
        let reply = reply(&view.job, "completed", &completed)?;
        assembly.replies.push(reply);
        return Ok(());
    }
    let due = view.progress_at.is_none_or(|last| now.since(last) >= PROGRESS_EVERY);
    if due && !view.units.is_empty() {
        let items = ItemCounts {
            submitted: view.items.submitted,
            succeeded: view.sums.items_succeeded,
            failed: view.sums.items_failed,
            cancelled: 0,
        };
        let eta_s = eta_s(&items, now.since(view.job.admitted_at));
        let progress = ProgressReply { job: view.job.id, items, units: view.sums.usage.units, eta_s };
        let reply = reply(&view.job, &format!("progress.{}", now.0), &progress)?;
        assembly.replies.push(reply);
        assembly.progress_at = Some(now);
    }
    Ok(())
}

/// Seconds to the end at the rate so far.
fn eta_s(items: &ItemCounts, elapsed: Duration) -> Option<u64> {
    let done = items.succeeded.saturating_add(items.failed);
    let left = items.submitted.saturating_sub(done);
    let eta_ms = elapsed.as_millis().checked_mul(u128::from(left))?.checked_div(u128::from(done))?;
    u64::try_from(eta_ms / 1_000).ok()
}

fn reply<M: Message>(job: &JobFacts, what: &str, message: &M) -> Result<OutboxMessage, CodecError> {
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
