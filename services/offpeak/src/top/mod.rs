//! What `offpeak top` shows: a picture of the grid at one moment, as data.

pub mod draw;
pub mod live;
pub mod numbers;
pub mod read;
pub mod view;

use std::collections::BTreeMap;

use ports::broker::Depth;
use ports::store::{Activity, HostActivity, JobReport};
use protocol::address::Origin;
use protocol::job::JobState;
use protocol::{CustomerName, HostId, JobId, Micros, PoolName};
use serde::Serialize;

use crate::terminal::grouped;

/// The grid at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// When.
    pub at: Micros,
    /// What the database says.
    pub database: Source<Database>,
    /// What the broker says.
    pub broker: Source<Queues>,
    /// What somebody should look at.
    pub alarms: Vec<String>,
}

/// Something that is read again and again, and may be away.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source<T> {
    /// What it said last.
    pub said: Option<T>,
    /// Why it says nothing now; `None` if it does.
    pub away: Option<Away>,
    /// Whether it was named at all.
    pub named: bool,
}

/// Since when something is away, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Away {
    /// Since when.
    pub since: Micros,
    /// Why, by the last attempt.
    pub reason: String,
}

impl<T> Source<T> {
    /// Before the first answer.
    pub fn new(named: bool) -> Self {
        Self { said: None, away: None, named }
    }

    /// Takes an answer down, or why there is none: then the last one stays.
    pub fn heard(&mut self, at: Micros, answer: Result<T, String>) {
        match answer {
            Ok(said) => (self.said, self.away) = (Some(said), None),
            Err(reason) => self.away = Some(Away { since: self.away.as_ref().map_or(at, |away| away.since), reason }),
        }
    }
}

/// What the database says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Database {
    /// Running jobs, then the youngest that have ended.
    pub jobs: Vec<Job>,
    /// Hosts whose results counted within the window.
    pub hosts: Vec<Host>,
    /// Of the whole grid.
    pub rates: Rates,
}

/// Rates over a window of the ledger's youngest rows, in tenths a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rates {
    /// The window's length.
    pub window_s: u64,
    /// Units.
    pub units_per_10_s: u64,
    /// Items.
    pub items_per_10_s: u64,
    /// Fuel, in whole instructions a second.
    pub fuel_per_s: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Job {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub customer: CustomerName,
    /// Where it runs.
    pub pool: PoolName,
    /// Its state.
    pub state: JobState,
    /// Its stage: 0 maps, further ones reduce.
    pub stage: u8,
    /// Items decided.
    pub done: u64,
    /// Of which failed.
    pub failed: u64,
    /// Items in all.
    pub items: u64,
    /// Units cut and not decided.
    pub open_units: u64,
    /// Items a second, in tenths.
    pub items_per_10_s: u64,
    /// Seconds until its items are decided, as it goes now.
    pub eta_s: Option<u64>,
    /// When it was admitted.
    pub admitted_at: Micros,
    /// When what is left is cancelled.
    pub deadline_at: Option<Micros>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Which.
    pub host: HostId,
    /// Units a second, in tenths.
    pub units_per_10_s: u64,
    /// Fuel a second.
    pub fuel_per_s: u64,
    /// Seconds since its last result counted.
    pub idle_s: u64,
}

/// What the broker says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Queues {
    /// The lanes of each pool, in order.
    pub pools: BTreeMap<PoolName, Vec<Lane>>,
    /// Submissions not yet admitted.
    pub submit: Option<Lane>,
    /// The shards of the outcomes, in order.
    pub outcomes: Vec<Lane>,
    /// Parked letters by origin, where there are any.
    pub dead: BTreeMap<&'static str, u32>,
    /// Why it takes no messages, or what is wrong with its nodes.
    pub alarms: Vec<String>,
}

/// A queue's depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lane {
    /// Messages that wait.
    pub ready: u32,
    /// Who listens.
    pub consumers: u32,
}

