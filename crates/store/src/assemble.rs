//! Assembling: ended units in item order become parts, stages, and a job's end.

use std::collections::BTreeSet;

use ports::store::{Assemble, Assembly, AssemblyView, StageStep, UnitState, Unsent};
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::{Format, JobId, OutputChain, codec};

use crate::connect::SqlStore;
use crate::facts::OPEN_ITEMS;
use crate::fault::Fault;
use crate::outputs::{ENDED, Ended, frames, read_ended, within};
use crate::sql::{Row, Tx, values};
use crate::states::Spelled as _;
use crate::{facts, job_blobs, outbox, parts};

/// About how many bytes of frames are assembled in one transaction.
const PAGE_BYTES: u64 = 16 << 20;

/// The columns of [`read_view`], after those of [`facts::JOB`] and before its open items.
const ASSEMBLY: &str = "SELECT id, items, stage_items, last_stage, assembled, chain, items_chain,
    assembled_succeeded, assembled_failed, assembled_cancelled, parts, progress_at, parts_sent, numbered, cursor_item";

impl SqlStore {
    pub(crate) async fn try_assemble(
        &self,
        job: JobId,
        max_units: u32,
        decide: &mut Option<Assemble>,
    ) -> Result<Option<bool>, Fault> {
        let mut tx = self.write().await?;
        let found = facts::jobs(&mut tx, &self.specs, &BTreeSet::from([job])).await?;
        let Some((facts, tally)) = found.into_iter().next().filter(|(facts, _)| facts.state == JobState::Running) else {
            return Ok(None);
        };
        let sql = format!("{ASSEMBLY}, {OPEN_ITEMS} FROM jobs j WHERE id = $1");
        let rows = tx.composed(sql, values![job]).await?;
        let row = rows.first().ok_or_else(|| Fault::data(format!("job {job} is gone")))?;
        let mut view = read_view(row, facts, &tally)?;
        view.unsent = outbox::unsent(&mut tx, &view.job.customer).await?;
        let (units, full) = ended_units(&mut tx, &view, max_units).await?;
        let page_end = units.last().map_or(view.assembled, |unit| unit.end);
        let frames = frames(&mut tx, job, &units).await?;
        view.units = units.iter().zip(frames).map(|(unit, frame)| (unit.first, unit.end, unit.state, frame)).collect();
        let decide = decide.take().ok_or_else(|| Fault::data("the decision was already taken"))?;
        let assembly = decide(&view);
        let left = assembly.assembled < page_end;
        let ending = view.job.ending.is_some() || matches!(assembly.step, StageStep::Cancel { .. });
        let more = ending || full || (left && assembly.assembled > view.assembled);
        outbox::write(&mut tx, &assembly.replies).await?;
        write_progress(&mut tx, job, &assembly, more || left).await?;
        // Where units before these have no number, theirs would be found as if they were the first: they are numbered in turn.
        if view.last_stage && row.number::<u64>(13)? == view.assembled {
            parts::number(&mut tx, job, &units, &assembly).await?;
        }
        let more = match &assembly.step {
            StageStep::Stay => more,
            StageStep::Next { stage_items, last_stage } => {
                next_stage(&mut tx, job, *stage_items, *last_stage).await?;
                true
            }
            StageStep::Cancel { state } => {
                cancel_open(&mut tx, job, *state).await?;
                true
            }
            StageStep::End { state, certificate } => {
                self.end_job(&mut tx, job, *state, certificate).await?;
                false
            }
        };
        tx.commit().await?;
        Ok(Some(more))
    }

    async fn end_job(&self, tx: &mut Tx, job: JobId, state: JobState, certificate: &Certificate) -> Result<(), Fault> {
        if !state.is_terminal() {
            return Err(Fault::data(format!("job {job} cannot end as {}", state.text())));
        }
        let certificate = codec::encode("certificate", certificate, Format::MessagePack)?;
        let end = "UPDATE jobs SET state = $2, certificate = $3, ended_at = $4, to_assemble = 0 WHERE id = $1";
        tx.run(end, values![job, state.text(), certificate, self.clock.now()]).await?;
        job_blobs::forget(tx, job).await?;
        close_open(tx, job).await
    }
}

/// Nothing of the job is cut, sent or settled any more.
async fn cancel_open(tx: &mut Tx, job: JobId, state: JobState) -> Result<(), Fault> {
    if !state.is_terminal() {
        return Err(Fault::data(format!("job {job} cannot end as {}", state.text())));
    }
    tx.run("UPDATE jobs SET ending = $2 WHERE id = $1", values![job, state.text()]).await?;
    close_open(tx, job).await
}

