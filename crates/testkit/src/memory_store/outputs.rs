//! Output frames of ended units in item order; a failed unit's frame is made from its reason.

use ports::store::{FailedItem, OutputPage, UnitState};
use protocol::JobId;
use protocol::frame::{self, Entry, ResultFrame};
use protocol::job::JobState;

use super::fault::Refused;
use super::rows::{Job, Unit};
use super::state::{State, rows};

/// About how many bytes of frames one page of outputs holds.
const PAGE_BYTES: u64 = 4 << 20;
/// How many units one page of outputs holds at most.
const PAGE_UNITS: usize = 1_000;

impl State {
    pub(super) fn stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<OutputPage, Refused> {
        let Some(job) = self.jobs.get(&job).filter(|job| job.results_gone_at.is_none()) else { return Ok(Vec::new()) };
        let units = job.units_from(stage, first).take_while(|unit| unit.first < end);
        units.filter(|unit| unit.has_frame()).map(page_row).collect()
    }

    pub(super) fn outputs(&self, job: JobId, from: u64) -> Result<OutputPage, Refused> {
        let Some(job) = self.jobs.get(&job).filter(|job| job.last_stage && job.results_gone_at.is_none()) else {
            return Ok(Vec::new());
        };
        // While the job runs, only what is assembled is there without a gap.
        let end = if job.state == JobState::Running { job.assembled } else { u64::MAX };
        let units = job.units_from(job.tally.stage, from).filter(|unit| unit.has_frame() && unit.end <= end);
        let units: Vec<&Unit> = units.take(PAGE_UNITS).collect();
        let fits = within(&units, PAGE_BYTES);
        units.into_iter().take(fits).map(page_row).collect()
    }

    pub(super) fn failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, Refused> {
        let Some(job) = self.jobs.get(&job) else { return Ok(Vec::new()) };
        let mut failed = Vec::new();
        // A valid unit's failures are said in its output alone.
        let known = |unit: &&Unit| job.results_gone_at.is_none() || unit.result.state == UnitState::Failed;
        for unit in job.units_from(0, from).filter(|unit| unit.result.failed_items > 0).filter(known) {
            if failed.len() >= rows(limit) {
                break;
            }
            append_failed(&mut failed, unit.first, from, &unit.frame()?)?;
        }
        failed.truncate(rows(limit));
        Ok(failed)
    }
}

impl Job {
    /// The units of a stage in item order, from the one that holds or follows that item.
    pub(super) fn units_from(&self, stage: u8, item: u64) -> impl Iterator<Item = &Unit> {
        // Units do not overlap, so the one that holds the item is the last that begins at or before it.
        let before = self.by_item.range((stage, 0)..=(stage, item)).next_back();
        let start = before.map_or((stage, item), |(place, _)| *place);
        let units = self.by_item.range(start..=(stage, u64::MAX)).filter_map(|(_, number)| self.units.get(number));
        units.filter(move |unit| unit.end > item)
    }
}

impl Unit {
    fn has_frame(&self) -> bool {
        match self.result.state {
            UnitState::Valid | UnitState::Failed => true,
            UnitState::Open | UnitState::Cancelled => false,
        }
    }

    /// Its output frame; a failed unit's has its reason for every item.
    pub(super) fn frame(&self) -> Result<Vec<u8>, Refused> {
        match self.result.state {
            UnitState::Valid => Ok(self.result.frame.to_vec()),
            UnitState::Failed => {
                let mut frame = ResultFrame::default();
                let reason = self.result.reason.as_deref().unwrap_or("the unit was given up");
                for _item in self.first..self.end {
                    frame.failed(reason)?;
                }
                Ok(frame.finish())
            }
            UnitState::Open | UnitState::Cancelled => Ok(Vec::new()),
        }
    }
}

/// The leading units whose frames together hold about that many bytes; at least one.
pub(super) fn within(units: &[&Unit], bytes: u64) -> usize {
    let mut sum = 0_u64;
    let fits = units.iter().take_while(|unit| {
        let before = sum;
        sum = sum.saturating_add(unit.result.output_bytes);
        before == 0 || sum <= bytes
    });
    fits.count()
}

fn page_row(unit: &Unit) -> Result<(u64, u64, Vec<u8>), Refused> {
    Ok((unit.first, unit.end, unit.frame()?))
}

/// Appends the failed items of a frame that begins with item `first`, from item `from` on.
fn append_failed(failed: &mut Vec<FailedItem>, first: u64, from: u64, frame: &[u8]) -> Result<(), Refused> {
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
