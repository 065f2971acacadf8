//! Judges what RabbitMQ's management side says: version, plugins, nodes, alarms, policies, bindings, consumer timeout, clock.

use broker::rabbit::{ManagementError, Node, Outside};
use jiff::fmt::rfc2822;
use protocol::Micros;

use super::broker::Expected;
use super::{Finding, Level, clock, some};
use crate::terminal::grouped;

const ABOUT: &str = "management";
/// The versions that the grid is made for: from this one on, and before the other.
const SUPPORTED: [(u32, u32); 2] = [(3, 10), (5, 0)];
/// What RabbitMQ gives a consumer if nobody sets another.
const DEFAULT_TIMEOUT_MS: u64 = 30 * 60 * 1000;
const MIB: u64 = 1024 * 1024;

/// Judges the answer, which was waited for between these times, or that nobody was asked.
pub fn judge(expected: &Expected, answer: Option<&Result<Outside, ManagementError>>, asked: (Micros, Micros)) -> Vec<Finding> {
    let outside = match answer {
        Some(Ok(outside)) => outside,
        Some(Err(error)) => {
            let says = format!("its management side does not tell: {error}");
            let cure = "see that the plugin runs (rabbitmq-plugins enable rabbitmq_management), and that its user has the tag \
                monitoring (rabbitmqctl set_user_tags USER monitoring) and rights in the virtual host";
            return vec![Finding::bad(Level::Warning, ABOUT, says, cure)];
        }
        None => {
            let says =
                "not named, so version, plugins, nodes, alarms, policies, bindings and clock of the broker are not checked";
            let cure = "name it with --management http://USER:PASSWORD@HOST:15672, or set amqp.management_url";
            return vec![Finding::bad(Level::Warning, ABOUT, says, cure)];
        }
    };
    let mut findings = vec![version(&outside.version)];
    nodes(&outside.nodes, &mut findings);
    policies(outside, &mut findings);
    findings.push(timeout(expected, outside.consumer_timeout_ms));
    let date = outside.date.as_deref().and_then(|date| rfc2822::parse(date).ok());
    findings.extend(date.map(|date| clock("the broker", Micros(date.timestamp().as_microsecond()), asked, 1)));
    findings
}

fn version(version: &str) -> Finding {
    let mut parts = version.split(['.', '-']).map(str::parse::<u32>);
    let number = (parts.next().and_then(Result::ok).unwrap_or(0), parts.next().and_then(Result::ok).unwrap_or(0));
    let [oldest, beyond] = SUPPORTED;
    if number < oldest {
        let cure = "update RabbitMQ to 3.10 or later: older ones lack dead-lettering that loses nothing";
        Finding::bad(Level::Wrong, "version", format!("RabbitMQ {version} is too old"), cure)
    } else if number >= beyond {
        let cure = "use RabbitMQ 3.10 to 4.x, or an offpeak that knows this one";
        Finding::bad(Level::Warning, "version", format!("RabbitMQ {version} is newer than this offpeak knows"), cure)
    } else {
        Finding::well("version", format!("RabbitMQ {version}"))
    }
}

