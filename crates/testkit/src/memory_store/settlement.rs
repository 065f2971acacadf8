//! Writing what settling decided: each change only from the state that allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{NewUnit, ReplicaEnd, ReplicaState, Settlement, SettlementView, UnitEnd, UnitFacts, UnitSettled, UnitState};
use protocol::usage::Usage;
use protocol::{JobId, Micros, ReplicaKey, UnitKey};

use super::fault::Refused;
use super::rows::{Replica, Tally, UnitResult};
use super::state::{State, held, sum, text};

/// Collects what one settlement changes, judged by the view, and writes it.
pub(super) struct Writer<'a> {
    units: BTreeMap<UnitKey, &'a UnitFacts>,
    tallies: BTreeMap<JobId, Tally>,
    replicas: BTreeMap<ReplicaKey, ReplicaEnd>,
    due: Vec<(ReplicaKey, Micros)>,
    ended: BTreeMap<UnitKey, Ended>,
    ledger: Vec<Usage>,
}

/// How a unit leaves the settlement.
enum Ended {
    As(UnitResult),
    Split {
        /// What the new unit takes, without lanes.
        rest: NewUnit,
        /// The kept half's first further replica, and how many of both are due.
        further: u16,
        replicas: u16,
    },
}

impl<'a> Writer<'a> {
    pub(super) fn new(view: &'a SettlementView, tallies: BTreeMap<JobId, Tally>) -> Self {
        Self {
            units: view.units.iter().map(|unit| (unit.key, unit)).collect(),
            tallies,
            replicas: BTreeMap::new(),
            due: Vec::new(),
            ended: BTreeMap::new(),
            ledger: Vec::new(),
        }
    }

    /// Notes all that the settlement may change.
    pub(super) fn judge(&mut self, settlement: Settlement) -> Result<(), Refused> {
        for end in settlement.replicas {
            self.end_replica(ReplicaEnd { reason: end.reason.map(text), ..end });
        }
        self.due = settlement.due.into_iter().filter(|(key, _)| self.open(key.unit_key()).is_some()).collect();
        for settled in settlement.units {
            self.end_unit(settled)?;
        }
        for (job, wasted_us) in settlement.wasted_us {
            if let Some(tally) = self.tallies.get_mut(&job) {
                tally.sums.usage.wasted_us = sum(tally.sums.usage.wasted_us, wasted_us);
            }
        }
        Ok(())
    }

