//! Quoting: what a job would take, from what its app took before, or else from the limits it cannot exceed.

use protocol::Fuel;
use protocol::job::JobSpec;
use protocol::quote::{Basis, Estimate};

use crate::{assemble, tree};

/// What an app took in earlier jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Experience {
    /// Items that were computed.
    pub items: u64,
    /// Their fuel, reductions included.
    pub fuel: u128,
    /// The least fuel per item of any of those jobs.
    pub least_per_item: Fuel,
    /// The most.
    pub most_per_item: Fuel,
    /// Computing time of it all, each unit computed once.
    pub compute_us: u64,
}

/// The pool as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pool {
    /// Workers that listen.
    pub workers: u32,
    /// Other customers who have work for it.
    pub others: u32,
}

/// The fuel that so many items of that job take, and what the estimate is made from.
///
/// Without experience nothing is known but the job's limits: all of it may be little, and none of it is more than
/// every item and every node of the reduction at its limit, which is then also said to be the likeliest. A job ends with its
/// budget, if it has one.
pub fn fuel(items: u64, spec: &JobSpec, experience: &Experience) -> (Estimate<Fuel>, Basis) {
    let (Estimate { low, likely, high }, basis) = unbudgeted_fuel(items, spec, experience);
    let most = spec.budget_fuel.unwrap_or(Fuel::MAX);
    (Estimate { low: low.min(most), likely: likely.min(most), high: high.min(most) }, basis)
}

fn unbudgeted_fuel(items: u64, spec: &JobSpec, experience: &Experience) -> (Estimate<Fuel>, Basis) {
    if experience.items == 0 {
        let calls = u128::from(items) + if spec.reduce { nodes(items) } else { 0 };
        let most = whole(calls.saturating_mul(spec.limits.fuel_per_item.get().into()));
        return (Estimate { low: Fuel::ZERO, likely: most, high: most }, Basis::Limits);
    }
    let items = u128::from(items);
    let likely = items.saturating_mul(experience.fuel).div_ceil(experience.items.into());
    let low = items.saturating_mul(experience.least_per_item.get().into()).min(likely);
    let high = items.saturating_mul(experience.most_per_item.get().into()).max(likely);
    (Estimate { low: whole(low), likely: whole(likely), high: whole(high) }, Basis::EarlierJobs)
}

