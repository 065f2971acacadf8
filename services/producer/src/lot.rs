//! A lot: the units and replicas that one round of dispatch gives to one pool, with the messages that carry them.

use std::collections::VecDeque;
use std::ops::Range;

use ports::broker::{Outgoing, Properties};
use ports::store::{Assignment, ClaimedJob, Cursor, Dispatch, DueReplica, NewUnit};
use protocol::address::{self, WORK_EXCHANGE};
use protocol::job::UnitSizing;
use protocol::unit::{Call, Items, Slice, Work};
use protocol::{Format, JobId, Message, Micros, PoolName, ReplicaKey, UnitKey};
use rules::budget::Budget;
use rules::fair::Contender;
use rules::lanes::Lanes;
use rules::sizing::{self, Measured};
use rules::{split, tree};

use crate::Producer;
use crate::inputs::{self, Stretch};
use crate::trouble::DispatchError;

/// A lot is sent at this size, so that a round holds little memory however wide the pool is.
const MAX_LOT_BYTES: usize = 32 << 20;
/// And at this number of messages: one window of confirms.
const MAX_LOT_MESSAGES: usize = 2_000;
/// Of a job of which so many due replicas cannot be placed no more units are cut.
pub(crate) const MAX_WAITING: u32 = 64;

/// A claimed job in a round of dispatch.
pub(crate) struct Runner {
    pub(crate) job: ClaimedJob,
    pub(crate) due: VecDeque<DueReplica>,
    /// How many replicas were due in this round and could not be placed.
    passed_over: u32,
    pub(crate) measured: Measured,
    /// What it may still cut, if it has a budget.
    budget: Option<Budget>,
    /// Whether it turned out that nothing of it can be sent: it contends no more.
    pub(crate) in_trouble: bool,
    /// The number the next unit had when the job was claimed.
    cut_from: u32,
    time_limit_ms: u32,
}

impl Runner {
    /// With the time that a unit may compute.
    pub(crate) fn new(job: ClaimedJob, time_limit_ms: u32) -> Self {
        let progress = job.progress;
        let measured = Measured {
            items: progress.items,
            units: progress.units,
            fuel: progress.fuel,
            compute_us: progress.compute_us,
            output_bytes: progress.output_bytes,
        };
        let cut_from = job.cursor.unit;
        let budget = Budget::of(job.spec.budget_fuel, &job.spec.limits, job.spent, job.open_items);
        Self { job, due: VecDeque::new(), passed_over: 0, measured, budget, in_trouble: false, cut_from, time_limit_ms }
    }

    /// What the job contends with for the lanes of a pool of which that much is measured; `None` if nothing can be placed now.
    /// What cannot be placed of what is due was [passed over](Self::pass_over) before.
    pub(crate) fn contender(&self, lanes: &Lanes, pool: &Measured) -> Option<Contender> {
        if self.in_trouble {
            return None;
        }
        let cost_us = if let Some(due) = self.due.front() {
            sizing::charge_us(due.end - due.first, &self.measured, pool)
        } else if self.passed_over >= MAX_WAITING {
            return None;
        } else {
            let range = self.next_range()?;
            let (items, quorum) = (range.end - range.start, self.job.spec.quorum);
            let placed = lanes.has_room(usize::from(quorum), &[]);
            placed.then(|| sizing::charge_us(items, &self.measured, pool).saturating_mul(quorum.into()))?
        };
        Some(Contender { customer: self.job.customer.clone(), weight: self.job.weight, cost_us })
    }

    /// How many replicas are sent when its turn comes: one that is due, or all those of a new unit.
    pub(crate) fn replicas(&self) -> u32 {
        if self.due.is_empty() { self.job.spec.quorum.into() } else { 1 }
    }

    /// Passes over what is due and cannot be placed, as it waits for a further host: it holds up no others. Within a round room only
    /// shrinks, so it is not looked at again. Whether there was any so far.
    pub(crate) fn pass_over(&mut self, lanes: &Lanes) -> bool {
        while self.due.front().is_some_and(|due| !is_placeable(due, lanes)) {
            self.due.pop_front();
            self.passed_over += 1;
        }
        self.passed_over > 0
    }

