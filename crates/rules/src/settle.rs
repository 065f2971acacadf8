//! Settling: what an outcome makes of its unit. Quorum by exact agreement, as in BOINC's validator; retries; splits.

use std::time::Duration;

use protocol::frame::{self, Entry};
use protocol::job::Limits;
use protocol::outcome::{MAX_REASON_BYTES, Outcome, OutcomeResult, bounded_reason};
use protocol::state::{ReplicaFacts, ReplicaState, UnitFacts, UnitState, Vote};
use protocol::{Digest, Fuel, HostId, MeterId};

use crate::retry::{self, MAX_REPLICAS};
use crate::split;

/// What marks a reason that was cut to its bound.
const ELLIPSIS_BYTES: usize = '…'.len_utf8();
/// No guest holds more of an item.
const MAX_ITEM_BYTES: u64 = 1 << 32;

/// What the job asks of its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many hosts must agree.
    pub quorum: u8,
    /// How many failed computations of one unit are tolerated.
    pub max_failures: u16,
    /// How fuel is counted; votes under another meter do not count.
    pub meter: MeterId,
    /// The fuel of one item; who claims more for a unit than its items may take has not kept to it.
    pub fuel_per_item: Fuel,
}

/// An outcome examined: what it says, once its bytes were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A well-formed result.
    Computed {
        /// What replicas must agree on.
        vote: Vote,
        /// How many items it answers.
        entries: u64,
        /// How many of those failed by themselves.
        failed_items: u32,
        /// Bytes of the outputs of the others.
        output_bytes: u64,
    },
    /// The app, its executor or its host failed on the unit.
    Failed(String),
    /// The unit is beyond the time or size of one unit.
    TooLarge(String),
    /// It was given back without fault.
    Interrupted(String),
    /// The worker cannot run it.
    Refused(String),
}

impl Finding {
    /// What it votes for, if it is a result.
    pub fn vote(&self) -> Option<&Vote> {
        match self {
            Self::Computed { vote, .. } => Some(vote),
            Self::Failed(_) | Self::TooLarge(_) | Self::Interrupted(_) | Self::Refused(_) => None,
        }
    }
}

/// Checks an outcome's bytes: the digest, the frame and each entry. Hosts are not trusted: what they say is bounded here, whatever
/// their own software bounds.
pub fn examine(outcome: &Outcome) -> Finding {
    let host = &outcome.host;
    let bounded = |reason: &String| bounded_reason(reason.clone());
    match &outcome.result {
        OutcomeResult::Computed(computed) => {
            if Digest::of(&computed.output) != computed.digest {
                return Finding::Failed(format!("host {host} sent an output that is not of its digest"));
            }
            match frame::results(&computed.output) {
                Ok(results) if results.iter().any(is_too_long) => {
                    Finding::Failed(format!("host {host} sent an item's output or reason that is longer than any may be"))
                }
                Ok(results) => Finding::Computed {
                    vote: Vote {
                        meter: computed.meter.clone(),
                        fuel: computed.fuel,
                        input_bytes: computed.input_bytes,
                        output: computed.digest,
                    },
                    entries: u64::try_from(results.len()).unwrap_or(u64::MAX),
                    failed_items: count_failed(&results),
                    output_bytes: sum_outputs(&results),
                },
                Err(error) => Finding::Failed(format!("host {host} sent an output that is no frame: {error}")),
            }
        }
        OutcomeResult::AppFailed { reason } | OutcomeResult::Dead { reason } => Finding::Failed(bounded(reason)),
        OutcomeResult::TooLarge { reason } => Finding::TooLarge(bounded(reason)),
        OutcomeResult::Interrupted { reason } => Finding::Interrupted(bounded(reason)),
        OutcomeResult::Refused { reason } => Finding::Refused(bounded(reason)),
    }
}

fn is_too_long(entry: &Entry<'_>) -> bool {
    let (bytes, most) = match entry {
        Entry::Ok(output) => (output.len(), usize::try_from(Limits::MAX_OUTPUT_BYTES).unwrap_or(usize::MAX)),
        Entry::Failed(reason) => (reason.len(), MAX_REASON_BYTES + ELLIPSIS_BYTES),
    };
    bytes > most
}

fn count_failed(results: &[Entry<'_>]) -> u32 {
    let failed = results.iter().filter(|entry| matches!(entry, Entry::Failed(_))).count();
    u32::try_from(failed).unwrap_or(u32::MAX)
}

fn sum_outputs(results: &[Entry<'_>]) -> u64 {
    let bytes = results.iter().map(|entry| match entry {
        Entry::Ok(output) => u64::try_from(output.len()).unwrap_or(u64::MAX),
        Entry::Failed(_) => 0,
    });
    bytes.fold(0, u64::saturating_add)
}

/// What becomes of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The quorum is reached by this outcome: its bytes are the unit's.
    Valid,
    /// The unit is given up.
    Failed {
        /// Why.
        reason: String,
    },
    /// The unit is cut in two.
    Split {
        /// The first item of the new unit.
        middle: u64,
    },
}

/// An outcome that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// The replica's number within its unit.
    pub replica: u16,
    /// Who sent it.
    pub host: &'a HostId,
    /// What it says.
    pub finding: Finding,
    /// Any number; it spreads retries over time.
    pub random: u64,
}

