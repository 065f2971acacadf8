//! A job's row, with its units and their replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ports::store::{JobFacts, JobProgress, JobSums, NewJob, NewUnit, ReplicaFacts, ReplicaState, UnitFacts, UnitState};
use protocol::head::JobHead;
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::{Micros, OutputChain, UnitKey};

/// A job.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "a row: each is a column of its own, and any may be set with any other")]
pub(super) struct Job {
    /// What never changes.
    pub(super) admitted: Arc<NewJob>,
    pub(super) state: JobState,
    pub(super) cancel_requested: bool,
    pub(super) paused: bool,
    /// How it will end before its time.
    pub(super) ending: Option<JobState>,
    /// Whether something happened that assembling has not yet seen.
    pub(super) to_assemble: bool,
    pub(super) stage_items: u64,
    pub(super) last_stage: bool,
    /// Where the stage is cut next: the item, and where it begins in the input's blob.
    pub(super) cursor: (u64, u64),
    pub(super) tally: Tally,
    /// Items of the stage that are assembled.
    pub(super) assembled: u64,
    pub(super) chain: OutputChain,
    pub(super) items_chain: Option<OutputChain>,
    /// Counts of stage 0 over what is assembled.
    pub(super) items: ItemCounts,
    pub(super) parts: u32,
    /// Those before the first that was withheld.
    pub(super) parts_sent: u32,
    pub(super) progress_at: Option<Micros>,
    /// When and with what proof it ended.
    pub(super) ended: Option<(Micros, Certificate)>,
    /// Since when its outputs are no longer to be read.
    pub(super) results_gone_at: Option<Micros>,
    /// Who dispatches it, and until when.
    pub(super) lease: Option<(String, Micros)>,
    pub(super) units: BTreeMap<u32, Unit>,
    /// Units by stage and first item.
    pub(super) by_item: BTreeMap<(u8, u64), u32>,
    /// Due replicas by the time they are due at.
    pub(super) due: BTreeSet<(Micros, u32, u16)>,
    /// Sent replicas by their deadline.
    pub(super) sent: BTreeSet<(Micros, u32, u16)>,
}

/// A job's numbers that change as its units settle.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) stage: u8,
    pub(super) next_unit: u32,
    pub(super) progress: JobProgress,
    pub(super) sums: JobSums,
    pub(super) failed_units: u64,
    pub(super) last_reason: Option<String>,
}

/// A unit.
#[derive(Clone)]
pub(super) struct Unit {
    pub(super) stage: u8,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) bytes: (u64, u64),
    pub(super) result: UnitResult,
    /// The number of its first part, once it is assembled in the last stage.
    pub(super) part: Option<u32>,
    pub(super) replicas: BTreeMap<u16, Replica>,
}

/// What became of a unit.
#[derive(Clone)]
pub(super) struct UnitResult {
    pub(super) state: UnitState,
    /// Items without an output; all of them in a failed unit, which says why.
    pub(super) failed_items: u64,
    pub(super) output_bytes: u64,
    pub(super) reason: Option<String>,
    /// A valid unit's output.
    pub(super) frame: Arc<Vec<u8>>,
}

/// A replica.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) facts: ReplicaFacts,
    pub(super) not_before: Micros,
    pub(super) deadline: Micros,
    /// Why it failed, was lost or given back.
    pub(super) reason: Option<String>,
}

impl Job {
    /// A job as it is admitted.
    pub(super) fn new(admitted: NewJob) -> Self {
        Self {
            state: JobState::Running,
            cancel_requested: false,
            paused: false,
            ending: None,
            to_assemble: admitted.items == 0,
            stage_items: admitted.items,
            last_stage: !admitted.spec.reduce,
            cursor: (0, 0),
            tally: Tally::default(),
            assembled: 0,
            chain: OutputChain::default(),
            items_chain: None,
            items: ItemCounts { submitted: admitted.items, ..ItemCounts::default() },
            parts: 0,
            parts_sent: 0,
            progress_at: None,
            ended: None,
            results_gone_at: None,
            lease: None,
            units: BTreeMap::new(),
            by_item: BTreeMap::new(),
            due: BTreeSet::new(),
            sent: BTreeSet::new(),
            admitted: Arc::new(admitted),
        }
    }

