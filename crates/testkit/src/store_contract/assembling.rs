//! Assembling: units in item order, stages, and the end of a job.

use ports::store::{NewJob, StageStep, UnitEnd, UnitSettled, UnitState};
use protocol::job::{ItemCounts, JobState};
use protocol::{JobId, OutputChain, UnitKey};
use uuid::Uuid;

use super::world::{NOW, World, assembled, at, certificate, computed, cut, ended};

/// Only ended units without a gap are shown, and a job is found when one ended since.
pub async fn assembles_in_order_without_gaps(world: World) {
    let job = world.admit(12).await;
    let units = world.sent(job, &[0, 3, 6, 9, 12]).await;
    assert!(world.store.jobs_to_assemble(NOW, 10).await.unwrap().is_empty());
    world.settle_valid(&[units[1], units[3]]).await;
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
    let (view, more) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    assert_eq!((view.units.len(), more, view.stage_items, view.last_stage), (0, Some(false), 12, true));
    assert_eq!((view.sums.items_succeeded, view.items.submitted, view.sums.usage.units), (6, 12, 2));
    assert!(world.store.jobs_to_assemble(NOW, 10).await.unwrap().is_empty());
    let give_up = ports::store::Settlement {
        replicas: vec![ended(units[0].replica(0), ports::store::ReplicaState::Failed, "trap")],
        units: vec![UnitSettled { key: units[0], end: UnitEnd::Failed { reason: "trap".to_owned() } }],
        ..Default::default()
    };
    world.settle(&[units[0].replica(0)], give_up).await;
    let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    let shown: Vec<_> = view.units.iter().map(|(first, end, state, _)| (*first, *end, *state)).collect();
    assert_eq!(shown, [(0, 3, UnitState::Failed), (3, 6, UnitState::Valid)]);
    assert!(view.units.iter().all(|(_, _, _, frame)| protocol::frame::results(frame).unwrap().len() == 3));
    world.settle_valid(&[units[2]]).await;
    let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    assert_eq!((view.assembled, view.units.len(), view.items.failed, view.items.succeeded), (6, 2, 3, 3));
    assert_ne!(view.chain, OutputChain::default());
}

