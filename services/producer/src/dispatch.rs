//! Dispatch: one loop that finds what is due or can be cut, gives it lanes, records it, and then sends it.
//!
//! First run, retry and restart are one path: what the store says is due is sent, and only what the broker has
//! confirmed is marked as sent.

mod rest;

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ports::broker::Confirm;
use ports::store::{ClaimedJob, StoreError};
use protocol::query::LaneDepth;
use protocol::{CustomerName, JobId, Micros, PoolName, ReplicaKey, address};
use rules::fair::{Contender, FairShare};
use rules::invariants::{self, Invariant};
use rules::lanes::{self, Lanes, Stock};
use rules::{retry, sizing};
use service::CancellationToken;
use service::patience::{LAST_ATTEMPT, until_done};
use service::scope::TaskError;
use tokio::sync::Notify;

use crate::Producer;
use crate::expiry::Expiry;
use crate::lot::{Lot, MAX_WAITING, Runner};
use crate::pool;
use crate::trouble::{DispatchError, Troubled, is_away};
use rest::Rest;

/// Jobs claimed at once, of each customer the most urgent and then the oldest: the rest follows as these end, or can be cut no further.
const MAX_JOBS: u32 = 256;
/// What the broker does not take for this long stays due and is sent again.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// Runs until stopped, then gives the leases back.
pub(crate) async fn run(producer: Producer, wake: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let idle = Duration::from_millis(producer.settings.idle_ms);
    let mut dispatcher = Dispatcher {
        producer: producer.clone(),
        pools: BTreeMap::new(),
        expiry: Expiry::default(),
        troubled: Troubled::default(),
    };
    while !stopping.is_cancelled() {
        let dispatcher = tokio::sync::Mutex::new(&mut dispatcher);
        let round = || async { dispatcher.lock().await.round().await };
        match until_done("dispatch", &stopping, round).await {
            Some(true) => {}
            Some(false) => tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = wake.notified() => {}
                () = tokio::time::sleep(idle) => {}
            },
            None => break,
        }
    }
    match tokio::time::timeout(LAST_ATTEMPT, producer.store.release_jobs(&producer.name)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!("leases were not given back and run out by themselves: {}", service::told(&error)),
        Err(_late) => tracing::info!("leases were not given back within {LAST_ATTEMPT:?} and run out by themselves"),
    }
    Ok(())
}

/// What each customer may still send.
type Left = BTreeMap<CustomerName, u32>;

/// What is remembered of a pool from round to round: turns while there is work for it, what its lanes use, jobs of which something
/// due waits for a further host, so that one looks beyond it, and whether the pool rests.
#[derive(Default)]
struct Memory {
    fair: FairShare,
    stocks: BTreeMap<u16, Stock>,
    waiting: BTreeSet<JobId>,
    rest: Rest,
}

struct Dispatcher {
    producer: Producer,
    pools: BTreeMap<PoolName, Memory>,
    expiry: Expiry,
    troubled: Troubled,
}

impl Dispatcher {
    /// One round; whether anything was sent, so that another should follow at once.
    async fn round(&mut self) -> Result<bool, DispatchError> {
        let sent = self.over_all_pools().await;
        if sent.as_ref().is_err_and(DispatchError::is_of_all_pools) {
            self.expiry.hold(&self.producer);
        }
        sent
    }