    /// The job as settling and assembling see it.
    pub(super) fn facts(&self) -> JobFacts {
        let admitted = &*self.admitted;
        JobFacts {
            id: admitted.id,
            customer: admitted.customer.clone(),
            correlation_id: admitted.correlation_id.clone(),
            content_type: admitted.content_type.clone(),
            traceparent: admitted.traceparent.clone(),
            spec: JobHead::from(&admitted.spec),
            meter: admitted.meter.clone(),
            state: self.state,
            next_unit: self.tally.next_unit,
            admitted_at: admitted.admitted_at,
            deadline_at: admitted.deadline_at,
            cancel_requested: self.cancel_requested,
            ending: self.ending,
        }
    }

    /// Items of its units that are not decided.
    pub(super) fn open_items(&self) -> u64 {
        let open = self.units.values().filter(|unit| unit.result.state == UnitState::Open);
        open.map(|unit| unit.end - unit.first).sum()
    }

    /// The same where a budget asks for it.
    pub(super) fn reserved_items(&self) -> u64 {
        if self.admitted.spec.budget_fuel.is_some() { self.open_items() } else { 0 }
    }

    /// Whether a unit of that number, or one that begins with that item of that stage, is there.
    pub(super) fn has_unit(&self, unit: u32, stage: u8, first: u64) -> bool {
        self.units.contains_key(&unit) || self.by_item.contains_key(&(stage, first))
    }

    /// Adds an open unit, its first replicas due on its lanes since that time.
    pub(super) fn add_unit(&mut self, new: &NewUnit, at: Micros) {
        let unit = Unit {
            stage: new.stage,
            first: new.first,
            end: new.end,
            bytes: new.bytes,
            result: UnitResult::open(),
            part: None,
            replicas: BTreeMap::new(),
        };
        self.units.insert(new.key.unit, unit);
        self.by_item.insert((new.stage, new.first), new.key.unit);
        for (number, lane) in (0_u16..).zip(&new.lanes) {
            self.add_due(new.key.unit, number, at);
            self.change(new.key.unit, number, |replica| replica.facts.lane = Some(*lane));
        }
    }

    /// Adds a replica that becomes due at that time, unless it is there.
    pub(super) fn add_due(&mut self, unit: u32, replica: u16, not_before: Micros) {
        let Some(row) = self.units.get_mut(&unit) else { return };
        row.replicas.entry(replica).or_insert_with(|| {
            self.due.insert((not_before, unit, replica));
            Replica::due(replica, not_before)
        });
    }

    /// Changes a replica, if it is there.
    pub(super) fn change(&mut self, unit: u32, replica: u16, change: impl FnOnce(&mut Replica)) {
        let Some(row) = self.units.get_mut(&unit).and_then(|unit| unit.replicas.get_mut(&replica)) else { return };
        self.due.remove(&(row.not_before, unit, replica));
        self.sent.remove(&(row.deadline, unit, replica));
        change(row);
        match row.facts.state {
            ReplicaState::Due => self.due.insert((row.not_before, unit, replica)),
            ReplicaState::Sent => self.sent.insert((row.deadline, unit, replica)),
            ReplicaState::Lost | ReplicaState::Computed | ReplicaState::Failed | ReplicaState::Interrupted => false,
        };
    }

    /// A replica, if it is there.
    pub(super) fn replica(&self, unit: u32, replica: u16) -> Option<&Replica> {
        self.units.get(&unit)?.replicas.get(&replica)
    }
}

impl Unit {
    /// The unit as settling sees it.
    pub(super) fn facts(&self, key: UnitKey) -> UnitFacts {
        UnitFacts {
            key,
            stage: self.stage,
            first: self.first,
            end: self.end,
            bytes: self.bytes,
            state: self.result.state,
            replicas: self.replicas.values().map(|replica| replica.facts.clone()).collect(),
        }
    }
}

impl UnitResult {
    /// None yet.
    pub(super) fn open() -> Self {
        Self { state: UnitState::Open, failed_items: 0, output_bytes: 0, reason: None, frame: Arc::default() }
    }
}

impl Replica {
    fn due(replica: u16, not_before: Micros) -> Self {
        let facts = ReplicaFacts { replica, lane: None, state: ReplicaState::Due, host: None, vote: None };
        Self { facts, not_before, deadline: Micros(0), reason: None }
    }
}
