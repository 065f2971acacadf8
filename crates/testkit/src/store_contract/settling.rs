//! Settling: every outcome counts once, every valid unit has one ledger row.

use ports::store::{ReplicaState, Settlement, SettlementView, UnitEnd, UnitSettled, UnitState, UsageFilter};
use protocol::{JobId, UnitKey};
use uuid::Uuid;

use super::world::{NOW, World, at, computed, cut, ended, valid};

/// What the store shows of these units.
async fn view(world: &World, units: &[UnitKey]) -> SettlementView {
    let (send, receive) = std::sync::mpsc::channel();
    let keys: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
    let decide = move |view: &SettlementView| {
        send.send(view.clone()).unwrap();
        Settlement::default()
    };
    world.store.settle(&keys, Box::new(decide)).await.unwrap();
    receive.recv().unwrap()
}

/// The rows of the ledger.
async fn ledger(world: &World) -> Vec<protocol::usage::Usage> {
    world.store.usage(&UsageFilter::default(), 0, 1_000).await.unwrap().into_iter().map(|(_, usage)| usage).collect()
}

/// A NUL in what a guest says of its failure is no text to a database: another sign stands for it.
pub async fn a_reason_may_have_a_nul(world: World) {
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 10]).await;
    let key = units[0].replica(0);
    let reason = "no\0good".to_owned();
    let settlement = Settlement {
        replicas: vec![ended(key, ReplicaState::Failed, &reason)],
        units: vec![UnitSettled { key: units[0], end: UnitEnd::Failed { reason } }],
        ..Settlement::default()
    };
    world.settle(&[key], settlement).await;
    let told = world.store.job(job).await.unwrap().unwrap().last_reason;
    assert_eq!(told.as_deref(), Some("no\u{fffd}good"));
    let failures = world.store.wait_facts(job).await.unwrap().failures;
    assert_eq!(failures.iter().map(|failure| failure.reason.as_str()).collect::<Vec<_>>(), ["no\u{fffd}good"]);
}

/// The same outcomes settled twice have the effect of once.
pub async fn settles_once(world: World) {
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 4, 10]).await;
    let seen = view(&world, &units).await;
    assert_eq!((seen.jobs.len(), seen.units.len(), seen.jobs[0].next_unit), (1, 2, 2));
    assert_eq!((seen.units[0].first, seen.units[0].end, seen.units[0].replicas[0].state), (0, 4, ReplicaState::Sent));
    assert_eq!((seen.units[0].replicas[0].lane, seen.jobs[0].correlation_id.as_deref()), (Some(0), Some("order 7")));
    for _twice in 0..2 {
        world.settle_valid(&units).await;
    }
    assert_eq!(ledger(&world).await.iter().map(|usage| usage.unit).collect::<Vec<_>>(), units);
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.items.succeeded, report.units.valid, report.units.open), (10, 2, 0));
    assert_eq!((report.usage.units, report.usage.fuel.get(), report.usage.bytes, report.usage.compute_us), (2, 2_000, 200, 100));
    let seen = view(&world, &units[..1]).await;
    let replica = &seen.units[0].replicas[0];
    assert_eq!((seen.units[0].state, replica.state), (UnitState::Valid, ReplicaState::Computed));
    let stored = computed(units[0].replica(0));
    assert_eq!((replica.vote.clone(), replica.host.clone()), (stored.vote, stored.host));
}

/// Two aggregators that settle the same outcomes at the same time write one ledger row each unit.
pub async fn two_aggregators_settle_once(world: World) {
    let job = world.admit(100).await;
    let borders: Vec<u64> = (0..=20).map(|n| n * 5).collect();
    let units = world.sent(job, &borders).await;
    let backwards: Vec<_> = units.iter().rev().copied().collect();
    for part in 0..4 {
        let range = part * 5..part * 5 + 10;
        let (a, b) = (&units[range.start..range.end.min(20)], &backwards[..]);
        tokio::join!(world.settle_valid(a), world.settle_valid(b));
    }
    assert_eq!(ledger(&world).await.len(), 20);
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.items.succeeded, report.usage.fuel.get(), report.usage.compute_us), (100, 20_000, 1_000));
}

/// A computed replica may lose the vote, and keeps what was recorded of it; an ended one changes no more.
pub async fn the_vote_is_lost(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[0, 1, 2])).await.unwrap());
    let unit = UnitKey { job, unit: 0 };
    let first = Settlement { replicas: vec![computed(unit.replica(0)), computed(unit.replica(1))], ..Settlement::default() };
    world.settle(&[unit.replica(0)], first.clone()).await;
    world.settle(&[unit.replica(0)], first).await;
    let second = Settlement {
        replicas: vec![
            computed(unit.replica(2)),
            ended(unit.replica(0), ReplicaState::Failed, "lost the vote"),
            ended(unit.replica(2), ReplicaState::Failed, "lost it too"),
        ],
        ..Settlement::default()
    };
    world.settle(&[unit.replica(2)], second).await;
    world.settle(&[unit.replica(0)], Settlement { replicas: vec![computed(unit.replica(0))], ..Settlement::default() }).await;
    let seen = view(&world, &[unit]).await;
    let states: Vec<_> = seen.units[0].replicas.iter().map(|r| (r.state, r.vote.is_some(), r.host.is_some())).collect();
    let (failed, counted) = ((ReplicaState::Failed, true, true), (ReplicaState::Computed, true, true));
    assert_eq!(states, [failed, counted, failed]);
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.usage.compute_us, report.last_reason.as_deref()), (150, Some("lost it too")));
}

