//! The numbers of parts: which unit of a job's last stage has which part.
//!
//! Units are numbered as they are assembled, from the stage's first on and without a gap. A service that knows no numbers
//! leaves the column `numbered` behind `assembled`; then those that it left out are numbered when someone asks.

use std::collections::BTreeMap;

use ports::store::{Assembly, NumberedOutput, UnitState};
use protocol::{JobId, parts};

use crate::connect::SqlStore;
use crate::facts::lock_jobs;
use crate::fault::Fault;
use crate::outputs::{ENDED, Ended, frames, read_ended, within};
use crate::sql::{Tx, values};

/// About how many bytes of frames one page holds.
const PAGE_BYTES: u64 = 16 << 20;
/// How many units one page holds at most: as many as are assembled at once.
const PAGE_UNITS: u32 = 256;

/// Writes the numbers of units that were assembled just now, and how far units are numbered. That stays behind if one
/// that has an output got no number.
pub(crate) async fn number(tx: &mut Tx, job: JobId, units: &[Ended], assembly: &Assembly) -> Result<(), Fault> {
    let numbered: BTreeMap<u64, u32> = assembly.numbered.iter().copied().collect();
    let mut numbers = Vec::new();
    for unit in units.iter().filter(|unit| unit.end <= assembly.assembled) {
        match (unit.state, numbered.get(&unit.first)) {
            (UnitState::Valid | UnitState::Failed, Some(part)) => numbers.push((unit.unit, *part)),
            (UnitState::Valid | UnitState::Failed, None) => return Ok(()),
            (UnitState::Open | UnitState::Cancelled, _) => {}
        }
    }
    write(tx, job, &numbers, assembly.assembled).await
}

/// Writes numbers of first parts by unit, and up to which item units are numbered.
async fn write(tx: &mut Tx, job: JobId, numbers: &[(u32, u32)], numbered: u64) -> Result<(), Fault> {
    let rows = numbers.iter().map(|(unit, part)| values![job, *unit, *part]).collect();
    let set = ") UPDATE units SET part = k.part FROM k WHERE units.job = k.job AND units.unit = k.unit";
    tx.run_many("WITH k (job, unit, part) AS (VALUES", rows, set).await?;
    tx.run("UPDATE jobs SET numbered = $2 WHERE id = $1", values![job, numbered]).await?;
    Ok(())
}

/// How far the outputs of a job's last stage are assembled and numbered.
struct SoFar {
    stage: u8,
    assembled: u64,
    /// Units before this item have their numbers.
    numbered: u64,
    /// Parts so far; right if all that is assembled is numbered.
    parts: u32,
}

impl SoFar {
    /// Nothing if there is no such job, if its last stage has not begun, or if its outputs are gone.
    async fn read(tx: &mut Tx, job: JobId) -> Result<Option<Self>, Fault> {
        let sql = "SELECT stage, assembled, numbered, parts FROM jobs
            WHERE id = $1 AND last_stage = 1 AND results_gone_at IS NULL";
        let Some(row) = tx.first(sql, values![job]).await? else { return Ok(None) };
        let (assembled, numbered) = (row.number(1)?, row.number(2)?);
        Ok(Some(Self { stage: row.number(0)?, assembled, numbered, parts: row.number(3)? }))
    }

    fn is_complete(&self) -> bool {
        self.numbered >= self.assembled
    }
}

impl SqlStore {
    pub(crate) async fn try_numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, Fault> {
        loop {
            let mut tx = self.read().await?;
            let Some(so_far) = SoFar::read(&mut tx, job).await? else { return Ok(Vec::new()) };
            let (page, end) = page(&mut tx, job, &so_far, part).await?;
            // One more page is numbered than is given, so that it is known whether something follows. Each round numbers
            // some units, so this ends.
            if so_far.is_complete() || end < so_far.numbered {
                let frames = frames(&mut tx, job, &page.iter().map(|(unit, _)| unit.clone()).collect::<Vec<_>>()).await?;
                let numbered = page.iter().zip(frames);
                return Ok(numbered
                    .map(|((unit, part), frame)| NumberedOutput { part: *part, first: unit.first, frame })
                    .collect());
            }
            drop(tx);
            self.number_further(job).await?;
        }
    }

