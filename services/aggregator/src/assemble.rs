//! Assembling: puts decided units together in item order, moves reductions on, and ends jobs.

mod delivery;
mod draft;
mod replies;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::broker::{Outgoing, Properties};
use ports::store::{AssemblyView, CustomerTotals, JobFacts, StoreError, UsageFilter};
use protocol::address::CONTROL_EXCHANGE;
use protocol::job::{DropJob, JobState};
use protocol::reply::UsageSummary;
use protocol::{CustomerName, Format, JobId, Message, Micros};
use rules::invariants::{self, Invariant};
use service::patience::until_done;
use service::scope::TaskError;
use service::{CancellationToken, Seen};
use tokio::sync::Notify;

use crate::Aggregator;
use delivery::Earlier;
use draft::{Aftermath, Drafter};
use replies::Told;

/// Units put together in one transaction.
const MAX_UNITS: u32 = 256;
/// Transactions of a job in one turn: one with many decided units must not keep all others waiting.
const MAX_STEPS: usize = 16;
/// Jobs looked for in one sweep.
const MAX_SWEPT: u32 = 1_000;
/// Jobs that settling has met are remembered to this number; one that is forgotten is said again.
const MAX_MET: usize = 4_096;
/// Jobs that cannot be read are remembered to this number; one that is forgotten is said again.
const MAX_DAMAGED: usize = 1_000;
/// Running jobs whose last progress is remembered; beyond that some is told twice.
const MAX_TOLD: usize = 10_000;
/// An announcement to workers only saves work, so it is not worth more waiting.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(2);

/// Jobs whose units were settled since they were last assembled.
pub(crate) struct Touched {
    jobs: Mutex<BTreeSet<JobId>>,
    told: Notify,
    met: Seen<JobId>,
}

impl Default for Touched {
    fn default() -> Self {
        Self { jobs: Mutex::default(), told: Notify::default(), met: Seen::new(MAX_MET) }
    }
}

impl Touched {
    /// Says once of a job that it has come this far, so that a trace is found in the logs of each service that it passed.
    pub(crate) fn meet(&self, job: &JobFacts) {
        if self.met.is_new(job.id) {
            let JobFacts { id, customer, traceparent, .. } = job;
            tracing::info!(job = %id, customer = %customer, traceparent, "first outcomes of job {id} of {customer}");
        }
    }

    /// More of them.
    pub(crate) fn add(&self, jobs: impl IntoIterator<Item = JobId>) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).extend(jobs);
        self.told.notify_one();
    }

    fn take(&self) -> BTreeSet<JobId> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs until stopped; what is left of a job by then is found by the next sweep, of another aggregator too.
pub(crate) async fn run(
    aggregator: Aggregator,
    touched: Arc<Touched>,
    replies: Arc<Notify>,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    let mut sweep = tokio::time::interval(Duration::from_millis(aggregator.settings.sweep_ms.max(1)));
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let assembler = Assembler { aggregator, told: Mutex::default(), damaged: Seen::new(MAX_DAMAGED) };
    let aggregator = &assembler.aggregator;
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
            if stopping.is_cancelled() {
                return Ok(());
            }
            let turn = || assembler.turn(job, &stopping);
            match until_done("assembling a job", &stopping, turn).await {
                Some(Turn::Over) => {}
                Some(Turn::Again) => touched.add([job]),
                None => return Ok(()),
            }
            replies.notify_one();
        }
    }
}

/// A job's end.
struct Ended {
    state: JobState,
    usage: UsageSummary,
    traceparent: Option<String>,
    /// From its admission.
    took: Duration,
    /// Whether it was done by its deadline; a customer whose own word or budget ended it has no answer to that.
    in_time: Option<bool>,
}

impl Ended {
    fn new(view: &AssemblyView, state: JobState, now: Micros) -> Self {
        let JobFacts { admitted_at, deadline_at, traceparent, .. } = &view.job;
        let deadline = deadline_at.filter(|_| !matches!(state, JobState::Cancelled | JobState::Exhausted));
        let in_time = deadline.map(|deadline| state == JobState::Completed && now <= deadline);
        let traceparent = traceparent.clone();
        Self { state, usage: view.sums.usage, traceparent, took: now.since(*admitted_at), in_time }
    }
}