    /// The items of the next unit; `None` if all are cut, or if the budget suffices for none.
    fn next_range(&self) -> Option<Range<u64>> {
        let room = self.budget.map_or(u64::MAX, |budget| budget.room());
        let Cursor { item, .. } = self.job.cursor;
        if room == 0 { None } else { split::next_range(item, self.job.stage_items, self.next_size().min(room)) }
    }

    fn next_size(&self) -> u64 {
        // Half the time limit at most: what is measured is a mean, and a unit that takes too long is computed for nothing.
        let target_ms = self.job.spec.unit.target_ms.min(self.time_limit_ms / 2);
        sizing::next_unit_items(&self.measured, &UnitSizing { target_ms, ..self.job.spec.unit })
    }

    fn stretch(&self, stage: u8, items: (u64, u64), first_byte: u64, may_shrink: bool) -> Stretch<'_> {
        let (first, end) = items;
        let items_below = self.items_below(stage);
        let input = &self.job.spec.input;
        Stretch { job: self.job.id, input, stage, first, end, first_byte, items_below, may_shrink }
    }

    /// How many items the stage below has.
    fn items_below(&self, stage: u8) -> u64 {
        let mut items = self.job.items;
        for _ in 1..stage {
            items = tree::nodes_above(items);
        }
        items
    }
}

/// The lane that a replica was given before, though the broker did not confirm it: it goes there again, whatever room the lane
/// has. Nobody may serve that lane any more; then it is placed anew.
fn assigned(due: &DueReplica, lanes: &Lanes) -> Option<u16> {
    due.lane.filter(|lane| lanes.is_live(*lane))
}

fn is_placeable(due: &DueReplica, lanes: &Lanes) -> bool {
    assigned(due, lanes).is_some() || lanes.has_room(1, &avoided(due, lanes))
}

/// The lanes that a replica is not placed on.
fn avoided(due: &DueReplica, lanes: &Lanes) -> Vec<u16> {
    lanes.avoided(&due.taken, &due.computing, &due.disputed)
}

/// What one round gives to one pool.
pub(crate) struct Lot {
    pool: PoolName,
    time_limit_ms: u32,
    step: Dispatch,
    messages: Vec<(ReplicaKey, Outgoing)>,
    bytes: usize,
}

