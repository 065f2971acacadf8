//! Requests: jobs that rest, are listed, looked into, fetched from again and given up by their customers.

use ports::store::{NewJob, ReplicaState, Settlement, StageStep, UnitEnd, UnitSettled};
use protocol::job::{ItemCounts, JobState};
use protocol::query::FailureCount;
use protocol::{CustomerName, Fuel, JobId, PoolName, UnitKey};
use uuid::Uuid;

use super::world::{NOW, World, at, certificate, computed, cut, ended, valid};

/// A customer of that name.
pub(super) fn customer(name: &str) -> CustomerName {
    CustomerName::new(name).unwrap()
}

/// A job that nobody has.
pub(super) fn no_job() -> JobId {
    JobId(Uuid::now_v7())
}

/// A unit that is given up for a reason.
pub(super) fn given_up(unit: UnitKey, reason: &str) -> UnitSettled {
    UnitSettled { key: unit, end: UnitEnd::Failed { reason: reason.to_owned() } }
}

/// A step that ends a job in that state.
pub(super) fn end(state: JobState) -> StageStep {
    StageStep::End { state, certificate: certificate(ItemCounts::default()) }
}

/// A job that rests is not claimed; what is on its way goes on, and so does its deadline.
pub async fn a_job_rests_until_resumed(world: World) {
    let job = world.admit_job(NewJob { deadline_at: Some(at(90)), ..world.job(20) }).await;
    let units = world.sent(job, &[0, 5, 10]).await;
    assert_eq!(world.claim("a", NOW).await.len(), 1);
    let pause = async |paused| world.store.pause_job(&world.customer, job, paused, None).await.unwrap();
    for _twice in 0..2 {
        assert_eq!(pause(true).await, Some(JobState::Running));
        assert!(world.claim("a", NOW).await.is_empty(), "not even by whom it was claimed");
        assert!(world.store.job(job).await.unwrap().unwrap().paused);
    }
    world.settle_valid(&units[..1]).await;
    assert_eq!(world.store.job(job).await.unwrap().unwrap().items.succeeded, 5);
    assert_eq!(world.store.expire_replicas(at(61), 10, false).await.unwrap(), 1);
    assert!(world.claim("a", at(61)).await.is_empty(), "a further replica is due, and rests");
    assert_eq!(world.store.jobs_to_assemble(at(90), 10).await.unwrap(), [job]);
    for _twice in 0..2 {
        assert_eq!(pause(false).await, Some(JobState::Running));
        assert_eq!(world.claim("a", at(61)).await.len(), 1);
    }
    assert_eq!(world.store.pause_job(&customer("other"), job, true, None).await.unwrap(), None);
    assert_eq!(world.store.pause_job(&world.customer, no_job(), true, None).await.unwrap(), None);
    assert_eq!(pause(true).await, Some(JobState::Running));
    world.assemble(job, 10, end(JobState::Expired)).await;
    assert_eq!(pause(false).await, Some(JobState::Expired));
    assert!(!world.store.job(job).await.unwrap().unwrap().paused, "an ended job does not rest");
}