/// A full page says that more may follow, and the job stays to be found.
pub async fn pages_follow_each_other(world: World) {
    let job = world.admit(5).await;
    let units = world.sent(job, &[0, 1, 2, 3, 4, 5]).await;
    world.settle_valid(&units).await;
    let mut seen = Vec::new();
    for expected in [true, true, false] {
        assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
        let (view, more) = world.assemble(job, 2, StageStep::Stay).await;
        assert_eq!(more, Some(expected));
        seen.extend(view.unwrap().units.iter().map(|(first, _, _, _)| *first));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert!(world.store.jobs_to_assemble(NOW, 10).await.unwrap().is_empty());
}

/// The next stage begins from nothing and keeps what was said of the items.
pub async fn stages_follow_each_other(world: World) {
    let mut new = world.job(4);
    new.spec.reduce = true;
    let job = world.admit_job(new).await;
    let units = world.sent(job, &[0, 2, 4]).await;
    world.settle_valid(&units).await;
    let items_chain = OutputChain::from_bytes(&[7; 40]).unwrap();
    let decide = move |view: &ports::store::AssemblyView| {
        assert!(!view.last_stage);
        let step = StageStep::Next { stage_items: 2, last_stage: true };
        ports::store::Assembly { items_chain: Some(items_chain), ..assembled(view, step) }
    };
    assert_eq!(world.store.assemble(job, 10, Box::new(decide)).await.unwrap(), Some(true));
    let claimed = world.claim("a", NOW).await;
    let cursor = ports::store::Cursor { stage: 1, item: 0, byte: 0, unit: 2 };
    assert_eq!((claimed[0].cursor, claimed[0].stage_items, claimed[0].last_stage), (cursor, 2, true));
    assert_eq!(claimed[0].progress, ports::store::JobProgress::default());
    assert_eq!(world.store.stage_outputs(job, 0, 0, 4).await.unwrap().len(), 2);
    assert!(world.store.dispatch(cut(job, 1, 2, &[0, 2], &[0])).await.unwrap());
    let reduce = UnitKey { job, unit: 2 };
    world.settle_valid(&[reduce]).await;
    let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    assert_eq!((view.stage, view.units.len(), view.chain, view.items_chain), (1, 1, OutputChain::default(), Some(items_chain)));
    assert_eq!((view.items.succeeded, view.sums.items_succeeded, view.sums.usage.units), (4, 4, 3), "stage 1 counts no items");
    assert_eq!(world.store.outputs(job, 0).await.unwrap().len(), 1);
    world.end(job, ItemCounts { submitted: 4, succeeded: 4, ..Default::default() }).await;
    assert_eq!(world.store.outputs(job, 0).await.unwrap()[0].1, 2);
}

/// A job ends once; after that nothing is decided.
pub async fn a_job_ends_once(world: World) {
    let job = world.admit(3).await;
    let units = world.sent(job, &[0, 3]).await;
    world.settle_valid(&units).await;
    let items = ItemCounts { submitted: 3, succeeded: 3, ..Default::default() };
    world.end(job, items).await;
    let step = StageStep::End { state: JobState::Cancelled, certificate: certificate(items) };
    assert!(matches!(world.assemble(job, 10, step).await, (None, None)));
    assert!(matches!(world.assemble(JobId(Uuid::now_v7()), 10, StageStep::Stay).await, (None, None)));
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.state, report.items, report.certificate), (JobState::Completed, items, Some(certificate(items))));
    assert!(report.ended_at.is_some());
    let still = StageStep::End { state: JobState::Running, certificate: certificate(items) };
    let other = world.admit(1).await;
    let answer = world.store.assemble(other, 1, Box::new(|view| assembled(view, still))).await;
    assert!(matches!(answer, Err(ports::store::StoreError::Corrupt { .. })));
}

/// Ending a job cancels what is open, and no replica of it is sent or lost.
pub async fn cancelling_ends_what_is_open(world: World) {
    let job = world.admit(9).await;
    let units = world.sent(job, &[0, 3, 6]).await;
    assert_eq!(world.claim("a", NOW).await.len(), 1);
    world.settle_valid(&units[..1]).await;
    let items = ItemCounts { submitted: 9, succeeded: 3, failed: 0, cancelled: 6 };
    let end = StageStep::End { state: JobState::Cancelled, certificate: certificate(items) };
    assert_eq!(world.assemble(job, 10, end).await.1, Some(false));
    assert_eq!(world.store.expire_replicas(at(1_000), 10, true).await.unwrap(), 0);
    assert!(world.store.due_replicas(job, at(1_000), 10).await.unwrap().is_empty());
    assert!(world.claim("b", at(1_000)).await.is_empty());
    let late = ports::store::Settlement {
        replicas: vec![computed(units[1].replica(0))],
        units: vec![super::world::valid(units[1], &world.customer, 3)],
        ..Default::default()
    };
    world.settle(&[units[1].replica(0)], late).await;
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.state, report.items, report.usage.units), (JobState::Cancelled, items, 1));
    assert_eq!(world.store.outputs(job, 0).await.unwrap().len(), 1, "cancelled items have no output");
    assert_eq!(world.store.usage(&ports::store::UsageFilter::default(), 0, 10).await.unwrap().len(), 1);
}

