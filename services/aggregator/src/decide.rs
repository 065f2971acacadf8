//! The decision on a batch of outcomes: what the rules judge of each, as one settlement to be written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::store::{JobFacts, ReplicaEnd, ReplicaState, Settlement, SettlementView, UnitEnd, UnitFacts, UnitSettled};
use protocol::head::Source;
use protocol::outcome::{Computed, Outcome, OutcomeResult};
use protocol::unit::Slice;
use protocol::usage::Usage;
use protocol::{Digest, HostId, JobId, Micros, ReplicaKey, UnitKey};
use rules::invariants;
use rules::settle::{self, Arrival, End, Finding, Judgement, Policy};

use crate::assemble::Touched;
use crate::tally::Tally;

/// A clock may be wrong by so much.
const MAX_SKEW: Duration = Duration::from_mins(1);
/// And a replica of which it is not known since when it is due has computed at most so long.
const LONGEST: Duration = Duration::from_hours(1);

/// Where units of lines are to be cut: the middle item and where it begins in the blob.
pub(crate) type Middles = BTreeMap<UnitKey, (u64, u64)>;
/// Units of lines that are to be cut at an item, whose place in that blob is not known yet.
pub(crate) type Lacking = Arc<Mutex<Vec<(UnitFacts, (Digest, u64))>>>;
/// An outcome, examined.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) key: ReplicaKey,
    /// Which items it is of, where that is known.
    slice: Option<Slice>,
    host: HostId,
    finding: Finding,
    computed: Option<Computed>,
    compute_us: u64,
}

impl Arrived {
    pub(crate) fn new(outcome: Outcome) -> Self {
        let finding = settle::examine(&outcome);
        let Outcome { replica, slice, host, result, compute_us } = outcome;
        let computed = match result {
            OutcomeResult::Computed(computed) => Some(computed),
            OutcomeResult::AppFailed { .. }
            | OutcomeResult::TooLarge { .. }
            | OutcomeResult::Interrupted { .. }
            | OutcomeResult::Refused { .. }
            | OutcomeResult::Dead { .. } => None,
        };
        Self { key: replica, slice: Some(slice), host, finding, computed, compute_us }
    }

    /// The end of a replica that the broker gave up.
    pub(crate) fn dead(key: ReplicaKey, slice: Option<Slice>, nobody: HostId, reason: String) -> Self {
        Self { key, slice, host: nobody, finding: Finding::Failed(reason), computed: None, compute_us: 0 }
    }

    /// The size of its output.
    pub(crate) fn bytes(&self) -> usize {
        self.computed.as_ref().map_or(0, |computed| computed.output.len())
    }

    /// What it says, as a metric's label.
    pub(crate) fn kind(&self) -> &'static str {
        match self.finding {
            Finding::Computed { .. } => "computed",
            Finding::Failed(_) => "failed",
            Finding::TooLarge(_) => "too_large",
            Finding::Interrupted(_) => "interrupted",
            Finding::Refused(_) => "refused",
        }
    }
}

/// All that a decision needs, owned, since it is taken inside the store's transaction.
pub(crate) struct Decision {
    pub(crate) arrivals: Arc<Vec<Arrived>>,
    pub(crate) middles: Middles,
    pub(crate) lacking: Lacking,
    pub(crate) tally: Arc<Mutex<Tally>>,
    pub(crate) touched: Arc<Touched>,
    pub(crate) now: Micros,
}

impl Decision {
    /// Decides.
    pub(crate) fn take(self, view: &SettlementView) -> Settlement {
        view.jobs.iter().for_each(|job| self.touched.meet(job));
        let mut units: BTreeMap<UnitKey, UnitFacts> = view.units.iter().map(|unit| (unit.key, unit.clone())).collect();
        let jobs: BTreeMap<JobId, &JobFacts> = view.jobs.iter().map(|job| (job.id, job)).collect();
        let mut next_units: BTreeMap<JobId, u32> = view.jobs.iter().map(|job| (job.id, job.next_unit)).collect();
        let due: BTreeMap<ReplicaKey, Micros> = view.due.iter().copied().collect();
        let mut draft = Draft { settlement: Settlement::default(), wasted: BTreeMap::new(), tally: Tally::default() };
        for arrived in self.arrivals.iter() {
            let key = arrived.key.unit_key();
            let (Some(unit), Some(job)) = (units.get_mut(&key), jobs.get(&key.job)) else {
                tracing::debug!("an outcome of {} belongs to no unit here", arrived.key);
                continue;
            };
            if arrived.slice.is_some_and(|slice| slice != unit.slice()) {
                tracing::warn!("an outcome of {} is of other items than the unit has now, and is ignored", arrived.key);
                continue;
            }
            let compute_us = self.compute_us(arrived, due.get(&arrived.key));
            let mut judged = unit.clone();
            let judgement = judge(&mut judged, job, arrived);
            let end = match &judgement.end {
                Some(End::Split { middle }) => {
                    let Some(middle_byte) = self.middle_byte(unit, job, *middle) else { continue };
                    let next = next_units.entry(key.job).or_insert(job.next_unit);
                    *next += 1;
                    let replicas = u16::from(job.spec.quorum);
                    Some(UnitEnd::Split { middle: *middle, middle_byte, unit: *next - 1, replicas })
                }
                Some(End::Valid) => {
                    if arrived.finding.vote().is_some_and(|vote| !invariants::hosts_hold(&judged, vote)) {
                        draft.tally.voted_twice.push(key);
                    }
                    valid(arrived, compute_us, &judged, job, self.now)
                }
                Some(End::Failed { reason }) => Some(UnitEnd::Failed { reason: reason.clone() }),
                None => None,
            };
            draft.tally.count(&arrived.finding, &judged, job.spec.quorum, &judgement);
            if let Some(wait) = self.wait(arrived, &judgement, due.get(&arrived.key)) {
                draft.tally.waits.push((job.spec.pool.clone(), wait));
            }
            // The halves of a unit are new ones, of which this batch knows nothing.
            if matches!(judgement.end, Some(End::Split { .. })) {
                units.remove(&key);
            } else {
                *unit = judged;
            }
            draft.write((arrived, compute_us), judgement, self.now, end.map(|end| UnitSettled { key, end }));
        }
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = draft.tally;
        draft.settlement.wasted_us = draft.wasted.into_iter().collect();
        draft.settlement
    }