    /// Numbers the next page of units that were assembled without a number.
    async fn number_further(&self, job: JobId) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        lock_jobs(&mut tx, std::iter::once(job)).await?;
        let Some(so_far) = SoFar::read(&mut tx, job).await?.filter(|so_far| !so_far.is_complete()) else { return Ok(()) };
        let mut next = next_part(&mut tx, job).await?;
        let sql = format!(
            "{ENDED} WHERE job = $1 AND stage = $2 AND state IN ('valid', 'failed') AND first_item >= $3 AND end_item <= $4
            ORDER BY first_item LIMIT $5"
        );
        let of = values![job, so_far.stage, so_far.numbered, so_far.assembled, PAGE_UNITS];
        let rows = tx.composed(sql, of).await?;
        let mut units = rows.iter().map(read_ended).collect::<Result<Vec<_>, Fault>>()?;
        units.truncate(within(&units, PAGE_BYTES));
        let mut numbers = Vec::with_capacity(units.len());
        for (unit, frame) in units.iter().zip(frames(&mut tx, job, &units).await?) {
            numbers.push((unit.unit, next));
            next = next.checked_add(parts::count(&frame)?).ok_or_else(|| Fault::data(format!("job {job} has too many parts")))?;
        }
        let numbered = units.last().map_or(so_far.assembled, |unit| unit.end);
        write(&mut tx, job, &numbers, numbered).await?;
        // Who assembled without numbers has counted only those that it sent.
        let sql = "UPDATE jobs SET parts_sent = COALESCE(parts_sent, parts), parts = $2 WHERE id = $1 AND parts < $2";
        tx.run(sql, values![job, next]).await?;
        tx.commit().await
    }
}

/// The number of the part after those of all numbered units.
async fn next_part(tx: &mut Tx, job: JobId) -> Result<u32, Fault> {
    let sql = "SELECT part, unit, first_item, end_item, state, output_bytes, reason FROM units
        WHERE job = $1 AND part IS NOT NULL AND part >= 0 ORDER BY part DESC LIMIT 1";
    let Some(row) = tx.first(sql, values![job]).await? else { return Ok(0) };
    let last = Ended::read(&row, 1)?;
    let frame = frames(tx, job, &[last]).await?;
    let count = frame.first().map_or(Ok(0), |frame| parts::count(frame))?;
    row.number::<u32>(0)?.checked_add(count).ok_or_else(|| Fault::data(format!("job {job} has too many parts")))
}

/// Numbered units from the one that has that part on, and the item before which they end.
async fn page(tx: &mut Tx, job: JobId, so_far: &SoFar, part: u32) -> Result<(Vec<(Ended, u32)>, u64), Fault> {
    let none = (Vec::new(), so_far.numbered);
    if so_far.is_complete() && part >= so_far.parts {
        return Ok(none);
    }
    let sql = "SELECT first_item FROM units WHERE job = $1 AND part IS NOT NULL AND part <= $2 ORDER BY part DESC LIMIT 1";
    let Some(row) = tx.first(sql, values![job, part]).await? else { return Ok(none) };
    let first: u64 = row.number(0)?;
    let sql = "SELECT part, unit, first_item, end_item, state, output_bytes, reason FROM units
        WHERE job = $1 AND stage = $2 AND part IS NOT NULL AND first_item >= $3 ORDER BY first_item LIMIT $4";
    let rows = tx.all(sql, values![job, so_far.stage, first, PAGE_UNITS]).await?;
    let parts = rows.iter().map(|row| row.number(0)).collect::<Result<Vec<u32>, Fault>>()?;
    let mut units = rows.iter().map(|row| Ended::read(row, 1)).collect::<Result<Vec<_>, Fault>>()?;
    units.truncate(within(&units, PAGE_BYTES));
    let end = units.last().map_or(so_far.numbered, |unit| unit.end);
    Ok((units.into_iter().zip(parts).collect(), end))
}