fn nodes(nodes: &[Node], findings: &mut Vec<Finding>) {
    let before = findings.len();
    let mut wrong = |says: String, cure: &str| findings.push(Finding::bad(Level::Wrong, "nodes", says, cure));
    for node in nodes {
        let name = &node.name;
        if !node.running {
            wrong(format!("node {name} is down"), "start it, or take it out: rabbitmqctl forget_cluster_node NODE");
            continue;
        }
        if node.memory_alarm {
            let cure = "give it more memory, or have the queues read: it takes no messages until it has some; \
                rabbitmq-diagnostics memory_breakdown says what takes it";
            wrong(format!("node {name} has its memory alarm on"), cure);
        }
        if node.disk_alarm {
            let says = format!("node {name} has its disk alarm on: {} MiB are free", grouped(&(node.disk_free / MIB)));
            wrong(says, "free disk, or grow its volume: it takes no messages until it has more than disk_free_limit");
        }
        if !node.partitions.is_empty() {
            let cure = "mend the network between them, then restart the nodes of the smaller part";
            wrong(format!("node {name} has lost sight of {}", some(&node.partitions)), cure);
        }
    }
    if findings.len() == before {
        let (count, word) = (nodes.len(), if nodes.len() == 1 { "node" } else { "nodes" });
        findings.push(Finding::well("nodes", format!("{count} {word}, no alarm")));
    }
    let low = |node: &&Node| !node.disk_alarm && node.disk_free_limit > 0 && node.disk_free / 2 < node.disk_free_limit;
    for node in nodes.iter().filter(|node| node.running).filter(low) {
        let (free, limit) = (grouped(&(node.disk_free / MIB)), grouped(&(node.disk_free_limit / MIB)));
        let says = format!("node {} has {free} MiB of disk left, and takes nothing below {limit} MiB", node.name);
        findings.push(Finding::bad(Level::Warning, "nodes", says, "free disk, or grow its volume"));
    }
    let blind = nodes.iter().filter(|node| node.running && !node.plugins.iter().any(|plugin| plugin == "rabbitmq_prometheus"));
    let blind: Vec<&str> = blind.map(|node| node.name.as_str()).collect();
    findings.push(if blind.is_empty() {
        Finding::well("plugins", "rabbitmq_management and rabbitmq_prometheus are on")
    } else {
        let says = format!("rabbitmq_prometheus is off on {}: dashboards and alerts see nothing of the broker", some(&blind));
        Finding::bad(Level::Warning, "plugins", says, "rabbitmq-plugins enable rabbitmq_prometheus, on every node")
    });
}

fn policies(outside: &Outside, findings: &mut Vec<Finding>) {
    findings.push(if outside.policies.is_empty() {
        Finding::well("policies", "every queue is bounded, and dead letters have a place")
    } else {
        let cure = "rabbitmqctl import_definitions with the file for this version from deploy/rabbitmq: definitions-3.10.json, or \
            definitions-3.12.json from RabbitMQ 3.12 on";
        Finding::bad(Level::Wrong, "policies", some(&outside.policies), cure)
    });
    findings.push(if outside.unbound.is_empty() {
        Finding::well("bindings", "every queue is bound")
    } else {
        let says = format!("not bound: {}", some(&outside.unbound));
        Finding::bad(Level::Wrong, "bindings", says, "start a producer again with amqp.declare = true, which binds them")
    });
    if !outside.strangers.is_empty() {
        let says = format!("queues that these settings do not name: {}", some(&outside.strangers));
        let cure = "if a service runs with other grid.pools or grid.shards, give all the same; if they are left over and empty, \
            delete them: rabbitmqctl delete_queue NAME -p VHOST";
        findings.push(Finding::bad(Level::Warning, "settings", says, cure));
    }
}