impl From<Depth> for Lane {
    fn from(depth: Depth) -> Self {
        Self { ready: depth.ready, consumers: depth.consumers }
    }
}

impl Database {
    /// Puts reports and activity together, as they are at `now`.
    pub fn new(reports: &[JobReport], activity: &Activity, now: Micros) -> Self {
        let window_us = now.since(activity.since).as_micros().max(1);
        let tenths = |count: u64| numbers::per_s(u128::from(count) * 10, window_us);
        let items_of = |report: &JobReport| {
            let of = activity.jobs.iter().filter(|active| active.job == report.id && active.stage == 0);
            of.map(|active| active.items).sum::<u64>()
        };
        let host = |active: &HostActivity| Host {
            host: active.host.clone(),
            units_per_10_s: tenths(active.units),
            fuel_per_s: numbers::per_s(active.fuel, window_us),
            idle_s: now.since(active.last_at).as_secs(),
        };
        Self {
            jobs: reports.iter().map(|report| Job::new(report, tenths(items_of(report)))).collect(),
            hosts: activity.hosts.iter().map(host).collect(),
            rates: Rates {
                window_s: now.since(activity.since).as_secs(),
                units_per_10_s: tenths(activity.jobs.iter().map(|active| active.units).sum()),
                items_per_10_s: tenths(activity.jobs.iter().filter(|active| active.stage == 0).map(|active| active.items).sum()),
                fuel_per_s: numbers::per_s(activity.jobs.iter().map(|active| active.fuel).sum(), window_us),
            },
        }
    }
}

impl Job {
    fn new(report: &JobReport, items_per_10_s: u64) -> Self {
        let items = &report.items;
        let done = items.succeeded.saturating_add(items.failed).saturating_add(items.cancelled);
        let left = items.submitted.saturating_sub(done);
        let eta_s = left.saturating_mul(10).checked_div(items_per_10_s).filter(|_| report.state == JobState::Running);
        Self {
            job: report.id,
            customer: report.customer.clone(),
            pool: report.spec.pool.clone(),
            state: report.state,
            stage: report.stage.0,
            done,
            failed: items.failed,
            items: items.submitted,
            open_units: report.units.open,
            items_per_10_s,
            eta_s,
            admitted_at: report.admitted_at,
            deadline_at: report.deadline_at,
        }
    }

    /// How far it is, in whole percent, never 100 before it is.
    pub fn percent(&self) -> u64 {
        numbers::share(self.done, self.items, 100)
    }
}

impl Picture {
    /// The picture of what was heard, with its alarms.
    pub fn new(at: Micros, database: Source<Database>, broker: Source<Queues>) -> Self {
        let mut alarms = Vec::new();
        if let Some(queues) = &broker.said {
            queues.alarms(&mut alarms);
        }
        let running = database.said.iter().flat_map(|said| &said.jobs).filter(|job| job.state == JobState::Running);
        let late = running.filter(|job| job.deadline_at.is_some_and(|deadline| deadline < at)).count();
        if late > 0 {
            alarms.push(format!("{late} running jobs are past their deadline: does an aggregator run?"));
        }
        Self { at, database, broker, alarms }
    }

    /// Whether something that was named is away.
    pub fn is_partial(&self) -> bool {
        self.database.away.is_some() || self.broker.away.is_some()
    }
}

impl Queues {
    fn alarms(&self, alarms: &mut Vec<String>) {
        alarms.extend(self.alarms.iter().cloned());
        if self.submit.is_some_and(|queue| queue.consumers == 0) {
            alarms.push("no producer listens: submissions wait".to_owned());
        }
        let deaf = self.outcomes.iter().filter(|shard| shard.consumers == 0).count();
        if deaf > 0 {
            alarms.push(format!("no aggregator listens on {deaf} of {} shards of outcomes", self.outcomes.len()));
        }
        for (pool, lanes) in &self.pools {
            let ready = lanes.iter().map(|lane| u64::from(lane.ready)).sum::<u64>();
            if ready > 0 && lanes.iter().all(|lane| lane.consumers == 0) {
                alarms.push(format!("pool {pool}: {} units wait and no worker listens", grouped(&ready)));
            }
        }
        if self.parked() > 0 {
            alarms.push(format!("{} dead letters are parked: offpeak dead list", grouped(&self.parked())));
        }
    }

