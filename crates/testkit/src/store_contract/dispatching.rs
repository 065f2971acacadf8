//! Dispatch: leases, cursors, lanes, sending and losing.

use ports::store::{Dispatch, ReplicaState, Settlement, StageStep, UsageFilter};
use protocol::{Fuel, Micros, UnitKey};

use super::requests::given_up;
use super::world::{NOW, World, assign, at, computed, cut, ended};

/// A job is claimed while there is something to cut or to send, and only then.
pub async fn claims_what_there_is_to_do(world: World) {
    let job = world.admit(10).await;
    let claimed = world.claim("a", NOW).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].id, claimed[0].stage_items, claimed[0].weight, claimed[0].due), (job, 10, 1, 0));
    assert!(claimed[0].last_stage && claimed[0].cursor == ports::store::Cursor::default());
    let units = world.cut(job, &[0, 4, 10]).await;
    let claimed = world.claim("a", NOW).await;
    assert_eq!((claimed[0].due, claimed[0].cursor.unit, claimed[0].cursor.item, claimed[0].cursor.byte), (2, 2, 10, 100));
    world.store.mark_sent(&[units[0].replica(0), units[1].replica(0)], at(60)).await.unwrap();
    assert!(world.claim("a", NOW).await.is_empty());
    let retry = Settlement {
        replicas: vec![ended(units[0].replica(0), ReplicaState::Interrupted, "owner is back")],
        due: vec![(units[0].replica(1), at(5))],
        ..Settlement::default()
    };
    world.settle(&[units[0].replica(0)], retry).await;
    assert!(world.claim("a", at(4)).await.is_empty());
    assert_eq!(world.claim("a", at(5)).await[0].due, 1);
}

/// Of a job with a budget it is told what was metered, and how many items are cut and not decided.
pub async fn what_a_budget_reserves_is_told(world: World) {
    let mut budgeted = world.job(20);
    budgeted.spec.budget_fuel = Some(Fuel::MAX);
    let job = world.admit_job(budgeted).await;
    let told = async || {
        let claimed = world.claim("a", NOW).await.remove(0);
        let (view, _) = world.assemble(job, 10, StageStep::Stay).await;
        let view = view.unwrap();
        assert_eq!((view.open_items, view.sums.usage.fuel), (claimed.open_items, claimed.spent));
        assert_eq!(view.cut, claimed.cursor.item);
        assert_eq!(world.store.job(job).await.unwrap().unwrap().units.open_items, claimed.open_items);
        (claimed.spent.get(), claimed.open_items)
    };
    assert_eq!(told().await, (0, 0));
    let units = world.sent(job, &[0, 3, 8, 9]).await;
    assert_eq!(told().await, (0, 9));
    world.settle_valid(&units[..1]).await;
    assert_eq!(told().await, (1_000, 6));
    let first = units[1].replica(0);
    let settlement = Settlement {
        replicas: vec![ended(first, ReplicaState::Failed, "trap")],
        units: vec![given_up(units[1], "trap")],
        ..Settlement::default()
    };
    world.settle(&[first], settlement).await;
    assert_eq!(told().await, (1_000, 1));
    let other = world.admit(10).await;
    world.cut(other, &[0, 5]).await;
    let claimed = world.claim("a", NOW).await;
    assert_eq!(claimed.iter().find(|job| job.id == other).map(|job| job.open_items), Some(0), "nobody asks for it");
}

