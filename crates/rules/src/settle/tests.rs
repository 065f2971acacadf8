//! Settling by example and by property: any order, any duplicates, lying hosts.

use proptest::prelude::*;
use protocol::{Fuel, JobId, UnitKey};
use uuid::Uuid;

use super::*;

fn unit(quorum: u16) -> UnitFacts {
    let replica = |replica| ReplicaFacts { replica, lane: Some(replica), state: ReplicaState::Sent, host: None, vote: None };
    UnitFacts {
        key: UnitKey { job: JobId(Uuid::nil()), unit: 0 },
        stage: 0,
        first: 10,
        end: 14,
        bytes: (0, 0),
        state: UnitState::Open,
        replicas: (0..quorum).map(replica).collect(),
    }
}

fn policy(quorum: u8) -> Policy {
    Policy { quorum, max_failures: 3, meter: MeterId::new("m-1").unwrap(), fuel_per_item: Fuel::MAX }
}

fn host(n: u16) -> HostId {
    HostId::new(format!("h{n}")).unwrap()
}

fn judged(unit: &mut UnitFacts, policy: &Policy, replica: u16, from: u16, finding: Finding) -> Judgement {
    judge(unit, policy, Arrival { replica, host: &host(from), finding, random: 0 })
}

fn answer(output: &[u8]) -> Finding {
    let (meter, fuel) = (MeterId::new("m-1").unwrap(), Fuel::new(7).unwrap());
    Finding::Computed {
        vote: Vote { meter, fuel, input_bytes: 32, output: Digest::of(output) },
        entries: 4,
        failed_items: 0,
        output_bytes: 8,
    }
}

#[test]
fn one_answer_settles_a_quorum_of_one_and_its_duplicate_has_no_effect() {
    let (mut unit, policy) = (unit(1), policy(1));
    let judgement = judged(&mut unit, &policy, 0, 0, answer(b"a"));
    assert_eq!(judgement.end, Some(End::Valid));
    assert_eq!(judgement.ends, [(0, ReplicaState::Computed, None)]);
    assert_eq!(judged(&mut unit, &policy, 0, 0, answer(b"a")), Judgement::default());
    assert_eq!(judged(&mut unit, &policy, 9, 0, answer(b"a")), Judgement::default(), "unknown replica");
}

#[test]
fn a_liar_is_outvoted_by_one_more_replica() {
    let (mut unit, policy) = (unit(2), policy(2));
    assert_eq!(judged(&mut unit, &policy, 0, 0, answer(b"lie")).end, None);
    let second = judged(&mut unit, &policy, 1, 1, answer(b"truth"));
    assert_eq!((second.end, second.due), (None, vec![(2, Duration::ZERO)]));
    let third = judged(&mut unit, &policy, 2, 2, answer(b"truth"));
    assert_eq!(third.end, Some(End::Valid));
    assert_eq!(third.ends[1].0, 0, "the liar's replica lost the vote");
    assert_eq!(third.ends[1].1, ReplicaState::Failed);
}

#[test]
fn a_host_that_claims_more_fuel_than_its_items_may_take_has_failed() {
    let limit = |fuel| Policy { fuel_per_item: Fuel::new(fuel).unwrap(), ..policy(1) };
    let mut greedy = unit(1);
    let judgement = judged(&mut greedy, &limit(1), 0, 0, answer(b"a"));
    assert_eq!((judgement.end, judgement.ends[0].1, judgement.due.len()), (None, ReplicaState::Failed, 1), "7 for 4 items of 1");
    assert_eq!(judged(&mut unit(1), &limit(2), 0, 0, answer(b"a")).end, Some(End::Valid));
}

