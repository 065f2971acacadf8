//! Reports: what people see agrees with what was written.

use ports::store::{
    Activity, FailedItem, HostActivity, JobActivity, ReplicaState, Settlement, UnitEnd, UnitSettled, UsageFilter,
};
use protocol::frame::ResultFrame;
use protocol::job::ItemCounts;
use protocol::{CustomerName, Fuel, HostId, JobId, UnitKey};
use uuid::Uuid;

use super::world::{NOW, World, at, computed, ended, frame, usage};

/// A report counts a running job's units and replicas.
pub async fn reports_count(world: World) {
    assert!(world.store.job(JobId(Uuid::now_v7())).await.unwrap().is_none());
    let job = world.admit(100).await;
    let units = world.cut(job, &[0, 10, 20, 30, 40]).await;
    world.store.mark_sent(&[units[0].replica(0), units[1].replica(0)], at(60)).await.unwrap();
    world.settle_valid(&units[..1]).await;
    let retry = Settlement {
        replicas: vec![ended(units[1].replica(0), ReplicaState::Failed, "trap")],
        due: vec![(units[1].replica(1), at(9))],
        ..Settlement::default()
    };
    world.settle(&[units[1].replica(0)], retry).await;
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.cut, report.stage, report.last_stage, report.admitted_at), (40, (0, 100), true, NOW));
    assert_eq!((report.units.open, report.units.valid, report.units.failed), (3, 1, 0));
    assert_eq!((report.units.replicas_due, report.units.replicas_sent), (3, 0));
    assert_eq!((report.next_due_at.map(|at| at.0), report.last_reason.as_deref()), (Some(NOW.0), Some("trap")));
    assert_eq!((report.items.submitted, report.items.succeeded, report.ended_at), (100, 10, None));
}

/// The youngest jobs come first, of one customer or of all.
pub async fn jobs_are_found(world: World) {
    let mut ids = Vec::new();
    for n in 0..4 {
        let mut job = world.job(1);
        job.customer = CustomerName::new(if n % 2 == 0 { "even" } else { "odd" }).unwrap();
        ids.push(world.admit_job(job).await);
    }
    ids.reverse();
    let found = |jobs: Vec<ports::store::JobReport>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(found(world.store.jobs(None, 10).await.unwrap()), ids);
    assert_eq!(found(world.store.jobs(None, 2).await.unwrap()), ids[..2]);
    assert_eq!(found(world.store.running(2).await.unwrap()), [ids[3], ids[2]], "the oldest first");
    world.end(ids[3], ItemCounts { submitted: 1, cancelled: 1, ..ItemCounts::default() }).await;
    assert_eq!(found(world.store.running(2).await.unwrap()), [ids[2], ids[1]]);
    let even = CustomerName::new("even").unwrap();
    assert_eq!(found(world.store.jobs(Some(&even), 10).await.unwrap()), [ids[1], ids[3]]);
}

/// Failed items are listed in order with their reasons, from failed units and from within valid ones.
pub async fn failed_items_are_listed(world: World) {
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 10, 20, 30]).await;
    let mut frame = ResultFrame::default();
    for item in 0..10 {
        if item % 4 == 1 { frame.failed("odd one") } else { frame.ok(b"fine") }.unwrap();
    }
    let valid =
        UnitEnd::Valid { usage: usage(units[2], &world.customer, 1, 1), output: frame.finish(), failed_items: 3, compute_us: 1 };
    let settlement = Settlement {
        replicas: vec![computed(units[2].replica(0)), ended(units[0].replica(0), ReplicaState::Failed, "trap")],
        units: vec![
            UnitSettled { key: units[2], end: valid },
            UnitSettled { key: units[0], end: UnitEnd::Failed { reason: "trap".to_owned() } },
        ],
        ..Settlement::default()
    };
    world.settle(&[units[0].replica(0), units[2].replica(0)], settlement).await;
    world.settle_valid(&units[1..2]).await;
    let failed = world.store.failed_items(job, 0, 100).await.unwrap();
    let items: Vec<u64> = failed.iter().map(|failed| failed.item).collect();
    assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21, 25, 29]);
    assert_eq!((failed[0].reason.as_str(), failed[12].reason.as_str()), ("trap", "odd one"));
    let page = world.store.failed_items(job, 8, 3).await.unwrap();
    assert_eq!(page.iter().map(|failed| failed.item).collect::<Vec<_>>(), [8, 9, 21]);
    assert_eq!(world.store.failed_items(job, 26, 9).await.unwrap(), [FailedItem { item: 29, reason: "odd one".to_owned() }]);
    assert!(world.store.failed_items(job, 30, 9).await.unwrap().is_empty());
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.items.failed, report.items.succeeded), (13, 17));
}