/// A job whose budget suffices for nothing beyond what is under way is not claimed to be cut; its retries are sent. A stage that begins
/// is assembled at once, since a budget that suffices for none of it is noticed there only.
pub async fn a_spent_budget_is_not_cut_and_is_noticed_where_a_stage_begins(world: World) {
    let mut budgeted = world.job(20);
    budgeted.spec.reduce = true;
    budgeted.spec.limits.fuel_per_item = Fuel::new(1_000).unwrap();
    budgeted.spec.budget_fuel = Fuel::new(10_000).ok();
    let job = world.admit_job(budgeted).await;
    let units = world.sent(job, &[0, 9]).await;
    assert_eq!(world.claim("a", NOW).await.len(), 1, "it suffices for one more");
    let more = cut(job, 0, 1, &[9, 10], &[0]);
    assert!(world.store.dispatch(more).await.unwrap());
    let last = UnitKey { job, unit: 1 };
    world.store.mark_sent(&[last.replica(0)], at(60)).await.unwrap();
    assert!(world.claim("a", NOW).await.is_empty(), "all of it is reserved");
    let failed = units[0].replica(0);
    let retry = Settlement {
        replicas: vec![ended(failed, ReplicaState::Failed, "trap")],
        due: vec![(units[0].replica(1), NOW)],
        ..Settlement::default()
    };
    world.settle(&[failed], retry).await;
    assert_eq!(world.claim("a", NOW).await.len(), 1, "a retry reserves nothing more");
    world.settle_valid(&[last]).await;
    world.assemble(job, 10, StageStep::Next { stage_items: 1, last_stage: true }).await;
    assert_eq!(world.store.jobs_to_assemble(NOW, 10).await.unwrap(), [job]);
}

/// A lease keeps others away until it ends or is given back.
pub async fn leases_expire_and_are_given_back(world: World) {
    let old = world.admit(10).await;
    let young = world.admit(10).await;
    let one = world.store.claim_jobs("a", NOW, at(30), 1).await.unwrap();
    assert_eq!(one.iter().map(|job| job.id).collect::<Vec<_>>(), [old]);
    assert_eq!(world.claim("b", NOW).await.iter().map(|job| job.id).collect::<Vec<_>>(), [young]);
    assert!(world.claim("c", at(29)).await.is_empty());
    // Its own lease is renewed, and so outlives the first end.
    assert_eq!(world.claim("a", at(29)).await.len(), 1);
    assert_eq!(world.claim("c", at(31)).await.iter().map(|job| job.id).collect::<Vec<_>>(), [young]);
    world.store.release_jobs("a").await.unwrap();
    world.store.release_jobs("a").await.unwrap();
    assert_eq!(world.claim("c", at(32)).await.len(), 2);
    let (a, b) = (world.claim("a", at(90)), world.claim("b", at(90)));
    let (a, b) = tokio::join!(a, b);
    assert_eq!(a.len() + b.len(), 2, "each job goes to one of two");
}

/// Ended, cancelled and late jobs are not claimed.
pub async fn claims_skip_what_cannot_run(world: World) {
    let late = ports::store::NewJob { deadline_at: Some(at(10)), ..world.job(10) };
    let late = world.admit_job(late).await;
    let (cancelled, over) = (world.admit(10).await, world.admit(10).await);
    assert!(world.store.request_cancel(&world.customer, cancelled).await.unwrap());
    world.end(over, protocol::job::ItemCounts::default()).await;
    assert_eq!(world.claim("a", at(9)).await.iter().map(|job| job.id).collect::<Vec<_>>(), [late]);
    assert!(world.claim("a", at(10)).await.is_empty());
}

/// If one cursor has moved, nothing of the step is written.
pub async fn a_moved_cursor_refuses_everything(world: World) {
    let (one, two) = (world.admit(10).await, world.admit(10).await);
    world.cut(one, &[0, 5]).await;
    let mut step = cut(two, 0, 0, &[0, 5], &[0]);
    let stale = cut(one, 0, 0, &[0, 5], &[0]);
    step.cuts.extend(stale.cuts);
    step.cursors.extend(stale.cursors);
    assert!(!world.store.dispatch(step).await.unwrap());
    let untouched = world.store.job(two).await.unwrap().unwrap().units;
    assert_eq!((untouched.open, untouched.replicas_due), (0, 0));
    assert!(!world.store.dispatch(cut(one, 1, 1, &[0, 5], &[0])).await.unwrap(), "another stage");
    for item in [4, 6] {
        assert!(!world.store.dispatch(cut(one, 0, 1, &[item, 8], &[0])).await.unwrap(), "another item");
    }
    world.end(two, protocol::job::ItemCounts::default()).await;
    assert!(!world.store.dispatch(cut(two, 0, 0, &[0, 5], &[0])).await.unwrap(), "an ended job");
}

