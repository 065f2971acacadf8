//! Invariants that are checked in production where they would break; each has one definition here. A broken one is a bug.

use protocol::Fuel;
use protocol::job::ItemCounts;
use protocol::reply::UsageSummary;
use protocol::state::{ReplicaState, UnitFacts, Vote};

use crate::budget::Budget;
use crate::lanes::MAX_WINDOW;

/// What must never break; the numbers are the architecture's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// I2: each item is accounted for once.
    Items,
    /// I3: each valid unit has one row in the ledger, and nothing else has any.
    Ledger,
    /// I6: replicas that agree are of different hosts.
    Hosts,
    /// I7: what is metered and reserved of a job never exceeds its budget.
    Budget,
    /// I8: a queue's depth is bounded by the dispatch window.
    Depth,
    /// What is decided follows each other in item order, in well-formed frames.
    Assembly,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Items, Self::Ledger, Self::Hosts, Self::Budget, Self::Depth, Self::Assembly];

    /// Its name in metrics.
    pub fn key(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Ledger => "ledger",
            Self::Hosts => "hosts",
            Self::Budget => "budget",
            Self::Depth => "depth",
            Self::Assembly => "assembly",
        }
    }
}

/// I2: the certificate's items are all accounted for, and are those that were counted as units settled.
pub fn items_hold(certified: &ItemCounts, settled: (u64, u64)) -> bool {
    certified.is_complete() && (certified.succeeded, certified.failed) == settled
}

/// I3: what a customer is told is what the ledger's rows of the job sum to: rows, fuel, bytes. Told sums end at their bound.
pub fn ledger_holds(told: &UsageSummary, (units, fuel, bytes): (u64, u128, u128)) -> bool {
    told.units == units
        && u128::from(told.fuel.get()) == fuel.min(Fuel::MAX.get().into())
        && u128::from(told.bytes) == bytes.min(u64::MAX.into())
}

/// I6: no two replicas with the winning vote are of the same host.
pub fn hosts_hold(unit: &UnitFacts, winner: &Vote) -> bool {
    let agreeing = unit.replicas.iter().filter(|r| r.state == ReplicaState::Computed && r.vote.as_ref() == Some(winner));
    let mut hosts: Vec<_> = agreeing.map(|replica| &replica.host).collect();
    let votes = hosts.len();
    hosts.sort_unstable();
    hosts.dedup();
    hosts.len() == votes && hosts.iter().all(|host| host.is_some())
}

/// I7: what is metered of a job, and the most that can be of what is under way, are within its budget.
pub fn budget_holds(budget: &Budget) -> bool {
    budget.holds()
}

/// I8: a lane holds its window, and at most what a rescue moved into it from each of the others.
pub fn depth_holds(ready: u32, lanes: u16) -> bool {
    ready <= MAX_WINDOW.saturating_mul(u32::from(lanes.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::job::Limits;
    use protocol::state::{ReplicaFacts, UnitState};
    use protocol::{Digest, HostId, JobId, MeterId, UnitKey};

    #[test]
    fn each_tells_right_from_wrong() {
        let items = ItemCounts { submitted: 5, succeeded: 3, failed: 1, cancelled: 1 };
        assert!(items_hold(&items, (3, 1)) && !items_hold(&items, (4, 1)));
        assert!(!items_hold(&ItemCounts { cancelled: 0, ..items }, (3, 1)));
        let told = UsageSummary { units: 2, fuel: Fuel::new(10).unwrap(), bytes: 7, ..UsageSummary::default() };
        assert!(ledger_holds(&told, (2, 10, 7)) && !ledger_holds(&told, (3, 10, 7)) && !ledger_holds(&told, (2, 9, 7)));
        assert!(depth_holds(MAX_WINDOW, 1) && !depth_holds(MAX_WINDOW + 1, 1));
        let limits = Limits { fuel_per_item: Fuel::new(3).unwrap(), ..Limits::default() };
        let budget = |open_items| Budget::of(Fuel::new(10).ok(), &limits, Fuel::new(4).unwrap(), open_items).unwrap();
        assert!(budget_holds(&budget(2)) && !budget_holds(&budget(3)));
        let meter = MeterId::new("m").unwrap();
        let vote = Vote { meter, fuel: Fuel::ZERO, input_bytes: 0, output: Digest::of(b"") };
        let replica = |replica, host: &str| ReplicaFacts {
            replica,
            lane: None,
            state: ReplicaState::Computed,
            host: Some(HostId::new(host).unwrap()),
            vote: Some(vote.clone()),
        };
        let key = UnitKey { job: JobId(uuid::Uuid::nil()), unit: 0 };
        let unit = |replicas| UnitFacts { key, stage: 0, first: 0, end: 1, bytes: (0, 0), state: UnitState::Valid, replicas };
        assert!(hosts_hold(&unit(vec![replica(0, "a"), replica(1, "b")]), &vote));
        assert!(!hosts_hold(&unit(vec![replica(0, "a"), replica(1, "a")]), &vote));
    }
}
