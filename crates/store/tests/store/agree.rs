//! The store in memory, on which the simulation stands, answers as the SQL store does, whatever it is asked.

use std::fmt::Debug;
use std::sync::Arc;

use ports::clock::Clock;
use ports::store::{
    Assembly, AssemblyView, NewJob, ReplicaState, Settlement, SettlementView, StageStep, StoreError, UnitEnd, UnitFacts,
    UnitSettled, UnitState, UsageFilter,
};
use protocol::frame::ResultFrame;
use protocol::job::{ItemCounts, JobState};
use protocol::{CustomerName, Digest, Fuel, JobId, Micros, ReplicaKey, UnitKey};
use store::StoreOptions;
use testkit::MemoryStore;
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, assembled, assign, certificate, computed, cut, ended, usage};
use uuid::Uuid;

use super::sqlite;

/// Steps of one story.
const STEPS: u32 = 400;

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Micros {
        NOW
    }
}

/// Numbers that follow from a seed: `SplitMix64` (Steele, Lea, Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(end.into())).unwrap()
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// An answer as text; why something was refused is for each store to say.
fn told<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Unfit { .. } | StoreError::Corrupt { .. }) => "refused".to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

/// Asks both stores the same; gives the answer of the SQL store.
macro_rules! both {
    ($story:ident, $method:ident($($argument:expr),*)) => {{
        let answer = $story.sql.store.$method($(Clone::clone(&$argument)),*).await;
        let (said, memory) = (answer.is_ok(), told($story.memory.store.$method($(Clone::clone(&$argument)),*).await));
        let answer = if said { Some(answer.unwrap()) } else { told(answer.map(|_| ())); None };
        let sql = answer.as_ref().map_or("refused".to_owned(), |answer| format!("{answer:?}"));
        assert_eq!(sql, memory, "seed {}, step {}: {}", $story.seed, $story.step, stringify!($method));
        answer
    }};
}

/// Two stores to which the same happens.
struct Story {
    sql: World,
    memory: World,
    numbers: Numbers,
    seed: u64,
    step: u32,
    now: Micros,
    jobs: Vec<JobId>,
}

impl Story {
    fn any_job(&mut self) -> JobId {
        let none = JobId(Uuid::from_u128(u128::MAX));
        let count = u64::try_from(self.jobs.len()).unwrap();
        let chosen = usize::try_from(self.numbers.below(count + 1)).unwrap();
        self.jobs.get(chosen).copied().unwrap_or(none)
    }

    fn any_key(&mut self, job: JobId) -> ReplicaKey {
        UnitKey { job, unit: self.numbers.small(8) }.replica(u16::try_from(self.numbers.below(4)).unwrap())
    }

    fn any_customer(&mut self) -> CustomerName {
        CustomerName::new(["a", "b", "c"][usize::try_from(self.numbers.below(3)).unwrap()]).unwrap()
    }

    async fn admit(&mut self) {
        let id = JobId(Uuid::from_u128((u128::from(self.seed) << 64) + u128::from(self.step)));
        let mut job = NewJob {
            id,
            customer: self.any_customer(),
            submission: format!("s{}", self.numbers.below(12)),
            submission_digest: Digest::of(&[u8::from(self.numbers.one_in(3))]),
            deadline_at: self.numbers.one_in(6).then_some(Micros(self.now.0 + 60_000_000)),
            ..self.sql.job(self.numbers.below(40))
        };
        job.spec.reduce = self.numbers.one_in(3);
        job.spec.budget_fuel = self.numbers.one_in(3).then_some(Fuel::MAX);
        let reply = self.sql.message(&format!("accepted {}", self.numbers.below(20)));
        if both!(self, admit(job, reply)) == Some(ports::store::Admission::New) {
            self.jobs.push(id);
        }
    }

