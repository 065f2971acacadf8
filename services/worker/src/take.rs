//! Taking units: one task each, as many computing as there are slots; a unit is acknowledged when its outcome is stored.

use std::sync::Arc;
use std::time::Duration;

use ports::Consumer;
use ports::broker::{Confirm, Delivery, Outgoing, Properties, Tag, Verdict};
use ports::dead::{self, Death};
use protocol::address::{self, OUTCOMES_EXCHANGE, Origin, WORK_EXCHANGE};
use protocol::outcome::{Outcome, OutcomeResult, bounded_reason};
use protocol::unit::Work;
use protocol::{Format, JobId, Message};
use service::patience::until_done;
use service::scope::TaskError;
use service::{CancellationToken, Seen};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Worker;
use crate::compute::{self, ItemsError};
use crate::fetch::Fetcher;
use crate::inbox::Inbox;
use crate::occupancy::Occupancy;
use crate::programs::{ProgramError, Programs};
use crate::under_way::{Answered, UnderWay};

/// The broker is given so long to take an outcome before it is offered again.
const REPORT_PATIENCE: Duration = Duration::from_secs(30);
/// After the drain's time, what was interrupted is given so long to be reported.
const HAND_BACK: Duration = Duration::from_secs(5);
/// Jobs that were met are remembered to this number; one that is forgotten is said again.
const MAX_MET: usize = 4_096;

/// What every task of a worker shares.
struct Bench {
    worker: Worker,
    fetcher: Arc<Fetcher>,
    inbox: Arc<Inbox>,
    programs: Programs,
    slots: Semaphore,
    occupancy: Arc<Occupancy>,
    met: Seen<JobId>,
    under_way: UnderWay,
    /// Begin nothing new.
    stopping: CancellationToken,
    /// Hand back what computes.
    interrupt: CancellationToken,
}

/// Runs until stopped; then lets what computes finish for a while, and hands back the rest as interrupted.
pub(crate) async fn run(
    worker: Worker,
    fetcher: Arc<Fetcher>,
    inbox: Arc<Inbox>,
    stopping: CancellationToken,
) -> Result<(), TaskError> {
    let slots = worker.execute.slots();
    worker.metrics.slots.add(i64::try_from(slots).unwrap_or(0));
    let drain = Duration::from_millis(worker.settings.drain_timeout_ms);
    let bench = Arc::new(Bench {
        slots: Semaphore::new(slots),
        occupancy: Occupancy::new(worker.metrics.clone(), worker.pool.clone()),
        programs: Programs::default(),
        met: Seen::new(MAX_MET),
        under_way: UnderWay::default(),
        interrupt: CancellationToken::new(),
        stopping: stopping.clone(),
        worker,
        fetcher,
        inbox,
    });
    let Worker { broker, pool, host, lane, .. } = &bench.worker;
    let choose = || lane.first(broker.as_ref(), pool, host);
    let Some(mut own) = until_done("choosing a lane", &stopping, choose).await else { return Ok(()) };
    while !stopping.is_cancelled() {
        // One more than computes: its blobs are fetched while others compute.
        let prefetch = u16::try_from(slots.saturating_add(1)).unwrap_or(u16::MAX);
        let queue = address::work_queue(pool, own);
        let subscribe = || broker.consume(&queue, prefetch);
        let Some(consumer) = until_done("subscribing to a lane", &stopping, subscribe).await else { return Ok(()) };
        tracing::info!("host {host} serves lane {own} of pool {pool}");
        bench.worker.ready.ready();
        let mut tasks = JoinSet::new();
        let moves_to = bench.serve(consumer.as_ref(), &mut tasks, own).await?;
        consumer.cancel().await?;
        let Some(next) = moves_to else { return bench.hand_back(consumer.as_ref(), &mut tasks, drain).await };
        own = next;
        tokio::select! {
            biased;
            () = stopping.cancelled() => return bench.hand_back(consumer.as_ref(), &mut tasks, drain).await,
            finished = finish(consumer.as_ref(), &mut tasks) => finished?,
        }
    }
    Ok(())
}

/// Units under way; each ends in what is to become of its message.
type Tasks = JoinSet<(Tag, Verdict)>;

/// Waits for all of them.
async fn finish(consumer: &dyn Consumer, tasks: &mut Tasks) -> Result<(), TaskError> {
    while let Some(done) = tasks.join_next().await {
        consumer.settle(&[done?]).await?;
    }
    Ok(())
}

