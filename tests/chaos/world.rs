//! The world of the suite: a broker and a database of its own, the services as processes, and a hold on each of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use protocol::JobId;
use protocol::address;
use testkit::servers::{Durability, Postgres, RabbitMq, psql};

use crate::dice::Dice;
use crate::offpeak::{LIMIT, Running, Services, wait_for};
use crate::proxy::Proxy;

/// How many queues outcomes are spread over, as below.
const SHARDS: u16 = 2;
/// The services' settings: two of each, and deadlines short enough to pass in a test.
const SETTINGS: [(&str, &str); 9] = [
    ("OFFPEAK__GRID__POOLS", "open:2"),
    ("OFFPEAK__GRID__SHARDS", "2"),
    ("OFFPEAK__GRID__SHUTDOWN_GRACE_MS", "180000"),
    ("OFFPEAK__PRODUCER__LEASE_MS", "3000"),
    ("OFFPEAK__PRODUCER__MAX_UNIT_MS", "6000"),
    ("OFFPEAK__PRODUCER__REPLICA_DEADLINE_MS", "8000"),
    ("OFFPEAK__WORKER__SLOTS", "1"),
    ("OFFPEAK__WORKER__DRAIN_TIMEOUT_MS", "10000"),
    ("OFFPEAK__WORKER__CACHE_DIR", "cache"),
];

/// Which services run; a worker's lane follows from its place.
const MEMBERS: [&str; 6] = ["producer", "producer", "aggregator", "aggregator", "worker", "worker"];

/// The policies that the grid's queues have where it is installed.
const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions-3.10.json");

/// A service that runs.
pub(crate) struct Member {
    pub(crate) kind: &'static str,
    pub(crate) running: Running,
}

impl Member {
    /// Checks that the service has found no invariant broken: when all is at rest, and before it is no more. Workers look for none.
    pub(crate) fn check(&self) {
        let metrics = self.running.get("/metrics");
        let counted: Vec<&str> = metrics.lines().filter(|line| line.starts_with("offpeak_invariants_broken_total{")).collect();
        let broken: Vec<&&str> = counted.iter().filter(|line| !line.ends_with(" 0")).collect();
        assert!(broken.is_empty(), "{}: {broken:?}", self.kind);
        assert!(self.kind == "worker" || !counted.is_empty(), "{}: no invariants in its metrics", self.kind);
    }

    /// How much the service has done of what its kind is for.
    fn done(&self) -> u64 {
        let series = match self.kind {
            "producer" => "offpeak_replicas_sent_total{",
            "aggregator" => "offpeak_outcomes_total{",
            _ => "offpeak_worker_outcomes_total{",
        };
        let metrics = self.running.get("/metrics");
        let values = metrics.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    }
}

/// A grid, and everything it stands on.
pub(crate) struct World {
    // Dropped in this order: the services before what they stand on.
    pub(crate) members: Vec<Member>,
    pub(crate) services: Services,
    _proxy: Option<Proxy>,
    pub(crate) brokers: Vec<RabbitMq>,
    pub(crate) postgres: Postgres,
    pub(crate) vhost: String,
    pub(crate) dice: Dice,
    pub(crate) folder: PathBuf,
    /// Whether the database was set back in this round.
    pub(crate) set_back: bool,
    /// Jobs that had ended when the broker forgot everything in this round: with it went what their customers had not read.
    pub(crate) ended_unread: BTreeSet<String>,
}