/// Two producers that cut the same job at the same time: one does.
pub async fn two_producers_cut_once(world: World) {
    let job = world.admit(100).await;
    for n in 0..10_u32 {
        let first = u64::from(n) * 10;
        let step = || cut(job, 0, n, &[first, first + 10], &[0]);
        let (a, b) = tokio::join!(world.store.dispatch(step()), world.store.dispatch(step()));
        assert!(a.unwrap() ^ b.unwrap());
    }
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.units.open, report.cut, report.usage.replicas), (10, 100, 10));
}

/// Due replicas come in order of their units, with their lane and those of others.
pub async fn due_replicas_and_lanes(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 4, 10], &[3, 5])).await.unwrap());
    let due = world.store.due_replicas(job, NOW, 10).await.unwrap();
    let seen: Vec<_> =
        due.iter().map(|d| (d.key.unit, d.key.replica, d.lane, d.taken.clone(), d.first, d.end, d.bytes)).collect();
    let expected = [
        (0, 0, Some(3), vec![5], 0, 4, (0, 40)),
        (0, 1, Some(5), vec![3], 0, 4, (0, 40)),
        (1, 0, Some(3), vec![5], 4, 10, (40, 100)),
        (1, 1, Some(5), vec![3], 4, 10, (40, 100)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(world.store.due_replicas(job, NOW, 3).await.unwrap().len(), 3);
    let key = UnitKey { job, unit: 0 }.replica(0);
    world.store.mark_sent(&[key], at(60)).await.unwrap();
    let retry = Settlement {
        replicas: vec![ended(key, ReplicaState::Failed, "trap")],
        due: vec![(key.unit_key().replica(2), at(5))],
        ..Settlement::default()
    };
    world.settle(&[key], retry).await;
    assert_eq!(world.store.due_replicas(job, NOW, 10).await.unwrap().len(), 3);
    let due = world.store.due_replicas(job, at(5), 10).await.unwrap();
    let further = due.iter().find(|d| d.key.replica == 2).unwrap();
    assert_eq!((further.lane, further.taken.clone()), (None, vec![5]));
    assert!(world.store.dispatch(assign(&[(further.key, 7)])).await.unwrap());
    let due = world.store.due_replicas(job, at(5), 10).await.unwrap();
    assert_eq!(due.iter().find(|d| d.key.replica == 2).unwrap().lane, Some(7));
}

/// Where answers differ, a due replica knows the lanes of all of them, also of those that no longer count.
pub async fn disputed_lanes(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[3, 5])).await.unwrap());
    let unit = UnitKey { job, unit: 0 };
    let due = vec![(unit.replica(2), NOW)];
    let same = Settlement { replicas: vec![computed(unit.replica(0)), computed(unit.replica(1))], due, ..Settlement::default() };
    world.settle(&[unit.replica(0)], same).await;
    let disputed = async || world.store.due_replicas(job, NOW, 10).await.unwrap()[0].disputed.clone();
    assert!(disputed().await.is_empty());
    assert!(world.store.dispatch(assign(&[(unit.replica(2), 3)])).await.unwrap());
    let mut other = computed(unit.replica(2));
    other.vote.as_mut().unwrap().input_bytes += 1;
    let replaced = ended(unit.replica(0), ReplicaState::Interrupted, "another one of its host");
    let due = vec![(unit.replica(3), NOW)];
    let differs = Settlement { replicas: vec![other, replaced], due, ..Settlement::default() };
    world.settle(&[unit.replica(2)], differs).await;
    assert_eq!(disputed().await, [3, 5, 3]);
}

