//! Gauges read from the store: what open jobs still need, and what waits for customers. Each process shows the whole grid's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ports::Clock;
use ports::clock::SystemClock;
use protocol::{Micros, PoolName};
use rules::load::{self, Left};
use rules::sizing::Measured;
use service::metrics::{Gauge, GaugeVec, IntGauge, IntGaugeVec, MetricsError};
use service::scope::TaskError;
use service::{CancellationToken, Metrics};
use store::{JobLoad, OutboxLoad, SqlStore, StoreError};

/// How often the store is asked: as fresh as a scrape wants it, and far from any load.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The oldest open jobs that are looked at.
const MAX_JOBS: u32 = 5_000;
/// Looks at the outbox that are remembered: an hour, in which the oldest message's age is known exactly.
const MAX_LOOKS: usize = 720;

/// What a job waits for.
const STATES: [&str; 3] = ["waiting", "running", "ending"];

/// What open jobs still need, by pool.
pub(super) struct LoadGauges {
    backlog_seconds: GaugeVec,
    oldest_due_unit_seconds: GaugeVec,
    open_jobs: IntGaugeVec,
    /// Pools that are shown, also when nothing is left in them.
    pools: BTreeSet<PoolName>,
}

impl LoadGauges {
    pub(super) fn new(metrics: &Metrics, pools: BTreeSet<PoolName>) -> Result<Self, MetricsError> {
        Ok(Self {
            backlog_seconds: metrics.float_gauge_with(
                "backlog_seconds",
                "Computing that open jobs still need, in seconds of one slot.",
                &["pool"],
            )?,
            oldest_due_unit_seconds: metrics.float_gauge_with(
                "oldest_due_unit_seconds",
                "How long the unit that waits longest has been due without an answer.",
                &["pool"],
            )?,
            open_jobs: metrics.gauge_with("open_jobs", "Jobs that have not ended.", &["state"])?,
            pools,
        })
    }

    /// Looks at the store until stopped.
    pub(super) async fn watch(mut self, store: Arc<SqlStore>, stopping: CancellationToken) -> Result<(), TaskError> {
        loop {
            let now = SystemClock.now();
            let read = tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                read = store.job_loads(now, MAX_JOBS) => read,
            };
            match read {
                Ok(loads) => self.show(&loads, now),
                Err(error) => stale(&error),
            }
            if waited(&stopping).await.is_none() {
                return Ok(());
            }
        }
    }

    fn show(&mut self, loads: &[JobLoad], now: Micros) {
        self.pools.extend(loads.iter().map(|load| load.pool.clone()));
        let sums = by_pool(loads, now);
        for pool in &self.pools {
            let (slot_us, oldest) = sums.get(pool).copied().unwrap_or_default();
            let label = [pool.as_str()];
            self.backlog_seconds.with_label_values(&label).set(Duration::from_micros(slot_us).as_secs_f64());
            self.oldest_due_unit_seconds.with_label_values(&label).set(oldest.as_secs_f64());
        }
        for state in STATES {
            let count = loads.iter().filter(|load| state_of(load) == state).count();
            self.open_jobs.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn state_of(load: &JobLoad) -> &'static str {
    let [waiting, running, ending] = STATES;
    if load.ending {
        ending
    } else if load.begun {
        running
    } else {
        waiting
    }
}

/// Microseconds of one slot that a pool still computes, and how long its oldest unit has been due.
fn by_pool(loads: &[JobLoad], now: Micros) -> BTreeMap<&PoolName, (u64, Duration)> {
    let mut sums: BTreeMap<&PoolName, (u64, Duration)> = BTreeMap::new();
    for load in loads.iter().filter(|load| !load.ending) {
        let (slot_us, oldest) = sums.entry(&load.pool).or_default();
        *slot_us = slot_us.saturating_add(load::slot_us(&left(load)));
        *oldest = (*oldest).max(now.since(due_since(load).unwrap_or(now)));
    }
    sums
}

/// Since when a job's oldest unit is due. A job with nothing on its way waits for the next unit to be cut of it.
fn due_since(load: &JobLoad) -> Option<Micros> {
    if load.replicas > 0 { load.oldest_due } else { Some(load.moved_at).filter(|_| load.uncut > 0) }
}

fn left(load: &JobLoad) -> Left {
    let progress = load.progress;
    Left {
        uncut: load.uncut,
        budget_left: load.budget_left,
        quorum: load.quorum,
        replicas: load.replicas,
        replica_items: load.replica_items,
        measured: Measured {
            items: progress.items,
            units: progress.units,
            fuel: progress.fuel,
            compute_us: progress.compute_us,
            output_bytes: progress.output_bytes,
        },
        target_ms: load.target_ms,
    }
}

/// What waits for customers.
pub(super) struct OutboxGauges {
    messages: IntGauge,
    oldest_seconds: Gauge,
    seen: Seen,
}

impl OutboxGauges {
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            messages: metrics.gauge("outbox_messages", "Messages to customers that are not sent, counted up to 100000.")?,
            oldest_seconds: metrics
                .float_gauge("outbox_oldest_seconds", "How long the oldest unsent message has been seen by this process.")?,
            seen: Seen::default(),
        })
    }

    /// Looks at the store until stopped.
    pub(super) async fn watch(mut self, store: Arc<SqlStore>, stopping: CancellationToken) -> Result<(), TaskError> {
        loop {
            let read = tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                read = store.outbox_load() => read,
            };
            match read {
                Ok(OutboxLoad { messages, span }) => {
                    self.messages.set(i64::try_from(messages).unwrap_or(i64::MAX));
                    self.oldest_seconds.set(self.seen.age(span, SystemClock.now()).as_secs_f64());
                }
                Err(error) => stale(&error),
            }
            if waited(&stopping).await.is_none() {
                return Ok(());
            }
        }
    }
}