/// A job that is cut short has nothing open any more, is found until all of it is assembled, and shows its cancelled units.
pub async fn cutting_short_leaves_what_is_decided_to_assemble(world: World) {
    let job = world.admit(12).await;
    let units = world.sent(job, &[0, 3, 6, 9]).await;
    assert_eq!(world.claim("a", NOW).await.len(), 1);
    world.settle_valid(&[units[0], units[2]]).await;
    let cancel = StageStep::Cancel { state: JobState::Cancelled };
    assert_eq!(world.assemble(job, 10, cancel).await.1, Some(true));
    assert!(world.claim("b", at(1_000)).await.is_empty(), "nothing more of it is cut or sent");
    assert!(!world.store.dispatch(cut(job, 0, 3, &[9, 12], &[0])).await.unwrap());
    assert_eq!(world.store.expire_replicas(at(1_000), 10, true).await.unwrap(), 0);
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
    let late = ports::store::Settlement {
        replicas: vec![computed(units[1].replica(0))],
        units: vec![super::world::valid(units[1], &world.customer, 3)],
        ..Default::default()
    };
    world.settle(&[units[1].replica(0)], late).await;
    let (view, more) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    assert_eq!((view.job.ending, more), (Some(JobState::Cancelled), Some(true)));
    let shown: Vec<_> = view.units.iter().map(|(first, end, state, _)| (*first, *end, *state)).collect();
    assert_eq!(shown, [(3, 6, UnitState::Cancelled), (6, 9, UnitState::Valid)]);
    let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
    assert!(view.unwrap().units.is_empty());
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
    assert_eq!(world.store.usage(&ports::store::UsageFilter::default(), 0, 10).await.unwrap().len(), 2);
}

/// A running job is found when its deadline passes.
pub async fn deadlines_are_found(world: World) {
    let late = world.admit_job(NewJob { deadline_at: Some(at(10)), ..world.job(5) }).await;
    let later = world.admit_job(NewJob { deadline_at: Some(at(20)), ..world.job(5) }).await;
    world.admit(5).await;
    assert!(world.store.jobs_to_assemble(at(9), 10).await.unwrap().is_empty());
    assert_eq!(world.store.jobs_to_assemble(at(10), 10).await.unwrap(), [late]);
    assert_eq!(world.store.jobs_to_assemble(at(20), 10).await.unwrap(), [late, later]);
    assert_eq!(world.store.jobs_to_assemble(at(20), 1).await.unwrap().len(), 1);
    let end = StageStep::End { state: JobState::Expired, certificate: certificate(ItemCounts::default()) };
    assert_eq!(world.assemble(late, 10, end).await.1, Some(false));
    assert_eq!(world.store.jobs_to_assemble(at(20), 10).await.unwrap(), [later]);
}

/// Replies are written with the assembly, and the time of progress stays.
pub async fn replies_come_with_it(world: World) {
    let job = world.admit(5).await;
    world.claim_messages(NOW, 10).await;
    let message = world.message("progress");
    let decide = move |view: &ports::store::AssemblyView| ports::store::Assembly {
        parts: 7,
        replies: vec![message],
        progress_at: Some(at(3)),
        ..assembled(view, StageStep::Stay)
    };
    assert_eq!(world.store.assemble(job, 10, Box::new(decide)).await.unwrap(), Some(false));
    world.assemble(job, 10, StageStep::Stay).await;
    let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
    let view = view.unwrap();
    assert_eq!((view.parts, view.progress_at), (7, Some(at(3))));
    let ids: Vec<_> = world.claim_messages(at(100), 10).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [format!("accepted {job}"), "progress".to_owned()]);
}

/// Two aggregators that assemble the same job at the same time take turns.
pub async fn two_aggregators_assemble_in_turn(world: World) {
    let job = world.admit(20).await;
    let borders: Vec<u64> = (0..=20).collect();
    let units = world.sent(job, &borders).await;
    world.settle_valid(&units).await;
    let mut firsts = Vec::new();
    for _round in 0..5 {
        let (a, b) = tokio::join!(world.assemble(job, 2, StageStep::Stay), world.assemble(job, 2, StageStep::Stay));
        for (view, _) in [a, b] {
            firsts.extend(view.unwrap().units.iter().map(|(first, _, _, _)| *first));
        }
    }
    firsts.sort_unstable();
    assert_eq!(firsts, (0..20).collect::<Vec<u64>>());
}