/// Further replicas wait for their time; writing them twice has the effect of once.
pub async fn retries_wait(world: World) {
    let job = world.admit(10).await;
    let unit = world.sent(job, &[0, 10]).await[0];
    let retry = Settlement {
        replicas: vec![ended(unit.replica(0), ReplicaState::Failed, "out of memory")],
        due: vec![(unit.replica(1), at(7))],
        wasted_us: vec![(job, 30)],
        ..Settlement::default()
    };
    world.settle(&[unit.replica(0)], retry.clone()).await;
    world.settle(&[unit.replica(0)], Settlement { wasted_us: Vec::new(), ..retry }).await;
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.next_due_at, report.last_reason.as_deref()), (Some(at(7)), Some("out of memory")));
    assert_eq!((report.usage.wasted_us, report.usage.compute_us, report.units.replicas_due), (30, 30, 1));
    let mut due = view(&world, &[unit]).await.due;
    due.sort_unstable();
    assert_eq!(due, [(unit.replica(0), NOW), (unit.replica(1), at(7))], "since when they are due");
    assert!(world.store.due_replicas(job, at(6), 10).await.unwrap().is_empty());
    assert_eq!(world.store.due_replicas(job, at(7), 10).await.unwrap().len(), 1);
}

/// A unit given up fails its items and has no ledger row.
pub async fn failed_units_have_no_usage(world: World) {
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 4, 10]).await;
    let give_up = |unit| UnitSettled { key: unit, end: UnitEnd::Failed { reason: "trap".to_owned() } };
    let settlement = Settlement {
        replicas: vec![ended(units[0].replica(0), ReplicaState::Failed, "trap")],
        units: vec![give_up(units[0])],
        ..Settlement::default()
    };
    for _twice in 0..2 {
        world.settle(&[units[0].replica(0)], settlement.clone()).await;
    }
    // A unit that ended stays as it is.
    world.settle_valid(&units).await;
    assert_eq!(ledger(&world).await.len(), 1);
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.items.failed, report.items.succeeded, report.units.failed, report.units.valid), (4, 6, 1, 1));
}

/// A split keeps the first half, makes a unit of the second, and both begin anew.
pub async fn a_split_makes_two(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[0, 1])).await.unwrap());
    let unit = UnitKey { job, unit: 0 };
    world.store.mark_sent(&[unit.replica(0), unit.replica(1)], at(60)).await.unwrap();
    let half = UnitEnd::Split { middle: 5, middle_byte: 50, unit: 1, replicas: 2 };
    let split = Settlement {
        replicas: vec![computed(unit.replica(0)), ended(unit.replica(1), ReplicaState::Interrupted, "too large")],
        units: vec![UnitSettled { key: unit, end: half }],
        ..Settlement::default()
    };
    world.settle(&[unit.replica(0), unit.replica(1)], split).await;
    let new = UnitKey { job, unit: 1 };
    let seen = view(&world, &[unit, new]).await;
    assert_eq!(seen.jobs[0].next_unit, 2);
    let shape: Vec<_> = seen.units.iter().map(|u| (u.first, u.end, u.bytes, u.state, u.replicas.len())).collect();
    assert_eq!(shape, [(0, 5, (0, 50), UnitState::Open, 4), (5, 10, (50, 100), UnitState::Open, 2)]);
    assert!(seen.units[0].replicas[..2].iter().all(|r| r.state == ReplicaState::Interrupted && r.vote.is_none()));
    let due = world.store.due_replicas(job, NOW, 10).await.unwrap();
    let keys: Vec<_> = due.iter().map(|d| d.key).collect();
    assert_eq!(keys, [unit.replica(2), unit.replica(3), new.replica(0), new.replica(1)]);
    // A producer that read the cursor before the split is refused.
    assert!(!world.store.dispatch(cut(job, 0, 1, &[10, 11], &[0])).await.unwrap());
    world.settle_valid(&[unit, new]).await;
    assert_eq!(world.store.job(job).await.unwrap().unwrap().items.succeeded, 10);
}

