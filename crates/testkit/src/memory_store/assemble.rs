//! Assembling: ended units in item order become parts, stages, and a job's end.

use ports::store::{Assemble, Assembly, AssemblyView, JobProgress, ReplicaState, StageStep, UnitState, Unsent};
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::{JobId, Micros, OutputChain};

use super::fault::Refused;
use super::outputs::within;
use super::rows::{Job, Unit};
use super::state::{State, rows};

/// About how many bytes of frames are assembled in one transaction.
const PAGE_BYTES: u64 = 16 << 20;

impl State {
    pub(super) fn jobs_to_assemble(&self, now: Micros, limit: u32) -> Vec<JobId> {
        let late = |job: &Job| job.admitted.deadline_at.is_some_and(|deadline| deadline <= now);
        let found = self.running().filter(|(_, job)| job.to_assemble || late(job));
        found.take(rows(limit)).map(|(id, _)| id).collect()
    }

    pub(super) fn assemble(&mut self, id: JobId, max_units: u32, now: Micros, decide: Assemble) -> Result<Option<bool>, Refused> {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == JobState::Running) else { return Ok(None) };
        let unsent = self.outbox.unsent(&job.admitted.customer);
        let (view, full) = job.assembly_view(max_units, unsent)?;
        let assembly = decide(&view);
        let next_stage = job.check_step(&assembly.step)?;
        let page_end = view.units.last().map_or(view.assembled, |(_, end, _, _)| *end);
        let left = assembly.assembled < page_end;
        let ending = view.job.ending.is_some() || matches!(assembly.step, StageStep::Cancel { .. });
        let more = ending || full || (left && assembly.assembled > view.assembled);
        job.advance(&assembly);
        job.number(&assembly);
        job.to_assemble = more || left;
        let more = match assembly.step {
            StageStep::Stay => more,
            StageStep::Next { stage_items, last_stage } => {
                job.begin_stage(next_stage, stage_items, last_stage);
                true
            }
            StageStep::Cancel { state } => {
                job.ending = Some(state);
                job.close_open();
                true
            }
            StageStep::End { state, certificate } => {
                job.end(state, certificate, now);
                self.running.remove(&id);
                false
            }
        };
        for reply in assembly.replies {
            self.outbox.write(reply);
        }
        Ok(Some(more))
    }
}

impl Job {
    /// What assembling continues from, and whether there may be more units than it shows.
    fn assembly_view(&self, max_units: u32, unsent: Unsent) -> Result<(AssemblyView, bool), Refused> {
        let (units, full) = self.ended_units(max_units);
        let units = units.iter().map(|unit| Ok((unit.first, unit.end, unit.result.state, unit.frame()?)));
        let view = AssemblyView {
            job: self.facts(),
            stage: self.tally.stage,
            stage_items: self.stage_items,
            last_stage: self.last_stage,
            cut: self.cursor.0,
            open_items: self.reserved_items(),
            assembled: self.assembled,
            chain: self.chain,
            items_chain: self.items_chain,
            items: self.items,
            parts: self.parts,
            parts_sent: self.parts_sent,
            unsent,
            units: units.collect::<Result<_, Refused>>()?,
            sums: self.tally.sums,
            progress_at: self.progress_at,
        };
        Ok((view, full))
    }

    /// The next ended units without a gap, and whether there may be more of them.
    fn ended_units(&self, max_units: u32) -> (Vec<&Unit>, bool) {
        let stage = self.tally.stage;
        let places = self.by_item.range((stage, self.assembled)..=(stage, u64::MAX)).take(rows(max_units));
        let mut units = Vec::new();
        let mut next = self.assembled;
        for unit in places.filter_map(|(_, number)| self.units.get(number)) {
            if unit.first != next || unit.result.state == UnitState::Open {
                break;
            }
            next = unit.end;
            units.push(unit);
        }
        let fits = within(&units, PAGE_BYTES);
        let full = fits < units.len() || units.len() >= rows(max_units);
        units.truncate(fits);
        (units, full)
    }

    /// The number of the stage after this one, if the step can be taken.
    fn check_step(&self, step: &StageStep) -> Result<u8, Refused> {
        let next = self.tally.stage.checked_add(1);
        let id = self.admitted.id;
        match step {
            StageStep::Next { .. } => next.ok_or_else(|| Refused(format!("job {id} has no number left for a further stage"))),
            StageStep::Cancel { state } | StageStep::End { state, .. } if !state.is_terminal() => {
                Err(Refused(format!("job {id} cannot end as {state:?}")))
            }
            StageStep::Stay | StageStep::Cancel { .. } | StageStep::End { .. } => Ok(next.unwrap_or(u8::MAX)),
        }
    }

    fn advance(&mut self, assembly: &Assembly) {
        self.assembled = assembly.assembled;
        self.chain = assembly.chain;
        self.items_chain = assembly.items_chain.or(self.items_chain);
        self.items = ItemCounts { submitted: self.items.submitted, ..assembly.items };
        self.parts = assembly.parts;
        self.parts_sent = assembly.parts_sent.min(assembly.parts);
        self.progress_at = assembly.progress_at.or(self.progress_at);
    }

    /// Units that are now assembled get the numbers of their first parts.
    fn number(&mut self, assembly: &Assembly) {
        if !self.last_stage {
            return;
        }
        for (first, part) in &assembly.numbered {
            let unit = self.by_item.get(&(self.tally.stage, *first)).and_then(|number| self.units.get_mut(number));
            if let Some(unit) = unit.filter(|unit| unit.end <= assembly.assembled) {
                unit.part = Some(*part);
            }
        }
    }

    /// The next stage begins: nothing of it is cut, measured or assembled.
    fn begin_stage(&mut self, stage: u8, stage_items: u64, last_stage: bool) {
        self.tally.stage = stage;
        self.tally.progress = JobProgress::default();
        self.stage_items = stage_items;
        self.last_stage = last_stage;
        self.cursor = (0, 0);
        self.assembled = 0;
        self.chain = OutputChain::default();
        self.to_assemble = stage_items == 0 || self.admitted.spec.budget_fuel.is_some();
    }

    /// The job ends; what is open is cancelled.
    fn end(&mut self, state: JobState, certificate: Certificate, now: Micros) {
        self.state = state;
        self.ended = Some((now, certificate));
        self.to_assemble = false;
        self.close_open();
    }

    /// Nothing of the job is cut, sent or settled any more.
    fn close_open(&mut self) {
        self.lease = None;
        self.due.clear();
        self.sent.clear();
        for unit in self.units.values_mut() {
            for replica in unit.replicas.values_mut() {
                match replica.facts.state {
                    ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost => {
                        replica.facts.state = ReplicaState::Interrupted;
                    }
                    ReplicaState::Computed | ReplicaState::Failed | ReplicaState::Interrupted => {}
                }
            }
            if unit.result.state == UnitState::Open {
                unit.result.state = UnitState::Cancelled;
            }
        }
    }
}