    /// Parked letters in all.
    pub fn parked(&self) -> u64 {
        Origin::ALL.iter().filter_map(|origin| self.dead.get(origin.key())).map(|ready| u64::from(*ready)).sum()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ports::store::JobActivity;

    /// Ten seconds after the epoch.
    pub(crate) const NOW: Micros = Micros(10_000_000);

    fn report(customer: &str, submitted: u64, succeeded: u64) -> JobReport {
        let mut report = crate::testing::report();
        report.id = JobId(uuid::Uuid::from_u128(u128::from(submitted)));
        report.customer = CustomerName::new(customer).unwrap();
        (report.items.submitted, report.items.succeeded) = (submitted, succeeded);
        report
    }

    /// Two jobs, one host, two pools, some trouble.
    pub(crate) fn picture() -> Picture {
        let jobs = [report("acme", 1_000, 250), report("zeta", 40, 39)];
        let active = JobActivity { job: jobs[0].id, stage: 0, units: 5, items: 50, fuel: 12_000_000_000 };
        let host =
            HostActivity { host: HostId::new("host-a").unwrap(), units: 5, fuel: 12_000_000_000, last_at: Micros(8_000_000) };
        let activity = Activity { since: Micros(0), jobs: vec![active], hosts: vec![host] };
        let lane = |ready, consumers| Lane { ready, consumers };
        let pool = |name: &str| PoolName::new(name).unwrap();
        let queues = Queues {
            pools: BTreeMap::from([(pool("open"), vec![lane(3, 1), lane(0, 2)]), (pool("trusted"), vec![lane(7, 0)])]),
            submit: Some(lane(0, 1)),
            outcomes: vec![lane(1, 1), lane(0, 0)],
            dead: BTreeMap::from([("work", 2)]),
            alarms: Vec::new(),
        };
        let source = |named| Source::<Database>::new(named);
        let (mut database, mut broker) = (source(true), Source::new(true));
        database.heard(NOW, Ok(Database::new(&jobs, &activity, NOW)));
        broker.heard(NOW, Ok(queues));
        Picture::new(NOW, database, broker)
    }

    #[test]
    fn rates_and_times_left_are_of_the_window() {
        let picture = picture();
        let said = picture.database.said.as_ref().unwrap();
        let rates = Rates { window_s: 10, units_per_10_s: 5, items_per_10_s: 50, fuel_per_s: 1_200_000_000 };
        assert_eq!(said.rates, rates);
        let of = |job: &Job| (job.percent(), job.items_per_10_s, job.eta_s);
        assert_eq!(said.jobs.iter().map(of).collect::<Vec<_>>(), [(25, 50, Some(150)), (97, 0, None)]);
        assert_eq!((said.hosts[0].units_per_10_s, said.hosts[0].idle_s), (5, 2));
    }

    #[test]
    fn what_somebody_should_look_at_is_told() {
        let told = picture().alarms.join("\n");
        for part in ["1 of 2 shards", "pool trusted: 7 units wait", "2 dead letters"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("pool open") && !told.contains("producer"), "{told}");
    }

    #[test]
    fn what_is_away_keeps_its_last_word_and_since_when() {
        let mut source = Source::new(true);
        source.heard(Micros(1), Ok(7));
        source.heard(Micros(2), Err("gone".to_owned()));
        source.heard(Micros(3), Err("still gone".to_owned()));
        assert_eq!(
            (source.said, source.away.clone().unwrap()),
            (Some(7), Away { since: Micros(2), reason: "still gone".to_owned() })
        );
        source.heard(Micros(4), Ok(8));
        assert_eq!((source.said, source.away), (Some(8), None));
    }
}
