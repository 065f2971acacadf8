//! Faults of our own processes: killed, paused, told to stop.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use crate::world::{Member, World};

/// Longer than a replica's deadline, `replica_deadline_ms`, in this suite.
const PAST_DEADLINE: Duration = Duration::from_millis(9_500);
/// Long enough for outcomes to pile up.
const PILE_UP: Duration = Duration::from_secs(3);

fn kill_one(world: &mut World, kind: &str) {
    let place = world.busy(kind);
    world.members[place].check();
    world.replace(place);
}

pub(super) fn kill_producer(world: &mut World) {
    kill_one(world, "producer");
}

pub(super) fn kill_aggregator(world: &mut World) {
    kill_one(world, "aggregator");
}

pub(super) fn kill_worker(world: &mut World) {
    kill_one(world, "worker");
}

pub(super) fn kill_all(world: &mut World) {
    world.members.iter().for_each(Member::check);
    world.members.iter().for_each(|member| member.running.signal("-KILL"));
    (0..world.members.len()).for_each(|place| world.replace(place));
    world.ready();
}

/// One after the other: the new one is ready before the old one is told to stop, as in a deployment.
pub(super) fn rolling_restart(world: &mut World) {
    for place in 0..world.members.len() {
        let new = world.member(place);
        new.running.ready();
        let old = std::mem::replace(&mut world.members[place], new);
        old.check();
        old.running.signal("-TERM");
        let ended = old.running.end();
        assert_eq!(ended.code, Some(0), "{} told to stop: {ended:?}", old.kind);
    }
}

/// Until another one has taken its jobs: it wakes up, and finds that they are not its own any more.
pub(super) fn pause_producer(world: &mut World) {
    let place = world.busy("producer");
    let owners = |world: &World| -> BTreeMap<String, String> {
        let leases = world.sql("select job, owner from leases").expect("leases");
        leases.lines().filter_map(|line| line.split_once('|')).map(|(job, owner)| (job.to_owned(), owner.to_owned())).collect()
    };
    let before = owners(world);
    world.members[place].running.signal("-STOP");
    let has_other = |(job, owner): (&String, &String)| before.get(job).is_some_and(|before| before != owner);
    world.until_or_over("another owner of its jobs", |world| owners(world).iter().any(has_other));
    world.members[place].running.signal("-CONT");
}

pub(super) fn pause_workers(world: &mut World) {
    let lost = |world: &World| world.number("select count(*) from replicas where state = 'lost'").expect("a number");
    let before = lost(world);
    world.signal("worker", "-STOP");
    sleep(PAST_DEADLINE);
    world.until_or_over("a replica past its deadline", |world| lost(world) > before);
    world.signal("worker", "-CONT");
}

pub(super) fn pause_aggregators(world: &mut World) {
    world.signal("aggregator", "-STOP");
    sleep(PILE_UP);
    world.signal("aggregator", "-CONT");
}
