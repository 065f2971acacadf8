//! Writing what settling decided: each change only from the state that allows it.

use std::collections::{BTreeMap, BTreeSet};

use ports::store::{ReplicaEnd, ReplicaState, Settlement, SettlementView, UnitEnd, UnitFacts, UnitSettled, UnitState, Vote};
use protocol::usage::Usage;
use protocol::{JobId, Micros, ReplicaKey, UnitKey};

use crate::dispatch::insert_due;
use crate::facts::Tally;
use crate::fault::Fault;
use crate::ledger;
use crate::split::{Cut, Splits};
use crate::sql::{Tx, Value, values};
use crate::states::Spelled as _;

/// Collects the rows of one settlement, judged by the view under lock, and writes them.
pub(crate) struct Writer<'a> {
    units: BTreeMap<UnitKey, &'a UnitFacts>,
    tallies: BTreeMap<JobId, Tally>,
    /// Jobs with a unit that ended.
    ended_in: BTreeSet<JobId>,
    replicas: BTreeMap<ReplicaKey, ReplicaEnd>,
    due: Vec<(ReplicaKey, Micros)>,
    ended: BTreeSet<UnitKey>,
    unit_rows: Vec<Vec<Value>>,
    outputs: Vec<Vec<Value>>,
    ledger: Vec<Usage>,
    splits: Splits,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(view: &'a SettlementView, tallies: BTreeMap<JobId, Tally>) -> Self {
        Self {
            units: view.units.iter().map(|unit| (unit.key, unit)).collect(),
            tallies,
            ended_in: BTreeSet::new(),
            replicas: BTreeMap::new(),
            due: Vec::new(),
            ended: BTreeSet::new(),
            unit_rows: Vec::new(),
            outputs: Vec::new(),
            ledger: Vec::new(),
            splits: Splits::default(),
        }
    }

    pub(crate) async fn write(mut self, tx: &mut Tx, settlement: Settlement) -> Result<(), Fault> {
        for end in settlement.replicas {
            self.end_replica(end);
        }
        self.due = settlement.due.into_iter().filter(|(key, _)| self.open(key.unit_key()).is_some()).collect();
        for settled in settlement.units {
            self.end_unit(settled)?;
        }
        for (job, wasted_us) in settlement.wasted_us {
            if let Some(tally) = self.tallies.get_mut(&job) {
                let usage = &mut tally.sums.usage;
                usage.wasted_us = usage.wasted_us.saturating_add(wasted_us);
            }
        }
        self.flush(tx).await
    }

    /// The unit, if it is still open.
    fn open(&self, key: UnitKey) -> Option<&'a UnitFacts> {
        let unit = self.units.get(&key).copied()?;
        (unit.state == UnitState::Open && !self.ended.contains(&key)).then_some(unit)
    }

    /// Notes a replica's end, once; one that was computed may still lose the vote, and a first result of an open unit counts after it
    /// was given back or had failed, too.
    fn end_replica(&mut self, end: ReplicaEnd) {
        let unit = self.units.get(&end.key.unit_key());
        let Some(stored) = unit.and_then(|unit| unit.replicas.iter().find(|r| r.replica == end.key.replica)) else { return };
        let noted = self.replicas.remove(&end.key);
        let state = noted.as_ref().map_or(stored.state, |noted| noted.state);
        let answered = stored.vote.is_some() || noted.as_ref().is_some_and(|noted| noted.vote.is_some());
        let awaited = matches!(state, ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost);
        let tally = self.tallies.get_mut(&end.key.job);
        let late = end.vote.is_some() && !answered && unit.is_some_and(|unit| unit.state == UnitState::Open);
        let kept = if awaited || late {
            let before = noted.map_or(0, |noted| noted.compute_us);
            if let Some(tally) = tally {
                let usage = &mut tally.sums.usage;
                usage.compute_us = usage.compute_us.saturating_add(end.compute_us);
                tally.last_reason = end.reason.clone().or(tally.last_reason.take());
            }
            Some(ReplicaEnd { compute_us: end.compute_us.saturating_add(before), ..end })
        } else if state == ReplicaState::Computed && matches!(end.state, ReplicaState::Failed | ReplicaState::Interrupted) {
            if let Some(tally) = tally {
                tally.last_reason = end.reason.clone().or(tally.last_reason.take());
            }
            // Its host, vote and computing time stay as they were recorded.
            let kept = noted.unwrap_or(ReplicaEnd { host: None, vote: None, compute_us: 0, ..end.clone() });
            Some(ReplicaEnd { state: end.state, reason: end.reason, ..kept })
        } else {
            noted
        };
        self.replicas.extend(kept.map(|kept| (kept.key, kept)));
    }

    /// Notes a unit's end, if it is open.
    fn end_unit(&mut self, settled: UnitSettled) -> Result<(), Fault> {
        let Some(unit) = self.open(settled.key) else { return Ok(()) };
        let key = settled.key;
        let job = key.job;
        let tally = self.tallies.get_mut(&job).ok_or_else(|| Fault::data(format!("unit {key} has no job")))?;
        let items = unit.end.saturating_sub(unit.first);
        match settled.end {
            UnitEnd::Valid { usage, output, failed_items, compute_us } => {
                let bytes = u64::try_from(output.len()).unwrap_or(u64::MAX);
                count_valid(tally, unit, &usage, u64::from(failed_items), (bytes, compute_us));
                let state = UnitState::Valid.text();
                self.unit_rows.push(values![job, key.unit, state, failed_items, bytes, None::<String>]);
                self.outputs.push(values![job, key.unit, output]);
                self.ledger.push(Usage { unit: key, ..usage });
            }
            UnitEnd::Failed { reason } => {
                if unit.stage == 0 {
                    tally.sums.items_failed = tally.sums.items_failed.saturating_add(items);
                }
                tally.failed_units += 1;
                tally.last_reason = Some(reason.clone());
                let frame_bytes = items.saturating_mul(u64::try_from(reason.len()).unwrap_or(u64::MAX).saturating_add(16));
                let state = UnitState::Failed.text();
                self.unit_rows.push(values![job, key.unit, state, items, frame_bytes, reason]);
            }
            UnitEnd::Split { middle, middle_byte, unit: number, replicas } => {
                let pending = self.due.iter().filter(|(due, _)| due.unit_key() == key).map(|(due, _)| due.replica);
                let last = unit.replicas.iter().map(|replica| replica.replica).chain(pending).max();
                let cut = Cut { middle, middle_byte, unit: number, replicas, last };
                tally.next_unit = self.splits.add(unit, tally.next_unit, cut)?;
                self.ended.insert(key);
                return Ok(());
            }
        }
        self.ended.insert(key);
        self.ended_in.insert(job);
        Ok(())
    }

    /// Replicas of units that ended in this settlement which have not ended by themselves. Of a split unit also those
    /// computed: a result over all of its items is no vote on the half that it keeps.
    fn closed(&self) -> Vec<Vec<Value>> {
        let mut closed = Vec::new();
        for unit in self.ended.iter().filter_map(|key| self.units.get(key)) {
            for replica in &unit.replicas {
                let key = unit.key.replica(replica.replica);
                let state = self.replicas.get(&key).map_or(replica.state, |end| end.state);
                let open = match state {
                    ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost => true,
                    ReplicaState::Computed => self.splits.keeps(unit.key),
                    ReplicaState::Failed | ReplicaState::Interrupted => false,
                };
                if open {
                    closed.push(values![key.job, key.unit, key.replica]);
                }
            }
        }
        closed
    }

    async fn flush(self, tx: &mut Tx) -> Result<(), Fault> {
        let closed = self.closed();
        let due = self.due.into_iter().filter(|(key, _)| !self.ended.contains(&key.unit_key())).collect();
        write_replicas(tx, self.replicas).await?;
        insert_due(tx, due).await?;
        let close =
            ") UPDATE replicas SET state = 'interrupted', meter = NULL, fuel = NULL, input_bytes = NULL, output = NULL FROM k
            WHERE replicas.job = k.job AND replicas.unit = k.unit AND replicas.replica = k.replica";
        tx.run_many("WITH k (job, unit, replica) AS (VALUES", closed, close).await?;
        self.splits.write(tx).await?;
        let units =
            ") UPDATE units SET state = k.state, failed_items = k.failed_items, output_bytes = k.output_bytes, reason = k.reason
            FROM k WHERE units.job = k.job AND units.unit = k.unit";
        tx.run_many("WITH k (job, unit, state, failed_items, output_bytes, reason) AS (VALUES", self.unit_rows, units).await?;
        tx.run_many("INSERT INTO outputs (job, unit, frame) VALUES", self.outputs, "").await?;
        write_tallies(tx, &self.tallies, &self.ended_in).await?;
        ledger::append(tx, &self.ledger).await
    }
}

