//! What settling tells beyond what it writes: counts for metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ports::store::{ReplicaState, UnitFacts, Vote};
use protocol::{PoolName, UnitKey};
use rules::settle::{End, Finding, Judgement};

/// It came when its unit was decided.
const LATE: &str = "late";
/// It did not count: another meter, another number of items, more fuel than they may take, or its host had answered before.
const DISMISSED: &str = "dismissed";
/// Other hosts agreed on another result, or nobody did.
const OUTVOTED: &str = "outvoted";
/// Why fuel is wasted.
pub(crate) const WASTES: [&str; 3] = [LATE, DISMISSED, OUTVOTED];

/// Counts over a batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Units ended, by kind.
    pub(crate) ends: BTreeMap<&'static str, u64>,
    pub(crate) wasted_us: u64,
    /// Fuel of results that were of no use.
    pub(crate) wasted_fuel: BTreeMap<&'static str, u64>,
    /// How long replicas waited to be computed.
    pub(crate) waits: Vec<(PoolName, Duration)>,
    /// Units ended that several hosts had to agree on, and those of them on which they did not.
    pub(crate) judged: u64,
    pub(crate) disagreements: u64,
    /// Valid units for which a host voted twice: there are none.
    pub(crate) voted_twice: Vec<UnitKey>,
}

impl Tally {
    /// Counts what was made of an outcome; the unit is as it was judged.
    pub(crate) fn count(&mut self, finding: &Finding, unit: &UnitFacts, quorum: u8, judgement: &Judgement) {
        let own = finding.vote();
        if let Some(vote) = own.filter(|_| judgement.wasted) {
            self.waste(if judgement.ends.is_empty() { LATE } else { DISMISSED }, vote);
        }
        let winner = match judgement.end {
            Some(End::Valid) => own,
            Some(End::Failed { .. }) => None,
            Some(End::Split { .. }) | None => return,
        };
        let votes: Vec<&Vote> = unit.replicas.iter().filter(|r| counted(r.state)).filter_map(|r| r.vote.as_ref()).collect();
        for vote in votes.iter().filter(|vote| Some(**vote) != winner) {
            self.waste(OUTVOTED, vote);
        }
        if quorum > 1 {
            self.judged += 1;
            self.disagreements += u64::from(votes.iter().collect::<BTreeSet<_>>().len() > 1);
        }
    }

    fn waste(&mut self, reason: &'static str, vote: &Vote) {
        let fuel = self.wasted_fuel.entry(reason).or_default();
        *fuel = fuel.saturating_add(vote.fuel.get());
    }
}

/// Whether a replica's vote was counted, for or against what the unit became.
fn counted(state: ReplicaState) -> bool {
    match state {
        ReplicaState::Computed | ReplicaState::Failed => true,
        ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost | ReplicaState::Interrupted => false,
    }
}

#[cfg(test)]
mod tests {
    use ports::store::{ReplicaFacts, UnitState};
    use protocol::{Digest, Fuel, HostId, MeterId};
    use rules::settle::{self, Arrival, Policy};

    use super::*;

    const QUORUM: u8 = 2;

    /// A unit of one item whose replicas are all sent.
    fn unit(replicas: u16) -> UnitFacts {
        let sent = |replica| ReplicaFacts { replica, lane: Some(replica), state: ReplicaState::Sent, host: None, vote: None };
        UnitFacts {
            key: UnitKey { job: "01980f3c-7b1e-7c55-8d42-0123456789ab".parse().expect("an id"), unit: 0 },
            stage: 0,
            first: 0,
            end: 1,
            bytes: (0, 0),
            state: UnitState::Open,
            replicas: (0..replicas).map(sent).collect(),
        }
    }

    /// Settles what a host answers for a replica: so much fuel, and an output of that fuel.
    fn answer(tally: &mut Tally, unit: &mut UnitFacts, replica: u16, host: &str, fuel: u64) {
        let meter = MeterId::new("meter-1").expect("a meter");
        let output = Digest::of(&fuel.to_le_bytes());
        let vote = Vote { meter: meter.clone(), fuel: Fuel::new(fuel).expect("fuel"), input_bytes: 0, output };
        let finding = Finding::Computed { vote, entries: 1, failed_items: 0, output_bytes: 0 };
        let host = HostId::new(host).expect("a host");
        let policy = Policy { quorum: QUORUM, max_failures: 3, meter, fuel_per_item: Fuel::MAX };
        let judgement = settle::judge(unit, &policy, Arrival { replica, host: &host, finding: finding.clone(), random: 0 });
        tally.count(&finding, unit, QUORUM, &judgement);
    }

    #[test]
    fn hosts_that_agree_waste_nothing() {
        let (mut tally, mut unit) = (Tally::default(), unit(3));
        answer(&mut tally, &mut unit, 0, "a", 5);
        assert_eq!((tally.judged, tally.disagreements), (0, 0), "one answer decides nothing");
        answer(&mut tally, &mut unit, 1, "b", 5);
        assert_eq!((tally.judged, tally.disagreements, tally.wasted_fuel.len()), (1, 0, 0));
        answer(&mut tally, &mut unit, 2, "c", 5);
        assert_eq!((tally.judged, tally.wasted_fuel), (1, BTreeMap::from([(LATE, 5)])));
    }

    #[test]
    fn a_host_that_disagrees_is_one_disagreement_and_its_fuel_is_lost() {
        let (mut tally, mut unit) = (Tally::default(), unit(3));
        answer(&mut tally, &mut unit, 0, "a", 5);
        answer(&mut tally, &mut unit, 1, "b", 7);
        answer(&mut tally, &mut unit, 2, "c", 5);
        assert_eq!((tally.judged, tally.disagreements, tally.wasted_fuel), (1, 1, BTreeMap::from([(OUTVOTED, 7)])));
    }

    #[test]
    fn a_second_answer_of_a_host_takes_the_place_of_its_first() {
        let (mut tally, mut unit) = (Tally::default(), unit(2));
        answer(&mut tally, &mut unit, 0, "a", 5);
        answer(&mut tally, &mut unit, 1, "a", 5);
        assert_eq!((tally.judged, tally.wasted_fuel), (0, BTreeMap::from([(DISMISSED, 5)])));
    }
}
