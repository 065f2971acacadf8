//! A scaler's arithmetic on a simulated pool: the gauge leads to the right number of workers, and away again.

use std::collections::VecDeque;

use proptest::prelude::*;
use protocol::Fuel;
use protocol::job::UnitSizing;

use super::*;

const SECOND_US: u64 = 1_000_000;
/// The scaler looks so often; KEDA's default.
const LOOK_EVERY_S: u64 = 30;
/// The gauge is at most so old when it is looked at: the service's own look and a scrape.
const GAUGE_AGE_S: u64 = 20;
/// A new worker computes after this.
const START_S: u64 = 20;
/// Nothing simulated takes longer.
const END_S: u64 = 200_000;

/// How a pool is scaled.
#[derive(Debug, Clone, Copy)]
struct Scaler {
    /// In which time the backlog is to be done.
    target_s: u64,
    slots: u64,
    max: u64,
    /// Fewer workers are only taken away once fewer were wanted for so long.
    calm_s: u64,
}

impl Scaler {
    /// What an autoscaler makes of the gauge: the sum over the average wanted per worker, rounded up.
    fn wanted(&self, backlog_us: u64) -> u64 {
        backlog_us.div_ceil(self.target_s * self.slots * SECOND_US).min(self.max)
    }
}

/// A worker: when it can compute, and what its slots compute, as items and the time of their end.
struct Worker {
    ready_s: u64,
    leaving: bool,
    slots: Vec<Option<(u64, u64)>>,
}

/// One job on one pool, second by second.
struct Pool {
    scaler: Scaler,
    item_us: u64,
    sizing: UnitSizing,
    uncut: u64,
    measured: Measured,
    workers: Vec<Worker>,
    gauges: VecDeque<u64>,
    wishes: VecDeque<(u64, u64)>,
    most: u64,
    done: u64,
}

impl Pool {
    fn new(scaler: Scaler, items: u64, item_us: u64, target_ms: u32) -> Self {
        let sizing = UnitSizing { target_ms, max_items: 1_000_000 };
        let (workers, gauges, wishes) = (Vec::new(), VecDeque::new(), VecDeque::new());
        let measured = Measured::default();
        Self { scaler, item_us, sizing, uncut: items, measured, workers, gauges, wishes, most: 0, done: 0 }
    }

    fn computing(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.workers.iter().flat_map(|worker| worker.slots.iter().copied().flatten())
    }

    fn left(&self) -> Left {
        Left {
            uncut: self.uncut,
            budget_left: None,
            quorum: 1,
            replicas: u64::try_from(self.computing().count()).unwrap(),
            replica_items: self.computing().map(|(items, _)| items).sum(),
            measured: self.measured,
            target_ms: self.sizing.target_ms,
        }
    }

    /// One second: units end, others begin, workers come and go.
    fn second(&mut self, now: u64) {
        for worker in &mut self.workers {
            for slot in &mut worker.slots {
                if let Some((items, end)) = *slot
                    && end <= now
                {
                    *slot = None;
                    self.done += items;
                    self.measured.items += items;
                    self.measured.units += 1;
                    self.measured.compute_us += items * self.item_us;
                    let fuel = self.measured.fuel.get() + items * self.item_us * 1_000;
                    self.measured.fuel = Fuel::new(fuel).unwrap();
                }
                if slot.is_none() && !worker.leaving && worker.ready_s <= now && self.uncut > 0 {
                    let items = sizing::next_unit_items(&self.measured, &self.sizing).min(self.uncut);
                    self.uncut -= items;
                    *slot = Some((items, now + (items * self.item_us).div_ceil(SECOND_US)));
                }
            }
        }
        self.workers.retain(|worker| !worker.leaving || worker.slots.iter().any(Option::is_some));
        self.gauges.push_back(slot_us(&self.left()));
        if self.gauges.len() > usize::try_from(GAUGE_AGE_S).unwrap() {
            self.gauges.pop_front();
        }
        if now.is_multiple_of(LOOK_EVERY_S) {
            self.scale(now);
        }
    }

    fn scale(&mut self, now: u64) {
        let wanted = self.scaler.wanted(self.gauges.front().copied().unwrap_or_default());
        self.wishes.push_back((now, wanted));
        self.wishes.retain(|(at, _)| at + self.scaler.calm_s >= now);
        let calm = self.wishes.iter().map(|(_, wanted)| *wanted).max().unwrap_or_default();
        let serving = || self.workers.iter().filter(|worker| !worker.leaving).count();
        let have = u64::try_from(serving()).unwrap();
        let slots = usize::try_from(self.scaler.slots).unwrap();
        for _ in have..wanted {
            self.workers.push(Worker { ready_s: now + START_S, leaving: false, slots: vec![None; slots] });
        }
        let leaving = usize::try_from(have.saturating_sub(calm)).unwrap();
        for worker in self.workers.iter_mut().filter(|worker| !worker.leaving).take(leaving) {
            worker.leaving = true;
        }
        self.most = self.most.max(wanted);
    }