/// What a job's turn leaves.
enum Turn {
    /// Nothing can be done for now.
    Over,
    /// There may be more to do.
    Again,
}

/// Assembles jobs, and remembers of each what its customer was told last.
struct Assembler {
    aggregator: Aggregator,
    told: Mutex<BTreeMap<JobId, Told>>,
    /// Jobs of which it was said that they cannot be read.
    damaged: Seen<JobId>,
}

impl Assembler {
    /// A job's turn. Waiting does not mend what is damaged, so such a job is left to the next sweep: others have their turns.
    async fn turn(&self, job: JobId, stopping: &CancellationToken) -> Result<Turn, StoreError> {
        match self.job_forward(job, stopping).await {
            Ok(turn) => Ok(turn),
            Err(error @ StoreError::Corrupt { .. }) => {
                if self.damaged.is_new(job) {
                    let what = format!("job {job} cannot be assembled: {error}");
                    self.aggregator.metrics.broken(Invariant::Assembly, &what);
                }
                Ok(Turn::Over)
            }
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Full { .. } | StoreError::Unfit { .. })) => Err(error),
        }
    }

    /// Brings a job as far forward as its decided units allow, in so many steps, and unless the aggregator stops.
    async fn job_forward(&self, job: JobId, stopping: &CancellationToken) -> Result<Turn, StoreError> {
        let metrics = &self.aggregator.metrics;
        let mut earlier = Earlier::default();
        for _step in 0..MAX_STEPS {
            if stopping.is_cancelled() {
                break;
            }
            let (more, aftermath) = self.step(job, &earlier).await?;
            if let Some(error) = aftermath.error {
                metrics.broken(Invariant::Assembly, &format!("job {job} cannot be assembled: {error}"));
                return Ok(Turn::Over);
            }
            if let Some((invariant, what)) = aftermath.broken {
                metrics.broken(invariant, &format!("job {job}: {what}"));
            }
            if let Some(before) = aftermath.wants_earlier {
                earlier = Earlier::read(self.aggregator.store.as_ref(), job, before).await?;
                continue;
            }
            self.remember(job, aftermath.progress, aftermath.ended.is_some());
            if let Some(customer) = aftermath.customer {
                match aftermath.ended {
                    Some(end) => {
                        ended(&self.aggregator, job, &end, &customer);
                        audit(&self.aggregator, job, &end.usage).await?;
                    }
                    None if aftermath.cut_short => announce_drop(&self.aggregator, job, customer).await,
                    None => {}
                }
            }
            if more != Some(true) {
                return Ok(Turn::Over);
            }
        }
        Ok(Turn::Again)
    }

    /// One transaction; whether more may follow, and what it tells beyond what it writes.
    async fn step(&self, job: JobId, earlier: &Earlier) -> Result<(Option<bool>, Aftermath), StoreError> {
        let aftermath = Arc::new(Mutex::new(Aftermath::default()));
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&job).copied().unwrap_or_default();
        let drafter = Drafter {
            now: self.aggregator.clock.now(),
            rates: self.aggregator.settings.rates.clone(),
            told,
            earlier: earlier.clone(),
        };
        let telling = Arc::clone(&aftermath);
        let decide = move |view: &AssemblyView| {
            let mut telling = telling.lock().unwrap_or_else(PoisonError::into_inner);
            drafter.decide(view, &mut telling)
        };
        let more = self.aggregator.store.assemble(job, MAX_UNITS, Box::new(decide)).await?;
        let aftermath = std::mem::take(&mut *aftermath.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((more, aftermath))
    }

    fn remember(&self, job: JobId, progress: Option<Told>, ended: bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if ended {
            told.remove(&job);
        } else if let Some(progress) = progress {
            if told.len() >= MAX_TOLD {
                told.clear();
            }
            told.insert(job, progress);
        }
    }
}

fn ended(aggregator: &Aggregator, job: JobId, end: &Ended, customer: &CustomerName) {
    let how = end.state.word();
    tracing::info!(job = %job, customer = %customer, traceparent = end.traceparent, "job {job} of {customer} is {how}");
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

#[cfg(test)]
mod tests;