impl Bench {
    /// Takes units of a lane until stopped, or until another lane needs this worker more: which.
    async fn serve(self: &Arc<Self>, consumer: &dyn Consumer, tasks: &mut Tasks, own: u16) -> Result<Option<u16>, TaskError> {
        let Worker { broker, pool, host, lane, .. } = &self.worker;
        let mut better = std::pin::pin!(lane.better(broker.as_ref(), pool, host, own));
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Ok(None),
                Some(done) = tasks.join_next() => { consumer.settle(&[done?]).await?; }
                next = &mut better => return Ok(Some(next)),
                batch = consumer.next(self.worker.execute.slots().saturating_add(1)) => {
                    for delivery in batch? {
                        let bench = Arc::clone(self);
                        tasks.spawn(async move { (delivery.tag, bench.handle(delivery).await) });
                    }
                }
            }
        }
    }

    /// Lets what computes finish for a while, and hands back the rest as interrupted.
    async fn hand_back(&self, consumer: &dyn Consumer, tasks: &mut Tasks, drain: Duration) -> Result<(), TaskError> {
        if let Ok(finished) = tokio::time::timeout(drain, finish(consumer, tasks)).await {
            return finished;
        }
        self.interrupt.cancel();
        match tokio::time::timeout(HAND_BACK, finish(consumer, tasks)).await {
            Ok(handed_back) => handed_back,
            // What is not acknowledged goes to another worker.
            Err(_late) => Ok(()),
        }
    }

    async fn handle(&self, delivery: Delivery) -> Verdict {
        if delivery.redelivered {
            self.worker.metrics.redeliveries.inc();
        }
        let work = match read(&delivery) {
            Ok(work) => work,
            Err(error) => return self.park(delivery, &format!("unit cannot be decoded: {error}")).await,
        };
        let key = (work.replica, work.slice);
        let answered = self.under_way.enter(key);
        let verdict = self.answer(delivery, &work, &answered).await;
        self.under_way.leave(key, answered);
        verdict
    }

    /// Answers a unit, or waits for an earlier delivery of it that is being answered here.
    async fn answer(&self, delivery: Delivery, work: &Work, answered: &Answered) -> Verdict {
        let mut answered = tokio::select! {
            biased;
            () = self.dropped(work) => return Verdict::Ack,
            answered = answered.lock() => answered,
        };
        if *answered {
            return Verdict::Ack;
        }
        if delivery.delivery_count >= self.worker.settings.max_deliveries {
            let cause = format!("unit was delivered {} times and never answered", delivery.delivery_count);
            return self.park(delivery, &cause).await;
        }
        self.meet(work);
        let verdict = tokio::select! {
            biased;
            () = self.dropped(work) => Verdict::Ack,
            verdict = self.compute(work) => verdict,
        };
        *answered = verdict == Verdict::Ack;
        verdict
    }

    /// Says once of a job that it has come this far, so that a trace is found in the logs of each service that it passed.
    fn meet(&self, work: &Work) {
        let (job, customer) = (work.replica.job, &work.customer);
        if self.met.is_new(job) {
            let unit = work.replica.unit_key();
            tracing::info!(job = %job, unit = %unit, customer = %customer, traceparent = work.traceparent, "first unit of job {job} of {customer} here");
        }
    }

    /// Returns when the unit's job is dropped.
    async fn dropped(&self, work: &Work) {
        loop {
            let told = self.inbox.drops.notified();
            if self.inbox.is_dropped(work.replica.job) {
                return;
            }
            told.await;
        }
    }

    async fn compute(&self, work: &Work) -> Verdict {
        let (loaded, items) = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Verdict::Requeue,
            prepared = self.prepare(work) => match prepared {
                Ok(prepared) => prepared,
                Err(result) => return self.report(work, result, Duration::ZERO).await,
            },
        };
        let _slot = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return Verdict::Requeue,
            slot = self.slots.acquire() => slot,
        };
        let busy = self.occupancy.begin();
        let begun = tokio::time::Instant::now();
        let (result, compute) = tokio::select! {
            biased;
            ran = compute::run(self.worker.execute.as_ref(), work, loaded, items, &self.stopping) => ran,
            () = self.interrupt.cancelled() => {
                (OutcomeResult::Interrupted { reason: "worker is shutting down".to_owned() }, Duration::ZERO)
            }
        };
        drop(busy);
        // What came to nothing took its time all the same.
        let compute = if matches!(result, OutcomeResult::Computed(_)) { compute } else { begun.elapsed() };
        self.report(work, result, compute).await
    }

    /// Fetches what the unit needs, for as long as it takes a producer to come back; or what is to be reported without it.
    async fn prepare(&self, work: &Work) -> Result<(crate::programs::Loaded, Vec<u8>), OutcomeResult> {
        let refused = |reason: String| OutcomeResult::Refused { reason: bounded_reason(reason) };
        let attempt = || async {
            let loaded = match self.programs.get(&self.fetcher, work).await {
                Ok(loaded) => loaded,
                Err(ProgramError::Fetch(error)) if error.is_passing() => return Err(error),
                Err(error) => return Ok(Err(refused(error.to_string()))),
            };
            match compute::items(&self.fetcher, work).await {
                Ok(items) => Ok(Ok((loaded, items))),
                Err(ItemsError::Fetch(error)) if error.is_passing() => Err(error),
                Err(error) => Ok(Err(error.result())),
            }
        };
        match until_done("fetching what a unit needs", &self.stopping, attempt).await {
            Some(prepared) => prepared,
            None => Err(refused("worker is shutting down".to_owned())),
        }
    }

    /// Sends the outcome until the broker has stored it; only then is the unit acknowledged.
    async fn report(&self, work: &Work, result: OutcomeResult, compute: Duration) -> Verdict {
        let metrics = &self.worker.metrics;
        metrics.outcomes.with_label_values(&[compute::kind(&result)]).inc();
        if let OutcomeResult::Computed(computed) = &result {
            metrics.fuel.inc_by(computed.fuel.get());
            metrics.unit_seconds.observe(compute.as_secs_f64());
        }
        let compute_us = u64::try_from(compute.as_micros()).unwrap_or(u64::MAX);
        let outcome = Outcome { replica: work.replica, slice: work.slice, host: self.worker.host.clone(), result, compute_us };
        let body = match outcome.to_bytes(Format::MessagePack) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!("the outcome of {} cannot be written: {error}", work.replica);
                return Verdict::Reject;
            }
        };
        let properties = Properties {
            message_id: format!("{}.{}", work.replica, self.worker.host),
            kind: Outcome::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            traceparent: work.traceparent.clone(),
            ..Properties::default()
        };
        let shard = address::shard_of(work.replica.job, self.worker.shards);
        let message = Outgoing { exchange: OUTCOMES_EXCHANGE.to_owned(), routing_key: shard.to_string(), properties, body };
        // Offered until the broker has it, or the worker must end.
        let offer = || async {
            match self.worker.broker.publish(vec![message.clone()], REPORT_PATIENCE).await {
                Ok(confirms) if confirms == [Confirm::Stored] => Ok(()),
                Ok(confirms) => Err(format!("the broker answers {confirms:?}")),
                Err(error) => Err(error.to_string()),
            }
        };
        let reported = until_done("reporting an outcome", &self.interrupt, offer).await;
        if reported.is_some() { Verdict::Ack } else { Verdict::Requeue }
    }

    async fn park(&self, delivery: Delivery, cause: &str) -> Verdict {
        tracing::warn!(message = delivery.properties.message_id, "a unit is given up as a dead letter: {cause}");
        // A lane's routing key is the end of its queue's name.
        let queue = format!("{WORK_EXCHANGE}.{}", delivery.routing_key);
        let death = Death { origin: Origin::Work, queue: &queue, cause, at: self.worker.clock.now() };
        // A worker's user has no right to dead letters where each has its rights only.
        let verdict = dead::park_or_reject(self.worker.broker.as_ref(), delivery, death).await;
        if verdict != Verdict::Requeue {
            self.worker.metrics.dead_letters.with_label_values(&[Origin::Work.key()]).inc();
        }
        verdict
    }
}