    /// Runs to the end of the work and until the last worker has gone; when the work was done.
    fn run(&mut self) -> u64 {
        let items = self.uncut;
        let mut done_s = None;
        for now in 0..END_S {
            self.second(now);
            let busy = self.computing().count() > 0;
            assert!(!busy || slot_us(&self.left()) > 0, "what computes is seen");
            if self.done == items && done_s.is_none() {
                done_s = Some(now);
            }
            if let Some(done_s) = done_s.filter(|_| self.workers.is_empty()) {
                return done_s;
            }
        }
        panic!("{} of {items} items done, {} workers left", self.done, self.workers.len());
    }
}

#[test]
fn nothing_left_wants_no_worker_and_an_unmeasured_job_wants_its_first() {
    let scaler = Scaler { target_s: 600, slots: 4, max: 100, calm_s: 0 };
    assert_eq!(scaler.wanted(slot_us(&Left::default())), 0);
    let fresh = Left { uncut: 10_000_000, quorum: 3, target_ms: 10_000, ..Left::default() };
    assert_eq!(slot_us(&fresh), 30 * SECOND_US);
    assert_eq!(scaler.wanted(slot_us(&fresh)), 1);
}

#[test]
fn what_is_left_is_items_times_their_measured_time() {
    // 100 items took 5 s.
    let measured = Measured { items: 100, units: 10, compute_us: 5 * SECOND_US, ..Measured::default() };
    let left = Left { uncut: 1_000, budget_left: None, quorum: 2, replicas: 4, replica_items: 40, measured, target_ms: 10_000 };
    assert_eq!(slot_us(&left), (2 * 1_000 + 40) * 50_000);
    // A budget that suffices for half of the items, of 7 fuel each.
    let fuel = |count| Fuel::new(count).unwrap();
    let half = Left { budget_left: Some(fuel(3_500)), measured: Measured { fuel: fuel(700), ..measured }, ..left };
    assert_eq!(slot_us(&half), (2 * (500 - 20) + 40) * 50_000);
    // Of a long unit that is the last one nothing is waiting in a queue, and it still wants its worker.
    let last = Left { uncut: 0, budget_left: None, quorum: 1, replicas: 1, replica_items: 1, measured, target_ms: 10_000 };
    assert_eq!(Scaler { target_s: 600, slots: 4, max: 9, calm_s: 0 }.wanted(slot_us(&last)), 1);
}

#[test]
fn a_job_gets_as_many_workers_as_it_takes_and_loses_them_when_it_is_done() {
    // 80 hours of computing on one slot, to be done in an hour by workers of 4 slots: 20 of them.
    let scaler = Scaler { target_s: 3_600, slots: 4, max: 100, calm_s: 3_600 };
    let mut pool = Pool::new(scaler, 2_880_000, 100_000, 10_000);
    let done_s = pool.run();
    assert_eq!(pool.most, 20);
    assert!((3_600..3_600 * 11 / 10).contains(&done_s), "{done_s}");
}

#[test]
fn a_scaler_that_takes_workers_away_at_once_draws_the_end_out() {
    let eager = Scaler { target_s: 3_600, slots: 4, max: 100, calm_s: 0 };
    let done_s = Pool::new(eager, 2_880_000, 100_000, 10_000).run();
    // The fewer are left the fewer are wanted: 1 + ln(20) times the target, as docs/metrics.md says.
    assert!((3_600 * 3..3_600 * 9 / 2).contains(&done_s), "{done_s}");
}

#[test]
fn the_most_that_is_allowed_is_kept_while_it_is_needed() {
    let scaler = Scaler { target_s: 600, slots: 2, max: 5, calm_s: 600 };
    let mut pool = Pool::new(scaler, 36_000, SECOND_US, 10_000);
    let done_s = pool.run();
    assert_eq!(pool.most, 5);
    assert!((3_600..3_600 * 5 / 4).contains(&done_s), "{done_s}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn workers_follow_the_work(items in 1_u64..200_000, item_us in 1_000_u64..3_000_000, slots in 1_u64..8, target_s in 300_u64..3_600) {
        let scaler = Scaler { target_s, slots, max: 10_000, calm_s: target_s };
        let need = scaler.wanted(items * item_us);
        let mut pool = Pool::new(scaler, items, item_us, 10_000);
        let done_s = pool.run();
        // One more for what is measured while the first units are still out, or one less for what these have done.
        prop_assert!((need.saturating_sub(1)..=need + 1).contains(&pool.most.max(1)), "{} workers for {need}", pool.most);
        // Looking, starting, measuring and the last units come on top.
        prop_assert!(done_s <= target_s + target_s / 2 + 300, "{done_s} of {target_s}");
    }
}
