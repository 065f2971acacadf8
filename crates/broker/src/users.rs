//! The users of a grid's broker as data: what each may declare, write and read. One place, because a right too many is a leak.

use protocol::address::{
    CONTROL_EXCHANGE, CUSTOMER_EXCHANGE, DEAD_EXCHANGE, FETCH_EXCHANGE, OUTCOMES_EXCHANGE, SUBMIT_EXCHANGE, WORK_EXCHANGE,
    WORKER_EXCHANGE,
};
use protocol::{CustomerName, PoolName};

/// Nothing at all.
const NOTHING: &str = "^$";
/// What the grid's own users' names begin with; no customer is called so.
pub const SERVICE_PREFIX: &str = "offpeak-";

/// What a user may do, as `RabbitMQ`'s regular expressions over the names of exchanges and queues.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rights {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to, and bind.
    pub write: String,
    /// What it may consume and purge, and bind queues to.
    pub read: String,
}

/// Which routing keys of a topic exchange a user may use; without one it may use all of an exchange that it may write to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicRight {
    /// The exchange.
    pub exchange: String,
    /// The routing keys it may publish with.
    pub write: String,
    /// The keys it may bind with.
    pub read: String,
}

/// How many connections and channels a user may have open, on all nodes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections.
    pub connections: u32,
    /// Channels over all connections.
    pub channels: u32,
}

impl UserLimits {
    /// A customer's, unless its operator chooses others: some programs with a few processes each, and ten channels for each
    /// connection. A connection takes about 100 KB of the broker, a channel some 10.
    pub const CUSTOMER: Self = Self { connections: 20, channels: 200 };
    /// No limit is larger: a node takes 10,000 connections in all (`deploy/rabbitmq/rabbitmq.conf`).
    pub const MAX_CONNECTIONS: u32 = 10_000;
    /// Likewise, with 256 channels for each.
    pub const MAX_CHANNELS: u32 = 2_560_000;
}

/// A user with its rights in one vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// Its name.
    pub name: String,
    /// What it is on the management side: none, or `monitoring`.
    pub tags: Vec<&'static str>,
    /// Its rights.
    pub rights: Rights,
    /// Its rights to routing keys.
    pub topics: Vec<TopicRight>,
    /// Its limits, if it has any.
    pub limits: Option<UserLimits>,
}

/// A customer: submits under its own name, reads its own results, declares nothing.
pub fn customer(name: &CustomerName, limits: UserLimits) -> UserSpec {
    let (rights, topics) = (own_rights(name.as_str()), vec![own_key(name.as_str())]);
    UserSpec { name: name.to_string(), tags: Vec::new(), rights, topics, limits: Some(limits) }
}

/// Whether that user is a customer by its rights, also where somebody has changed them since: it reads its own results, or it
/// may submit and nothing else.
pub(crate) fn has_customers_rights(user: &str, rights: &Rights) -> bool {
    let own = own_rights(user);
    rights.read.contains(own.read.trim_start_matches('^')) || (rights.write == own.write && !user.starts_with(SERVICE_PREFIX))
}

/// Whether that user is a customer by a right to its own key.
pub(crate) fn has_customers_key(user: &str, topic: &TopicRight) -> bool {
    let own = own_key(user);
    topic.exchange == own.exchange && topic.write == own.write
}

/// What a customer of that name may do.
fn own_rights(name: &str) -> Rights {
    Rights {
        configure: NOTHING.to_owned(),
        write: format!("^{}$", escaped(SUBMIT_EXCHANGE)),
        read: format!("^{}\\.{name}\\.", escaped(CUSTOMER_EXCHANGE)),
    }
}

/// What keeps a customer to its own name on the one exchange that it may write to.
fn own_key(name: &str) -> TopicRight {
    TopicRight { exchange: SUBMIT_EXCHANGE.to_owned(), write: format!("^{name}$"), read: NOTHING.to_owned() }
}

/// The grid's own users: one for each service and for its operators, and one for the workers of each pool.
pub fn services(pools: &[PoolName]) -> Vec<UserSpec> {
    let mut users = vec![producer(), aggregator(), operator()];
    users.extend(pools.iter().map(worker));
    users
}

/// Declares all of the grid; it reads submissions, dispatches, moves what waits in a lane without workers, answers requests for
/// blobs, and parks. To bind a queue it must write to that and read the exchange. It reads neither results nor outcomes nor dead
/// letters, and writes no outcomes, replies and announcements.
fn producer() -> UserSpec {
    let [submit, work, outcomes, fetch, worker, dead] =
        [SUBMIT_EXCHANGE, WORK_EXCHANGE, OUTCOMES_EXCHANGE, FETCH_EXCHANGE, WORKER_EXCHANGE, DEAD_EXCHANGE].map(escaped);
    let rights = Rights {
        configure: format!("^{}", escaped("offpeak.")),
        write: format!("^({submit}|{fetch}|{worker}|({work}|{dead})(\\..*)?|{outcomes}\\..*)$"),
        read: format!("^({submit}|{fetch}|{outcomes}|{dead}|{work}(\\..*)?)$"),
    };
    plain("producer", vec!["monitoring"], rights)
}