impl World {
    /// Starts the servers, with so many nodes of RabbitMQ, and the services in `folder`.
    pub(crate) fn start(folder: PathBuf, nodes: usize, dice: Dice) -> Self {
        let postgres = Postgres::start(Durability::Synced);
        let brokers = RabbitMq::cluster(nodes);
        let url = brokers[0].vhost("chaos");
        let (base, vhost) = url.rsplit_once('/').expect("a vhost");
        // Services see a cluster as one address, like that of a load balancer.
        let proxy = (nodes > 1).then(|| Proxy::start(brokers.iter().map(|node| node.address().port()).collect(), 0));
        let amqp = match &proxy {
            Some(proxy) => format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", proxy.port),
            None => format!("{base}/{vhost}"),
        };
        let vhost = vhost.to_owned();
        let services = Services::on(&folder, amqp, postgres.fresh_database());
        let (members, set_back, ended_unread) = (Vec::new(), false, BTreeSet::new());
        let mut world = Self { members, services, _proxy: proxy, brokers, postgres, vhost, dice, folder, set_back, ended_unread };
        world.set_policies();
        world.members = (0..MEMBERS.len()).map(|place| world.member(place)).collect();
        world.ready();
        world
    }

    /// The node that is asked about the broker: the first that runs.
    pub(crate) fn broker(&self) -> &RabbitMq {
        self.brokers.iter().find(|node| node.pid().is_some()).expect("a node that runs")
    }

    /// Starts the nodes of the broker that do not run.
    pub(crate) fn mend(&self) {
        self.brokers.iter().filter(|node| node.pid().is_none()).for_each(RabbitMq::restart);
    }

    /// Starts the service of a place.
    pub(crate) fn member(&self, place: usize) -> Member {
        let (kind, lane) = (MEMBERS[place], (place % 2).to_string());
        let settings = [SETTINGS.as_slice(), &[("OFFPEAK__WORKER__LANE", &lane)]].concat();
        Member { kind, running: self.services.start(kind, &settings) }
    }

    /// Waits until every service says that it is ready.
    pub(crate) fn ready(&self) {
        self.members.iter().for_each(|member| member.running.ready());
    }

    /// The places of the services of a kind.
    pub(crate) fn places(&self, kind: &str) -> Vec<usize> {
        (0..self.members.len()).filter(|place| self.members[*place].kind == kind).collect()
    }

    /// The place of a service of a kind that is at work, so that a fault hits what the jobs need: there may be one that stands by.
    pub(crate) fn busy(&mut self, kind: &str) -> usize {
        let places = self.places(kind);
        let done = |world: &Self| places.iter().map(|place| (*place, world.members[*place].done())).collect::<Vec<_>>();
        let before = done(self);
        let mut busy = Vec::new();
        self.until_or_over(&format!("a {kind} at work"), |world| {
            let risen = done(world).into_iter().zip(&before).filter(|(now, before)| now.1 > before.1);
            busy = risen.map(|(now, _)| now.0).collect();
            !busy.is_empty()
        });
        if busy.is_empty() {
            busy = places;
        }
        busy[self.dice.below(busy.len())]
    }

    /// The node that leads the queue of the running jobs' outcomes, of one of them.
    pub(crate) fn leader(&self) -> usize {
        let job = self.sql("select encode(id, 'hex')::uuid from jobs where state = 'running' limit 1").expect("jobs");
        let shard = job.parse().map_or(0, |id| address::shard_of(JobId(id), SHARDS));
        let queue = self.manage("GET", "queues", &format!("/{}", address::outcomes_queue(shard)), "").expect("the queue");
        let queue: serde_json::Value = serde_json::from_str(body(&queue)).expect("JSON");
        let leads = |node: &RabbitMq| queue["leader"] == node.name();
        self.brokers.iter().position(leads).unwrap_or_else(|| panic!("no node of ours leads: {queue}"))
    }

    /// Gives the grid's vhost the policies that an operator gives it.
    pub(crate) fn set_policies(&self) {
        let definitions: serde_json::Value = serde_json::from_str(DEFINITIONS).expect("JSON");
        for mut policy in definitions["policies"].as_array().expect("policies").clone() {
            let fields = policy.as_object_mut().expect("a policy");
            fields.remove("vhost");
            let name = fields.remove("name").expect("a name");
            self.broker().address().set_policy(&self.vhost, name.as_str().expect("a name"), &policy.to_string());
        }
    }

