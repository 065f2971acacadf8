//! Dispatch: one loop that finds what is due or can be cut, gives it lanes, records it, and then sends it.
//!
//! First run, retry and restart are one path: what the store says is due is sent, and only what the broker has
//! confirmed is marked as sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ports::broker::{BrokerError, Confirm};
use ports::store::StoreError;
use protocol::{Micros, PoolName, ReplicaKey, address};
use rules::fair::FairShare;
use rules::invariants::{self, Invariant};
use rules::lanes::{self, Lanes};
use rules::retry;
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::Notify;

use crate::Producer;
use crate::expiry::Expiry;
use crate::inputs::InputError;
use crate::lot::{Lot, Runner};

/// Jobs claimed at once; the oldest first, so that the rest follows.
const MAX_JOBS: u32 = 256;
/// What the broker does not take for this long stays due and is sent again.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// Why a round of dispatch ended early; what it had recorded stays due.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DispatchError {
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The broker.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// A job's input.
    #[error("{0}")]
    Input(#[from] InputError),
    /// A message that cannot be written.
    #[error("{0}")]
    Codec(#[from] protocol::CodecError),
}

/// Runs until stopped, then gives the leases back.
pub(crate) async fn run(producer: Producer, wake: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let idle = Duration::from_millis(producer.settings.idle_ms);
    let mut dispatcher = Dispatcher { producer: producer.clone(), fair: BTreeMap::new(), expiry: Expiry::default() };
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
    if let Err(error) = producer.store.release_jobs(&producer.name).await {
        tracing::info!("leases were not given back and run out by themselves: {error}");
    }
    Ok(())
}

struct Dispatcher {
    producer: Producer,
    fair: BTreeMap<PoolName, FairShare>,
    expiry: Expiry,
}

impl Dispatcher {
    /// One round over all pools; whether anything was sent, so that another should follow at once.
    async fn round(&mut self) -> Result<bool, DispatchError> {
        let now = self.producer.clock.now();
        self.expiry.look(&self.producer, now).await?;
        let until = now.plus(Duration::from_millis(self.producer.settings.lease_ms));
        let claimed = self.producer.store.claim_jobs(&self.producer.name, now, until, MAX_JOBS).await?;
        let mut pools: BTreeMap<PoolName, Vec<Runner>> = BTreeMap::new();
        for job in claimed {
            pools.entry(job.spec.pool.clone()).or_default().push(Runner::new(job));
        }
        let mut sent = false;
        for (pool, runners) in pools {
            sent |= self.pool(&pool, runners, now).await?;
        }
        Ok(sent)
    }

    /// Fills one pool's lanes: records a lot, sends it, marks what was confirmed.
    async fn pool(&mut self, pool: &PoolName, mut runners: Vec<Runner>, now: Micros) -> Result<bool, DispatchError> {
        let mean_unit_ms = mean_unit_ms(&runners);
        let mut lanes = self.lanes(pool, mean_unit_ms).await?;
        if lanes.room() == 0 {
            return Ok(false);
        }
        let room = lanes.room();
        for runner in runners.iter_mut().filter(|runner| runner.job.due > 0) {
            runner.due = self.producer.store.due_replicas(runner.job.id, now, room).await?.into();
        }
        let mut lot = Lot::new(pool.clone(), now, self.producer.settings.max_unit_ms);
        let fair = self.fair.entry(pool.clone()).or_default();
        while !lot.is_full() {
            let contenders: Vec<_> = runners.iter().filter_map(|runner| runner.contender(&lanes)).collect();
            let Some(customer) = fair.next(&best_per_customer(contenders)) else { break };
            let best = runners
                .iter_mut()
                .filter(|runner| runner.job.customer == customer && runner.contender(&lanes).is_some())
                .max_by_key(|runner| (runner.job.spec.priority, std::cmp::Reverse(runner.job.admitted_at)));
            let Some(runner) = best else { break };
            lot.take(&self.producer, runner, &mut lanes).await?;
        }
        self.send(pool, lot, mean_unit_ms).await
    }

    async fn lanes(&self, pool: &PoolName, mean_unit_ms: Option<u64>) -> Result<Lanes, DispatchError> {
        let Some(settings) = self.producer.settings.pools.get(pool) else { return Ok(Lanes::default()) };
        let mut rooms = Vec::with_capacity(usize::from(settings.lanes));
        for lane in 0..settings.lanes {
            let queue = address::work_queue(pool, lane);
            let Some(depth) = self.producer.broker.depth(&queue).await? else { continue };
            if !invariants::depth_holds(depth.ready, settings.lanes) {
                let (key, ready) = (Invariant::Depth.key(), depth.ready);
                tracing::error!("invariant {key} is broken: {ready} units are ready in {queue}");
                self.producer.metrics.invariants_broken.with_label_values(&[key]).inc();
            }
            if depth.consumers > 0 {
                rooms.push((lane, lanes::window(depth.consumers, mean_unit_ms).saturating_sub(depth.ready)));
            }
        }
        Ok(Lanes::new(rooms))
    }

    async fn send(&self, pool: &PoolName, lot: Lot, mean_unit_ms: Option<u64>) -> Result<bool, DispatchError> {
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

/// How long the units of these jobs compute, as far as it was measured.
fn mean_unit_ms(runners: &[Runner]) -> Option<u64> {
    let (units, us) = runners.iter().fold((0_u64, 0_u64), |(units, us), runner| {
        (units.saturating_add(runner.job.progress.units), us.saturating_add(runner.job.progress.compute_us))
    });
    us.checked_div(units).map(|us| us / 1_000)
}

/// Of each customer only the contender with the dearest next unit is put to the round robin.
fn best_per_customer(contenders: Vec<rules::fair::Contender>) -> Vec<rules::fair::Contender> {
    let mut best: BTreeMap<_, rules::fair::Contender> = BTreeMap::new();
    for contender in contenders {
        best.entry(contender.customer.clone())
            .and_modify(|known| known.cost_us = known.cost_us.max(contender.cost_us))
            .or_insert(contender);
    }
    best.into_values().collect()
}