/// The effect of one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Replicas that ended (this one, and those that lost the vote) with their new state and, where there is one, the reason.
    pub ends: Vec<(u16, ReplicaState, Option<String>)>,
    /// Further replicas and how long each is to wait.
    pub due: Vec<(u16, Duration)>,
    /// What becomes of the unit, if anything.
    pub end: Option<End>,
    /// Whether the computing was of no use.
    pub wasted: bool,
}

/// Judges one outcome; `unit` is brought up to date, so that the next outcome of a batch can be judged.
///
/// An outcome of a replica that has ended, or of a unit that is decided, has no effect (invariant I4). But a result is used if it is the
/// replica's first, though its host was said to have failed or to have given it back.
pub fn judge(unit: &mut UnitFacts, policy: &Policy, arrival: Arrival<'_>) -> Judgement {
    let Arrival { replica, host, finding, random } = arrival;
    let mut judgement = Judgement::default();
    let open = unit.state == UnitState::Open;
    let misfit = match &finding {
        Finding::Computed { vote, entries, .. } => misfit(unit, policy, host, vote, *entries),
        Finding::Failed(_) | Finding::TooLarge(_) | Finding::Interrupted(_) | Finding::Refused(_) => None,
    };
    let finding = misfit.unwrap_or(finding);
    let awaited = |r: &ReplicaFacts| is_awaited(r.state) || (open && finding.vote().is_some() && r.vote.is_none());
    let Some(place) = unit.replicas.iter().position(|r| r.replica == replica && awaited(r)) else {
        return judgement;
    };
    if !open {
        judgement.wasted = true;
        return judgement;
    }
    let mut court = Court { unit, policy, random, judgement: &mut judgement };
    match finding {
        Finding::Computed { vote, .. } => court.computed(place, host, &vote),
        Finding::Failed(reason) => court.failed(place, host, reason),
        Finding::TooLarge(reason) => court.too_large(place, host, reason),
        Finding::Interrupted(reason) => court.interrupted(place, host, reason),
        Finding::Refused(reason) => court.refused(place, host, reason),
    }
    judgement
}

/// Why a result cannot be one of this unit; one under another meter is no fault of the app or of its host.
fn misfit(unit: &UnitFacts, policy: &Policy, host: &HostId, vote: &Vote, entries: u64) -> Option<Finding> {
    let items = unit.end - unit.first;
    let most = u128::from(policy.fuel_per_item.get()) * u128::from(items);
    if vote.meter != policy.meter {
        let reason = format!("counted by meter {}, the job is metered by {}", vote.meter, policy.meter);
        return Some(Finding::Refused(reason));
    }
    let reason = if entries != items {
        format!("host {host} answered {entries} items of {items}")
    } else if u128::from(vote.fuel.get()) > most {
        format!("host {host} claims {} fuel for {items} items of {} at most", vote.fuel, policy.fuel_per_item)
    } else if vote.input_bytes > items.saturating_mul(MAX_ITEM_BYTES) {
        format!("host {host} claims {} bytes of input for {items} items", vote.input_bytes)
    } else {
        return None;
    };
    Some(Finding::Failed(reason))
}

fn is_awaited(state: ReplicaState) -> bool {
    match state {
        ReplicaState::Due | ReplicaState::Sent | ReplicaState::Lost => true,
        ReplicaState::Computed | ReplicaState::Failed | ReplicaState::Interrupted => false,
    }
}

struct Court<'a> {
    unit: &'a mut UnitFacts,
    policy: &'a Policy,
    random: u64,
    judgement: &'a mut Judgement,
}

