//! Results: parts by their numbers, what waits unsent, and outputs that are released or expire.

use ports::store::{
    Assembly, AssemblyView, NumberedOutput, OutboxMessage, ResultsRelease, Settlement, StageStep, UnitEnd, UnitSettled, UnitState,
};
use protocol::frame::{self, ResultFrame};
use protocol::job::JobState;
use protocol::{JobId, Micros, UnitKey, parts};

use super::requests::{customer, end, given_up, no_job};
use super::world::{NOW, World, assembled, at, computed, usage};

/// Settles a unit as valid with one output of each of these sizes.
async fn settle_sizes(world: &World, unit: UnitKey, sizes: &[usize]) {
    let mut frame = ResultFrame::default();
    for size in sizes {
        frame.ok(&vec![u8::try_from(unit.unit).unwrap(); *size]).unwrap();
    }
    let usage = usage(unit, &world.customer, 1_000, 100);
    let end = UnitEnd::Valid { usage, output: frame.finish(), failed_items: 0, compute_us: 1 };
    let units = vec![UnitSettled { key: unit, end }];
    let replicas = vec![computed(unit.replica(0))];
    world.settle(&[unit.replica(0)], Settlement { replicas, units, ..Settlement::default() }).await;
}

/// An assembly that numbers the parts of all units in view and sends none.
fn numbered(view: &AssemblyView, step: StageStep) -> Assembly {
    let mut assembly = assembled(view, step);
    for (first, _, state, frame) in &view.units {
        match state {
            UnitState::Valid | UnitState::Failed => {
                assembly.numbered.push((*first, assembly.parts));
                assembly.parts += parts::count(frame).unwrap();
            }
            UnitState::Open | UnitState::Cancelled => {}
        }
    }
    assembly
}

async fn assemble_numbered(world: &World, job: JobId, step: StageStep) {
    world.store.assemble(job, 1_000, Box::new(move |view| numbered(view, step))).await.unwrap().unwrap();
}

/// Parts are found by their numbers: a page begins with the unit that has the part, and holds about 16 MiB.
pub async fn parts_are_found_by_number(world: World) {
    let job = world.admit(14).await;
    let units = world.sent(job, &[0, 1, 4, 6, 8, 9, 10, 12]).await;
    let large = 3 << 20;
    settle_sizes(&world, units[0], &[9]).await;
    settle_sizes(&world, units[1], &[large, large, large]).await;
    let lost = Settlement { units: vec![given_up(units[2], "trap")], ..Settlement::default() };
    world.settle(&[units[2].replica(0)], lost).await;
    settle_sizes(&world, units[3], &[large, large]).await;
    settle_sizes(&world, units[4], &[large]).await;
    let read = async |part| {
        let page = world.store.numbered_outputs(job, part).await.unwrap();
        page.into_iter().map(|NumberedOutput { part, first, .. }| (part, first)).collect::<Vec<_>>()
    };
    assert!(read(0).await.is_empty(), "nothing is assembled");
    for parts in [7, 8] {
        // A page of 16 MiB, and what is left.
        assemble_numbered(&world, job, StageStep::Stay).await;
        assert_eq!(world.store.job(job).await.unwrap().unwrap().parts, parts);
    }
    assert_eq!(read(0).await, [(0, 0), (1, 1), (4, 4), (5, 6)], "the next would go beyond 16 MiB");
    for part in 1..=3 {
        assert_eq!(read(part).await, [(1, 1), (4, 4), (5, 6)]);
    }
    assert_eq!(read(4).await, [(4, 4), (5, 6), (7, 8)]);
    assert_eq!((read(7).await, read(8).await), (vec![(7, 8)], vec![]));
    // The job is cut short: what is cancelled has no part.
    assemble_numbered(&world, job, StageStep::Cancel { state: JobState::Cancelled }).await;
    assemble_numbered(&world, job, end(JobState::Cancelled)).await;
    assert_eq!((read(7).await, read(8).await), (vec![(7, 8)], vec![]));
    let page = world.store.numbered_outputs(job, 4).await.unwrap();
    let failed = frame::results(&page[0].frame).unwrap();
    assert_eq!(failed, [frame::Entry::Failed(b"trap"), frame::Entry::Failed(b"trap")]);
    assert_eq!(frame::results(&page[1].frame).unwrap()[1], frame::Entry::Ok(&vec![3; large]));
    assert!(world.store.numbered_outputs(no_job(), 0).await.unwrap().is_empty());
}