/// Output frames come in item order, page by page; those of a running job as far as it is assembled.
pub async fn outputs_come_in_pages(world: World) {
    let job = world.admit(4).await;
    let units = world.sent(job, &[0, 1, 2, 3, 4]).await;
    for unit in &units {
        let mut frame = ResultFrame::default();
        frame.ok(&vec![u8::try_from(unit.unit).unwrap(); 3 << 20]).unwrap();
        let end =
            UnitEnd::Valid { usage: usage(*unit, &world.customer, 1, 1), output: frame.finish(), failed_items: 0, compute_us: 1 };
        let settlement = Settlement {
            replicas: vec![computed(unit.replica(0))],
            units: vec![UnitSettled { key: *unit, end }],
            ..Settlement::default()
        };
        world.settle(&[unit.replica(0)], settlement).await;
    }
    assert!(world.store.outputs(job, 0).await.unwrap().is_empty());
    world.assemble(job, 2, ports::store::StageStep::Stay).await;
    let read = async || {
        let (mut from, mut units) = (0, Vec::new());
        loop {
            let page = world.store.outputs(job, from).await.unwrap();
            let Some((_, end, _)) = page.last() else { return units };
            from = *end;
            assert!(page.iter().map(|(_, _, frame)| frame.len()).sum::<usize>() < 5 << 20);
            units.extend(page.into_iter().map(|(first, _, frame)| (first, frame[20])));
        }
    };
    assert_eq!(read().await, [(0, 0), (1, 1)]);
    world.end(job, protocol::job::ItemCounts::default()).await;
    assert_eq!(read().await, [(0, 0), (1, 1), (2, 2), (3, 3)]);
}

/// The ledger is read in order of recording, filtered, in pages.
pub async fn usage_comes_in_pages(world: World) {
    let mut jobs = Vec::new();
    for (name, time) in [("a", 0), ("b", 10), ("a", 20)] {
        let customer = CustomerName::new(name).unwrap();
        let mut job = world.job(2);
        job.customer = customer.clone();
        let job = world.admit_job(job).await;
        let units = world.sent(job, &[0, 1, 2]).await;
        let rows = units.iter().map(|unit| {
            let mut usage = usage(*unit, &customer, 7, 9);
            usage.recorded_at = at(time);
            let end = UnitEnd::Valid { usage, output: super::world::frame(1), failed_items: 0, compute_us: 1 };
            UnitSettled { key: *unit, end }
        });
        world
            .settle(&[units[0].replica(0), units[1].replica(0)], Settlement { units: rows.collect(), ..Default::default() })
            .await;
        jobs.push(job);
    }
    let read = async |filter: UsageFilter, limit| {
        let (mut after, mut rows) = (0, Vec::new());
        loop {
            let page = world.store.usage(&filter, after, limit).await.unwrap();
            let Some((number, _)) = page.last() else { return rows };
            assert!(*number > after);
            after = *number;
            rows.extend(page.into_iter().map(|(_, usage)| usage.unit));
        }
    };
    let all: Vec<_> = jobs.iter().flat_map(|job| [UnitKey { job: *job, unit: 0 }, UnitKey { job: *job, unit: 1 }]).collect();
    for limit in [1, 4, 100] {
        assert_eq!(read(UsageFilter::default(), limit).await, all);
    }
    let customer = Some(CustomerName::new("a").unwrap());
    assert_eq!(read(UsageFilter { customer, ..Default::default() }, 3).await, [all[0], all[1], all[4], all[5]]);
    assert_eq!(read(UsageFilter { job: Some(jobs[1]), ..Default::default() }, 3).await, all[2..4]);
    let months = UsageFilter { from: Some(at(10)), until: Some(at(20)), ..Default::default() };
    assert_eq!(read(months.clone(), 3).await, all[2..4]);
    let totals = world.store.usage_totals(&months).await.unwrap();
    assert_eq!((totals.len(), totals[0].units, totals[0].fuel, totals[0].bytes), (1, 2, 14, 18));
}

