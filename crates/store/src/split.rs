//! Units found too large: the kept half shrinks, a new unit takes the rest, and both begin anew.

use std::collections::BTreeSet;

use ports::store::UnitFacts;
use protocol::{Micros, UnitKey};

use crate::dispatch::insert_due;
use crate::fault::Fault;
use crate::sql::{Tx, Value, values};

/// Where and how a unit is split.
pub(crate) struct Cut {
    /// The new unit's first item, and where it begins in the input's blob.
    pub(crate) middle: u64,
    pub(crate) middle_byte: u64,
    /// The new unit's number.
    pub(crate) unit: u32,
    /// The quorum.
    pub(crate) replicas: u16,
    /// The kept half's last replica.
    pub(crate) last: Option<u16>,
}

/// The splits of one settlement.
#[derive(Default)]
pub(crate) struct Splits {
    kept: BTreeSet<UnitKey>,
    shrunk: Vec<Vec<Value>>,
    new: Vec<Vec<Value>>,
    due: Vec<(protocol::ReplicaKey, Micros)>,
}

impl Splits {
    /// Notes a split; returns the job's next unit number.
    pub(crate) fn add(&mut self, unit: &UnitFacts, next_unit: u32, cut: Cut) -> Result<u32, Fault> {
        let (key, Cut { middle, middle_byte, unit: number, replicas, last }) = (unit.key, cut);
        if middle <= unit.first || middle >= unit.end || number != next_unit {
            return Err(Fault::data(format!("unit {key} cannot be split at item {middle} into unit {number}")));
        }
        let beyond = || Fault::data(format!("unit {key} has no number left for a further unit or replica"));
        self.kept.insert(key);
        self.shrunk.push(values![key.job, key.unit, middle, middle_byte]);
        let new = UnitKey { job: key.job, unit: number };
        self.new.push(values![new.job, new.unit, unit.stage, middle, unit.end, middle_byte, unit.bytes.1]);
        let next_replica = last.map_or(Some(0), |last| last.checked_add(1)).ok_or_else(beyond)?;
        for n in 0..replicas {
            let further = next_replica.checked_add(n).ok_or_else(beyond)?;
            self.due.push((key.replica(further), Micros(0)));
            self.due.push((new.replica(n), Micros(0)));
        }
        number.checked_add(1).ok_or_else(beyond)
    }

    /// Whether this unit is the kept half of a split.
    pub(crate) fn keeps(&self, unit: UnitKey) -> bool {
        self.kept.contains(&unit)
    }

    pub(crate) async fn write(self, tx: &mut Tx) -> Result<(), Fault> {
        let shrink = ") UPDATE units SET end_item = k.middle, byte_to = k.middle_byte FROM k
            WHERE units.job = k.job AND units.unit = k.unit";
        tx.run_many("WITH k (job, unit, middle, middle_byte) AS (VALUES", self.shrunk, shrink).await?;
        let insert = "INSERT INTO units (job, unit, stage, first_item, end_item, byte_from, byte_to) VALUES";
        tx.run_many(insert, self.new, "").await?;
        insert_due(tx, self.due).await
    }
}
