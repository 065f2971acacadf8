//! Output frames of ended units in item order; a failed unit's frame is made from its reason.

use ports::store::{FailedItem, OutputPage, UnitState};
use protocol::JobId;
use protocol::frame::{self, Entry, ResultFrame};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Row, Tx, Value, values};
use crate::states::Spelled as _;

/// About how many bytes of frames one page of outputs holds.
const PAGE_BYTES: u64 = 4 << 20;
/// How many units one page of outputs holds at most.
const PAGE_UNITS: u32 = 1_000;
/// How many units with failures are read at once while looking for failed items.
const FAILURE_UNITS: u32 = 16;

/// An ended unit without its frame.
#[derive(Clone)]
pub(crate) struct Ended {
    pub(crate) unit: u32,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) state: UnitState,
    pub(crate) bytes: u64,
    reason: Option<String>,
}

/// The columns of [`read_ended`].
pub(crate) const ENDED: &str = "SELECT unit, first_item, end_item, state, output_bytes, reason FROM units";

pub(crate) fn read_ended(row: &Row) -> Result<Ended, Fault> {
    Ended::read(row, 0)
}

impl Ended {
    /// A unit of the columns [`ENDED`], where other columns go before.
    pub(crate) fn read(row: &Row, before: usize) -> Result<Self, Fault> {
        Ok(Self {
            unit: row.number(before)?,
            first: row.number(before + 1)?,
            end: row.number(before + 2)?,
            state: UnitState::of(&row.text(before + 3)?)?,
            bytes: row.number(before + 4)?,
            reason: row.opt_text(before + 5)?,
        })
    }
}

/// The leading units whose frames together hold about that many bytes; at least one.
pub(crate) fn within(units: &[Ended], bytes: u64) -> usize {
    let mut sum = 0_u64;
    let fits = units.iter().take_while(|unit| {
        let before = sum;
        sum = sum.saturating_add(unit.bytes);
        before == 0 || sum <= bytes
    });
    fits.count()
}

/// The frames of these units, in the same order.
pub(crate) async fn frames(tx: &mut Tx, job: JobId, units: &[Ended]) -> Result<Vec<Vec<u8>>, Fault> {
    let valid = units.iter().filter(|unit| unit.state == UnitState::Valid).map(|unit| values![job, unit.unit]);
    let rows = tx
        .all_many(
            "WITH k (job, unit) AS (VALUES",
            valid.collect(),
            ") SELECT o.unit, o.frame FROM k CROSS JOIN outputs o WHERE o.job = k.job AND o.unit = k.unit",
        )
        .await?;
    let mut found = std::collections::BTreeMap::new();
    for row in &rows {
        found.insert(row.number::<u32>(0)?, row.bytes(1)?);
    }
    let frame = |unit: &Ended| match unit.state {
        UnitState::Valid => {
            found.remove(&unit.unit).ok_or_else(|| Fault::data(format!("valid unit {job}.{} has no output", unit.unit)))
        }
        UnitState::Failed => failed_frame(unit),
        UnitState::Open | UnitState::Cancelled => Ok(Vec::new()),
    };
    units.iter().map(frame).collect()
}

/// A frame in which every item failed for the unit's reason.
fn failed_frame(unit: &Ended) -> Result<Vec<u8>, Fault> {
    let mut frame = ResultFrame::default();
    let reason = unit.reason.as_deref().unwrap_or("the unit was given up");
    for _item in unit.first..unit.end {
        frame.failed(reason)?;
    }
    Ok(frame.finish())
}