/// When which message was the newest one: the store does not keep when a message was written.
#[derive(Default)]
struct Seen(BTreeMap<i64, Micros>);

impl Seen {
    /// How long the oldest message has been there, as far as was looked; `span` are the oldest and the newest number.
    fn age(&mut self, span: Option<(i64, i64)>, now: Micros) -> Duration {
        let Some((oldest, newest)) = span else {
            self.0.clear();
            return Duration::ZERO;
        };
        self.0 = self.0.split_off(&oldest);
        if self.0.len() < MAX_LOOKS {
            self.0.entry(newest).or_insert(now);
        }
        self.0.first_key_value().map_or(Duration::ZERO, |(_, seen)| now.since(*seen))
    }
}

/// The gauges stay as they were; that the database is away is told by its own gauge.
fn stale(error: &StoreError) {
    tracing::debug!("the store's gauges were not brought up to date: {}", service::told(error));
}

/// Waits until the next look; `None` once stopped.
async fn waited(stopping: &CancellationToken) -> Option<()> {
    tokio::select! {
        biased;
        () = stopping.cancelled() => None,
        () = tokio::time::sleep(LOOK_EVERY) => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use ports::store::JobProgress;
    use protocol::JobId;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn load(pool: &str) -> JobLoad {
        JobLoad {
            id: JobId(uuid::Uuid::now_v7()),
            pool: PoolName::new(pool).expect("a name"),
            quorum: 2,
            target_ms: 10_000,
            begun: false,
            ending: false,
            uncut: 100,
            budget_left: None,
            progress: JobProgress::default(),
            replicas: 0,
            replica_items: 0,
            oldest_due: None,
            moved_at: Micros(SECOND),
        }
    }

    #[test]
    fn pools_are_summed_and_jobs_that_end_need_nothing() {
        let progress = JobProgress { items: 10, units: 1, compute_us: 10_000_000, ..JobProgress::default() };
        let measured = JobLoad { begun: true, progress, replicas: 2, replica_items: 20, ..load("open") };
        let measured = JobLoad { oldest_due: Some(Micros(4 * SECOND)), ..measured };
        let loads = [load("open"), measured, load("trusted"), JobLoad { ending: true, ..load("trusted") }];
        let sums = by_pool(&loads, Micros(9 * SECOND));
        // 100 items of a second on two hosts each, and the 20 on their way; the fresh job counts as a unit on two hosts.
        let open = sums[&loads[0].pool];
        assert_eq!(open, ((100 * 2 + 20 + 20) * 1_000_000, Duration::from_secs(8)));
        assert_eq!(sums[&loads[2].pool], (20_000_000, Duration::from_secs(8)));
        assert_eq!(loads.each_ref().map(state_of), ["waiting", "running", "waiting", "ending"]);
        assert_eq!(by_pool(&loads[1..2], Micros(9 * SECOND))[&loads[1].pool].1, Duration::from_secs(5));
    }

    #[test]
    fn a_message_is_as_old_as_the_look_that_first_saw_it() {
        let mut seen = Seen::default();
        let mut age = |span, at: i64| seen.age(span, Micros(at * SECOND)).as_secs();
        assert_eq!(age(None, 0), 0);
        assert_eq!(age(Some((1, 4)), 5), 0);
        assert_eq!(age(Some((3, 8)), 10), 5, "the third was there at the first look");
        assert_eq!(age(Some((6, 8)), 15), 5, "the sixth since the second");
        assert_eq!(age(Some((9, 9)), 20), 0);
        assert_eq!(age(Some((9, 9_000)), 100), 80);
        assert_eq!(age(None, 101), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for look in 0..10_000 {
            seen.age(Some((0, look)), Micros(look * SECOND));
        }
        assert_eq!((seen.0.len(), seen.age(Some((0, 1 << 40)), Micros(20_000 * SECOND)).as_secs()), (MAX_LOOKS, 20_000));
    }
}