fn read(delivery: &Delivery) -> Result<Work, protocol::CodecError> {
    let format = Format::from_content_type(delivery.properties.content_type.as_deref())?;
    Work::from_typed(&delivery.properties.kind, &delivery.body, format)
}

#[cfg(test)]
mod tests {
    use ports::broker::Tag;
    use protocol::unit::{Call, Items, Slice};
    use protocol::{CustomerName, Digest, UnitKey};

    use super::*;

    #[test]
    fn what_comes_under_another_type_is_no_unit() {
        let unit = UnitKey { job: "01890000-0000-7000-8000-000000000001".parse().expect("an id"), unit: 1 };
        let work = Work {
            replica: unit.replica(0),
            customer: CustomerName::new("acme").expect("a name"),
            brief: Digest::of(b"brief"),
            call: Call::Map,
            slice: Slice { stage: 0, first: 0, end: 1 },
            items: Items::Range { start: 0, end: 1 },
            time_limit_ms: 1_000,
            traceparent: None,
        };
        let body = work.to_bytes(Format::MessagePack).expect("bytes");
        let under = |kind: &str| {
            let properties = Properties { kind: kind.to_owned(), ..Properties::default() };
            let tag = Tag { generation: 1, tag: 1 };
            let (routing_key, body) = ("open.0".to_owned(), body.clone());
            read(&Delivery { tag, routing_key, redelivered: false, delivery_count: 0, properties, body })
        };
        assert_eq!(under(Work::KIND).expect("a unit"), work);
        assert_eq!(under("").expect("a unit"), work);
        let error = under("offpeak.unit.compute.v2").expect_err("no unit").to_string();
        assert!(error.contains("it came under type \"offpeak.unit.compute.v2\""), "{error}");
    }
}
