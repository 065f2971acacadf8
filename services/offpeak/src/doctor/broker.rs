//! Judges what the broker answered over AMQP: reachable, everything there and of the right kind, rights, consumers, dead letters.

use broker::Topology;
use broker::rabbit::{Denied, Examination, Right};
use protocol::address::{
    CONTROL_EXCHANGE, CUSTOMER_EXCHANGE, DEAD_EXCHANGE, FETCH_EXCHANGE, FETCH_QUEUE, OUTCOMES_EXCHANGE, Origin, SUBMIT_EXCHANGE,
    SUBMIT_QUEUE, WORK_EXCHANGE, WORKER_EXCHANGE,
};

use super::{Finding, Level, some};
use crate::args::ServiceArg;
use crate::terminal::grouped;

/// What the grid should be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The broker's address, without its password.
    pub address: String,
    /// What should be on it.
    pub topology: Topology,
    /// Whether services declare it.
    pub declares: bool,
    /// Whose rights matter; all of them with `None`.
    pub service: Option<ServiceArg>,
    /// The longest that a unit may compute.
    pub max_unit_ms: u32,
    /// What the lanes of the settings' own pool begin with, before the dot.
    pub lanes: String,
}

/// Judges an examination, or why there is none.
pub fn judge(expected: &Expected, examined: &Result<Examination, String>) -> Vec<Finding> {
    let found = match examined {
        Ok(found) => found,
        Err(reason) => {
            let says = format!("RabbitMQ at {} cannot be used: {reason}", expected.address);
            return vec![Finding::bad(Level::Wrong, "broker", says, way_in(reason))];
        }
    };
    let mut findings = vec![Finding::well("broker", format!("RabbitMQ at {} answers", expected.address))];
    if let Some(reason) = &found.stalled {
        let cure = "look for an alarm or a node that is down: rabbitmq-diagnostics alarms, rabbitmq-diagnostics cluster_status";
        findings.push(Finding::bad(Level::Wrong, "broker", format!("it stopped answering: {reason}"), cure));
    }
    topology(expected, found, &mut findings);
    rights(expected, found, &mut findings);
    consumers(found, &mut findings);
    dead_letters(found, &mut findings);
    findings
}

/// What to do about a broker that lets nobody in.
fn way_in(reason: &str) -> &'static str {
    if reason.contains("ACCESS_REFUSED") || reason.contains("Login") {
        "set user and password right (rabbitmqctl authenticate_user USER); guest may log in from the broker's own machine only"
    } else if reason.contains("NOT_ALLOWED") || reason.contains("vhost") {
        "create the virtual host (rabbitmqctl add_vhost VHOST) and give the user rights in it (rabbitmqctl set_permissions)"
    } else {
        "see that it is up (rabbitmq-diagnostics ping), that the address is right, and that a network policy lets this machine through"
    }
}

fn topology(expected: &Expected, found: &Examination, findings: &mut Vec<Finding>) {
    let all = expected.topology.exchanges.len() + expected.topology.queues.len();
    let before = findings.len();
    if !found.missing.is_empty() {
        let says = if found.missing.len() == all {
            "there is no grid on this virtual host: no exchange and no queue of it is there".to_owned()
        } else {
            format!("{} missing", are(&found.missing))
        };
        let cure = if expected.declares {
            "start a producer again, which declares them, and see that it names this virtual host"
        } else {
            "start a producer once with amqp.declare = true, with a user who may configure them"
        };
        findings.push(Finding::bad(Level::Wrong, "topology", says, cure));
    }
    for (object, difference) in &found.differs {
        let cure =
            "drain it, delete it (rabbitmqctl delete_queue NAME -p VHOST), and start a producer again, which declares it anew";
        findings.push(Finding::bad(Level::Wrong, "topology", format!("{object} is of another kind: {difference}"), cure));
    }
    if findings.len() == before && found.stalled.is_none() {
        findings.push(Finding::well("topology", format!("all {all} exchanges and queues are there and of the right kind")));
    }
}

fn are(names: &[String]) -> String {
    format!("{} {}", some(names), if names.len() == 1 { "is" } else { "are" })
}