async fn close_open(tx: &mut Tx, job: JobId) -> Result<(), Fault> {
    // One statement a state, and conditions that are always true: they lead the planners to the indices of the few rows that
    // are open. Any other way reads all rows of the job, of which there may be tens of millions.
    let due = "UPDATE replicas SET state = 'interrupted' WHERE job = $1 AND state = 'due' AND not_before >= 0";
    let sent = "UPDATE replicas SET state = 'interrupted' WHERE job = $1 AND state = 'sent' AND deadline > -1";
    let lost = "UPDATE replicas SET state = 'interrupted' WHERE job = $1 AND state = 'lost' AND not_before >= 0";
    let units = "UPDATE units SET state = 'cancelled' WHERE job = $1 AND state = 'open' AND first_item >= 0";
    for close in [due, sent, lost, units] {
        tx.run(close, values![job]).await?;
    }
    tx.run("DELETE FROM leases WHERE job = $1", values![job]).await?;
    Ok(())
}

/// The next ended units without a gap, and whether there may be more of them.
async fn ended_units(tx: &mut Tx, view: &AssemblyView, max_units: u32) -> Result<(Vec<Ended>, bool), Fault> {
    let sql = format!("{ENDED} WHERE job = $1 AND stage = $2 AND first_item >= $3 ORDER BY first_item LIMIT $4");
    let rows = tx.composed(sql, values![view.job.id, view.stage, view.assembled, max_units]).await?;
    let mut units = Vec::new();
    let mut next = view.assembled;
    for row in &rows {
        let unit = read_ended(row)?;
        if unit.first != next || unit.state == UnitState::Open {
            break;
        }
        next = unit.end;
        units.push(unit);
    }
    let fits = within(&units, PAGE_BYTES);
    let full = fits < units.len() || u32::try_from(units.len()).unwrap_or(u32::MAX) >= max_units;
    units.truncate(fits);
    Ok((units, full))
}

fn read_view(row: &Row, job: ports::store::JobFacts, tally: &facts::Tally) -> Result<AssemblyView, Fault> {
    let parts = row.number(10)?;
    Ok(AssemblyView {
        job,
        stage: tally.stage,
        stage_items: row.number(2)?,
        last_stage: row.flag(3)?,
        cut: row.number(14)?,
        open_items: row.number(15)?,
        assembled: row.number(4)?,
        chain: read_chain(&row.bytes(5)?)?,
        items_chain: row.opt_bytes(6)?.as_deref().map(read_chain).transpose()?,
        items: ItemCounts {
            submitted: row.number(1)?,
            succeeded: row.number(7)?,
            failed: row.number(8)?,
            cancelled: row.number(9)?,
        },
        parts,
        parts_sent: row.opt_number(12)?.unwrap_or(parts),
        unsent: Unsent::default(),
        units: Vec::new(),
        sums: tally.sums,
        progress_at: row.opt_time(11)?,
    })
}

fn read_chain(bytes: &[u8]) -> Result<OutputChain, Fault> {
    OutputChain::from_bytes(bytes).ok_or_else(|| Fault::data(format!("a chain of {} bytes", bytes.len())))
}

async fn write_progress(tx: &mut Tx, job: JobId, assembly: &Assembly, again: bool) -> Result<(), Fault> {
    let sql = "UPDATE jobs SET assembled = $2, chain = $3, items_chain = COALESCE($4, items_chain), assembled_succeeded = $5,
            assembled_failed = $6, assembled_cancelled = $7, parts = $8, progress_at = COALESCE($9, progress_at), to_assemble = $10,
            parts_sent = $11
        WHERE id = $1";
    let items = &assembly.items;
    let values = values![
        job,
        assembly.assembled,
        assembly.chain.to_bytes(),
        assembly.items_chain.map(|chain| chain.to_bytes()),
        items.succeeded,
        items.failed,
        items.cancelled,
        assembly.parts,
        assembly.progress_at,
        again,
        (assembly.parts_sent < assembly.parts).then(|| u64::from(assembly.parts_sent)),
    ];
    tx.run(sql, values).await?;
    Ok(())
}

/// The next stage begins: nothing of it is cut, measured or assembled. One that has nothing to compute is assembled at once, and so
/// is one that a budget may not suffice for: no unit of it would ever lead there.
async fn next_stage(tx: &mut Tx, job: JobId, stage_items: u64, last_stage: bool) -> Result<(), Fault> {
    let sql = "UPDATE jobs SET stage = stage + 1, stage_items = $2, last_stage = $3, cursor_item = 0, cursor_byte = 0,
            stage_valid_items = 0, stage_valid_units = 0, stage_fuel = 0, stage_compute_us = 0, stage_output_bytes = 0,
            assembled = 0, numbered = 0, chain = $4,
            to_assemble = CASE WHEN $2 = 0 OR budget IS NOT NULL THEN 1 ELSE 0 END
        WHERE id = $1";
    tx.run(sql, values![job, stage_items, last_stage, OutputChain::default().to_bytes()]).await?;
    Ok(())
}