/// Seconds until that job would be done; `None` without experience or without workers.
///
/// Each unit is computed as often as its quorum asks. At best the job has all workers for itself; likely it shares them
/// in equal parts with everybody who has work now.
pub fn seconds(items: u64, spec: &JobSpec, experience: &Experience, pool: Pool) -> Option<Estimate<u64>> {
    let computed = u128::from(experience.items);
    if computed == 0 || experience.compute_us == 0 || experience.fuel == 0 || pool.workers == 0 {
        return None;
    }
    // No more workers than calls can be at it.
    let calls = u128::from(items) * u128::from(spec.quorum.max(1));
    let workers = u128::from(pool.workers).min(calls).max(1);
    let alone_us = calls.saturating_mul(experience.compute_us.into()) / computed / workers;
    let by_fuel = |per_item: Fuel| {
        let scaled = alone_us.saturating_mul(per_item.get().into()).checked_mul(computed)?;
        Some(scaled / experience.fuel)
    };
    let shares = u128::from(pool.others) + 1;
    let low = by_fuel(experience.least_per_item).unwrap_or(alone_us).min(alone_us);
    let high = by_fuel(experience.most_per_item).unwrap_or(alone_us).max(alone_us).saturating_mul(shares);
    let likely = alone_us.saturating_mul(shares);
    let seconds = |us: u128| u64::try_from(us.div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Some(Estimate { low: seconds(low), likely: seconds(likely), high: seconds(high) })
}

/// Nodes of the whole reduction of so many items.
fn nodes(items: u64) -> u128 {
    let (mut below, mut all) = (items, 0_u128);
    while below > 0 {
        below = tree::nodes_above(below);
        all += u128::from(below);
        if assemble::is_last(below) {
            break;
        }
    }
    all
}

fn whole(fuel: u128) -> Fuel {
    u64::try_from(fuel).ok().and_then(|fuel| Fuel::new(fuel).ok()).unwrap_or(Fuel::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::input::Input;
    use protocol::job::{Delivery, Limits, UnitSizing};
    use protocol::{Digest, PoolName, Value};

    fn spec(reduce: bool) -> JobSpec {
        JobSpec {
            app: Digest([0; 32]),
            input: Input::Range { start: 0, end: 1 },
            shared: None,
            params: Value::Map(Vec::new()),
            pool: PoolName::new("open").unwrap(),
            quorum: 1,
            priority: 0,
            deadline_s: None,
            budget_fuel: None,
            max_failures: 3,
            limits: Limits { fuel_per_item: Fuel::new(1_000).unwrap(), ..Limits::default() },
            unit: UnitSizing::default(),
            reduce,
            delivery: Delivery::default(),
        }
    }

    fn fuel_of(count: u64) -> Fuel {
        Fuel::new(count).unwrap()
    }

    #[test]
    fn without_experience_the_limits_are_the_bound() {
        let (estimate, basis) = fuel(65, &spec(false), &Experience::default());
        assert_eq!((estimate.low, estimate.high, basis), (Fuel::ZERO, fuel_of(65_000), Basis::Limits));
        // 65 items, 2 nodes that reduce them, and 1 above.
        let (estimate, _) = fuel(65, &spec(true), &Experience::default());
        assert_eq!(estimate.high, fuel_of(68_000));
        let budgeted = JobSpec { budget_fuel: Some(fuel_of(5_000)), ..spec(true) };
        assert_eq!(fuel(65, &budgeted, &Experience::default()).0.high, fuel_of(5_000));
        assert_eq!(seconds(65, &spec(false), &Experience::default(), Pool { workers: 9, others: 0 }), None);
    }

    #[test]
    fn experience_is_scaled_to_the_job_and_to_the_pool() {
        let (least_per_item, most_per_item) = (fuel_of(50), fuel_of(200));
        let experience = Experience { items: 10, fuel: 1_000, least_per_item, most_per_item, compute_us: 10_000_000 };
        let (estimate, basis) = fuel(100, &spec(false), &experience);
        assert_eq!(estimate, Estimate { low: fuel_of(5_000), likely: fuel_of(10_000), high: fuel_of(20_000) });
        assert_eq!(basis, Basis::EarlierJobs);
        let seconds = |items, workers, others| seconds(items, &spec(false), &experience, Pool { workers, others });
        assert_eq!(seconds(100, 4, 0), Some(Estimate { low: 13, likely: 25, high: 50 }));
        assert_eq!(seconds(100, 4, 1), Some(Estimate { low: 13, likely: 50, high: 100 }));
        assert_eq!(seconds(1, 4, 0), Some(Estimate { low: 1, likely: 1, high: 2 }));
        assert_eq!(seconds(100, 0, 0), None);
    }

    #[test]
    fn a_quorum_is_computed_that_often() {
        let each = fuel_of(100);
        let experience = Experience { items: 10, fuel: 1_000, least_per_item: each, most_per_item: each, compute_us: 10_000_000 };
        let likely = |quorum| {
            let pool = Pool { workers: 4, others: 0 };
            seconds(100, &JobSpec { quorum, ..spec(false) }, &experience, pool).map(|estimate| estimate.likely)
        };
        assert_eq!((likely(1), likely(3)), (Some(25), Some(75)));
    }

    proptest! {
        #[test]
        fn estimates_are_ordered_whatever_the_numbers(
            items: u64, known: u64, fuel_known in 0..=u128::MAX / u128::from(u64::MAX), least: u32, most: u64, compute_us: u64,
            workers: u32, others: u32, reduce: bool,
        ) {
            let (least_per_item, most_per_item) = (fuel_of(least.into()), fuel_of(most >> 1));
            let experience = Experience { items: known, fuel: fuel_known, least_per_item, most_per_item, compute_us };
            let (estimate, _) = fuel(items, &spec(reduce), &experience);
            prop_assert!(estimate.low <= estimate.likely && estimate.likely <= estimate.high);
            if let Some(estimate) = seconds(items, &spec(reduce), &experience, Pool { workers, others }) {
                prop_assert!(estimate.low <= estimate.likely && estimate.likely <= estimate.high);
            }
        }
    }
}