fn rights(expected: &Expected, found: &Examination, findings: &mut Vec<Finding>) {
    let mut lacks = 0;
    for (right, verb) in [(Right::Configure, "declare"), (Right::Write, "publish to"), (Right::Read, "consume")] {
        let of_kind = found.denied.iter().filter(|denied| denied.right == right && is_needed(expected, denied));
        let names: Vec<&str> = of_kind.map(|denied| denied.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        lacks += names.len();
        let says = format!("the user of {} may not {verb} {}", expected.address, some(&names));
        let cure = "give it the right: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ, three patterns of names; \
            with one user for each service, look at one at a time with --service";
        findings.push(Finding::bad(Level::Wrong, "rights", says, cure));
    }
    if lacks == 0 && found.missing.is_empty() && found.stalled.is_none() {
        findings.push(Finding::well("rights", "the user may do all that the services do"));
    }
}

/// Whether a service does what is denied.
fn is_needed(expected: &Expected, denied: &Denied) -> bool {
    let name = denied.name.as_str();
    let below = |start: &str| name.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'));
    let [producer, worker, aggregator] = match denied.right {
        Right::Configure => [expected.declares; 3],
        Right::Write => [
            [WORK_EXCHANGE, WORKER_EXCHANGE, DEAD_EXCHANGE].contains(&name),
            [OUTCOMES_EXCHANGE, FETCH_EXCHANGE].contains(&name),
            [CUSTOMER_EXCHANGE, CONTROL_EXCHANGE, DEAD_EXCHANGE].contains(&name),
        ],
        Right::Read => {
            [[SUBMIT_QUEUE, FETCH_QUEUE].contains(&name) || below(WORK_EXCHANGE), below(WORK_EXCHANGE), below(OUTCOMES_EXCHANGE)]
        }
    };
    match expected.service {
        Some(ServiceArg::Producer) => producer,
        // The lanes of other pools are for other users.
        Some(ServiceArg::Worker) => worker && (denied.right != Right::Read || below(&expected.lanes)),
        Some(ServiceArg::Aggregator) => aggregator,
        // Submitting is the customers'.
        None => producer || worker || aggregator || (denied.right == Right::Write && name != SUBMIT_EXCHANGE),
    }
}

fn consumers(found: &Examination, findings: &mut Vec<Finding>) {
    let idle = |is_of: &dyn Fn(&str) -> bool| {
        let queues = found.depths.iter().filter(|(name, depth)| is_of(name) && depth.consumers == 0);
        queues.map(|(name, depth)| format!("{name} ({} waiting)", grouped(&depth.ready))).collect::<Vec<_>>()
    };
    let below = |name: &str, start: &str| name.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'));
    let before = findings.len();
    let services: [(&str, Vec<String>); 2] = [
        ("producer", idle(&|name| [SUBMIT_QUEUE, FETCH_QUEUE].contains(&name))),
        ("aggregator", idle(&|name| below(name, OUTCOMES_EXCHANGE))),
    ];
    for (service, queues) in services.iter().filter(|(_, queues)| !queues.is_empty()) {
        let says = format!("no {service} listens on {}", some(queues));
        let cure = format!("start `offpeak {service}` with this broker; if one runs, ask it: offpeak health --ready");
        findings.push(Finding::bad(Level::Wrong, "consumers", says, cure));
    }
    let lanes = || found.depths.iter().filter(|(name, _)| below(name, WORK_EXCHANGE));
    let stuck: Vec<String> =
        lanes().filter(|(_, depth)| depth.consumers == 0 && depth.ready > 0).map(|(name, _)| name.clone()).collect();
    if lanes().all(|(_, depth)| depth.consumers == 0) {
        let says = "no worker listens on any lane";
        findings.push(Finding::bad(
            Level::Wrong,
            "consumers",
            says,
            "start `offpeak worker`, as many as there are idle machines",
        ));
    } else if !stuck.is_empty() {
        let says = format!("units wait in lanes without a worker: {}", some(&stuck));
        let cure = "if that lasts longer than some ten seconds, start a worker of that pool (worker.pool)";
        findings.push(Finding::bad(Level::Warning, "consumers", says, cure));
    }
    if findings.len() == before {
        let workers = lanes().map(|(_, depth)| depth.consumers).sum::<u32>();
        findings.push(Finding::well("consumers", format!("producer and aggregator listen, and {workers} workers")));
    }
}

fn dead_letters(found: &Examination, findings: &mut Vec<Finding>) {
    let parked =
        Origin::ALL.iter().filter_map(|origin| found.depths.get(&origin.queue()).map(|depth| (origin.key(), depth.ready)));
    let parked: Vec<String> =
        parked.filter(|(_, ready)| *ready > 0).map(|(key, ready)| format!("{} of {key}", grouped(&ready))).collect();
    findings.push(if parked.is_empty() {
        Finding::well("dead letters", "none are parked")
    } else {
        let says = format!("messages that could not be used are parked: {}", parked.join(", "));
        let cure = "look at them with `offpeak dead list`, then replay or drop them (docs/dead-letters.md)";
        Finding::bad(Level::Warning, "dead letters", says, cure)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ports::broker::Depth;
    use protocol::PoolName;

    fn expected() -> Expected {
        let topology = Topology::grid(&[(PoolName::new("open").unwrap(), 2)], 1);
        Expected {
            address: "amqp://ann@broker".to_owned(),
            topology,
            declares: true,
            service: None,
            max_unit_ms: 300_000,
            lanes: "offpeak.work.open".to_owned(),
        }
    }

    fn healthy() -> Examination {
        let listened = |name: &str| (name.to_owned(), Depth { ready: 0, consumers: u32::from(!name.contains(".dead.")) });
        let depths = expected().topology.queues.iter().map(|queue| listened(&queue.name)).collect();
        Examination { depths, ..Examination::default() }
    }

    fn bad(expected: &Expected, change: impl FnOnce(&mut Examination)) -> Vec<(Level, &'static str, String)> {
        let mut found = healthy();
        change(&mut found);
        let bad = judge(expected, &Ok(found)).into_iter().filter(|finding| finding.level > Level::Well);
        bad.map(|finding| (finding.level, finding.about, finding.says)).collect()
    }

    #[test]
    fn a_healthy_grid_is_well() {
        assert_eq!(bad(&expected(), |_| {}), []);
    }

    #[test]
    fn what_is_missing_or_differs_is_named() {
        let found = bad(&expected(), |found| found.missing = vec!["queue offpeak.fetch".to_owned()]);
        assert_eq!(found, [(Level::Wrong, "topology", "queue offpeak.fetch is missing".to_owned())]);
        let found = bad(&expected(), |found| found.differs = vec![("queue x".to_owned(), "classic".to_owned())]);
        assert!(found[0].2.contains("queue x is of another kind: classic"), "{found:?}");
    }

    #[test]
    fn each_service_needs_its_own_rights() {
        use ServiceArg::{Aggregator, Producer, Worker};
        let denied = |right, name: &str| Denied { right, name: name.to_owned() };
        let lacks = |service, right, name: &str| {
            let found = bad(&Expected { service, ..expected() }, |found| found.denied = vec![denied(right, name)]);
            !found.is_empty()
        };
        let lane = "offpeak.work.open.0";
        assert_eq!([Producer, Worker, Aggregator].map(|s| lacks(Some(s), Right::Read, lane)), [true, true, false]);
        assert_eq!(
            [Producer, Worker, Aggregator].map(|s| lacks(Some(s), Right::Write, "offpeak.outcomes")),
            [false, true, false]
        );
        assert_eq!(
            [Producer, Worker, Aggregator].map(|s| lacks(Some(s), Right::Read, "offpeak.outcomes.0")),
            [false, false, true]
        );
        assert!(!lacks(Some(Worker), Right::Read, "offpeak.work.trusted.0"), "another pool's");
        assert!(!lacks(Some(Worker), Right::Write, "offpeak.dead"), "what it rejects the broker parks");
        assert!(lacks(None, Right::Read, SUBMIT_QUEUE) && !lacks(None, Right::Write, SUBMIT_EXCHANGE));
        assert!(lacks(None, Right::Configure, "offpeak.work"));
        let checked_only = Expected { declares: false, ..expected() };
        assert_eq!(bad(&checked_only, |found| found.denied = vec![denied(Right::Configure, "offpeak.work")]), []);
    }

    #[test]
    fn silence_and_parked_letters_are_told() {
        let found = bad(&expected(), |found| found.depths.values_mut().for_each(|depth| depth.consumers = 0));
        assert_eq!(found.iter().map(|found| found.1).collect::<Vec<_>>(), ["consumers"; 3]);
        let stuck = |found: &mut Examination| {
            found.depths.insert("offpeak.work.open.1".to_owned(), Depth { ready: 7, consumers: 0 });
        };
        assert_eq!(bad(&expected(), stuck)[0].0, Level::Warning);
        let letter = |found: &mut Examination| {
            found.depths.insert("offpeak.dead.work".to_owned(), Depth { ready: 1_200, consumers: 0 });
        };
        assert!(bad(&expected(), letter)[0].2.ends_with("1,200 of work"));
        let found = judge(&expected(), &Err("timed out: ACCESS_REFUSED - Login was refused".to_owned()));
        assert!(found[0].cure.as_ref().unwrap().contains("authenticate_user"));
    }
}
