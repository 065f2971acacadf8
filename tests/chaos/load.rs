//! The load: jobs whose answer is known from an undisturbed run, and what must hold when they have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::Broker as _;
use ports::broker::{Delivery, Verdict};
use protocol::reply::Completed;
use protocol::{Format, Message as _};
use serde_json::Value;

use crate::offpeak::{LIMIT, job, monte_carlo_body, offpeak, wait_for};
use crate::say;
use crate::world::{Member, World};

/// An item is a tenth of a second of one core, so that a fault of seconds finds every job in its middle.
const PATHS: u32 = 8192;
/// How often a job is handed in where the grid could not take it: each time the command has waited for it.
const SUBMISSIONS: usize = 4;
/// Between looks at jobs that go on: each look is a process of its own, and takes from those that compute.
const NO_HURRY: Duration = Duration::from_millis(200);
/// A customer's queue that gives nothing for so long is empty.
const EMPTY: Duration = Duration::from_millis(500);

/// A kind of job, with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    file: PathBuf,
    items: u32,
    undisturbed: Value,
}

impl Kind {
    /// Runs such a job in one process that nothing disturbs. On a crowded machine units fail by their time limit, and are tried
    /// again however often. The grid is given it with a budget that it can only just keep: what it took, and two items at their limit.
    pub(crate) fn new(folder: &Path, items: u32, before: &str) -> Self {
        let name = format!("monte-carlo-{items}-{}", before.len());
        let body = format!("max_failures = 65535\n{before}{}[unit]\nmax_items = 1\n", monte_carlo_body(items, PATHS));
        let file = job(folder, &name, "monte-carlo", &body);
        let done = offpeak(folder, ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), name.as_ref()]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let undisturbed = done.json();
        let fuel: u64 = undisturbed["fuel"].as_str().and_then(|fuel| fuel.parse().ok()).expect("fuel");
        let each = 2 * fuel / u64::from(items);
        let budgeted = format!("budget_fuel = {}\n{body}[limits]\nfuel_per_item = {each}\n", fuel + 2 * each);
        Self { file: job(folder, &name, "monte-carlo", &budgeted), items, undisturbed }
    }
}

/// A job under way.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) id: String,
    submission: String,
    kind: Kind,
}

/// A terminal reply: its id and its body.
type End = (String, Vec<u8>);

/// What customers were told at the end of their jobs: by submission, the different replies.
#[derive(Debug, Default)]
pub(crate) struct Told {
    ends: BTreeMap<String, BTreeSet<End>>,
}

/// What is missing and what is there twice; both must be nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
}

impl Load {
    /// Hands a job to the grid; again under the same id where the command says that this may help.
    pub(crate) fn submit(world: &World, kind: &Kind) -> Self {
        let submission = uuid::Uuid::now_v7().to_string();
        let file = kind.file.display().to_string();
        let submit = || world.services.offpeak(&["submit", &file, "--id", &submission, "--json"]);
        let mut done = submit();
        for _again in 1..SUBMISSIONS {
            if done.code != Some(3) {
                break;
            }
            say(&format!("a job was not taken and is submitted again: {}", done.stderr.trim()));
            done = submit();
        }
        assert_eq!(done.code, Some(0), "{done:?}");
        let id = done.json()["job"].as_str().expect("job").to_owned();
        Self { id, submission, kind: kind.clone() }
    }

    /// The job as the database writes it.
    fn key(&self) -> String {
        format!("'\\x{}'::bytea", self.id.replace('-', ""))
    }

    /// How many of its units are in the ledger; none while the database is away.
    pub(crate) fn settled(&self, world: &World) -> Option<u64> {
        world.number(&format!("select count(*) from ledger where job = {}", self.key()))
    }

    /// Whether a unit is in the ledger that was cut or sent again after that time, by the database's clock: it has gone the whole way.
    pub(crate) fn served_since(&self, world: &World, time: u64) -> bool {
        let settled = "exists (select from ledger l where l.job = r.job and l.unit = r.unit)";
        let job = self.key();
        let query = format!("select count(*) from replicas r where job = {job} and not_before > {time} and {settled}");
        world.number(&query).is_some_and(|units| units > 0)
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self, world: &World) -> bool {
        world.sql(&format!("select state from jobs where id = {}", self.key())).is_ok_and(|state| state == "completed")
    }

    /// Waits until it has ended, for as long as it goes on.
    pub(crate) fn over(&self, world: &World) {
        let mut settled = 0;
        loop {
            let over = wait_for(|| {
                sleep(NO_HURRY);
                let further = self.settled(world).filter(|now| *now > settled).map(|now| (now, false));
                further.or_else(|| self.is_over(world).then_some((settled, true)))
            });
            match over {
                Some((_, true)) => return,
                Some((now, false)) => settled = now,
                None => panic!("job {} did not go on in {LIMIT:?}: {}", self.id, self.state(world)),
            }
        }
    }