    async fn over_all_pools(&mut self) -> Result<bool, DispatchError> {
        let now = self.producer.clock.now();
        self.expiry.look(&self.producer, now).await?;
        let until = now.plus(Duration::from_millis(self.producer.settings.lease_ms));
        let claimed = self.producer.store.claim_jobs(&self.producer.name, now, until, MAX_JOBS).await?;
        let mut pools: BTreeMap<PoolName, Vec<Runner>> = BTreeMap::new();
        let mut left = self.allowances(&claimed, now).await?;
        for job in claimed.into_iter().filter(|job| left.contains_key(&job.customer)) {
            pools.entry(job.spec.pool.clone()).or_default().push(Runner::new(job, self.producer.settings.max_unit_ms));
        }
        for (_, memory) in self.pools.iter_mut().filter(|(pool, _)| !pools.contains_key(pool)) {
            memory.fair = FairShare::default();
        }
        let (mut sent, mut failed) = (false, None);
        for (pool, runners) in pools {
            let mut memory = self.pools.remove(&pool).unwrap_or_default();
            let filled = self.fill(&pool, &mut memory, runners, (&mut left, now)).await;
            self.pools.insert(pool, memory);
            match filled {
                Ok(filled) => sent |= filled,
                Err(error) if error.is_of_all_pools() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(sent), Err)
    }

    /// What the customers of these jobs may still send. Whose budget of this month is spent is left out: nothing of theirs is
    /// sent until the month ends or the budget is raised.
    async fn allowances(&mut self, claimed: &[ClaimedJob], now: Micros) -> Result<Left, StoreError> {
        let mut allowances = Left::new();
        let customers: BTreeMap<_, _> = claimed.iter().map(|job| (&job.customer, job.customer_units_left)).collect();
        for (customer, left) in customers {
            let standing = match self.producer.standings.of(&self.producer, customer).await {
                Ok(standing) => standing,
                Err(error) if is_away(&error) => return Err(error),
                // What is stored of the customer is damaged: its jobs wait, and nobody else's.
                Err(error) => {
                    let error = DispatchError::from(error);
                    let theirs = claimed.iter().filter(|job| job.customer == *customer);
                    theirs.for_each(|job| self.troubled.note(job.id, &error));
                    continue;
                }
            };
            if standing.budget_spent_s(now).is_none() {
                allowances.insert(customer.clone(), left);
            }
        }
        Ok(allowances)
    }

    /// Fills one pool's lanes: records a lot, sends it, marks what was confirmed.
    async fn fill(
        &mut self,
        pool: &PoolName,
        memory: &mut Memory,
        mut runners: Vec<Runner>,
        (left, now): (&mut Left, Micros),
    ) -> Result<bool, DispatchError> {
        if memory.rest.is_on() {
            return Ok(false);
        }
        memory.fair.forget_idle(|customer| runners.iter().any(|runner| runner.job.customer == *customer));
        let measured = sizing::sum(runners.iter().map(|runner| runner.measured));
        let mean_unit_ms = sizing::mean_unit_ms(&measured);
        let mut lanes = self.lanes(pool, mean_unit_ms, &mut memory.stocks).await?;
        let room = lanes.room();
        if room == 0 {
            return Ok(false);
        }
        let mut waiting = BTreeSet::new();
        for runner in runners.iter_mut().filter(|runner| runner.job.due > 0) {
            let ahead = if memory.waiting.contains(&runner.job.id) { MAX_WAITING } else { 0 };
            let due = self.producer.store.due_replicas(runner.job.id, now, room.saturating_add(ahead)).await;
            match due.map_err(DispatchError::from) {
                Ok(due) => {
                    runner.due = due.into();
                    if runner.pass_over(&lanes) {
                        waiting.insert(runner.job.id);
                    }
                }
                Err(error) if error.is_of_one_job() => {
                    runner.in_trouble = true;
                    self.troubled.note(runner.job.id, &error);
                }
                Err(error) => return Err(error),
            }
        }
        memory.waiting = waiting;
        let mut lot = Lot::new(pool.clone(), now, self.producer.settings.max_unit_ms);
        while !lot.is_full() {
            for runner in &mut runners {
                runner.pass_over(&lanes);
            }
            // Where any replica may be sent, all those of a unit are: one of many would wait for ever behind units of one.
            let best = best_per_customer(&runners, |runner| {
                let left = left.get(&runner.job.customer).copied().unwrap_or(0);
                runner.contender(&lanes, &measured).filter(|_| left > 0)
            });
            let contenders: Vec<Contender> = best.values().map(|(_, contender)| contender.clone()).collect();
            let Some(customer) = memory.fair.next(&contenders) else { break };
            let Some(runner) = best.get(&customer).and_then(|(index, _)| runners.get_mut(*index)) else { break };
            let replicas = runner.replicas();
            match lot.take(&self.producer, runner, &mut lanes).await {
                Ok(()) => {}
                Err(error) if error.is_of_one_job() => {
                    runner.in_trouble = true;
                    self.troubled.note(runner.job.id, &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            if let Some(left) = left.get_mut(&customer) {
                *left = left.saturating_sub(replicas);
            }
        }
        for (lane, unused) in lanes.rooms() {
            memory.stocks.entry(lane).or_default().leave(unused);
        }
        self.send(pool, lot, mean_unit_ms, &mut memory.rest).await
    }

    async fn lanes(
        &self,
        pool: &PoolName,
        mean_unit_ms: Option<u64>,
        stocks: &mut BTreeMap<u16, Stock>,
    ) -> Result<Lanes, DispatchError> {
        let lanes = self.producer.settings.pools.get(pool).map_or(0, |settings| settings.lanes);
        let (mut rooms, mut served) = (Vec::with_capacity(usize::from(lanes)), Vec::with_capacity(usize::from(lanes)));
        for LaneDepth { lane, ready, workers } in pool::lanes(&self.producer, pool).await? {
            if !invariants::depth_holds(ready, lanes) {
                let (key, queue) = (Invariant::Depth.key(), address::work_queue(pool, lane));
                tracing::error!("invariant {key} is broken: {ready} units are ready in {queue}");
                self.producer.metrics.invariants_broken.with_label_values(&[key]).inc();
            }
            if workers > 0 {
                served.push((lane, workers));
                let window = lanes::window(workers, mean_unit_ms);
                rooms.push((lane, stocks.entry(lane).or_default().room(workers, ready, window)));
            }
        }
        Ok(Lanes::new(rooms).served_by(served))
    }

    async fn send(&self, pool: &PoolName, lot: Lot, mean_unit_ms: Option<u64>, rest: &mut Rest) -> Result<bool, DispatchError> {
        let (step, messages) = lot.finish();
        if messages.is_empty() {
            return Ok(false);
        }
        let cut = u64::try_from(step.cuts.len()).unwrap_or(0);
        if !self.producer.store.dispatch(step).await? {
            tracing::debug!("another producer cut the same job first");
            return Ok(true);
        }
        self.producer.metrics.units_cut.with_label_values(&[pool.as_str()]).inc_by(cut);
        let (keys, outgoing): (Vec<ReplicaKey>, Vec<_>) = messages.into_iter().unzip();
        let confirms = {
            let _timer = self.producer.metrics.confirm_seconds.start_timer();
            self.producer.broker.publish(outgoing, SEND_PATIENCE).await?
        };
        rest.note(pool, &confirms);
        let stored = keys.into_iter().zip(confirms).filter(|(_, confirm)| *confirm == Confirm::Stored);
        let sent: Vec<ReplicaKey> = stored.map(|(key, _)| key).collect();
        self.mark_sent(&sent, mean_unit_ms).await?;
        let count = u64::try_from(sent.len()).unwrap_or(0);
        self.producer.metrics.replicas_sent.with_label_values(&[pool.as_str()]).inc_by(count);
        Ok(count > 0)
    }

    /// Records what the broker has, with the time until which it is waited for.
    async fn mark_sent(&self, sent: &[ReplicaKey], mean_unit_ms: Option<u64>) -> Result<(), StoreError> {
        let longest = Duration::from_millis(self.producer.settings.replica_deadline_ms);
        let mut by_patience: BTreeMap<Duration, Vec<ReplicaKey>> = BTreeMap::new();
        for key in sent {
            by_patience.entry(retry::patience(mean_unit_ms, key.replica, longest)).or_default().push(*key);
        }
        let now = self.producer.clock.now();
        for (patience, keys) in by_patience {
            self.producer.store.mark_sent(&keys, now.plus(patience)).await?;
        }
        Ok(())
    }
}

/// Of each customer the job that is next, by priority and then by age: which of these it is, and what it contends with.
fn best_per_customer(
    runners: &[Runner],
    contends: impl Fn(&Runner) -> Option<Contender>,
) -> BTreeMap<CustomerName, (usize, Contender)> {
    let order = |index: usize| runners.get(index).map(|runner| (runner.job.spec.priority, Reverse(runner.job.admitted_at)));
    let mut best: BTreeMap<CustomerName, (usize, Contender)> = BTreeMap::new();
    for (index, contender) in runners.iter().enumerate().filter_map(|(index, runner)| Some((index, contends(runner)?))) {
        match best.entry(contender.customer.clone()) {
            Entry::Occupied(known) if order(known.get().0) > order(index) => {}
            Entry::Occupied(mut known) => drop(known.insert((index, contender))),
            Entry::Vacant(none) => drop(none.insert((index, contender))),
        }
    }
    best
}