    async fn produce(&mut self) {
        let owner = ["one", "two"][usize::from(self.numbers.one_in(2))];
        let until = Micros(self.now.0 + 30_000_000);
        for job in both!(self, claim_jobs(owner, self.now, until, 3)).unwrap() {
            let cursor = job.cursor;
            let mut borders = vec![cursor.item];
            for _unit in 0..self.numbers.below(4) {
                let end = (borders.last().unwrap() + 1 + self.numbers.below(6)).min(job.stage_items);
                if end > *borders.last().unwrap() {
                    borders.push(end);
                }
            }
            let lanes = [0, 1, 2].map(|lane| lane + u16::try_from(self.numbers.below(3)).unwrap());
            let quorum = 1 + usize::try_from(self.numbers.below(3)).unwrap();
            // Now and then the producer has read an old cursor, or numbers its units wrongly.
            let behind = u32::from(self.numbers.one_in(10)).min(cursor.unit);
            let mut step = cut(job.id, cursor.stage, cursor.unit - behind, &borders, &lanes[..quorum]);
            if self.numbers.one_in(15) {
                step.cursors.clear();
            }
            both!(self, dispatch(step));
        }
    }

    async fn send(&mut self) {
        let job = self.any_job();
        let limit = 1 + self.numbers.small(9);
        let due = both!(self, due_replicas(job, self.now, limit)).unwrap();
        let keys: Vec<ReplicaKey> = due.iter().map(|due| due.key).collect();
        let lanes: Vec<_> = keys.iter().map(|key| (*key, u16::try_from(self.numbers.below(5)).unwrap())).collect();
        both!(self, dispatch(assign(&lanes)));
        let sent = &keys[..usize::try_from(self.numbers.below(u64::try_from(keys.len()).unwrap() + 1)).unwrap()];
        both!(self, mark_sent(sent, Micros(self.now.0 + 10_000_000)));
        let everything = self.numbers.one_in(20);
        both!(self, expire_replicas(self.now, 1_000, everything));
    }

    async fn settle(&mut self) {
        let mut keys = Vec::new();
        for _job in 0..2 {
            let job = self.any_job();
            keys.extend((0..4).map(|_| self.any_key(job)));
        }
        let (seed, now) = (self.numbers.below(u64::MAX), self.now);
        let mut answers = Vec::new();
        for world in [&self.sql, &self.memory] {
            let (tell, told_of) = std::sync::mpsc::channel();
            let decide = move |view: &SettlementView| {
                tell.send(format!("{view:?}")).unwrap();
                decision(view, &mut Numbers(seed), now)
            };
            let answer = told(world.store.settle(&keys, Box::new(decide)).await);
            answers.push((answer, told_of.recv().unwrap()));
        }
        assert_eq!(answers[0], answers[1], "seed {}, step {}: settle", self.seed, self.step);
    }

    async fn assemble(&mut self) {
        let found = both!(self, jobs_to_assemble(self.now, 1_000)).unwrap();
        let job = if self.numbers.one_in(3) { self.any_job() } else { found.first().copied().unwrap_or(self.any_job()) };
        let (seed, units) = (self.numbers.below(u64::MAX), 1 + self.numbers.small(4));
        let reply = self.sql.message(&format!("part {}", self.numbers.below(20)));
        let mut answers = Vec::new();
        for world in [&self.sql, &self.memory] {
            let (tell, told_of) = std::sync::mpsc::channel();
            let reply = reply.clone();
            let decide = move |view: &AssemblyView| {
                tell.send(format!("{view:?}")).unwrap();
                Assembly { replies: vec![reply], ..continuation(view, &mut Numbers(seed)) }
            };
            let answer = told(world.store.assemble(job, units, Box::new(decide)).await);
            answers.push((answer, told_of.recv().ok()));
        }
        assert_eq!(answers[0], answers[1], "seed {}, step {}: assemble", self.seed, self.step);
    }

    async fn relay(&mut self) {
        let again = Micros(self.now.0 + 5_000_000);
        let reply = self.sql.message(&format!("reply {}", self.numbers.below(9)));
        let replies = vec![ports::store::OutboxMessage { customer: self.any_customer(), ..reply }];
        both!(self, reply_all(replies));
        let limit = 1 + self.numbers.small(6);
        let settles = !self.numbers.one_in(4);
        let mut claims = Vec::new();
        for world in [&self.sql, &self.memory] {
            let claimed = world.store.claim_outbox(self.now, again, limit).await.unwrap();
            // A database may leave numbers out; only their order is agreed.
            let keys: Vec<_> = claimed.iter().map(ports::store::Outbox::key).collect();
            let (sent, refused) = keys.split_at(keys.len() / 2);
            if settles {
                world.store.settle_outbox(sent, refused, again).await.unwrap();
            }
            claims.push(claimed.into_iter().map(|outbox| outbox.message).collect::<Vec<_>>());
        }
        assert_eq!(claims[0], claims[1], "seed {}, step {}: outbox", self.seed, self.step);
    }