/// A worker has up to two units that were delivered at the same time one after the other: each counts from its delivery.
fn timeout(expected: &Expected, set_ms: Option<u64>) -> Finding {
    let (timeout, source) = match set_ms {
        Some(ms) => (ms, "set by policy"),
        None => (DEFAULT_TIMEOUT_MS, "RabbitMQ's default, the management side does not tell another of rabbitmq.conf"),
    };
    let unit = u64::from(expected.max_unit_ms);
    let says = format!(
        "a unit may compute for {} ms (producer.max_unit_ms), and a consumer may hold it for {} ms ({source})",
        grouped(&unit),
        grouped(&timeout)
    );
    let cure = format!(
        "lower producer.max_unit_ms, or set consumer_timeout = {} or more in rabbitmq.conf (consumer-timeout by policy from 3.12 on): \
         the broker takes units away from workers that hold them longer, and their work is lost",
        unit.saturating_mul(4)
    );
    if unit >= timeout {
        Finding::bad(Level::Wrong, "timeout", says, cure)
    } else if unit.saturating_mul(2) > timeout {
        Finding::bad(Level::Warning, "timeout", format!("{says}: two units in a row may exceed it"), cure)
    } else {
        Finding::well("timeout", says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::Topology;

    fn expected(max_unit_ms: u32) -> Expected {
        Expected {
            address: "amqp://broker".to_owned(),
            topology: Topology::grid(&[], 1),
            declares: true,
            service: None,
            max_unit_ms,
            lanes: "offpeak.work.open".to_owned(),
        }
    }

    fn node() -> Node {
        let plugins = ["rabbitmq_management", "rabbitmq_prometheus"].map(str::to_owned).to_vec();
        Node { name: "rabbit@a".to_owned(), running: true, plugins, disk_free: 9_000, disk_free_limit: 100, ..Node::default() }
    }

    /// What is not well with a broker of one node, asked at 2026-07-01 00:00:00.
    fn bad(change: impl FnOnce(&mut Outside)) -> Vec<(Level, &'static str, String)> {
        let date = Some("Wed, 01 Jul 2026 00:00:00 GMT".to_owned());
        let mut outside = Outside { version: "3.10.8".to_owned(), date, nodes: vec![node()], ..Outside::default() };
        change(&mut outside);
        let now = Micros(1_782_864_000_000_000);
        let judged = judge(&expected(300_000), Some(&Ok(outside)), (now, now)).into_iter();
        judged.filter(|found| found.level > Level::Well).map(|found| (found.level, found.about, found.says)).collect()
    }

    #[test]
    fn a_healthy_broker_is_well() {
        assert_eq!(bad(|_| {}), []);
    }

    #[test]
    fn versions_from_3_10_to_4_are_known() {
        let level = |text: &str| version(text).level;
        assert_eq!(["3.10.0", "3.13.7", "4.0.5", "4.3.0-rc.1"].map(level), [Level::Well; 4]);
        assert_eq!(["3.9.29", "2.8", "", "x"].map(level), [Level::Wrong; 4]);
        assert_eq!(level("5.0.0"), Level::Warning);
    }

    #[test]
    fn each_fault_of_a_node_is_told() {
        let one = |change: fn(&mut Node)| bad(|outside| change(&mut outside.nodes[0]));
        assert!(one(|node| node.running = false)[0].2.contains("rabbit@a is down"));
        assert!(one(|node| node.memory_alarm = true)[0].2.contains("memory alarm"));
        assert_eq!(one(|node| node.disk_alarm = true).len(), 1);
        assert!(one(|node| node.partitions = vec!["rabbit@b".to_owned()])[0].2.contains("rabbit@b"));
        assert_eq!(one(|node| node.disk_free = 150)[0].0, Level::Warning);
        assert_eq!(one(|node| node.plugins.clear())[0].1, "plugins");
    }

    #[test]
    fn policies_bindings_strangers_and_the_clock_are_told() {
        let lacks = || vec!["queue offpeak.fetch has no policy".to_owned()];
        assert_eq!(bad(|outside| outside.policies = lacks())[0].1, "policies");
        assert_eq!(bad(|outside| outside.unbound = lacks())[0].1, "bindings");
        assert_eq!(bad(|outside| outside.strangers = vec!["offpeak.outcomes.9".to_owned()])[0].1, "settings");
        let late = "Wed, 01 Jul 2026 00:01:00 GMT";
        assert_eq!(
            bad(|outside| outside.date = Some(late.to_owned()))[0],
            (Level::Wrong, "clock", "the clock of the broker is 60 s ahead of this machine's".to_owned())
        );
    }

    #[test]
    fn units_must_end_well_before_the_consumer_timeout() {
        let level = |unit_ms, set_ms| timeout(&expected(unit_ms), set_ms).level;
        assert_eq!([level(300_000, None), level(900_000, None), level(300_000, Some(600_000))], [Level::Well; 3]);
        assert_eq!([level(900_001, None), level(300_000, Some(500_000))], [Level::Warning; 2]);
        assert_eq!([level(1_800_000, None), level(300_000, Some(60_000))], [Level::Wrong; 2]);
    }

    #[test]
    fn nobody_to_ask_is_told_with_the_way_out() {
        let now = (Micros(0), Micros(0));
        let found = judge(&expected(1), None, now);
        assert!(found[0].level == Level::Warning && found[0].cure.as_ref().unwrap().contains("--management"), "{found:?}");
        let found = judge(&expected(1), Some(&Err(ManagementError::Url)), now);
        assert!(found[0].cure.as_ref().unwrap().contains("rabbitmq-plugins enable"), "{found:?}");
    }
}