/// A split that does not fit is refused as a whole.
pub async fn a_wrong_split_changes_nothing(world: World) {
    let job = world.admit(10).await;
    let units = world.sent(job, &[0, 5, 10]).await;
    for (middle, number) in [(0, 2), (5, 2), (3, 1), (3, 3)] {
        let settlement = Settlement {
            replicas: vec![computed(units[1].replica(0)), computed(units[0].replica(0))],
            units: vec![
                valid(units[1], &world.customer, 5),
                UnitSettled { key: units[0], end: UnitEnd::Split { middle, middle_byte: 0, unit: number, replicas: 1 } },
            ],
            ..Settlement::default()
        };
        let keys = [units[0].replica(0), units[1].replica(0)];
        let answer = world.store.settle(&keys, Box::new(move |_view| settlement)).await;
        assert!(matches!(answer, Err(ports::store::StoreError::Corrupt { .. })), "{answer:?}");
    }
    assert!(ledger(&world).await.is_empty());
    assert_eq!(world.store.job(job).await.unwrap().unwrap().units.replicas_sent, 2);
}

/// An outcome that comes after its unit ended changes neither unit nor sums.
pub async fn late_outcomes_change_nothing(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[0, 1])).await.unwrap());
    let unit = UnitKey { job, unit: 0 };
    world.store.mark_sent(&[unit.replica(0), unit.replica(1)], at(60)).await.unwrap();
    world.settle_valid(&[unit]).await;
    let late = Settlement {
        replicas: vec![computed(unit.replica(1)), computed(unit.replica(0))],
        due: vec![(unit.replica(2), NOW)],
        units: vec![valid(unit, &world.customer, 10)],
        wasted_us: Vec::new(),
    };
    world.settle(&[unit.replica(1)], late).await;
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.usage.units, report.usage.compute_us, report.units.replicas_due), (1, 50, 0));
    assert_eq!(ledger(&world).await.len(), 1);
}

/// A first result of an open unit counts, once, though its replica was given back or had failed.
pub async fn late_first_results_count(world: World) {
    let job = world.admit(10).await;
    let unit = world.sent(job, &[0, 10]).await[0];
    let key = unit.replica(0);
    let given_back = Settlement {
        replicas: vec![ended(key, ReplicaState::Interrupted, "drain")],
        due: vec![(unit.replica(1), NOW)],
        ..Settlement::default()
    };
    world.settle(&[key], given_back).await;
    world.settle_valid(&[unit]).await;
    world.settle_valid(&[unit]).await;
    let seen = view(&world, &[unit]).await;
    let states: Vec<_> = seen.units[0].replicas.iter().map(|r| (r.state, r.vote.is_some())).collect();
    assert_eq!(states, [(ReplicaState::Computed, true), (ReplicaState::Interrupted, false)]);
    assert_eq!(ledger(&world).await.len(), 1);
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.usage.compute_us, report.units.replicas_due), (80, 0));
}

/// Once a unit ended, no replica of it is sent, lost or due.
pub async fn ended_units_are_not_sent(world: World) {
    let job = world.admit(10).await;
    assert!(world.store.dispatch(cut(job, 0, 0, &[0, 10], &[0, 1, 2])).await.unwrap());
    let unit = UnitKey { job, unit: 0 };
    world.store.mark_sent(&[unit.replica(1)], at(60)).await.unwrap();
    // The outcome may be settled before its sending is marked.
    world.settle_valid(&[unit]).await;
    assert!(world.store.due_replicas(job, NOW, 10).await.unwrap().is_empty());
    world.store.mark_sent(&[unit.replica(0), unit.replica(2)], at(60)).await.unwrap();
    assert_eq!(world.store.expire_replicas(at(1_000), 10, true).await.unwrap(), 0);
    let states: Vec<_> = view(&world, &[unit]).await.units[0].replicas.iter().map(|r| r.state).collect();
    assert_eq!(states, [ReplicaState::Computed, ReplicaState::Interrupted, ReplicaState::Interrupted]);
    assert!(world.claim("a", NOW).await.is_empty());
}

/// Outcomes of jobs and units that are not there are shown as missing, and harmless.
pub async fn unknown_replicas_are_missing(world: World) {
    let job = world.admit(10).await;
    let strangers = [UnitKey { job, unit: 9 }, UnitKey { job: JobId(Uuid::now_v7()), unit: 0 }];
    let seen = view(&world, &strangers).await;
    assert_eq!((seen.units.len(), seen.jobs.len()), (0, 1));
    let settlement = Settlement {
        replicas: vec![computed(strangers[0].replica(0)), computed(strangers[1].replica(0))],
        due: vec![(strangers[0].replica(1), NOW)],
        units: vec![valid(strangers[0], &world.customer, 1), valid(strangers[1], &world.customer, 1)],
        wasted_us: vec![(strangers[1].job, 5)],
    };
    world.settle(&[strangers[0].replica(0)], settlement).await;
    world.settle(&[], Settlement::default()).await;
    assert!(ledger(&world).await.is_empty());
}