#[test]
fn a_first_result_counts_though_its_replica_was_given_back_or_failed() {
    for said in [Finding::Interrupted("drain".into()), Finding::Failed("trap".into()), Finding::Refused("old".into())] {
        let (mut unit, policy) = (unit(1), policy(1));
        assert_eq!(judged(&mut unit, &policy, 0, 0, said).due.len(), 1);
        let misfit =
            Finding::Computed { vote: answer(b"a").vote().unwrap().clone(), entries: 3, failed_items: 0, output_bytes: 0 };
        assert_eq!(judged(&mut unit, &policy, 0, 0, misfit), Judgement::default(), "no second failure");
        let late = judged(&mut unit, &policy, 0, 0, answer(b"a"));
        assert_eq!((late.end, late.ends), (Some(End::Valid), vec![(0, ReplicaState::Computed, None)]));
        let second = judged(&mut unit, &policy, 1, 1, answer(b"a"));
        assert!(second.ends.is_empty() && second.wasted, "{second:?}");
        // As the store closes it at the unit's end.
        unit.replicas[1].state = ReplicaState::Interrupted;
        assert_eq!(judged(&mut unit, &policy, 1, 1, answer(b"a")), Judgement::default(), "wasted once, not with every delivery");
    }
}

#[test]
fn what_a_host_says_is_bounded_here() {
    let outcome = |result| Outcome {
        replica: UnitKey { job: JobId(Uuid::nil()), unit: 0 }.replica(0),
        slice: protocol::unit::Slice { stage: 0, first: 10, end: 11 },
        host: host(1),
        result,
        compute_us: 0,
    };
    let Finding::Failed(reason) = examine(&outcome(OutcomeResult::AppFailed { reason: "x".repeat(7 << 20) })) else { panic!() };
    assert!(reason.len() < 1_100);
    let with = |result: Result<usize, usize>| {
        let mut frame = protocol::frame::ResultFrame::default();
        match result {
            Ok(bytes) => frame.ok(&vec![0; bytes]).unwrap(),
            Err(bytes) => frame.failed(&"x".repeat(bytes)).unwrap(),
        }
        let (output, meter) = (frame.finish(), MeterId::new("m-1").unwrap());
        let (digest, fuel) = (Digest::of(&output), Fuel::ZERO);
        examine(&outcome(OutcomeResult::Computed(protocol::outcome::Computed { meter, fuel, digest, output, input_bytes: 0 })))
    };
    assert!(with(Ok(4 << 20)).vote().is_some() && with(Err(1_000)).vote().is_some());
    assert!(with(Ok((4 << 20) + 1)).vote().is_none() && with(Err(1_100)).vote().is_none());
    let vote = Vote { input_bytes: u64::MAX, ..answer(b"a").vote().unwrap().clone() };
    let boast = Finding::Computed { vote, entries: 4, failed_items: 0, output_bytes: 0 };
    assert_eq!(judged(&mut unit(1), &policy(1), 0, 0, boast).ends[0].1, ReplicaState::Failed);
}

#[test]
fn hosts_that_differ_answer_again_after_waits_that_grow() {
    let (mut unit, policy) = (unit(2), policy(2));
    judged(&mut unit, &policy, 0, 0, answer(b"a"));
    judged(&mut unit, &policy, 1, 1, answer(b"b"));
    let mut wait = Duration::ZERO;
    for again in 2..12 {
        let (from, output): (u16, &[u8]) = if again % 2 == 0 { (0, b"a") } else { (1, b"b") };
        let judgement = judged(&mut unit, &policy, again, from, answer(output));
        assert!(judgement.end.is_none() && judgement.due.len() == 1, "{judgement:?}");
        wait = wait.max(judgement.due[0].1);
    }
    assert!(wait > Duration::from_mins(2), "{wait:?}");
    // No failure of theirs: a further host decides.
    assert_eq!(judged(&mut unit, &policy, 12, 2, answer(b"b")).end, Some(End::Valid));
}

#[test]
fn a_host_that_was_wrong_once_is_asked_again() {
    let (mut unit, policy) = (unit(2), policy(2));
    judged(&mut unit, &policy, 0, 0, answer(b"flipped"));
    judged(&mut unit, &policy, 1, 1, answer(b"b"));
    assert_eq!(judged(&mut unit, &policy, 2, 0, answer(b"b")).end, Some(End::Valid));
}