/// Adds a valid unit to its job's sums.
fn count_valid(tally: &mut Tally, unit: &UnitFacts, usage: &Usage, failed: u64, (output_bytes, compute_us): (u64, u64)) {
    let items = unit.end.saturating_sub(unit.first);
    let sums = &mut tally.sums;
    if unit.stage == 0 {
        sums.items_failed = sums.items_failed.saturating_add(failed);
        sums.items_succeeded = sums.items_succeeded.saturating_add(items.saturating_sub(failed));
    }
    sums.usage.units += 1;
    sums.usage.fuel = sums.usage.fuel.saturating_add(usage.fuel);
    sums.usage.bytes = sums.usage.bytes.saturating_add(usage.bytes);
    if unit.stage == tally.stage {
        let progress = &mut tally.progress;
        progress.items = progress.items.saturating_add(items);
        progress.units += 1;
        progress.fuel = progress.fuel.saturating_add(usage.fuel);
        progress.compute_us = progress.compute_us.saturating_add(compute_us);
        progress.output_bytes = progress.output_bytes.saturating_add(output_bytes);
    }
}

async fn write_replicas(tx: &mut Tx, ends: BTreeMap<ReplicaKey, ReplicaEnd>) -> Result<(), Fault> {
    let row = |end: ReplicaEnd| {
        let (meter, fuel, bytes, output) = match end.vote {
            Some(Vote { meter, fuel, input_bytes, output }) => (Some(meter), Some(fuel), Some(input_bytes), Some(output)),
            None => (None, None, None, None),
        };
        let ReplicaKey { job, unit, replica } = end.key;
        let (state, host) = (end.state.text(), end.host.as_ref());
        values![job, unit, replica, state, host, meter.as_ref(), fuel, bytes, output, end.reason, end.compute_us]
    };
    tx.run_many(
        "WITH k (job, unit, replica, state, host, meter, fuel, bytes, output, reason, compute_us) AS (VALUES",
        ends.into_values().map(row).collect(),
        ") UPDATE replicas SET state = k.state, host = COALESCE(k.host, replicas.host), meter = COALESCE(k.meter, replicas.meter),
            fuel = COALESCE(k.fuel, replicas.fuel), input_bytes = COALESCE(k.bytes, replicas.input_bytes), output = COALESCE(k.output, replicas.output), reason = k.reason,
            compute_us = replicas.compute_us + k.compute_us
        FROM k WHERE replicas.job = k.job AND replicas.unit = k.unit AND replicas.replica = k.replica",
    )
    .await?;
    Ok(())
}

