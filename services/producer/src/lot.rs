//! A lot: the units and replicas that one round of dispatch gives to one pool, with the messages that carry them.

use std::collections::VecDeque;

use ports::broker::{Outgoing, Properties};
use ports::store::{Assignment, ClaimedJob, Cursor, Dispatch, DueReplica, NewUnit};
use protocol::address::{self, WORK_EXCHANGE};
use protocol::unit::{Call, Items, Slice, Work};
use protocol::{Format, JobId, Message, Micros, PoolName, ReplicaKey, UnitKey};
use rules::fair::Contender;
use rules::lanes::Lanes;
use rules::sizing::{self, Measured};
use rules::{split, tree};

use crate::Producer;
use crate::dispatch::DispatchError;
use crate::inputs::{self, Stretch};

/// A lot is sent at this size, so that a round holds little memory however wide the pool is.
const MAX_LOT_BYTES: usize = 32 << 20;
/// And at this number of messages: one window of confirms.
const MAX_LOT_MESSAGES: usize = 2_000;

/// A claimed job in a round of dispatch.
pub(crate) struct Runner {
    pub(crate) job: ClaimedJob,
    pub(crate) due: VecDeque<DueReplica>,
    measured: Measured,
    /// The number the next unit had when the job was claimed.
    cut_from: u32,
}

impl Runner {
    pub(crate) fn new(job: ClaimedJob) -> Self {
        let progress = job.progress;
        let measured = Measured {
            items: progress.items,
            units: progress.units,
            fuel: progress.fuel,
            compute_us: progress.compute_us,
            output_bytes: progress.output_bytes,
        };
        let cut_from = job.cursor.unit;
        Self { job, due: VecDeque::new(), measured, cut_from }
    }

    /// What the job contends with for the pool's lanes; `None` if nothing of it can be placed now.
    pub(crate) fn contender(&self, lanes: &Lanes) -> Option<Contender> {
        let cost_us = if let Some(due) = self.due.front() {
            let placed = due.lane.is_some() || lanes.has_room(1, &due.taken);
            placed.then(|| sizing::expected_us(due.end - due.first, &self.measured))?
        } else {
            let range = split::next_range(self.job.cursor.item, self.job.stage_items, self.next_size())?;
            let (items, quorum) = (range.end - range.start, self.job.spec.quorum);
            let placed = lanes.has_room(usize::from(quorum), &[]);
            placed.then(|| sizing::expected_us(items, &self.measured).saturating_mul(quorum.into()))?
        };
        Some(Contender { customer: self.job.customer.clone(), weight: self.job.weight, cost_us })
    }

    fn next_size(&self) -> u64 {
        sizing::next_unit_items(&self.measured, &self.job.spec.unit)
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

    /// Takes the job's next replica that is due, or else cuts its next unit.
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
        let lane = if let Some(lane) = due.lane {
            // It was given a lane, but the broker did not confirm it: the same lane, whatever room it has.
            lanes.take(lane);
            lane
        } else {
            let Some(placed) = lanes.place(1, &due.taken) else { return Ok(()) };
            let lane = placed[0];
            self.step.assignments.push(Assignment { key: due.key, lane });
            lane
        };
        let stretch = runner.stretch(due.stage, (due.first, due.end), due.bytes.0, false);
        let read = inputs::read(producer, stretch).await?;
        let slice = Slice { stage: due.stage, first: due.first, end: due.end };
        let sheet = Sheet { slice, items: read.items };
        self.message(&runner.job, due.key, lane, &sheet)
    }

    async fn cut(&mut self, producer: &Producer, runner: &mut Runner, lanes: &mut Lanes) -> Result<(), DispatchError> {
        let cursor = runner.job.cursor;
        let Some(range) = split::next_range(cursor.item, runner.job.stage_items, runner.next_size()) else { return Ok(()) };
        let Some(placed) = lanes.place(usize::from(runner.job.spec.quorum), &[]) else { return Ok(()) };
        let stretch = runner.stretch(cursor.stage, (range.start, range.end), cursor.byte, true);
        let read = inputs::read(producer, stretch).await?;
        let key = UnitKey { job: runner.job.id, unit: cursor.unit };
        let slice = Slice { stage: cursor.stage, first: range.start, end: read.end };
        let sheet = Sheet { slice, items: read.items };
        for (replica, lane) in (0..).zip(&placed) {
            self.message(&runner.job, key.replica(replica), *lane, &sheet)?;
        }
        let bytes = (cursor.byte, read.end_byte);
        self.step.cuts.push(NewUnit { key, stage: cursor.stage, first: range.start, end: read.end, bytes, lanes: placed });
        let moved = Cursor { item: read.end, byte: read.end_byte, unit: cursor.unit + 1, ..cursor };
        runner.job.cursor = moved;
        self.move_cursor(runner.job.id, runner.cut_from, moved);
        Ok(())
    }

    fn move_cursor(&mut self, job: JobId, cut_from: u32, moved: Cursor) {
        match self.step.cursors.iter_mut().find(|(known, _, _)| *known == job) {
            Some((_, _, cursor)) => *cursor = moved,
            None => self.step.cursors.push((job, cut_from, moved)),
        }
    }

    fn message(&mut self, job: &ClaimedJob, replica: ReplicaKey, lane: u16, sheet: &Sheet) -> Result<(), DispatchError> {
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
        self.bytes = self.bytes.saturating_add(body.len());
        let properties = Properties {
            message_id: replica.to_string(),
            kind: Work::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            traceparent: job.traceparent.clone(),
            ..Properties::default()
        };
        let routing_key = address::work_key(&self.pool, lane);
        self.messages.push((replica, Outgoing { exchange: WORK_EXCHANGE.to_owned(), routing_key, properties, body }));
        Ok(())
    }
}

/// What a unit's replicas have in common.
struct Sheet {
    slice: Slice,
    items: Items,
}