    /// The unit, if it is still open.
    fn open(&self, key: UnitKey) -> Option<&'a UnitFacts> {
        let unit = self.units.get(&key).copied()?;
        (unit.state == UnitState::Open && !self.ended.contains_key(&key)).then_some(unit)
    }

    /// Notes a replica's end, once; one that was computed may still lose the vote.
    fn end_replica(&mut self, end: ReplicaEnd) {
        let unit = self.units.get(&end.key.unit_key());
        let stored = unit.and_then(|unit| unit.replicas.iter().find(|replica| replica.replica == end.key.replica));
        let Some(stored) = stored else { return };
        let Some(tally) = self.tallies.get_mut(&end.key.job) else { return };
        let noted = self.replicas.get(&end.key);
        let answered = stored.vote.is_some() || noted.is_some_and(|noted| noted.vote.is_some());
        // A first result of an open unit counts after the replica was given back or had failed, too.
        let late = end.vote.is_some() && !answered && unit.is_some_and(|unit| unit.state == UnitState::Open);
        let state = noted.map_or(stored.state, |noted| noted.state);
        if late || matches!(state, ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost) {
            tally.sums.usage.compute_us = sum(tally.sums.usage.compute_us, end.compute_us);
            tally.last_reason = end.reason.clone().or(tally.last_reason.take());
            self.replicas.insert(end.key, end);
        } else if state == ReplicaState::Computed && matches!(end.state, ReplicaState::Failed | ReplicaState::Interrupted) {
            tally.last_reason = end.reason.clone().or(tally.last_reason.take());
            // Its host and vote stay as they were recorded.
            let noted = self.replicas.remove(&end.key);
            let kept = noted.unwrap_or(ReplicaEnd { host: None, vote: None, ..end.clone() });
            self.replicas.insert(end.key, ReplicaEnd { state: end.state, reason: end.reason, ..kept });
        }
    }

    /// Notes a unit's end, if it is open.
    fn end_unit(&mut self, settled: UnitSettled) -> Result<(), Refused> {
        let key = settled.key;
        let Some(unit) = self.open(key) else { return Ok(()) };
        let items = unit.end.saturating_sub(unit.first);
        let pending = self.due.iter().filter(|(due, _)| due.unit_key() == key).map(|(due, _)| due.replica);
        let last = unit.replicas.iter().map(|replica| replica.replica).chain(pending).max();
        let tally = self.tallies.get_mut(&key.job).ok_or_else(|| Refused(format!("unit {key} has no job")))?;
        let end = match settled.end {
            UnitEnd::Valid { usage, output, failed_items, compute_us } => {
                let output_bytes = u64::try_from(output.len()).unwrap_or(u64::MAX);
                count_valid(tally, unit, &usage, u64::from(failed_items), (output_bytes, compute_us));
                self.ledger.push(Usage { unit: key, bytes: held(usage.bytes), ..usage });
                let (failed_items, frame) = (failed_items.into(), Arc::new(output));
                Ended::As(UnitResult { state: UnitState::Valid, failed_items, output_bytes, reason: None, frame })
            }
            UnitEnd::Failed { reason } => {
                let reason = text(reason);
                if unit.stage == 0 {
                    tally.sums.items_failed = sum(tally.sums.items_failed, items);
                }
                tally.failed_units += 1;
                tally.last_reason = Some(reason.clone());
                let item_bytes = u64::try_from(reason.len()).unwrap_or(u64::MAX).saturating_add(16);
                let output_bytes = held(items.saturating_mul(item_bytes));
                let reason = Some(reason);
                Ended::As(UnitResult {
                    state: UnitState::Failed,
                    failed_items: items,
                    output_bytes,
                    reason,
                    ..UnitResult::open()
                })
            }
            UnitEnd::Split { middle, middle_byte, unit: number, replicas } => {
                let rest = rest(unit, (middle, middle_byte), number, tally.next_unit)?;
                let beyond = || Refused(format!("unit {key} has no number left for a further unit or replica"));
                let further = last.map_or(Some(0), |last| last.checked_add(1)).ok_or_else(beyond)?;
                further.checked_add(replicas.saturating_sub(1)).ok_or_else(beyond)?;
                tally.next_unit = number.checked_add(1).ok_or_else(beyond)?;
                Ended::Split { rest, further, replicas }
            }
        };
        self.ended.insert(key, end);
        Ok(())
    }

    /// Replicas of units that ended in this settlement which have not ended by themselves. Of a split unit also those
    /// computed: a result over all of its items is no vote on the half that it keeps.
    fn closed(&self) -> Vec<ReplicaKey> {
        let mut closed = Vec::new();
        for (key, end) in &self.ended {
            for replica in self.units.get(key).into_iter().flat_map(|unit| &unit.replicas) {
                let key = key.replica(replica.replica);
                let open = match self.replicas.get(&key).map_or(replica.state, |end| end.state) {
                    ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost => true,
                    ReplicaState::Computed => matches!(end, Ended::Split { .. }),
                    ReplicaState::Failed | ReplicaState::Interrupted => false,
                };
                if open {
                    closed.push(key);
                }
            }
        }
        closed
    }

    /// Writes all that was noted, or nothing.
    pub(super) fn write(self, state: &mut State) -> Result<(), Refused> {
        for end in self.ended.values() {
            if let Ended::Split { rest: NewUnit { key, stage, first, .. }, .. } = end
                && state.jobs.get(&key.job).is_none_or(|job| job.has_unit(key.unit, *stage, *first))
            {
                return Err(Refused(format!("unit {key}, or one that begins with item {first}, is there already")));
            }
        }
        let closed = self.closed();
        let ended_in: BTreeSet<JobId> =
            self.ended.iter().filter(|(_, end)| matches!(end, Ended::As(_))).map(|(key, _)| key.job).collect();
        for (key, end) in self.replicas {
            change(state, key, |replica| end_as(replica, end));
        }
        for (key, not_before) in self.due.into_iter().filter(|(key, _)| !self.ended.contains_key(&key.unit_key())) {
            add_due(state, key, not_before);
        }
        for key in closed {
            change(state, key, |replica| {
                replica.facts.state = ReplicaState::Interrupted;
                replica.facts.vote = None;
            });
        }
        for (key, end) in self.ended {
            write_unit(state, key, end);
        }
        for (id, tally) in self.tallies {
            if let Some(job) = state.jobs.get_mut(&id) {
                job.tally = tally;
                job.to_assemble |= ended_in.contains(&id);
            }
        }
        state.ledger.extend(self.ledger);
        Ok(())
    }
}

