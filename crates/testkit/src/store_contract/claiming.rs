//! Claims: customers take turns, and each is told how much more of it may be under way.

use ports::store::{ClaimedJob, NewJob};
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::{CustomerName, JobId, Micros};

use super::world::{NOW, World, at};

impl World {
    async fn admit_for(&self, customer: &str, priority: i8) -> JobId {
        let mut job = NewJob { customer: CustomerName::new(customer).unwrap(), ..self.job(10) };
        job.spec.priority = priority;
        self.admit_job(job).await
    }

    async fn claims(&self, owner: &str, now: Micros, limit: u32) -> Vec<ClaimedJob> {
        self.store.claim_jobs(owner, now, Micros(now.0 + 30_000_000), limit).await.unwrap()
    }

    async fn claimed(&self, owner: &str, now: Micros, limit: u32) -> Vec<JobId> {
        self.claims(owner, now, limit).await.into_iter().map(|job| job.id).collect()
    }
}

fn sorted(mut jobs: Vec<JobId>) -> Vec<JobId> {
    jobs.sort();
    jobs
}

/// A customer with many jobs does not keep another's from being claimed, not even from who holds as many as it may.
pub async fn customers_take_turns(world: World) {
    let mut many = Vec::new();
    for _job in 0..9 {
        many.push(world.admit_for("big", 0).await);
    }
    assert_eq!(world.claimed("one", NOW, 4).await, many[..4]);
    let (small, other) = (world.admit_for("small", 0).await, world.admit_for("other", 0).await);
    let young = world.admit_for("small", 0).await;
    assert_eq!(world.claimed("one", NOW, 4).await, sorted(vec![many[0], many[1], small, other]));
    // What it gave back is another's, who has the rest of everyone's in turn.
    assert_eq!(world.claimed("two", NOW, 4).await, sorted(vec![many[2], many[3], many[4], young]));
    assert_eq!(world.claimed("three", NOW, 100).await, many[5..]);
    assert_eq!(world.claimed("one", NOW, 4).await, sorted(vec![many[0], many[1], small, other]), "claims are stable");
}

/// Of each customer the job of the highest priority comes first, then the oldest; nobody's priority counts against another.
pub async fn the_most_urgent_of_each_comes_first(world: World) {
    let (low, normal, urgent) = (world.admit_for("a", -5).await, world.admit_for("a", 0).await, world.admit_for("a", 7).await);
    let second = world.admit_for("a", 7).await;
    let lazy = world.admit_for("b", -100).await;
    assert_eq!(world.claimed("p", NOW, 2).await, [urgent, lazy]);
    assert_eq!(world.claimed("p", NOW, 3).await, [urgent, second, lazy]);
    assert_eq!(world.claimed("p", NOW, 4).await, [normal, urgent, second, lazy]);
    assert_eq!(world.claimed("p", NOW, 9).await, [low, normal, urgent, second, lazy]);
    assert_eq!(world.claimed("p", NOW, 2).await, [urgent, lazy]);
    assert_eq!(world.claimed("q", NOW, 9).await, [low, normal, second], "what was given back");
}

/// With more customers than jobs that may be claimed, everyone's turn comes.
pub async fn more_customers_than_claims(world: World) {
    let mut waiting = std::collections::BTreeSet::new();
    for customer in ["a", "b", "c", "d", "e", "f", "g"] {
        waiting.insert(world.admit_for(customer, 0).await);
        world.admit_for(customer, 0).await;
    }
    for lease in 0..7 {
        let claimed = world.claimed("one", at(30 * lease), 2).await;
        assert_eq!(claimed.len(), 2);
        assert_eq!(world.claimed("one", at(30 * lease + 1), 2).await, claimed, "not before the lease's time is over");
        for job in claimed {
            waiting.remove(&job);
        }
    }
    assert_eq!(waiting.len(), 0);
}

/// Customers without anything to do take nobody's turn.
pub async fn idle_customers_take_no_turn(world: World) {
    for customer in ["a", "b", "c", "d"] {
        let job = world.admit_for(customer, 0).await;
        world.sent(job, &[0, 5, 10]).await;
    }
    let busy = [world.admit_for("y", 0).await, world.admit_for("z", 0).await, world.admit_for("z", 0).await];
    for lease in 0..5 {
        assert_eq!(world.claimed("one", at(31 * lease), 3).await, busy);
        world.store.release_jobs("one").await.unwrap();
    }
}

/// Who dispatches is told how many more replicas of a customer may be sent, over all its jobs.
pub async fn what_is_left_of_a_customers_units_is_told(world: World) {
    let limits = CustomerLimits { units: 3, ..CustomerLimits::default() };
    let record = CustomerRecord { name: world.customer.clone(), weight: 1, limits, created_at: NOW };
    world.store.put_customer(record).await.unwrap();
    let (one, _two) = (world.admit(10).await, world.admit(10).await);
    world.admit_for("other", 0).await;
    let left = async || {
        let claimed = world.claims("p", NOW, 10).await;
        claimed.into_iter().map(|job| (job.customer.to_string(), job.customer_units_left)).collect::<Vec<_>>()
    };
    let all = |left| {
        let own = |left| ("acme".to_owned(), left);
        vec![own(left), own(left), ("other".to_owned(), CustomerLimits::default().units)]
    };
    assert_eq!(left().await, all(3));
    let units = world.cut(one, &[0, 1, 2, 3, 4, 5]).await;
    assert_eq!(left().await, all(3), "nothing is sent yet");
    let replicas: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
    world.store.mark_sent(&replicas[..2], at(60)).await.unwrap();
    assert_eq!(left().await, all(1));
    world.store.mark_sent(&replicas, at(60)).await.unwrap();
    assert_eq!(left().await, all(0), "more than it may");
    world.settle_valid(&units[..4]).await;
    assert_eq!(left().await, all(2));
    world.store.expire_replicas(at(61), 10, false).await.unwrap();
    assert_eq!(left().await, all(3));
}