#[test]
fn two_answers_of_one_host_count_once() {
    let (mut unit, policy) = (unit(2), policy(2));
    judged(&mut unit, &policy, 0, 0, answer(b"a"));
    let again = judged(&mut unit, &policy, 1, 0, answer(b"a"));
    // There may be no other host: each waits longer.
    assert!(again.end.is_none() && again.due.len() == 1 && again.due[0].0 == 2 && !again.due[0].1.is_zero(), "{:?}", again.due);
    let states: Vec<_> = unit.replicas.iter().map(|r| (r.lane, r.state)).collect();
    // The later one counts: its lane is the host's, so the further replica goes to another.
    let counted = [(Some(0), ReplicaState::Interrupted), (Some(1), ReplicaState::Computed), (None, ReplicaState::Due)];
    assert_eq!(states, counted);
}

#[test]
fn failures_are_retried_with_back_off_and_bounded() {
    let (mut unit, policy) = (unit(1), policy(1));
    for replica in 0..3 {
        let judgement = judged(&mut unit, &policy, replica, 0, Finding::Failed("boom".into()));
        let (next, wait) = judgement.due[0];
        assert!(next == replica + 1 && !wait.is_zero() && judgement.wasted);
    }
    let last = judged(&mut unit, &policy, 3, 0, Finding::Failed("boom".into()));
    assert_eq!(last.end, Some(End::Failed { reason: "boom".into() }));
    assert!(last.due.is_empty());
}

#[test]
fn interruptions_cost_no_retry() {
    let (mut unit, policy) = (unit(1), policy(1));
    for replica in 0..200 {
        let judgement = judged(&mut unit, &policy, replica, 0, Finding::Interrupted("owner".into()));
        assert_eq!(judgement.due, [(replica + 1, Duration::ZERO)]);
    }
    assert_eq!(judged(&mut unit, &policy, 200, 0, answer(b"a")).end, Some(End::Valid));
}

#[test]
fn a_unit_that_is_too_large_is_halved_down_to_one_item() {
    let (mut unit, policy) = (unit(1), policy(1));
    let too_large = || Finding::TooLarge("60 s".into());
    assert_eq!(judged(&mut unit, &policy, 0, 0, too_large()).end, Some(End::Split { middle: 12 }));
    let mut single = UnitFacts { end: 11, ..super::tests::unit(1) };
    assert_eq!(judged(&mut single, &policy, 0, 0, too_large()).due.len(), 1, "tried again, as a failure");
}

#[test]
fn a_late_answer_of_a_lost_replica_is_used() {
    let (mut unit, policy) = (unit(1), policy(1));
    unit.replicas[0].state = ReplicaState::Lost;
    unit.replicas.push(ReplicaFacts { replica: 1, lane: None, state: ReplicaState::Due, host: None, vote: None });
    assert_eq!(judged(&mut unit, &policy, 0, 0, answer(b"a")).end, Some(End::Valid));
}

#[test]
fn a_lost_replica_is_replaced_once() {
    let bad = || [Finding::Failed("boom".into()), Finding::Interrupted("drain".into()), Finding::Refused("no memory".into())];
    for finding in bad() {
        let (mut unit, policy) = (unit(1), policy(1));
        unit.replicas[0].state = ReplicaState::Lost;
        unit.replicas.push(ReplicaFacts { replica: 1, lane: None, state: ReplicaState::Due, host: None, vote: None });
        let judgement = judged(&mut unit, &policy, 0, 0, finding);
        assert_eq!((judgement.due, judgement.end), (Vec::new(), None));
        assert_eq!(judged(&mut unit, &policy, 1, 1, Finding::Interrupted("drain".into())).due.len(), 1);
    }
}

#[test]
fn another_meter_and_a_wrong_count_of_items_are_no_votes() {
    let (mut unit, policy) = (unit(1), policy(1));
    let meter = MeterId::new("m-2").unwrap();
    let foreign = Vote { meter, fuel: Fuel::ZERO, input_bytes: 0, output: Digest::of(b"") };
    let judgement =
        judged(&mut unit, &policy, 0, 0, Finding::Computed { vote: foreign, entries: 4, failed_items: 0, output_bytes: 0 });
    assert_eq!((judgement.end, judgement.due.len()), (None, 1));
    let vote = Vote { meter: policy.meter.clone(), fuel: Fuel::ZERO, input_bytes: 0, output: Digest::of(b"") };
    let judgement = judged(&mut unit, &policy, 1, 0, Finding::Computed { vote, entries: 3, failed_items: 0, output_bytes: 0 });
    assert_eq!((judgement.end, judgement.due.len()), (None, 1));
}