/// A customer's jobs come from the youngest on, of one state or of all, page by page.
pub async fn own_jobs_come_in_pages(world: World) {
    let mut jobs = Vec::new();
    for n in 0..6 {
        let name = if n == 3 { "other" } else { "acme" };
        jobs.push(world.admit_job(NewJob { customer: customer(name), ..world.job(1) }).await);
    }
    world.assemble(jobs[1], 10, end(JobState::Completed)).await;
    world.assemble(jobs[4], 10, end(JobState::Completed)).await;
    world.assemble(jobs[5], 10, end(JobState::Cancelled)).await;
    let own = async |state, before, limit| {
        let reports = world.store.own_jobs(&world.customer, state, before, limit).await.unwrap();
        reports.iter().map(|report| report.id).collect::<Vec<_>>()
    };
    assert_eq!(own(None, None, 10).await, [jobs[5], jobs[4], jobs[2], jobs[1], jobs[0]]);
    assert_eq!(own(None, Some(jobs[4]), 2).await, [jobs[2], jobs[1]]);
    assert_eq!(own(None, Some(jobs[3]), 1).await, [jobs[2]], "another customer's job is a place in time as well");
    assert_eq!(own(Some(JobState::Completed), None, 10).await, [jobs[4], jobs[1]]);
    assert_eq!(own(Some(JobState::Completed), Some(jobs[4]), 10).await, [jobs[1]]);
    assert_eq!(own(Some(JobState::Running), None, 10).await, [jobs[2], jobs[0]]);
    assert!(own(Some(JobState::Expired), None, 10).await.is_empty());
    let report = world.store.own_jobs(&world.customer, None, None, 1).await.unwrap().remove(0);
    assert_eq!((report.correlation_id.as_deref(), report.parts, report.results_gone_at), (Some("order 7"), 0, None));
}

/// Jobs of the same customer and pool come before one that is younger or of lower priority, while they have work to send.
pub async fn jobs_ahead_are_counted(world: World) {
    let with = |priority, pool: &str, name: &str| {
        let mut job = NewJob { customer: customer(name), ..world.job(4) };
        (job.spec.priority, job.spec.pool) = (priority, PoolName::new(pool).unwrap());
        job
    };
    let ahead = async |job| world.store.wait_facts(job).await.unwrap().ahead;
    let older = world.admit_job(with(0, "open", "acme")).await;
    let (cut, rests) = (world.admit_job(with(0, "open", "acme")).await, world.admit_job(with(0, "open", "acme")).await);
    world.admit_job(with(0, "trusted", "acme")).await;
    world.admit_job(with(9, "open", "other")).await;
    world.admit_job(with(-1, "open", "acme")).await;
    let asked = world.admit_job(with(0, "open", "acme")).await;
    assert_eq!((ahead(asked).await, ahead(older).await, ahead(no_job()).await), (3, 0, 0));
    let urgent = world.admit_job(with(5, "open", "acme")).await;
    assert_eq!((ahead(asked).await, ahead(urgent).await), (4, 0));
    world.sent(cut, &[0, 4]).await;
    assert_eq!(ahead(asked).await, 3, "all of it is on its way");
    world.store.pause_job(&world.customer, rests, true, None).await.unwrap();
    assert_eq!(ahead(asked).await, 2, "it rests");
    world.assemble(asked, 10, end(JobState::Cancelled)).await;
    assert_eq!(ahead(asked).await, 0, "it has ended");
}

/// Failures are counted by reason: of replicas that failed, were given back or lost, and of units that were given up.
pub async fn failures_are_counted_by_reason(world: World) {
    let job = world.admit(60).await;
    let units = world.sent(job, &[0, 10, 20, 30, 40, 50]).await;
    let first = |n: usize| units[n].replica(0);
    assert!(world.store.wait_facts(job).await.unwrap().failures.is_empty());
    let settlement = Settlement {
        replicas: vec![
            ended(first(0), ReplicaState::Interrupted, "owner is back"),
            ended(first(1), ReplicaState::Failed, "trap"),
            ended(first(2), ReplicaState::Failed, "trap"),
            computed(first(3)),
        ],
        units: vec![given_up(units[2], "trap"), given_up(units[3], "hosts do not agree")],
        ..Settlement::default()
    };
    world.settle(&[first(0), first(1), first(2), first(3)], settlement).await;
    assert_eq!(world.store.expire_replicas(at(61), 10, false).await.unwrap(), 1);
    let told = async || {
        let failures = world.store.wait_facts(job).await.unwrap().failures;
        failures.into_iter().map(|FailureCount { reason, replicas }| (reason, replicas)).collect::<Vec<_>>()
    };
    let expected = [("trap", 2), ("owner is back", 1), ("hosts do not agree", 1), ("no answer by its deadline", 1)];
    assert_eq!(told().await, expected.map(|(reason, count)| (reason.to_owned(), count)));
    // What was lost answers after all: it is no failure.
    world.settle_valid(&units[4..]).await;
    assert_eq!(told().await.len(), 3);
    for n in 1..=25 {
        let key = units[0].replica(n);
        let due = Settlement { due: vec![(key, NOW)], ..Settlement::default() };
        world.settle(&[first(0)], due).await;
        let reason = format!("reason {n:02}");
        let failed = Settlement { replicas: vec![ended(key, ReplicaState::Failed, &reason)], ..Settlement::default() };
        world.settle(&[key], failed).await;
    }
    let told = told().await;
    assert_eq!((told.len(), told[0].0.as_str(), told[1].0.as_str()), (20, "trap", "owner is back"));
}