/// Adds a valid unit to its job's sums.
fn count_valid(tally: &mut Tally, unit: &UnitFacts, usage: &Usage, failed: u64, (output_bytes, compute_us): (u64, u64)) {
    let items = unit.end.saturating_sub(unit.first);
    let sums = &mut tally.sums;
    if unit.stage == 0 {
        sums.items_failed = sum(sums.items_failed, failed);
        sums.items_succeeded = sum(sums.items_succeeded, items.saturating_sub(failed));
    }
    sums.usage.units += 1;
    sums.usage.fuel = sums.usage.fuel.saturating_add(usage.fuel);
    sums.usage.bytes = sum(sums.usage.bytes, usage.bytes);
    if unit.stage == tally.stage {
        let progress = &mut tally.progress;
        progress.items = sum(progress.items, items);
        progress.units += 1;
        progress.fuel = progress.fuel.saturating_add(usage.fuel);
        progress.compute_us = sum(progress.compute_us, compute_us);
        progress.output_bytes = sum(progress.output_bytes, output_bytes);
    }
}

/// The unit that takes what is split off.
fn rest(unit: &UnitFacts, (middle, byte): (u64, u64), number: u32, next_unit: u32) -> Result<NewUnit, Refused> {
    if middle <= unit.first || middle >= unit.end || number != next_unit {
        return Err(Refused(format!("unit {} cannot be split at item {middle} into unit {number}", unit.key)));
    }
    Ok(NewUnit {
        key: UnitKey { job: unit.key.job, unit: number },
        stage: unit.stage,
        first: middle,
        end: unit.end,
        bytes: (byte, unit.bytes.1),
        lanes: Vec::new(),
    })
}

/// What was not recorded before is; what is not told now stays.
fn end_as(replica: &mut Replica, end: ReplicaEnd) {
    let facts = &mut replica.facts;
    facts.state = end.state;
    facts.host = end.host.or(facts.host.take());
    facts.vote = end.vote.or(facts.vote.take());
    replica.reason = end.reason;
}

fn change(state: &mut State, key: ReplicaKey, change: impl FnOnce(&mut Replica)) {
    if let Some(job) = state.jobs.get_mut(&key.job) {
        job.change(key.unit, key.replica, change);
    }
}

fn add_due(state: &mut State, key: ReplicaKey, not_before: Micros) {
    if let Some(job) = state.jobs.get_mut(&key.job) {
        job.add_due(key.unit, key.replica, not_before);
    }
}

fn write_unit(state: &mut State, key: UnitKey, end: Ended) {
    let Some(job) = state.jobs.get_mut(&key.job) else { return };
    let Some(unit) = job.units.get_mut(&key.unit) else { return };
    match end {
        Ended::As(result) => unit.result = result,
        Ended::Split { rest, further, replicas } => {
            unit.end = rest.first;
            unit.bytes.1 = rest.bytes.0;
            // It has no lanes: its replicas follow.
            job.add_unit(&rest, Micros(0));
            for n in 0..replicas {
                job.add_due(key.unit, further.saturating_add(n), Micros(0));
                job.add_due(rest.key.unit, n, Micros(0));
            }
        }
    }
}