/// Only the last stage has parts.
pub async fn parts_are_of_the_last_stage(world: World) {
    let mut new = world.job(4);
    new.spec.reduce = true;
    let job = world.admit_job(new).await;
    let units = world.sent(job, &[0, 4]).await;
    world.settle_valid(&units).await;
    let next = StageStep::Next { stage_items: 1, last_stage: true };
    world.store.assemble(job, 10, Box::new(move |view| assembled(view, next))).await.unwrap();
    assert!(world.store.numbered_outputs(job, 0).await.unwrap().is_empty());
    assert!(world.store.dispatch(super::world::cut(job, 1, 1, &[0, 1], &[0])).await.unwrap());
    let root = UnitKey { job, unit: 1 };
    settle_sizes(&world, root, &[5]).await;
    assemble_numbered(&world, job, end(JobState::Completed)).await;
    let page = world.store.numbered_outputs(job, 0).await.unwrap();
    assert_eq!(page.iter().map(|unit| (unit.part, unit.first, unit.frame.len())).collect::<Vec<_>>(), [(0, 0, 24)]);
    assert_eq!(world.store.job(job).await.unwrap().unwrap().parts, 1);
}

/// What is sent stays told, and what waits unsent for the job's customer is shown.
pub async fn assembling_shows_what_waits_unsent(world: World) {
    let job = world.admit(4).await;
    let units = world.sent(job, &[0, 1, 2, 3, 4]).await;
    world.settle_valid(&units).await;
    let others = OutboxMessage { customer: customer("other"), ..world.message("not theirs") };
    let large = OutboxMessage { body: vec![1; 1_000], ..world.message("large") };
    world.store.reply_all(vec![others, large]).await.unwrap();
    let accepted = format!("accepted {job}").len();
    let waits = |view: &AssemblyView| (view.unsent.messages, view.unsent.bytes, view.parts, view.parts_sent);
    let step = |parts, parts_sent| {
        let replies = vec![world.message(&format!("part {parts}"))];
        move |view: &AssemblyView| Assembly { parts, parts_sent, replies, ..numbered(view, StageStep::Stay) }
    };
    let decided = async |max_units, decide: Box<dyn FnOnce(&AssemblyView) -> Assembly + Send>| {
        let (send, receive) = std::sync::mpsc::channel();
        let decide = move |view: &AssemblyView| {
            send.send(view.clone()).unwrap();
            decide(view)
        };
        world.store.assemble(job, max_units, Box::new(decide)).await.unwrap();
        waits(&receive.recv().unwrap())
    };
    let bytes = u64::try_from(accepted + 1_000).unwrap();
    assert_eq!(decided(1, Box::new(step(1, 1))).await, (2, bytes, 0, 0));
    assert_eq!(decided(1, Box::new(step(2, 2))).await, (3, bytes + 6, 1, 1));
    assert_eq!(decided(1, Box::new(step(3, 2))).await, (4, bytes + 12, 2, 2));
    assert_eq!(decided(1, Box::new(step(4, 2))).await, (5, bytes + 18, 3, 2));
    let sent = world.claim_messages(NOW, 100).await;
    world.store.settle_outbox(&sent, &[], NOW).await.unwrap();
    assert_eq!(decided(1, Box::new(step(5, 5))).await, (0, 0, 4, 2));
}