impl Court<'_> {
    fn computed(&mut self, place: usize, host: &HostId, vote: &Vote) {
        let again = self.dismiss_earlier(host);
        self.unit.replicas[place].vote = Some(vote.clone());
        self.close(place, host, ReplicaState::Computed, None);
        if self.agreeing(vote) >= usize::from(self.policy.quorum.max(1)) {
            self.dismiss_losers(vote);
            return self.end(UnitState::Valid, End::Valid);
        }
        self.continue_vote(again);
    }

    /// Two replicas of a unit never count from the same host (invariant I6). The later one does, because it went to the
    /// lane where the host is now: were it the earlier one, which another lane may have been given up to, every further
    /// replica could go to this host again. Whether there was an earlier one.
    fn dismiss_earlier(&mut self, host: &HostId) -> bool {
        let same = |r: &ReplicaFacts| r.state == ReplicaState::Computed && r.host.as_ref() == Some(host);
        let Some(earlier) = self.unit.replicas.iter_mut().find(|r| same(r)) else { return false };
        earlier.state = ReplicaState::Interrupted;
        let reason = format!("host {host} has computed another replica of this unit");
        self.judgement.ends.push((earlier.replica, ReplicaState::Interrupted, Some(reason)));
        self.judgement.wasted = true;
        true
    }

    fn failed(&mut self, place: usize, host: &HostId, reason: String) {
        self.judgement.wasted = true;
        self.close(place, host, ReplicaState::Failed, Some(reason.clone()));
        self.retry_or_give_up(reason);
    }

    fn retry_or_give_up(&mut self, reason: String) {
        let failures = self.count(ReplicaState::Failed);
        if failures > usize::from(self.policy.max_failures) {
            return self.end(UnitState::Failed, End::Failed { reason });
        }
        self.replace(retry::backoff(failures, self.random));
    }

    fn too_large(&mut self, place: usize, host: &HostId, reason: String) {
        match split::middle(self.unit.first, self.unit.end) {
            Some(middle) => {
                self.judgement.wasted = true;
                self.close(place, host, ReplicaState::Interrupted, Some(reason));
                self.judgement.end = Some(End::Split { middle });
            }
            None => self.failed(place, host, reason),
        }
    }

    fn interrupted(&mut self, place: usize, host: &HostId, reason: String) {
        self.judgement.wasted = true;
        self.close(place, host, ReplicaState::Interrupted, Some(reason));
        self.replace(Duration::ZERO);
    }

    /// A refusal costs no retry, but the unit waits longer each time: another host may be found, or this one mended.
    fn refused(&mut self, place: usize, host: &HostId, reason: String) {
        self.judgement.wasted = true;
        self.close(place, host, ReplicaState::Interrupted, Some(reason));
        self.replace(retry::backoff(self.count(ReplicaState::Interrupted), self.random));
    }

    /// No quorum yet: as many further replicas as the largest group still lacks beyond those under way. Where a host answered
    /// `again`, there may be no other one: each waits longer.
    fn continue_vote(&mut self, again: bool) {
        let largest = self.largest_group();
        let (lacking, under_way) = (self.lacking(largest), self.under_way());
        if lacking <= under_way {
            return;
        }
        let disagreeing = self.count(ReplicaState::Computed) - largest;
        if disagreeing + self.count(ReplicaState::Failed) > usize::from(self.policy.max_failures) {
            let reason = format!("hosts do not agree on the output: {} different answers", self.distinct_votes());
            return self.end(UnitState::Failed, End::Failed { reason });
        }
        let wait = if again { retry::backoff(self.count(ReplicaState::Interrupted), self.random) } else { Duration::ZERO };
        for _ in under_way..lacking {
            self.further(wait);
        }
    }

    /// A further replica for one that ended, unless it was taken for lost and there is one for it already.
    fn replace(&mut self, wait: Duration) {
        if self.under_way() < self.lacking(self.largest_group()) {
            self.further(wait);
        }
    }

    fn largest_group(&self) -> usize {
        self.unit.replicas.iter().filter_map(|r| r.vote.as_ref()).map(|vote| self.agreeing(vote)).max().unwrap_or(0)
    }

    fn lacking(&self, largest_group: usize) -> usize {
        usize::from(self.policy.quorum.max(1)).saturating_sub(largest_group)
    }

    fn under_way(&self) -> usize {
        self.count(ReplicaState::Due) + self.count(ReplicaState::Sent)
    }

    fn further(&mut self, wait: Duration) {
        let next = self.unit.replicas.iter().map(|r| r.replica).max().map_or(0, |n| n.saturating_add(1));
        if next >= MAX_REPLICAS {
            let reason = format!("given back or lost {MAX_REPLICAS} times");
            return self.end(UnitState::Failed, End::Failed { reason });
        }
        let due = ReplicaFacts { replica: next, lane: None, state: ReplicaState::Due, host: None, vote: None };
        self.unit.replicas.push(due);
        self.judgement.due.push((next, wait));
    }

    fn dismiss_losers(&mut self, winner: &Vote) {
        for replica in &mut self.unit.replicas {
            if replica.state == ReplicaState::Computed && replica.vote.as_ref() != Some(winner) {
                replica.state = ReplicaState::Failed;
                let reason = "computed another output than the quorum".to_owned();
                self.judgement.ends.push((replica.replica, ReplicaState::Failed, Some(reason)));
            }
        }
    }

    fn close(&mut self, place: usize, host: &HostId, state: ReplicaState, reason: Option<String>) {
        let replica = &mut self.unit.replicas[place];
        replica.state = state;
        replica.host = Some(host.clone());
        self.judgement.ends.push((replica.replica, state, reason));
    }

    fn end(&mut self, state: UnitState, end: End) {
        self.unit.state = state;
        self.judgement.due.clear();
        self.judgement.end = Some(end);
    }

    fn agreeing(&self, vote: &Vote) -> usize {
        let agrees = |r: &&ReplicaFacts| r.state == ReplicaState::Computed && r.vote.as_ref() == Some(vote);
        self.unit.replicas.iter().filter(agrees).count()
    }

    fn distinct_votes(&self) -> usize {
        let mut votes: Vec<_> = self.unit.replicas.iter().filter_map(|r| r.vote.as_ref()).collect();
        votes.sort_unstable();
        votes.dedup();
        votes.len()
    }

    fn count(&self, state: ReplicaState) -> usize {
        self.unit.replicas.iter().filter(|r| r.state == state).count()
    }
}

#[cfg(test)]
mod tests;
