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
use rules::lanes::{self, Lanes};
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::Notify;

use crate::Producer;
use crate::inputs::InputError;
use crate::lot::{Lot, Runner};

/// Jobs claimed at once; the oldest first, so that the rest follows.
const MAX_JOBS: u32 = 256;
/// Replicas expired in one step.
const MAX_EXPIRED: u32 = 1_000;
/// How often lost replicas are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Lost replicas that could not be looked for during so long say that the store or the broker was away.
const AWAY: Duration = Duration::from_secs(5);
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
    let mut dispatcher =
        Dispatcher { producer: producer.clone(), fair: BTreeMap::new(), expired_at: Micros(0), hold_until: Micros(0) };
    while !stopping.is_cancelled() {
        let dispatcher = tokio::sync::Mutex::new(&mut dispatcher);
        let round = || async { dispatcher.lock().await.round().await };
        match until_done("dispatch", &stopping, round).await {
            Some(true) => {}
            Some(false) => tokio::select! {
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
    expired_at: Micros,
    /// Until then no replica is taken for lost.
    hold_until: Micros,
}

impl Dispatcher {
    /// One round over all pools; whether anything was sent, so that another should follow at once.
    async fn round(&mut self) -> Result<bool, DispatchError> {
        let now = self.producer.clock.now();
        self.expire(now).await?;
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

    /// Takes replicas past their deadline for lost, unless outcomes had no way to be settled meanwhile: what kept the
    /// producer from looking kept them too, and they are given as long again, at most a deadline.
    async fn expire(&mut self, now: Micros) -> Result<(), DispatchError> {
        let since = now.since(self.expired_at);
        if since < EXPIRE_EVERY {
            return Ok(());
        }
        if since >= AWAY && self.expired_at > Micros(0) {
            self.hold_until = now.plus(since.min(Duration::from_millis(self.producer.settings.replica_deadline_ms)));
        }
        if now < self.hold_until {
            self.expired_at = now;
            return Ok(());
        }
        let lost = self.producer.store.expire_replicas(now, MAX_EXPIRED, false).await?;
        if lost > 0 {
            tracing::warn!("{lost} replicas were not answered in time and are due again");
            self.producer.metrics.replicas_lost.inc_by(lost.into());
        }
        self.expired_at = now;
        Ok(())
    }

    /// Fills one pool's lanes: records a lot, sends it, marks what was confirmed.
    async fn pool(&mut self, pool: &PoolName, mut runners: Vec<Runner>, now: Micros) -> Result<bool, DispatchError> {
        let mut lanes = self.lanes(pool, &runners).await?;
        if lanes.room() == 0 {
            return Ok(false);
        }
        let room = lanes.room();
        for runner in runners.iter_mut().filter(|runner| runner.job.due > 0) {
            runner.due = self.producer.store.due_replicas(runner.job.id, now, room).await?.into();
        }
        let mut lot = Lot::new(pool.clone(), self.producer.settings.max_unit_ms);
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
        self.send(pool, lot).await
    }

    async fn lanes(&self, pool: &PoolName, runners: &[Runner]) -> Result<Lanes, DispatchError> {
        let Some(settings) = self.producer.settings.pools.get(pool) else { return Ok(Lanes::default()) };
        let (units, us) = runners.iter().fold((0_u64, 0_u64), |(units, us), runner| {
            (units.saturating_add(runner.job.progress.units), us.saturating_add(runner.job.progress.compute_us))
        });
        let mean_unit_ms = us.checked_div(units).map(|us| us / 1_000);
        let mut rooms = Vec::with_capacity(usize::from(settings.lanes));
        let (mut ready, mut consumers) = (0_u32, 0_u32);
        for lane in 0..settings.lanes {
            let queue = address::work_queue(pool, lane);
            let Some(depth) = self.producer.broker.depth(&queue).await? else { continue };
            ready = ready.saturating_add(depth.ready);
            consumers = consumers.saturating_add(depth.consumers);
            if depth.consumers > 0 {
                rooms.push((lane, lanes::window(depth.consumers, mean_unit_ms).saturating_sub(depth.ready)));
            }
        }
        self.producer.metrics.lane_depth.with_label_values(&[pool.as_str()]).set(ready.into());
        self.producer.metrics.lane_consumers.with_label_values(&[pool.as_str()]).set(consumers.into());
        Ok(Lanes::new(rooms))
    }

    async fn send(&self, pool: &PoolName, lot: Lot) -> Result<bool, DispatchError> {
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
        let deadline = self.producer.clock.now().plus(Duration::from_millis(self.producer.settings.replica_deadline_ms));
        self.producer.store.mark_sent(&sent, deadline).await?;
        let count = u64::try_from(sent.len()).unwrap_or(0);
        self.producer.metrics.replicas_sent.with_label_values(&[pool.as_str()]).inc_by(count);
        Ok(count > 0)
    }
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