/// A customer gives the outputs of its ended jobs up; what was metered and certified stays.
pub async fn results_are_released(world: World) {
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 10, 20, 30]).await;
    let mut frame = ResultFrame::default();
    (0..10).for_each(|item| if item == 3 { frame.failed("odd one") } else { frame.ok(b"fine") }.unwrap());
    let output = frame.finish();
    let usage = usage(units[0], &world.customer, 5, 5);
    let valid = UnitSettled { key: units[0], end: UnitEnd::Valid { usage, output, failed_items: 1, compute_us: 1 } };
    let settlement = Settlement { units: vec![valid, given_up(units[1], "trap")], ..Settlement::default() };
    world.settle(&[units[0].replica(0), units[1].replica(0)], settlement).await;
    world.settle_valid(&units[2..]).await;
    let release = async |name, now| world.store.release_results(&customer(name), job, None, now).await.unwrap();
    assert_eq!(release("acme", at(5)).await, ResultsRelease::Running);
    assemble_numbered(&world, job, end(JobState::Completed)).await;
    assert_eq!(release("other", at(5)).await, ResultsRelease::Unknown);
    assert_eq!(
        (world.store.outputs(job, 0).await.unwrap().len(), world.store.failed_items(job, 0, 99).await.unwrap().len()),
        (3, 11)
    );
    for later in [6, 7] {
        assert_eq!(release("acme", at(later)).await, ResultsRelease::Done);
        let report = world.store.job(job).await.unwrap().unwrap();
        assert_eq!((report.results_gone_at, report.items.submitted, report.parts), (Some(at(6)), 0, 3));
    }
    assert!(world.store.outputs(job, 0).await.unwrap().is_empty());
    assert!(world.store.numbered_outputs(job, 0).await.unwrap().is_empty());
    let failed = world.store.failed_items(job, 0, 99).await.unwrap();
    assert_eq!(failed.iter().map(|failed| failed.item).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
    assert_eq!(world.store.usage(&ports::store::UsageFilter::default(), 0, 10).await.unwrap().len(), 2);
    assert_eq!(world.store.expire_results(Micros(i64::MAX), at(8), 10).await.unwrap(), 0, "nothing of it is left");
    assert_eq!(world.store.release_results(&world.customer, no_job(), Some("one"), NOW).await.unwrap(), ResultsRelease::Unknown);
}

/// Outputs of jobs that ended before a time are dropped, the longest ended first; those of running jobs never are.
pub async fn results_expire(world: World) {
    let mut jobs = Vec::new();
    for _job in 0..3 {
        let job = world.admit(600).await;
        let borders: Vec<u64> = (0..=600).collect();
        let units = world.sent(job, &borders).await;
        world.settle_valid(&units).await;
        jobs.push(job);
    }
    let empty = world.admit(1).await;
    assert_eq!(world.store.expire_results(Micros(i64::MAX), NOW, 10).await.unwrap(), 0, "none has ended");
    for job in &jobs[..2] {
        assemble_numbered(&world, *job, end(JobState::Completed)).await;
    }
    world.assemble(empty, 10, end(JobState::Cancelled)).await;
    let report = async |job| world.store.job(job).await.unwrap().unwrap();
    let oldest = report(jobs[0]).await.ended_at.unwrap();
    assert_eq!(world.store.expire_results(oldest, NOW, 10).await.unwrap(), 0, "none ended before that");
    let later = Micros(report(empty).await.ended_at.unwrap().0 + 1);
    assert_eq!(world.store.expire_results(later, at(1), 2).await.unwrap(), 2);
    assert_eq!(world.store.expire_results(later, at(2), 2).await.unwrap(), 1);
    assert_eq!(world.store.expire_results(later, at(3), 2).await.unwrap(), 0);
    let mut gone = Vec::new();
    for job in [jobs[0], jobs[1], empty] {
        gone.push(report(job).await.results_gone_at.unwrap());
        assert!(world.store.outputs(job, 0).await.unwrap().is_empty());
    }
    gone.sort_unstable();
    assert_eq!(gone, [at(1), at(1), at(2)]);
    assert_eq!(report(jobs[2]).await.results_gone_at, None);
    assert_eq!(world.store.stage_outputs(jobs[2], 0, 0, 600).await.unwrap().len(), 600);
}