/// Sums of the ledger are exact where they leave 64 bits; a job's own stop at the largest number.
pub async fn sums_beyond_64_bits(world: World) {
    let job = world.admit(4).await;
    let units = world.sent(job, &[0, 1, 2, 3, 4]).await;
    let largest = Fuel::MAX.get();
    let rows = units.iter().map(|unit| {
        let end = UnitEnd::Valid {
            usage: usage(*unit, &world.customer, largest, largest),
            output: super::world::frame(1),
            failed_items: 0,
            compute_us: 1,
        };
        UnitSettled { key: *unit, end }
    });
    let keys: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
    world.settle(&keys, Settlement { units: rows.collect(), ..Default::default() }).await;
    let totals = world.store.usage_totals(&UsageFilter::default()).await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!((totals[0].units, totals[0].fuel, totals[0].bytes), (4, u128::from(largest) * 4, u128::from(largest) * 4));
    assert_eq!((totals[0].customer.as_str(), totals[0].pool.as_str()), ("acme", "open"));
    let report = world.store.job(job).await.unwrap().unwrap();
    assert_eq!((report.usage.fuel, report.usage.bytes), (Fuel::MAX, largest));
}

/// Activity counts the youngest rows by job, stage and host, and says since when that is all there was.
pub async fn activity_is_of_the_youngest_rows(world: World) {
    let nothing = world.store.activity(NOW, 10).await.unwrap();
    assert_eq!(nothing, Activity { since: NOW, jobs: Vec::new(), hosts: Vec::new() });
    let (first, second) = (world.admit(30).await, world.admit(5).await);
    let units = world.sent(first, &[0, 10, 20, 30]).await;
    world.settle_valid(&units[..2]).await;
    let other = world.sent(second, &[0, 5]).await;
    let mut late = usage(other[0], &world.customer, u64::MAX >> 1, 1);
    late.recorded_at = at(5);
    let end = UnitEnd::Valid { usage: late, output: frame(5), failed_items: 0, compute_us: 1 };
    let settlement = Settlement {
        replicas: vec![computed(other[0].replica(0))],
        units: vec![UnitSettled { key: other[0], end }],
        ..Settlement::default()
    };
    world.settle(&[other[0].replica(0)], settlement).await;

    let all = world.store.activity(NOW, 10).await.unwrap();
    let long = u128::from(u64::MAX >> 1);
    let of = |job, units, items, fuel| JobActivity { job, stage: 0, units, items, fuel };
    assert_eq!((all.since, &all.jobs), (NOW, &vec![of(first, 2, 20, 2_000), of(second, 1, 5, long)]));
    let host = HostId::new("host-1").unwrap();
    assert_eq!(all.hosts, [HostActivity { host, units: 3, fuel: long + 2_000, last_at: at(5) }]);
    let youngest = world.store.activity(NOW, 1).await.unwrap();
    assert_eq!((youngest.since, youngest.jobs), (at(5), vec![of(second, 1, 5, long)]));
    let later = world.store.activity(at(6), 10).await.unwrap();
    assert_eq!(later, Activity { since: at(6), jobs: Vec::new(), hosts: Vec::new() });
}