    /// Reads all that can be read of a job, and of all.
    async fn read(&mut self) {
        let (job, from) = (self.any_job(), self.numbers.below(30));
        both!(self, job(job));
        both!(self, jobs(None::<&CustomerName>, 5));
        both!(self, failed_items(job, from, 7));
        both!(self, outputs(job, from));
        for stage in 0..2 {
            both!(self, stage_outputs(job, stage, from, from + 9));
        }
        let customer = self.any_customer();
        both!(self, jobs(Some(&customer), 5));
        both!(self, job_of_submission(&customer, "s1"));
        let filter = UsageFilter { customer: Some(customer.clone()), from: Some(NOW), ..UsageFilter::default() };
        both!(self, usage(&filter, 3, 50));
        both!(self, usage_totals(&filter));
        both!(self, usage_totals(&UsageFilter::default()));
        both!(self, activity(NOW, 1_000_000));
        both!(self, running(9));
        let part = self.numbers.small(9);
        both!(self, numbered_outputs(job, part));
        both!(self, wait_facts(job));
        both!(self, app_experience(&customer, self.sql.job(0).spec.app));
        let state = [None, Some(JobState::Running), Some(JobState::Completed)][usize::try_from(part % 3).unwrap()];
        both!(self, own_jobs(&customer, state, Some(job), 3));
        let id = format!("m{}", from % 3);
        let message = (from > 9).then_some(id.as_str());
        if self.numbers.one_in(3) {
            both!(self, pause_job(&customer, job, part > 4, message));
        }
        if self.numbers.one_in(9) {
            both!(self, release_results(&customer, job, message, self.now));
            both!(self, expire_results(Micros(NOW.0 + i64::from(part % 2)), self.now, 1));
        }
        if self.numbers.one_in(5) {
            both!(self, request_cancel(&customer, job));
            both!(self, release_jobs("one"));
        }
    }
}

/// What a random aggregator decides on these units; mostly sense, now and then none.
fn decision(view: &SettlementView, numbers: &mut Numbers, now: Micros) -> Settlement {
    let mut settlement = Settlement::default();
    let mut next: Vec<(JobId, u32)> = view.jobs.iter().map(|job| (job.id, job.next_unit)).collect();
    for unit in &view.units {
        for replica in &unit.replicas {
            let key = unit.key.replica(replica.replica);
            match numbers.below(6) {
                0 => settlement.replicas.push(ended(key, ReplicaState::Failed, "trap")),
                1 => settlement.replicas.push(ended(key, ReplicaState::Interrupted, "owner is back")),
                2 | 3 => settlement.replicas.push(computed(key)),
                _ => {}
            }
        }
        let last = unit.replicas.last().map_or(0, |replica| replica.replica);
        if numbers.one_in(3) {
            settlement.due.push((unit.key.replica(last + 1), Micros(now.0 + 3_000_000)));
        }
        let next = next.iter_mut().find(|(job, _)| *job == unit.key.job).map(|(_, next)| next).unwrap();
        settlement.units.extend(unit_end(unit, next, numbers).map(|end| UnitSettled { key: unit.key, end }));
        settlement.wasted_us.push((unit.key.job, numbers.below(100)));
    }
    settlement
}