/// Reads outcomes; writes replies, announcements and dead letters; declares customers' queues.
fn aggregator() -> UserSpec {
    let [customers, outcomes] = [CUSTOMER_EXCHANGE, OUTCOMES_EXCHANGE].map(escaped);
    let rights = Rights {
        configure: format!("^{customers}\\."),
        write: format!("^({customers}(\\..*)?|{}|{})$", escaped(CONTROL_EXCHANGE), escaped(DEAD_EXCHANGE)),
        read: format!("^({outcomes}\\..*|{customers})$"),
    };
    plain("aggregator", Vec::new(), rights)
}

/// Reads dead letters, and sends them where they came from.
fn operator() -> UserSpec {
    let origins = [SUBMIT_EXCHANGE, WORK_EXCHANGE, OUTCOMES_EXCHANGE, FETCH_EXCHANGE].map(escaped);
    let rights = Rights {
        configure: NOTHING.to_owned(),
        write: format!("^({})$", origins.join("|")),
        read: format!("^{}\\.", escaped(DEAD_EXCHANGE)),
    };
    plain("operator", vec!["monitoring"], rights)
}

/// Reads the lanes of its pool and its own queue; writes outcomes and requests for blobs. It may not write dead letters: who can,
/// can forge a parked submission of any customer, or declare any unit dead. What it rejects the broker parks for it.
fn worker(pool: &PoolName) -> UserSpec {
    let own = escaped(WORKER_EXCHANGE);
    let rights = Rights {
        configure: format!("^{own}\\."),
        // Writing to its own queue is what binding it needs.
        write: format!("^({}|{}|{own}\\..*)$", escaped(OUTCOMES_EXCHANGE), escaped(FETCH_EXCHANGE)),
        read: format!("^({}\\.{pool}\\.[0-9]+|{own}(\\..*)?|{})$", escaped(WORK_EXCHANGE), escaped(CONTROL_EXCHANGE)),
    };
    plain(&format!("worker-{pool}"), Vec::new(), rights)
}

fn plain(name: &str, tags: Vec<&'static str>, rights: Rights) -> UserSpec {
    UserSpec { name: format!("{SERVICE_PREFIX}{name}"), tags, rights, topics: Vec::new(), limits: None }
}

/// A name within a regular expression: dots are the only signs of ours that mean something there.
fn escaped(name: &str) -> String {
    name.replace('.', "\\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_has_its_own_name_in_all_that_it_may() {
        let acme = customer(&CustomerName::new("acme").unwrap(), UserLimits::CUSTOMER);
        let Rights { configure, write, read } = acme.rights;
        assert_eq!([configure.as_str(), &write, &read], ["^$", r"^offpeak\.submit$", r"^offpeak\.customer\.acme\."]);
        assert_eq!([acme.topics[0].write.as_str(), &acme.topics[0].read], ["^acme$", "^$"]);
        assert_eq!(acme.topics[0].exchange, "offpeak.submit");
    }

    #[test]
    fn a_customer_is_known_by_what_it_may_and_no_service_is_taken_for_one() {
        let acme = customer(&CustomerName::new("acme").unwrap(), UserLimits::CUSTOMER);
        assert!(has_customers_rights("acme", &acme.rights) && has_customers_key("acme", &acme.topics[0]));
        let changed = Rights { write: NOTHING.to_owned(), read: format!("^x$|{}", acme.rights.read), ..acme.rights.clone() };
        assert!(has_customers_rights("acme", &changed) && !has_customers_rights("other", &changed));
        assert!(has_customers_rights("other", &acme.rights), "it may submit and nothing else");
        assert!(!has_customers_key("other", &acme.topics[0]));
        let services = services(&[PoolName::new("open").unwrap()]);
        assert!(services.iter().all(|user| !has_customers_rights(&user.name, &user.rights)));
    }

    #[test]
    fn a_worker_has_its_pool_in_what_it_reads_and_no_dead_letters_in_what_it_writes() {
        let users = services(&[PoolName::new("open").unwrap(), PoolName::new("trusted").unwrap()]);
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let workers = ["offpeak-worker-open", "offpeak-worker-trusted"];
        assert_eq!(names, [&["offpeak-producer", "offpeak-aggregator", "offpeak-operator"][..], &workers].concat());
        let open = &users[3].rights;
        assert_eq!(open.read, r"^(offpeak\.work\.open\.[0-9]+|offpeak\.worker(\..*)?|offpeak\.control)$");
        assert_eq!(open.write, r"^(offpeak\.outcomes|offpeak\.fetch|offpeak\.worker\..*)$");
    }
}
