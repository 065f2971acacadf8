//! The decision on a job's assembly: what the rules make of the units that were decided, as one step to be written.

use std::sync::Arc;

use ports::store::{Assembly, AssemblyView, StageStep};
use protocol::job::JobState;
use protocol::{CustomerName, Micros};
use rules::assemble::{self, Progress};
use rules::budget::Budget;
use rules::invariants::{self, Invariant};
use rules::pricing::RateCard;

use super::Ended;
use super::delivery::{self, Earlier};
use super::replies::{self, Told};

/// What the transaction tells beyond what it writes.
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) ended: Option<Ended>,
    pub(super) broken: Option<(Invariant, String)>,
    pub(super) cut_short: bool,
    pub(super) customer: Option<CustomerName>,
    pub(super) error: Option<String>,
    /// What progress now says.
    pub(super) progress: Option<Told>,
    /// Nothing was written: the outputs before that item must be read first.
    pub(super) wants_earlier: Option<u64>,
}

/// All that the decision needs, owned, since it is taken inside the store's transaction.
pub(super) struct Drafter {
    pub(super) now: Micros,
    pub(super) rates: Option<Arc<RateCard>>,
    /// What progress said last.
    pub(super) told: Told,
    /// The outputs of a whole job.
    pub(super) earlier: Earlier,
}

/// A step that is to be written, or how far outputs must be read first.
enum Draft {
    Step(Box<Assembly>, Option<Told>),
    ReadFirst(u64),
}

impl Drafter {
    /// Decides.
    pub(super) fn decide(&self, view: &AssemblyView, aftermath: &mut Aftermath) -> Assembly {
        match self.draft(view) {
            Ok(Draft::Step(assembly, progress)) => {
                aftermath.customer = Some(view.job.customer.clone());
                aftermath.progress = progress;
                aftermath.broken = budget(view)
                    .filter(|budget| !invariants::budget_holds(budget))
                    .map(|budget| (Invariant::Budget, format!("{budget:?} is exceeded")));
                self.tell(view, &assembly.step, aftermath);
                *assembly
            }
            Ok(Draft::ReadFirst(before)) => {
                aftermath.wants_earlier = Some(before);
                unchanged(view)
            }
            Err(error) => {
                aftermath.error = Some(error);
                unchanged(view)
            }
        }
    }

    fn tell(&self, view: &AssemblyView, step: &StageStep, aftermath: &mut Aftermath) {
        match step {
            StageStep::End { state, certificate } => {
                aftermath.ended = Some(Ended::new(view, *state, self.now));
                let settled = (view.sums.items_succeeded, view.sums.items_failed);
                if !invariants::items_hold(&certificate.items, settled) {
                    let what = format!("{:?} are certified, {settled:?} were settled", certificate.items);
                    aftermath.broken = Some((Invariant::Items, what));
                }
            }
            StageStep::Cancel { .. } => aftermath.cut_short = true,
            StageStep::Stay | StageStep::Next { .. } => {}
        }
    }

    fn draft(&self, view: &AssemblyView) -> Result<Draft, String> {
        let mut assembly = unchanged(view);
        let mut progress = Progress { items: view.assembled, chain: view.chain, ..Progress::default() };
        for (first, end, state, output) in &view.units {
            progress.take((*first, *end, *state, output)).map_err(|e| service::told(&e))?;
        }
        delivery::number(view, &mut assembly)?;
        if view.job.ending.is_some() && view.units.is_empty() {
            progress.cancel(view.stage_items - view.assembled);
        }
        assembly.assembled = progress.items;
        assembly.chain = progress.chain;
        if view.stage == 0 {
            assembly.items.succeeded += progress.succeeded;
            assembly.items.failed += progress.failed;
            assembly.items.cancelled += progress.cancelled;
        }
        let stage_done = progress.items == view.stage_items;
        if stage_done && view.stage == 0 {
            assembly.items_chain = Some(progress.chain);
        }
        assembly.step = self.next_step(view, &assembly, stage_done);
        if let StageStep::End { state, certificate } = assembly.step.clone() {
            if let Err(before) = delivery::whole(view, &self.earlier, &mut assembly)? {
                return Ok(Draft::ReadFirst(before));
            }
            replies::completed(view, &mut assembly, state, &certificate, self.rates.as_deref()).map_err(|e| e.to_string())?;
        }
        let told = replies::progress(view, &mut assembly, self.told, self.now).map_err(|e| e.to_string())?;
        Ok(Draft::Step(Box::new(assembly), told))
    }

    fn next_step(&self, view: &AssemblyView, assembly: &Assembly, stage_done: bool) -> StageStep {
        if let Some(state) = view.job.ending {
            // What is assembled above stage 0 is of no use without the rest.
            return if stage_done || view.stage > 0 { end(view, assembly, state) } else { StageStep::Stay };
        }
        if stage_done {
            return match assemble::next_stage(view.stage_items, view.last_stage) {
                Some(stage_items) => StageStep::Next { stage_items, last_stage: assemble::is_last(stage_items) },
                None => end(view, assembly, JobState::Completed),
            };
        }
        if view.job.cancel_requested {
            StageStep::Cancel { state: JobState::Cancelled }
        } else if view.job.deadline_at.is_some_and(|deadline| deadline <= self.now) {
            StageStep::Cancel { state: JobState::Expired }
        } else if view.cut < view.stage_items && budget(view).is_some_and(|budget| budget.is_exhausted()) {
            StageStep::Cancel { state: JobState::Exhausted }
        } else {
            StageStep::Stay
        }
    }
}

fn budget(view: &AssemblyView) -> Option<Budget> {
    let spec = &view.job.spec;
    Budget::of(spec.budget_fuel, &spec.limits, view.sums.usage.fuel, view.open_items)
}

fn unchanged(view: &AssemblyView) -> Assembly {
    Assembly {
        assembled: view.assembled,
        chain: view.chain,
        items_chain: view.items_chain,
        items: view.items,
        parts: view.parts,
        parts_sent: view.parts_sent,
        numbered: Vec::new(),
        step: StageStep::Stay,
        replies: Vec::new(),
        progress_at: view.progress_at,
    }
}

fn end(view: &AssemblyView, assembly: &Assembly, state: JobState) -> StageStep {
    let reduced = state == JobState::Completed || (view.last_stage && view.stage == 0);
    let output = if reduced { assembly.chain } else { assemble::no_result() };
    let items_chain = assembly.items_chain.unwrap_or(assembly.chain);
    StageStep::End { state, certificate: assemble::certificate(assembly.items, items_chain, output) }
}