/// Sent replicas are lost after their deadline, and a further one of an open unit is due.
pub async fn sending_and_losing(world: World) {
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 4, 10]).await;
    assert_eq!(world.store.due_replicas(job, NOW, 10).await.unwrap(), []);
    assert_eq!(world.store.expire_replicas(at(60), 10, false).await.unwrap(), 0);
    assert_eq!(world.store.expire_replicas(at(61), 1, false).await.unwrap(), 1);
    assert_eq!(world.store.expire_replicas(at(61), 10, false).await.unwrap(), 1);
    assert_eq!(world.store.expire_replicas(at(61), 10, false).await.unwrap(), 0);
    assert!(world.store.due_replicas(job, at(60), 10).await.unwrap().is_empty());
    let due = world.store.due_replicas(job, at(61), 10).await.unwrap();
    assert_eq!(
        due.iter().map(|d| (d.key, d.lane)).collect::<Vec<_>>(),
        [(units[0].replica(1), None), (units[1].replica(1), None)]
    );
    // A lost replica stays lost, and is due no more.
    world.store.mark_sent(&[units[0].replica(0)], at(90)).await.unwrap();
    assert_eq!(world.store.expire_replicas(at(1_000), 10, false).await.unwrap(), 0);
    // Its outcome is still welcome while the unit is open.
    world.settle_valid(&units).await;
    assert_eq!(world.store.usage_totals(&UsageFilter::default()).await.unwrap()[0].units, 2);
    assert!(world.store.due_replicas(job, at(61), 10).await.unwrap().is_empty());
}

/// When the broker was wiped, all that was sent is due again, page by page.
pub async fn losing_everything(world: World) {
    let job = world.admit(10).await;
    world.sent(job, &[0, 2, 4, 6, 8, 10]).await;
    let mut lost = 0;
    for _page in 0..4 {
        lost += world.store.expire_replicas(NOW, 2, true).await.unwrap();
    }
    assert_eq!(lost, 5);
    assert_eq!(world.store.due_replicas(job, NOW, 10).await.unwrap().len(), 5);
}

/// A replica is counted when it gets its first lane, however often it is sent.
pub async fn a_replica_is_counted_once(world: World) {
    let job = world.admit(10).await;
    let units = world.cut(job, &[0, 10]).await;
    let count = async || world.store.job(job).await.unwrap().unwrap().usage.replicas;
    assert_eq!(count().await, 1);
    assert!(world.store.dispatch(assign(&[(units[0].replica(0), 4)])).await.unwrap());
    assert_eq!(count().await, 1);
    for _twice in 0..2 {
        world.store.mark_sent(&[units[0].replica(0)], at(1)).await.unwrap();
    }
    world.store.expire_replicas(at(2), 10, false).await.unwrap();
    for lane in [1, 2] {
        assert!(world.store.dispatch(assign(&[(units[0].replica(1), lane)])).await.unwrap());
    }
    assert_eq!(count().await, 2);
    world.store.mark_sent(&[], Micros(0)).await.unwrap();
    assert!(world.store.dispatch(Dispatch::default()).await.unwrap());
}

/// Frames that overlap a range come in item order, failed ones synthesised.
pub async fn stage_outputs_overlap(world: World) {
    let job = world.admit(40).await;
    let units = world.sent(job, &[0, 10, 20, 30, 40]).await;
    world.settle_valid(&[units[0], units[2]]).await;
    let failed = Settlement {
        units: vec![ports::store::UnitSettled {
            key: units[1],
            end: ports::store::UnitEnd::Failed { reason: "trap".to_owned() },
        }],
        ..Settlement::default()
    };
    world.settle(&[units[1].replica(0)], failed).await;
    let ranges = async |first, end| {
        let frames = world.store.stage_outputs(job, 0, first, end).await.unwrap();
        for (first, end, frame) in &frames {
            assert_eq!(protocol::frame::results(frame).unwrap().len(), usize::try_from(end - first).unwrap());
        }
        frames.iter().map(|(first, end, _)| (*first, *end)).collect::<Vec<_>>()
    };
    assert_eq!(ranges(0, 40).await, [(0, 10), (10, 20), (20, 30)]);
    assert_eq!(ranges(9, 10).await, [(0, 10)]);
    assert_eq!(ranges(10, 11).await, [(10, 20)]);
    assert_eq!(ranges(15, 21).await, [(10, 20), (20, 30)]);
    assert_eq!(ranges(30, 40).await, []);
    assert!(world.store.stage_outputs(job, 1, 0, 40).await.unwrap().is_empty());
}