    /// How long it was computed. That is the worker's word, by which others' units are sized: no more than passed since it was due.
    fn compute_us(&self, arrived: &Arrived, due: Option<&Micros>) -> u64 {
        let known = due.filter(|due| **due <= self.now);
        let passed = known.map_or(LONGEST, |due| self.now.since(*due).saturating_add(MAX_SKEW));
        arrived.compute_us.min(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
    }

    /// From when the replica was due until it was begun, for the first result of it: what passed, less what it computed.
    fn wait(&self, arrived: &Arrived, judgement: &Judgement, due: Option<&Micros>) -> Option<Duration> {
        let first = !judgement.ends.is_empty() && arrived.finding.vote().is_some();
        let passed = self.now.since(*due.filter(|_| first)?);
        Some(passed.saturating_sub(Duration::from_micros(arrived.compute_us)))
    }

    /// Where the unit's middle item begins in the input's blob; `None` if that must be read from the blob first.
    fn middle_byte(&self, unit: &UnitFacts, job: &JobFacts, middle: u64) -> Option<u64> {
        match &job.spec.input {
            Source::Records { bytes, .. } if unit.stage == 0 => Some(middle.saturating_mul(u64::from(*bytes))),
            Source::Lines { blob } if unit.stage == 0 => {
                let known = self.middles.get(&unit.key).filter(|(item, _)| *item == middle);
                if known.is_none() {
                    let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
                    lacking.push((unit.clone(), (*blob, middle)));
                }
                known.map(|(_, byte)| *byte)
            }
            Source::Job | Source::Lines { .. } | Source::Records { .. } => Some(0),
        }
    }
}

fn judge(unit: &mut UnitFacts, job: &JobFacts, arrived: &Arrived) -> Judgement {
    let policy = Policy {
        quorum: job.spec.quorum,
        max_failures: job.spec.max_failures,
        meter: job.meter.clone(),
        fuel_per_item: job.spec.limits.fuel_per_item,
    };
    // Spreads retries by which replica it is: two units that failed together come back apart.
    let random = u64::from(arrived.key.unit).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(arrived.key.replica);
    let arrival =
        Arrival { replica: arrived.key.replica, host: &arrived.host, finding: arrived.finding.clone(), random: random >> 20 };
    settle::judge(unit, &policy, arrival)
}

fn valid(arrived: &Arrived, compute_us: u64, unit: &UnitFacts, job: &JobFacts, now: Micros) -> Option<UnitEnd> {
    let computed = arrived.computed.as_ref()?;
    let Finding::Computed { failed_items, output_bytes, .. } = &arrived.finding else { return None };
    let usage = Usage {
        unit: unit.key,
        customer: job.customer.clone(),
        pool: job.spec.pool.clone(),
        meter: computed.meter.clone(),
        fuel: computed.fuel,
        bytes: computed.input_bytes.saturating_add(*output_bytes),
        output: computed.digest,
        recorded_at: now,
    };
    let output = computed.output.clone();
    Some(UnitEnd::Valid { usage, output, failed_items: *failed_items, compute_us })
}

/// A settlement being written.
struct Draft {
    settlement: Settlement,
    wasted: BTreeMap<JobId, u64>,
    tally: Tally,
}

impl Draft {
    fn write(&mut self, (arrived, compute_us): (&Arrived, u64), judgement: Judgement, now: Micros, end: Option<UnitSettled>) {
        let unit = arrived.key.unit_key();
        for (replica, state, reason) in judgement.ends {
            let own = replica == arrived.key.replica;
            self.settlement.replicas.push(ReplicaEnd {
                key: unit.replica(replica),
                state,
                host: own.then(|| arrived.host.clone()),
                // What is no answer of the unit is none to be compared with, either.
                vote: arrived.finding.vote().filter(|_| own && state == ReplicaState::Computed).cloned(),
                reason,
                compute_us: if own { compute_us } else { 0 },
            });
        }
        let due = judgement.due.into_iter().map(|(replica, wait)| (unit.replica(replica), now.plus(wait)));
        self.settlement.due.extend(due);
        if judgement.wasted {
            let wasted = self.wasted.entry(unit.job).or_insert(0);
            *wasted = wasted.saturating_add(compute_us);
            self.tally.wasted_us = self.tally.wasted_us.saturating_add(compute_us);
        }
        if let Some(end) = end {
            let kind = match end.end {
                UnitEnd::Valid { .. } => "valid",
                UnitEnd::Failed { .. } => "failed",
                UnitEnd::Split { .. } => "split",
            };
            *self.tally.ends.entry(kind).or_insert(0) += 1;
            self.settlement.units.push(end);
        }
    }
}
