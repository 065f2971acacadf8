//! The faults: each breaks something in the middle of a job, sees that it is broken, and mends it or leaves it to the grid.

mod broker;
mod cluster;
mod database;
mod messages;
mod services;

use std::time::Duration;

use crate::world::World;

/// How long a server is away in the longer way: past the replicas' deadline, and past the time for which a producer that cannot
/// look does not give them up.
const AWAY: Duration = Duration::from_secs(15);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// What an operator would call it.
    pub(crate) name: &'static str,
    /// How many items the job needs, so that it is not over before the fault is.
    pub(crate) items: u32,
    /// Breaks, and returns when all is there again for the grid to go on.
    pub(crate) strike: fn(&mut World),
    /// Whether services are replaced, which says nothing of how the memory of a process grows.
    pub(crate) replaces: bool,
}

/// Items of a job that is hit by something short.
const SHORT: u32 = 50;
/// Items of a job that goes on being computed during the fault.
const LONG: u32 = 120;

/// Items of a job that goes on during a fault that takes several calls of `rabbitmqctl`, or as long.
const LONGEST: u32 = 300;

const fn fault(name: &'static str, items: u32, strike: fn(&mut World)) -> Fault {
    Fault { name, items, strike, replaces: false }
}

const fn replacing(name: &'static str, items: u32, strike: fn(&mut World)) -> Fault {
    Fault { name, items, strike, replaces: true }
}

/// The faults of a grid on one node of RabbitMQ.
pub(crate) const FAULTS: &[Fault] = &[
    replacing("kill -9 of a producer", SHORT, services::kill_producer),
    replacing("kill -9 of an aggregator", SHORT, services::kill_aggregator),
    replacing("kill -9 of a worker", SHORT, services::kill_worker),
    replacing("kill -9 of every service at once", SHORT, services::kill_all),
    replacing("rolling restart of every service by SIGTERM", LONGEST, services::rolling_restart),
    fault("SIGSTOP of a producer past its leases", LONGEST, services::pause_producer),
    fault("SIGSTOP of the workers past the replicas' deadline", SHORT, services::pause_workers),
    fault("SIGSTOP of the aggregators", LONG, services::pause_aggregators),
    fault("all connections cut", SHORT, broker::cut_connections),
    fault("memory alarm of RabbitMQ", LONG, broker::memory_alarm),
    fault("consumer timeouts of RabbitMQ", LONGEST, broker::consumer_timeouts),
    fault("RabbitMQ stopped and started", LONG, broker::stop_and_start),
    fault("kill -9 of RabbitMQ", SHORT, broker::kill),
    fault("RabbitMQ away for 15 s", LONG, broker::away),
    fault("every queue purged", SHORT, broker::purge),
    fault("the vhost deleted and made anew", SHORT, broker::wipe),
    fault("full queues refuse messages", SHORT, broker::full_queues),
    fault("messages duplicated and in another order", LONGEST, messages::duplicate_and_shuffle),
    fault("kill -9 of PostgreSQL", SHORT, database::kill),
    fault("PostgreSQL away for 15 s", LONG, database::away),
    fault("all database connections cut", SHORT, database::cut_connections),
    fault("the database restored from a backup", LONG, database::restore),
    fault("the database restored from before a job's end", LONG, database::restore_after_the_end),
];

/// The faults of a grid on a cluster of three nodes, behind one address.
pub(crate) const CLUSTER_FAULTS: &[Fault] = &[
    fault("kill -9 of one node of three, which leads", LONG, cluster::kill_the_leader),
    fault("kill -9 of two nodes of three, of which one comes back", LONG, cluster::kill_two_nodes),
];