/// What an app took is told of the customer's ended jobs of it, as far as something was computed.
pub async fn experience_is_of_ended_jobs(world: World) {
    let experience = async |app| world.store.app_experience(&world.customer, app).await.unwrap();
    let spec = super::world::spec(1);
    assert_eq!(experience(spec.app).await, ports::store::AppExperience::default());
    let run = async |name: &str, items: &[u64], end_it: bool| {
        let job = world.admit_job(NewJob { customer: customer(name), ..world.job(30) }).await;
        let units = world.sent(job, items).await;
        world.settle_valid(&units).await;
        if end_it {
            world.end(job, ItemCounts::default()).await;
        }
        (job, units)
    };
    // A unit takes 1,000 fuel and its replica 50 microseconds.
    run("acme", &[0, 10], true).await;
    run("acme", &[0, 3, 6], true).await;
    run("acme", &[0, 1], false).await;
    run("other", &[0, 1], true).await;
    run("acme", &[0], true).await;
    let told = experience(spec.app).await;
    assert_eq!((told.items, told.fuel, told.compute_us), (16, 3_000, 150));
    assert_eq!((told.least_per_item, told.most_per_item), (Fuel::new(100).unwrap(), Fuel::new(334).unwrap()));
    assert_eq!(experience(protocol::Digest::of(b"another")).await.items, 0);
    let job = world.admit(30).await;
    let units = world.sent(job, &[0, 10, 30]).await;
    let lost = Settlement { units: vec![given_up(units[1], "trap")], ..Settlement::default() };
    world.settle(&[units[1].replica(0)], lost).await;
    world.settle_valid(&units[..1]).await;
    world.end(job, ItemCounts::default()).await;
    assert_eq!(experience(spec.app).await.items, 26, "items of units that were given up took nothing");
}

/// The computing time of an app is that of one replica of each unit, however many there were.
pub async fn experience_counts_a_quorum_once(world: World) {
    let job = world.admit(10).await;
    let step = cut(job, 0, 0, &[0, 10], &[0, 1]);
    let unit = step.cuts[0].key;
    assert!(world.store.dispatch(step).await.unwrap());
    let keys = [unit.replica(0), unit.replica(1)];
    world.store.mark_sent(&keys, at(60)).await.unwrap();
    let replicas = keys.map(computed).to_vec();
    let units = vec![valid(unit, &world.customer, 10)];
    world.settle(&keys, Settlement { replicas, units, ..Settlement::default() }).await;
    world.end(job, ItemCounts::default()).await;
    let told = world.store.app_experience(&world.customer, super::world::spec(1).app).await.unwrap();
    assert_eq!((told.items, told.fuel, told.compute_us), (10, 1_000, 50));
}

/// Several replies are written together, each of its id once.
pub async fn replies_are_written_together(world: World) {
    world.store.reply_all(Vec::new()).await.unwrap();
    let replies = ["one", "two", "one", "three"].map(|id| world.message(id));
    world.store.reply_all(replies.to_vec()).await.unwrap();
    let ids: Vec<String> = world.claim_messages(NOW, 10).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["one", "two", "three"]);
}
