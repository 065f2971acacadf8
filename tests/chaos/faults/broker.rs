//! Faults of RabbitMQ: cut connections, alarms, time-outs, restarts, lost and full queues.

use std::thread::sleep;
use std::time::Duration;

use super::AWAY;
use crate::world::World;

/// How long an alarm or a full queue lasts.
const A_WHILE: Duration = Duration::from_secs(3);

/// What a service says when a connection of its is gone.
const CUT: &str = "is not reachable";

pub(super) fn cut_connections(world: &mut World) {
    world.until_said(CUT, |world| drop(world.broker().rabbitmqctl(&["close_all_connections", "--global", "test"])));
}

pub(super) fn memory_alarm(world: &mut World) {
    world.until_said("takes no messages", |world| world.broker().set_memory_alarm(true));
    sleep(A_WHILE);
    world.broker().set_memory_alarm(false);
}

/// With a time-out of 2 s on new channels, the workers are held for longer than that, until it has hit one that held units:
/// they may be held while they are between connections, or have nothing.
pub(super) fn consumer_timeouts(world: &mut World) {
    let set = |world: &World, timeout_ms: &str| {
        world.broker().rabbitmqctl(&["eval", &format!("application:set_env(rabbit, consumer_timeout, {timeout_ms}).")]);
        world.broker().rabbitmqctl(&["close_all_connections", "--global", "new time-out"]);
    };
    set(world, "2000");
    world.ready();
    let before = world.said("timed out");
    world.until_or_over("a time-out", |world| {
        world.signal("worker", "-STOP");
        sleep(A_WHILE + A_WHILE);
        world.signal("worker", "-CONT");
        sleep(A_WHILE);
        world.said("timed out") > before
    });
    set(world, "1800000");
}

pub(super) fn stop_and_start(world: &mut World) {
    world.broker().rabbitmqctl(&["stop_app"]);
    world.broker().rabbitmqctl(&["start_app"]);
}

/// Away for longer than replicas have: none is lost, since it is the grid that does not answer.
pub(super) fn away(world: &mut World) {
    world.broker().rabbitmqctl(&["stop_app"]);
    sleep(AWAY);
    world.broker().rabbitmqctl(&["start_app"]);
}

pub(super) fn kill(world: &mut World) {
    let broker = &world.brokers[0];
    broker.kill9();
    broker.restart();
}

/// Empties every queue, while what is delivered is lost with its connections.
pub(super) fn purge(world: &mut World) {
    world.signal("worker", "-STOP");
    world.signal("aggregator", "-STOP");
    world.broker().rabbitmqctl(&["close_all_connections", "--global", "purge"]);
    // A worker's own queue belongs to its connection; it goes with it.
    let queues = |world: &World| {
        let queues = world.queues().unwrap_or_default().into_iter();
        queues.filter(|(queue, _)| !queue.starts_with("offpeak.worker.")).collect::<Vec<_>>()
    };
    world.until_or_over("something to purge", |world| queues(world).iter().any(|(_, messages)| *messages > 0));
    for (queue, _) in queues(world) {
        world.manage("DELETE", "queues", &format!("/{queue}/contents"), "").expect("purged");
    }
    world.signal("worker", "-CONT");
    world.signal("aggregator", "-CONT");
}

/// Everything the broker knew is gone: queues, exchanges, messages, consumers.
pub(super) fn wipe(world: &mut World) {
    world.manage("DELETE", "vhosts", "", "").expect("deleted");
    world.ended_unread = world.ended().expect("the database is there");
    world.broker().address().make_vhost(&world.vhost).expect("made");
    world.set_policies();
}

/// Outcomes find their queues full, until an operator lifts the limit.
pub(super) fn full_queues(world: &mut World) {
    // Whoever computes meanwhile may be done with everything that was sent before the limit holds.
    world.signal("worker", "-STOP");
    let policy = r#"{"pattern": "^offpeak[.]outcomes", "definition": {"max-length-bytes": 1, "overflow": "reject-publish"}, "apply-to": "queues", "priority": 10}"#;
    world.broker().address().set_policy(&world.vhost, "full", policy);
    world.until_said("[Refused]", |world| {
        world.signal("aggregator", "-STOP");
        // What was delivered to them does not count for the limit; without connections nothing is.
        world.broker().rabbitmqctl(&["close_all_connections", "--global", "full queues"]);
        world.signal("worker", "-CONT");
    });
    world.manage("DELETE", "policies", "/full", "").expect("no policy");
    world.signal("aggregator", "-CONT");
}