impl Lot {
    pub(crate) fn new(pool: PoolName, now: Micros, time_limit_ms: u32) -> Self {
        let step = Dispatch { at: now, ..Dispatch::default() };
        Self { pool, time_limit_ms, step, messages: Vec::new(), bytes: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= MAX_LOT_BYTES || self.messages.len() >= MAX_LOT_MESSAGES
    }

    /// The step to be recorded, and the messages to be sent once it is.
    pub(crate) fn finish(self) -> (Dispatch, Vec<(ReplicaKey, Outgoing)>) {
        (self.step, self.messages)
    }

    /// Takes the job's next replica that is due, or else cuts its next unit. If that fails, nothing is taken, and no lane's
    /// place with it.
    pub(crate) async fn take(
        &mut self,
        producer: &Producer,
        runner: &mut Runner,
        lanes: &mut Lanes,
    ) -> Result<(), DispatchError> {
        match runner.due.pop_front() {
            Some(due) => self.again(producer, runner, due, lanes).await,
            None => self.cut(producer, runner, lanes).await,
        }
    }

    async fn again(
        &mut self,
        producer: &Producer,
        runner: &Runner,
        due: DueReplica,
        lanes: &mut Lanes,
    ) -> Result<(), DispatchError> {
        let stretch = runner.stretch(due.stage, (due.first, due.end), due.bytes.0, false);
        let read = inputs::read(producer, stretch).await?;
        let slice = Slice { stage: due.stage, first: due.first, end: due.end };
        let sheet = Sheet { slice, items: read.items };
        let letter = self.letter(&runner.job, due.key, &sheet)?;
        let lane = if let Some(lane) = assigned(&due, lanes) {
            lanes.take(lane);
            lane
        } else {
            let Some(placed) = lanes.place(1, &avoided(&due, lanes)) else { return Ok(()) };
            let lane = placed[0];
            self.step.assignments.push(Assignment { key: due.key, lane });
            lane
        };
        self.post(letter, lane);
        Ok(())
    }

    async fn cut(&mut self, producer: &Producer, runner: &mut Runner, lanes: &mut Lanes) -> Result<(), DispatchError> {
        let cursor = runner.job.cursor;
        let Some(range) = runner.next_range() else { return Ok(()) };
        let stretch = runner.stretch(cursor.stage, (range.start, range.end), cursor.byte, true);
        let read = inputs::read(producer, stretch).await?;
        let key = UnitKey { job: runner.job.id, unit: cursor.unit };
        let slice = Slice { stage: cursor.stage, first: range.start, end: read.end };
        let sheet = Sheet { slice, items: read.items };
        let quorum = runner.job.spec.quorum;
        let letters = (0..quorum.into()).map(|replica| self.letter(&runner.job, key.replica(replica), &sheet));
        let letters = letters.collect::<Result<Vec<_>, _>>()?;
        let Some(placed) = lanes.place(usize::from(quorum), &[]) else { return Ok(()) };
        for (letter, lane) in letters.into_iter().zip(&placed) {
            self.post(letter, *lane);
        }
        let bytes = (cursor.byte, read.end_byte);
        self.step.cuts.push(NewUnit { key, stage: cursor.stage, first: range.start, end: read.end, bytes, lanes: placed });
        let moved = Cursor { item: read.end, byte: read.end_byte, unit: cursor.unit + 1, ..cursor };
        runner.job.cursor = moved;
        if let Some(budget) = &mut runner.budget {
            budget.cut(read.end - range.start);
        }
        self.move_cursor(runner.job.id, runner.cut_from, moved);
        Ok(())
    }

    fn move_cursor(&mut self, job: JobId, cut_from: u32, moved: Cursor) {
        match self.step.cursors.iter_mut().find(|(known, _, _)| *known == job) {
            Some((_, _, cursor)) => *cursor = moved,
            None => self.step.cursors.push((job, cut_from, moved)),
        }
    }

    /// What carries a replica, but for its lane.
    fn letter(&self, job: &ClaimedJob, replica: ReplicaKey, sheet: &Sheet) -> Result<Letter, DispatchError> {
        let call = match (sheet.slice.stage, job.last_stage) {
            (0, _) => Call::Map,
            (_, true) => Call::ReduceAndFinish,
            (_, false) => Call::Reduce,
        };
        let work = Work {
            replica,
            customer: job.customer.clone(),
            brief: job.brief,
            call,
            slice: sheet.slice,
            items: sheet.items.clone(),
            time_limit_ms: self.time_limit_ms,
            traceparent: job.traceparent.clone(),
        };
        let body = work.to_bytes(Format::MessagePack)?;
        let properties = Properties {
            message_id: replica.to_string(),
            kind: Work::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            traceparent: job.traceparent.clone(),
            ..Properties::default()
        };
        Ok(Letter { replica, properties, body })
    }

    fn post(&mut self, letter: Letter, lane: u16) {
        let Letter { replica, properties, body } = letter;
        self.bytes = self.bytes.saturating_add(body.len());
        let routing_key = address::work_key(&self.pool, lane);
        self.messages.push((replica, Outgoing { exchange: WORK_EXCHANGE.to_owned(), routing_key, properties, body }));
    }
}

/// A message that has no lane yet.
struct Letter {
    replica: ReplicaKey,
    properties: Properties,
    body: Vec<u8>,
}

/// What a unit's replicas have in common.
struct Sheet {
    slice: Slice,
    items: Items,
}