/// Writes the sums of all jobs of the view; those in which a unit ended are to be assembled.
async fn write_tallies(tx: &mut Tx, tallies: &BTreeMap<JobId, Tally>, ended_in: &BTreeSet<JobId>) -> Result<(), Fault> {
    let row = |(job, tally): (&JobId, &Tally)| {
        let (progress, sums) = (&tally.progress, &tally.sums);
        values![
            *job,
            tally.next_unit,
            progress.items,
            progress.units,
            progress.fuel,
            progress.compute_us,
            progress.output_bytes,
            sums.items_succeeded,
            sums.items_failed,
            sums.usage.units,
            sums.usage.fuel,
            sums.usage.bytes,
            sums.usage.compute_us,
            sums.usage.wasted_us,
            tally.failed_units,
            tally.last_reason.clone(),
            ended_in.contains(job),
        ]
    };
    tx.run_many(
        "WITH k (id, next_unit, items, units, stage_fuel, stage_compute_us, output_bytes, succeeded, failed, valid_units, fuel,
            bytes, compute_us, wasted_us, failed_units, last_reason, ended) AS (VALUES",
        tallies.iter().map(row).collect(),
        ") UPDATE jobs SET next_unit = k.next_unit, stage_valid_items = k.items, stage_valid_units = k.units,
            stage_fuel = k.stage_fuel, stage_compute_us = k.stage_compute_us, stage_output_bytes = k.output_bytes,
            items_succeeded = k.succeeded, items_failed = k.failed, valid_units = k.valid_units, fuel = k.fuel, bytes = k.bytes,
            compute_us = k.compute_us, wasted_us = k.wasted_us, failed_units = k.failed_units, last_reason = k.last_reason,
            to_assemble = CASE WHEN k.ended = 1 THEN 1 ELSE jobs.to_assemble END
        FROM k WHERE jobs.id = k.id",
    )
    .await?;
    Ok(())
}