#[test]
fn an_outcome_is_examined_down_to_its_frame() {
    let mut frame = protocol::frame::ResultFrame::default();
    frame.ok(b"x").unwrap();
    frame.failed("no").unwrap();
    let output = frame.finish();
    let outcome = |digest, output: &[u8]| Outcome {
        replica: unit(1).key.replica(0),
        slice: unit(1).slice(),
        host: host(0),
        result: OutcomeResult::Computed(protocol::outcome::Computed {
            meter: policy(1).meter,
            fuel: Fuel::ZERO,
            digest,
            output: output.to_vec(),
            input_bytes: 0,
        }),
        compute_us: 0,
    };
    let good = examine(&outcome(Digest::of(&output), &output));
    assert!(matches!(good, Finding::Computed { entries: 2, failed_items: 1, .. }), "{good:?}");
    assert!(matches!(examine(&outcome(Digest::of(b""), &output)), Finding::Failed(_)));
    assert!(matches!(examine(&outcome(Digest::of(b"rubbish"), b"rubbish")), Finding::Failed(_)));
}

#[derive(Debug, Clone)]
enum Event {
    Truth,
    Lie(u8),
    Fail,
    Interrupt,
    Lose,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Truth),
        1 => any::<u8>().prop_map(Event::Lie),
        1 => Just(Event::Fail),
        1 => Just(Event::Interrupt),
        1 => Just(Event::Lose),
    ]
}

proptest! {
    /// Whatever arrives, in whatever order and however often: the unit ends at most once, is never left without a
    /// replica under way while it is open, and is valid only by a quorum of distinct hosts.
    #[test]
    fn a_unit_always_has_a_way_to_its_end(quorum in 1_u8..4, events in proptest::collection::vec((any::<proptest::sample::Index>(), event(), 0_u16..5), 0..60)) {
        let (mut unit, policy) = (unit(u16::from(quorum)), policy(quorum));
        let mut ends = 0;
        for (which, event, from) in events {
            let place = which.index(unit.replicas.len());
            let replica = unit.replicas[place].replica;
            let finding = match event {
                Event::Truth => answer(b"truth"),
                Event::Lie(lie) => answer(&[lie]),
                Event::Fail => Finding::Failed("x".into()),
                Event::Interrupt => Finding::Interrupted("x".into()),
                Event::Lose => {
                    if unit.state == UnitState::Open && matches!(unit.replicas[place].state, ReplicaState::Sent) {
                        unit.replicas[place].state = ReplicaState::Lost;
                        let replica = u16::try_from(unit.replicas.len()).unwrap();
                        unit.replicas.push(ReplicaFacts { replica, lane: None, state: ReplicaState::Due, host: None, vote: None });
                    }
                    continue;
                }
            };
            let judgement = judged(&mut unit, &policy, replica, from, finding);
            ends += usize::from(judgement.end.is_some());
            let under_way = unit.replicas.iter().any(|r| matches!(r.state, ReplicaState::Due | ReplicaState::Sent));
            prop_assert!(unit.state != UnitState::Open || under_way);
            if judgement.end == Some(End::Valid) {
                let mut hosts: Vec<_> = unit.replicas.iter().filter(|r| r.state == ReplicaState::Computed).map(|r| r.host.clone()).collect();
                let votes: Vec<_> = unit.replicas.iter().filter(|r| r.state == ReplicaState::Computed).map(|r| r.vote.clone()).collect();
                hosts.sort();
                hosts.dedup();
                prop_assert!(hosts.len() >= usize::from(quorum) && hosts.len() == votes.len());
                prop_assert!(votes.windows(2).all(|pair| pair[0] == pair[1]));
            }
        }
        prop_assert!(ends <= 1);
    }
}