    /// kill -9 of the service at a place, with another started in its stead.
    pub(crate) fn replace(&mut self, place: usize) {
        let new = self.member(place);
        std::mem::replace(&mut self.members[place], new).running.kill9();
    }

    /// Sends a signal to the services of a kind.
    pub(crate) fn signal(&self, kind: &str, signal: &str) {
        self.places(kind).into_iter().for_each(|place| self.members[place].running.signal(signal));
    }

    /// How often the services have written something.
    pub(crate) fn said(&self, what: &str) -> usize {
        self.members.iter().map(|member| member.running.stderr().matches(what).count()).sum()
    }

    /// Does something, and waits until the services have written of it more often than before, or have no job any more.
    pub(crate) fn until_said(&self, what: &str, act: impl FnOnce(&Self)) {
        let before = self.said(what);
        act(self);
        self.until_or_over(what, |world| world.said(what) > before);
    }

    /// Runs SQL against the grid's database.
    pub(crate) fn sql(&self, statement: &str) -> Result<String, String> {
        psql(&self.services.database, statement)
    }

    /// The number that a query answers; none while the database is away.
    pub(crate) fn number(&self, query: &str) -> Option<u64> {
        self.sql(query).ok()?.parse().ok()
    }

    /// The jobs that have ended.
    pub(crate) fn ended(&self) -> Result<BTreeSet<String>, String> {
        let ended = self.sql("select encode(id, 'hex')::uuid from jobs where state = 'completed'")?;
        Ok(ended.lines().map(str::to_owned).collect())
    }

    /// Asks the broker's management side about the grid's vhost: `/api/<noun>/<vhost><rest>`.
    pub(crate) fn manage(&self, method: &str, noun: &str, rest: &str, body: &str) -> Result<String, String> {
        self.broker().address().api(method, &format!("/api/{noun}/{}{rest}", self.vhost), body)
    }

    /// The queues with what they hold, ready or delivered and not acknowledged, but for those of customers.
    pub(crate) fn queues(&self) -> Result<Vec<(String, u64)>, String> {
        let listed = self.manage("GET", "queues", "?disable_stats=true&enable_queue_totals=true", "")?;
        let listed: serde_json::Value = serde_json::from_str(body(&listed)).map_err(|error| error.to_string())?;
        let queues = listed.as_array().ok_or_else(|| format!("no list of queues: {listed}"))?;
        let held = |queue: &serde_json::Value| {
            let name = queue["name"].as_str()?.to_owned();
            let messages = queue["messages"].as_u64().unwrap_or(0);
            (!name.starts_with("offpeak.customer.")).then_some((name, messages))
        };
        Ok(queues.iter().filter_map(held).collect())
    }

    /// The queues for people, as RabbitMQ counts them.
    pub(crate) fn queues_in_full(&self) -> String {
        let columns = ["name", "messages_ready", "messages_unacknowledged", "consumers", "state", "leader", "online"];
        self.broker().rabbitmqctl(&[["list_queues", "-p", &self.vhost].as_slice(), &columns].concat())
    }

    /// Waits for something that comes while jobs run; where they are over before it, the fault has missed them, which its
    /// round finds out.
    pub(crate) fn until_or_over(&self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        let running = "select count(*) from jobs where state = 'running'";
        self.until(what, |world| look(world) || world.number(running) == Some(0));
    }

    /// Waits for something to become true.
    pub(crate) fn until(&self, what: &str, mut look: impl FnMut(&Self) -> bool) {
        let seen = wait_for(|| look(self).then_some(()));
        seen.unwrap_or_else(|| panic!("{what} did not come in {LIMIT:?}"));
    }
}

/// The JSON of an answer that may have come in chunks.
fn body(answer: &str) -> &str {
    let begin = answer.find(['[', '{']).unwrap_or(0);
    let end = answer.rfind([']', '}']).map_or(answer.len(), |end| end + 1);
    &answer[begin..end]
}