    fn state(&self, world: &World) -> String {
        let query = format!(
            "select (select row_to_json(j) from (select state, stage, cursor_item, items_succeeded, items_failed, valid_units \
             from jobs where id = {0}) j), (select json_agg(r) from (select state, count(*) from replicas where job = {0} group by 1) r)",
            self.key()
        );
        let queues = world.queues().map(|queues| format!("{queues:?}"));
        format!("{:?} {queues:?}", world.sql(&query))
    }

    /// What is missing of its result and what is there twice; what is there is the undisturbed run's.
    pub(crate) fn balance(&self, world: &World, told: &Told) -> Balance {
        let out = world.folder.join(format!("out-{}", self.id)).display().to_string();
        let done = world.services.offpeak(&["result", &self.id, "--out", &out, "--json"]);
        assert_eq!(done.code, Some(0), "{done:?}");
        let summary = done.json();
        let missing = u64::from(self.kind.items) - summary["items_succeeded"].as_u64().expect("items");
        let whole = ["output_digest", "items_digest", "fuel", "items_succeeded", "items_failed", "items_cancelled"];
        for same in whole.into_iter().filter(|_| missing == 0) {
            assert_eq!(summary[same], self.kind.undisturbed[same], "{same} of {summary}");
        }
        let units = |query: &str| world.number(&query.replace("JOB", &self.key())).expect("the database is there");
        let valid = units("select valid_units from jobs where id = JOB");
        let rows = units("select count(*) from ledger where job = JOB");
        assert_eq!(units("select count(*) from units where job = JOB and state = 'valid'"), valid, "units of {summary}");
        let mut ends = told.ends.get(&self.submission).cloned().unwrap_or_default();
        if world.set_back {
            ends = ends.into_iter().map(|(id, body)| (id, billed(&body))).collect();
        }
        for (_, body) in &ends {
            let completed = read(body);
            let certificate = serde_json::to_value(&completed.certificate).expect("JSON");
            let counts = &certificate["items"];
            assert_eq!(counts["submitted"].as_u64(), Some(self.kind.items.into()), "{certificate}");
            assert_eq!(counts["succeeded"], summary["items_succeeded"], "{certificate}");
            assert!(certificate.to_string().contains(summary["output_digest"].as_str().expect("digest")), "{certificate}");
        }
        let replies = u64::try_from(ends.len()).expect("fits");
        let lost = missing + valid.saturating_sub(rows) + 1_u64.saturating_sub(replies);
        Balance { lost, duplicated: rows.saturating_sub(valid) + replies.saturating_sub(1) }
    }
}

fn read(body: &[u8]) -> Completed {
    Completed::from_bytes(body, Format::MessagePack).expect("a reply")
}

/// A terminal reply without how the work went, which differs when a database that was set back has it done again.
fn billed(body: &[u8]) -> Vec<u8> {
    let mut completed = read(body);
    let usage = &mut completed.usage;
    (usage.replicas, usage.compute_us, usage.wasted_us) = (0, 0, 0);
    completed.to_bytes(Format::MessagePack).expect("a reply")
}

impl Told {
    /// Reads what customers were told since.
    pub(crate) fn read(&mut self, world: &World, runtime: &tokio::runtime::Runtime) {
        let settings = RabbitSettings::new(&world.services.amqp);
        let read = async {
            let broker = RabbitBroker::connect(&settings).expect("a broker's URL");
            // The queue may be gone with a vhost, until there is something for it.
            let Ok(consumer) = broker.consume("offpeak.customer.local.results", 100).await else { return broker.close().await };
            while let Ok(deliveries) = tokio::time::timeout(EMPTY, consumer.next(100)).await {
                let deliveries = deliveries.expect("replies");
                let verdicts: Vec<_> = deliveries.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
                deliveries.into_iter().filter(|delivery| delivery.properties.kind == Completed::KIND).for_each(|d| self.note(d));
                consumer.settle(&verdicts).await.expect("settled");
            }
            drop(consumer);
            broker.close().await;
        };
        runtime.block_on(read);
    }

    fn note(&mut self, end: Delivery) {
        let submission = end.properties.correlation_id.unwrap_or_default();
        self.ends.entry(submission).or_default().insert((end.properties.message_id, end.body));
    }

    /// Whether a job's customer was told of its end.
    pub(crate) fn knows(&self, load: &Load) -> bool {
        self.ends.contains_key(&load.submission)
    }
}

/// Waits until nothing of ended jobs is left anywhere, and checks what holds at rest.
pub(crate) fn at_rest(world: &World) {
    let number = |query: &str| world.number(query);
    world.until("an empty outbox", |_| number("select count(*) from outbox") == Some(0));
    assert_eq!(number("select count(*) from units where state = 'open'"), Some(0), "open units");
    assert_eq!(number("select count(*) from replicas where state = 'due'"), Some(0), "due replicas");
    let mut left = Vec::new();
    let empty = wait_for(|| {
        left = world.queues().unwrap_or_default();
        (!left.is_empty() && left.iter().all(|(_, messages)| *messages == 0)).then_some(())
    });
    assert!(empty.is_some(), "left in queues:\n{}", world.queues_in_full());
    world.members.iter().for_each(Member::check);
}