fn unit_end(unit: &UnitFacts, next: &mut u32, numbers: &mut Numbers) -> Option<UnitEnd> {
    match numbers.below(8) {
        0..=2 => {
            let mut frame = ResultFrame::default();
            let mut failed_items = 0;
            for item in unit.first..unit.end {
                if numbers.one_in(5) {
                    frame.failed("bad item").unwrap();
                    failed_items += 1;
                } else {
                    frame.ok(&item.to_le_bytes()).unwrap();
                }
            }
            let customer = CustomerName::new(if numbers.one_in(2) { "a" } else { "b" }).unwrap();
            let usage = usage(unit.key, &customer, numbers.below(1 << 40), numbers.below(1 << 30));
            Some(UnitEnd::Valid { usage, output: frame.finish(), failed_items, compute_us: numbers.below(1_000) })
        }
        3 => Some(UnitEnd::Failed { reason: "given up".to_owned() }),
        4 if unit.state == UnitState::Open && unit.end - unit.first > 1 => {
            let middle = unit.first + (unit.end - unit.first) / 2;
            let number = *next + u32::from(numbers.one_in(10));
            *next += 1;
            Some(UnitEnd::Split { middle, middle_byte: middle * 10, unit: number, replicas: 2 })
        }
        _ => None,
    }
}

fn has_output(state: UnitState) -> bool {
    match state {
        UnitState::Valid | UnitState::Failed => true,
        UnitState::Open | UnitState::Cancelled => false,
    }
}

/// How a random aggregator goes on with a job.
fn continuation(view: &AssemblyView, numbers: &mut Numbers) -> Assembly {
    let items = ItemCounts { succeeded: 1, ..view.items };
    let end = |state| StageStep::End { state, certificate: certificate(items) };
    let done = view.units.last().map_or(view.assembled, |(_, end, _, _)| *end) >= view.stage_items;
    let step = match (done, view.last_stage, numbers.below(12)) {
        (true, true, _) => end(JobState::Completed),
        (true, false, _) => StageStep::Next { stage_items: numbers.below(5), last_stage: numbers.one_in(2) },
        (false, _, 0) => end(JobState::Cancelled),
        (false, _, 1) => end(JobState::Running),
        (false, _, 2) => StageStep::Cancel { state: JobState::Expired },
        (false, _, _) => StageStep::Stay,
    };
    let whole = assembled(view, step);
    let part = view.units.first().filter(|_| matches!(whole.step, StageStep::Stay) && numbers.one_in(3));
    let progress_at = numbers.one_in(2).then_some(NOW);
    let assembled = part.map_or(whole.assembled, |(_, end, _, _)| *end);
    let outputs = view.units.iter().filter(|(_, end, state, _)| *end <= assembled && has_output(*state));
    let numbered: Vec<(u64, u32)> = outputs.zip(view.parts..).map(|((first, ..), part)| (*first, part)).collect();
    let parts = view.parts + if view.last_stage { u32::try_from(numbered.len()).unwrap() } else { 0 };
    let parts_sent = if numbers.one_in(2) { parts } else { view.parts_sent };
    Assembly { assembled, numbered, parts, parts_sent, progress_at, ..whole }
}

async fn tell(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions { clock: Arc::new(Still), ..StoreOptions::default() };
    let sql = World::new(Arc::new(sqlite(folder.path(), options).await));
    let memory = World::new(Arc::new(MemoryStore::new(Arc::new(Still))));
    for world in [&sql, &memory] {
        world.keep_app().await;
    }
    let mut story = Story { sql, memory, numbers: Numbers(seed), seed, step: 0, now: NOW, jobs: Vec::new() };
    for step in 0..STEPS {
        story.step = step;
        story.now.0 += i64::from(story.numbers.small(3_000_000));
        match story.numbers.below(12) {
            0 => story.admit().await,
            1 | 2 => story.produce().await,
            3 | 4 => story.send().await,
            5 | 6 => story.settle().await,
            7..=9 => story.assemble().await,
            10 => story.relay().await,
            _ => story.read().await,
        }
    }
    let ended = story.sql.store.jobs(None, 1_000).await.unwrap().iter().filter(|job| job.ended_at.is_some()).count();
    let metered = story.sql.store.usage(&UsageFilter::default(), 0, 1_000).await.unwrap().len();
    assert!(ended > 0 && metered > 0, "seed {seed} ends {ended} jobs with {metered} valid units: nothing was compared");
}

#[tokio::test]
async fn memory_and_sql_agree() {
    for seed in 0..8 {
        tell(seed).await;
    }
}