impl SqlStore {
    pub(crate) async fn try_stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<OutputPage, Fault> {
        let mut tx = self.read().await?;
        // Units do not overlap, so the one that holds `first` is the last that begins at or before it.
        let sql = format!(
            "{ENDED} WHERE job = $1 AND stage = $2 AND state IN ('valid', 'failed') AND end_item > $3 AND first_item < $4
            AND first_item >= COALESCE(
                (SELECT MAX(f.first_item) FROM units f WHERE f.job = $1 AND f.stage = $2 AND f.first_item <= $3), 0)
            AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = $1 AND j.results_gone_at IS NOT NULL)
            ORDER BY first_item"
        );
        let rows = tx.composed(sql, values![job, stage, first, end]).await?;
        let units = rows.iter().map(read_ended).collect::<Result<Vec<_>, Fault>>()?;
        let frames = frames(&mut tx, job, &units).await?;
        Ok(units.iter().zip(frames).map(|(unit, frame)| (unit.first, unit.end, frame)).collect())
    }

    pub(crate) async fn try_outputs(&self, job: JobId, from: u64) -> Result<OutputPage, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT state, last_stage, stage, assembled, results_gone_at FROM jobs WHERE id = $1";
        let Some(row) = tx.first(sql, values![job]).await? else { return Ok(Vec::new()) };
        if !row.flag(1)? || row.opt_int(4)?.is_some() {
            return Ok(Vec::new());
        }
        // While the job runs, only what is assembled is there without a gap.
        let end: i64 = if row.text(0)? == "running" { row.int(3)? } else { i64::MAX };
        let stage: u8 = row.number(2)?;
        let sql = format!(
            "{ENDED} WHERE job = $1 AND stage = $2 AND state IN ('valid', 'failed') AND end_item > $3 AND end_item <= $4
            AND first_item >= COALESCE(
                (SELECT MAX(f.first_item) FROM units f WHERE f.job = $1 AND f.stage = $2 AND f.first_item <= $3), 0)
            ORDER BY first_item LIMIT $5"
        );
        let rows = tx.composed(sql, values![job, stage, from, end, PAGE_UNITS]).await?;
        let mut units = rows.iter().map(read_ended).collect::<Result<Vec<_>, Fault>>()?;
        units.truncate(within(&units, PAGE_BYTES));
        let frames = frames(&mut tx, job, &units).await?;
        Ok(units.iter().zip(frames).map(|(unit, frame)| (unit.first, unit.end, frame)).collect())
    }

    pub(crate) async fn try_failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, Fault> {
        let mut tx = self.read().await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // A valid unit's failures are said in its output alone.
        let gone = tx.first("SELECT 1 FROM jobs WHERE id = $1 AND results_gone_at IS NOT NULL", values![job]).await?.is_some();
        let kept = if gone { " AND state = 'failed'" } else { "" };
        let sql = format!(
            "{ENDED} WHERE job = $1 AND stage = 0 AND failed_items > 0 AND end_item > $2{kept}
            AND first_item >= COALESCE(
                (SELECT MAX(f.first_item) FROM units f WHERE f.job = $1 AND f.stage = 0 AND f.first_item <= $2), 0)
            ORDER BY first_item LIMIT $3"
        );
        let (mut failed, mut from) = (Vec::new(), from);
        while failed.len() < limit {
            let rows = tx.composed(sql.clone(), vec![Value::from(job), Value::from(from), Value::from(FAILURE_UNITS)]).await?;
            let units = rows.iter().map(read_ended).collect::<Result<Vec<_>, Fault>>()?;
            let Some(last) = units.last() else { break };
            let next = last.end;
            for (unit, frame) in units.iter().zip(frames(&mut tx, job, &units).await?) {
                append_failed(&mut failed, unit.first, from, &frame)?;
            }
            from = next;
        }
        failed.truncate(limit);
        Ok(failed)
    }
}

/// Appends the failed items of a frame that begins with item `first`, from item `from` on.
fn append_failed(failed: &mut Vec<FailedItem>, first: u64, from: u64, frame: &[u8]) -> Result<(), Fault> {
    for (item, entry) in (first..).zip(frame::results(frame)?) {
        match entry {
            Entry::Failed(reason) if item >= from => {
                failed.push(FailedItem { item, reason: String::from_utf8_lossy(reason).into_owned() });
            }
            Entry::Failed(_) | Entry::Ok(_) => {}
        }
    }
    Ok(())
}
