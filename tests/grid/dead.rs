//! Dead letters end to end: what cannot be used is parked, seen, sent again or removed, and no job waits for it.

use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::broker::{Broker as _, Confirm, Delivery, Outgoing, Properties, Verdict};
use ports::dead::{self, Death};
use protocol::address::{
    DEAD_WORK_QUEUE, FETCH_EXCHANGE, OUTCOMES_EXCHANGE, Origin, SUBMIT_EXCHANGE, SUBMIT_QUEUE, WORK_EXCHANGE,
};
use protocol::{Micros, PoolName, address};
use serde_json::Value;
use testkit::servers;

use crate::offpeak::{Done, LIMIT, Running, Services, job, module, monte_carlo, tiny_app, wait_for};
use crate::services::billed_units;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the broker that sends and takes what it likes.
struct Meddler {
    runtime: tokio::runtime::Runtime,
    broker: RabbitBroker,
}

impl Meddler {
    fn new(services: &Services) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let entered = runtime.enter();
        let broker = RabbitBroker::connect(&RabbitSettings::new(&services.amqp)).expect("a URL");
        drop(entered);
        Self { runtime, broker }
    }

    fn send(&self, message: Outgoing) {
        self.send_all(vec![message]);
    }

    fn send_all(&self, messages: Vec<Outgoing>) {
        let confirms = self.runtime.block_on(self.broker.publish(messages, PATIENCE)).expect("publish");
        assert!(confirms.iter().all(|confirm| *confirm == Confirm::Stored), "{confirms:?}");
    }

    fn send_garbage(&self, exchange: &str, routing_key: &str, id: &str) {
        let kind = "offpeak.job.submit.v1".to_owned();
        let properties = Properties { message_id: id.to_owned(), kind, ..Properties::default() };
        let body = b"\xc1 rubbish \x1b[2J".to_vec();
        self.send(Outgoing { exchange: exchange.to_owned(), routing_key: routing_key.to_owned(), properties, body });
    }

    /// Copies the next message of a queue; takes it away or leaves it there.
    fn next(&self, queue: &str, verdict: Verdict) -> Delivery {
        self.runtime.block_on(async {
            let consumer = self.broker.consume(queue, 1).await.expect("consume");
            let delivery = tokio::time::timeout(LIMIT, consumer.next(1)).await.expect("in time").expect("next").remove(0);
            assert_eq!(consumer.settle(&[(delivery.tag, verdict)]).await.expect("settle"), 0);
            consumer.cancel().await.expect("cancel");
            delivery
        })
    }

    fn ready(&self, queue: &str) -> u32 {
        self.runtime.block_on(self.broker.depth(queue)).expect("depth").map_or(0, |depth| depth.ready)
    }

    fn park(&self, delivery: &Delivery, origin: Origin) {
        let death = Death { origin, queue: "by hand", cause: "parked by hand", at: Micros(1_000_000) };
        self.send(dead::letter(delivery.clone(), death));
    }
}

/// The letters that a command with `--json` names.
fn letters(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

fn listed(services: &Services, filters: &[&str]) -> Vec<Value> {
    let done = services.offpeak(&[&["dead", "list", "--json"], filters].concat());
    assert_eq!(done.code, Some(0), "{done:?}");
    letters(&done)
}

fn until_listed(services: &Services, filters: &[&str], enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let look = || Some(listed(services, filters)).filter(|letters| enough(letters));
    wait_for(look).unwrap_or_else(|| panic!("only {:?}", listed(services, filters)))
}

pub(crate) fn metric(service: &Running, line: &str) -> u64 {
    let metrics = service.get("/metrics");
    let value = metrics.lines().find_map(|found| found.strip_prefix(line));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn jobs(services: &Services) -> Vec<Value> {
    let done = services.offpeak(&["status", "--json"]);
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"))
}

fn all_completed(services: &Services, count: usize) {
    let ended = || {
        let jobs = jobs(services);
        (jobs.len() == count && jobs.iter().all(|job| job["state"] == "completed")).then_some(())
    };
    wait_for(ended).unwrap_or_else(|| panic!("stuck at {:?}", jobs(services)));
}

fn billed(services: &Services) -> u64 {
    billed_units(&services.offpeak(&["usage", "--format", "csv"]).stdout)
}

#[test]
fn garbage_in_every_queue_is_parked_and_can_be_seen_replayed_and_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "garbage");
    let running = ["producer", "aggregator", "worker"].map(|kind| services.start(kind, &ONE_LANE));
    running.iter().for_each(Running::ready);
    let meddler = Meddler::new(&services);
    meddler.send_garbage(SUBMIT_EXCHANGE, "local", "garbled");
    meddler.send_garbage(WORK_EXCHANGE, "open.0", "");
    meddler.send_garbage(OUTCOMES_EXCHANGE, "0", "id with spaces");
    meddler.send_garbage(FETCH_EXCHANGE, "anyone", "f");
    let all = until_listed(&services, &[], |letters| letters.len() == 4);
    for (letter, (origin, queue)) in all.iter().zip([
        ("submit", "offpeak.submit"),
        ("work", "offpeak.work.open.0"),
        ("outcomes", "offpeak.outcomes.0"),
        ("fetch", "offpeak.fetch"),
    ]) {
        assert_eq!((letter["origin"].as_str(), letter["queue"].as_str()), (Some(origin), Some(queue)), "{letter}");
        assert_eq!((letter["attempts"].as_u64(), letter["parked_by"].as_str()), (Some(1), Some("service")), "{letter}");
        assert!(letter["cause"].as_str().is_some_and(|cause| cause.contains("not valid")), "{letter}");
        assert!(letter["first_at"].is_string() && letter["first_at"] == letter["last_at"], "{letter}");
    }
    wait_for(|| (meddler.ready(DEAD_WORK_QUEUE) == 0).then_some(())).expect("its copy is settled");
    for (service, origin) in [(0, "submit"), (0, "fetch"), (1, "outcomes"), (2, "work")] {
        // A letter is counted when its arrival is confirmed, and may have been seen before that.
        let counted = || metric(&running[service], &format!("offpeak_dead_letters_total{{origin=\"{origin}\"}}"));
        wait_for(|| (counted() > 0).then_some(())).expect("it is counted");
        assert_eq!(counted(), 1);
    }
    looks_and_filters(&services);

    // What cannot be meant, and what is only tried.
    let meant = services.offpeak(&["dead", "drop", "--all"]);
    assert!(meant.code == Some(2) && meant.stderr.contains("all 4 letters would be dropped"), "{meant:?}");
    for command in ["replay", "drop"] {
        let tried = services.offpeak(&["dead", command, "--all", "--dry-run"]);
        assert!(tried.code == Some(0) && tried.stdout.contains("4 letters would be"), "{tried:?}");
    }
    let none = services.offpeak(&["dead", "drop", "nowhere", "garbled", "--origin", "fetch"]);
    assert!(none.code == Some(1) && none.stderr.contains("nowhere"), "{none:?}");
    assert_eq!(listed(&services, &[]), all);

    // Replayed, it dies again: its first time stays, and it counts.
    let replayed = services.offpeak(&["dead", "replay", "garbled"]);
    assert!(replayed.code == Some(0) && replayed.stdout.contains("1 letters replayed"), "{replayed:?}");
    let again = until_listed(&services, &["--origin", "submit"], |letters| letters.len() == 1);
    assert_eq!((&again[0]["attempts"], &again[0]["first_at"]), (&Value::from(2), &all[0]["first_at"]), "{again:?}");

    let dropped = services.offpeak(&["dead", "drop", "garbled"]);
    assert_eq!(dropped.code, Some(0), "{dropped:?}");
    assert_eq!(listed(&services, &[]), all[1..]);
    let dropped = services.offpeak(&["dead", "drop", "--all", "--newer-than", "1h", "--json"]);
    assert_eq!((dropped.code, letters(&dropped).len()), (Some(0), 3), "{dropped:?}");
    assert_eq!(listed(&services, &[]), [Value::Null; 0]);
}

const ONE_LANE: [(&str, &str); 3] =
    [("OFFPEAK__WORKER__SLOTS", "1"), ("OFFPEAK__GRID__POOLS", "open:1"), ("OFFPEAK__GRID__SHARDS", "1")];

/// With the four letters of garbage parked: each filter, the list and one letter for people.
fn looks_and_filters(services: &Services) {
    let count = |filters: &[&str]| listed(services, filters).len();
    assert_eq!(count(&["--origin", "work"]), 1);
    assert_eq!(count(&["--cause", "UNIT cannot be decoded"]), 1);
    assert_eq!((count(&["--customer", "local"]), count(&["--customer", "acme"])), (1, 0));
    assert_eq!((count(&["--newer-than", "1h"]), count(&["--older-than", "1h"])), (4, 0));
    assert_eq!(count(&["--job", "01980f3c-7b1e-7c55-8d42-0123456789ab"]), 0);
    let some = services.offpeak(&["dead", "list", "--limit", "3"]);
    assert_eq!((some.code, some.stdout.lines().count()), (Some(0), 4), "{some:?}");
    assert!(some.stderr.contains("more than 3"), "{some:?}");
    let shown = services.offpeak(&["dead", "show", "garbled", "--body"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for part in ["offpeak.submit, routing key local", "attempts        1\n", "c1 20 72 75 62", "customer        local\n"] {
        assert!(shown.stdout.contains(part), "{part} is not in {}", shown.stdout);
    }
    assert!(!shown.stdout.contains('\u{1b}'), "{shown:?}");
    assert_eq!(services.offpeak(&["dead", "show", "nowhere"]).code, Some(1));
}

/// A body that brokers take and the grid does not: it was parked whole, and no other letter waits for it.
#[test]
fn a_letter_larger_than_any_message_stays_and_holds_up_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "oversize");
    let producer = services.start("producer", &[]);
    producer.ready();
    let meddler = Meddler::new(&services);
    let letter = |id: &str, bytes: usize| {
        let headers = vec![("offpeak-dead-routing-key".to_owned(), "0".to_owned())];
        let properties = Properties { message_id: id.to_owned(), headers, ..Properties::default() };
        let (exchange, routing_key) = ("offpeak.dead".to_owned(), Origin::Outcomes.key().to_owned());
        Outgoing { exchange, routing_key, properties, body: vec![7; bytes] }
    };
    meddler.send_all(vec![letter("before", 1), letter("large", 9 << 20), letter("after", 1)]);
    for (flag, told) in [("--dry-run", "2 letters would be replayed, 1 stay"), ("--yes", "2 letters replayed, 1 stay")] {
        let done = services.offpeak(&["dead", "replay", "--all", flag]);
        assert!(done.code == Some(1) && done.stdout.contains(told), "{done:?}");
        assert!(done.stdout.contains("large  stays: larger than any message may be: its body has 9437184 bytes"), "{done:?}");
    }
    let left = listed(&services, &[]);
    assert_eq!((left.len(), left[0]["id"].as_str()), (1, Some("large")), "{left:?}");
    wait_for(|| (meddler.ready("offpeak.outcomes.0") == 2).then_some(())).expect("the others are where they came from");
}

#[test]
fn a_good_message_that_was_parked_has_the_effect_of_once_however_often_it_is_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "replayed");
    let file = monte_carlo(folder.path(), 12, 3, "").display().to_string();
    let start = |kind| services.start(kind, &ONE_LANE);
    let [producer, aggregator, worker] = ["producer", "aggregator", "worker"].map(start);
    [&producer, &aggregator, &worker].into_iter().for_each(Running::ready);
    // The first brings the app; of the second, the job's message is caught on its way and parked twice.
    assert_eq!(services.offpeak(&["submit", &file, "--wait", "--id", "first"]).code, Some(0));
    producer.kill9();
    worker.kill9();
    let meddler = Meddler::new(&services);
    let submitting = services.begin(&["submit", &file, "--id", "second"]);
    let submission = meddler.next(SUBMIT_QUEUE, Verdict::Ack);
    submitting.kill9();
    assert_eq!(submission.properties.message_id, "second");
    meddler.park(&submission, Origin::Submit);
    meddler.park(&submission, Origin::Submit);

    let producer = start("producer");
    producer.ready();
    let replayed = services.offpeak(&["dead", "replay", "second"]);
    assert!(replayed.code == Some(0) && replayed.stdout.contains("2 letters replayed"), "{replayed:?}");
    // A unit of it is parked beside its own run, to come after the job's end.
    let lane = address::work_queue(&PoolName::new("open").expect("a name"), 0);
    let unit = meddler.next(&lane, Verdict::Requeue);
    meddler.park(&unit, Origin::Work);
    let worker = start("worker");
    all_completed(&services, 2);
    let units: u64 = jobs(&services).iter().filter_map(|job| job["units"].as_u64()).sum();
    assert_eq!(billed(&services), units, "one row of the ledger a valid unit");

    let of_work = listed(&services, &["--origin", "work"]);
    assert_eq!((of_work.len(), of_work[0]["customer"].as_str()), (1, Some("local")), "{of_work:?}");
    assert_eq!(listed(&services, &["--job", of_work[0]["job"].as_str().expect("a job")]).len(), 1);
    let computed = |worker: &Running| metric(worker, "offpeak_worker_outcomes_total{reason=\"computed\"}");
    let before = computed(&worker);
    meddler.park(&submission, Origin::Submit);
    let replayed = services.offpeak(&["dead", "replay", "--all", "--yes", "--json"]);
    assert_eq!((replayed.code, letters(&replayed).len()), (Some(0), 2), "{replayed:?}");
    wait_for(|| (computed(&worker) > before).then_some(())).expect("the unit is computed once more");
    let idle = || {
        let queues = [SUBMIT_QUEUE, lane.as_str(), "offpeak.outcomes.0", DEAD_WORK_QUEUE];
        queues.iter().all(|queue| meddler.ready(queue) == 0).then_some(())
    };
    wait_for(idle).expect("all queues are read");
    for service in [producer, worker, aggregator] {
        service.signal("-TERM");
        let ended = service.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!((jobs(&services).len(), billed(&services)), (2, units));
    assert_eq!(listed(&services, &[]), [Value::Null; 0]);
}

/// More letters than memory is to hold: a list that is killed changes nothing, and one that ends has them all in order.
#[test]
fn a_long_list_is_read_in_little_memory_and_may_be_killed() {
    const LETTERS: usize = 6_000;
    const BODY_BYTES: usize = 32 * 1024;
    const MEMORY_BYTES: u64 = 120 << 20; // of 188 MiB
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "many");
    let producer = services.start("producer", &[]);
    producer.ready();
    let policy = r#"{"pattern":"^offpeak\\.dead\\.","apply-to":"queues","definition":{"delivery-limit":1000000000}}"#;
    servers::rabbitmq().set_policy(&services.amqp, "parked", policy);
    let meddler = Meddler::new(&services);
    let names: Vec<String> = (0..LETTERS).map(|number| format!("{number:05}")).collect();
    for some in names.chunks(500) {
        let letter = |id: &String| Outgoing {
            exchange: "offpeak.dead".to_owned(),
            routing_key: Origin::Outcomes.key().to_owned(),
            properties: Properties { message_id: id.clone(), ..Properties::default() },
            body: vec![7; BODY_BYTES],
        };
        meddler.send_all(some.iter().map(letter).collect());
    }
    let list = ["dead", "list", "--origin", "outcomes", "--limit", "100000", "--json"];
    let killed = services.begin(&list);
    wait_for(|| (killed.stdout().lines().count() > 500).then_some(())).expect("some are listed");
    killed.kill9();
    let queue = Origin::Outcomes.queue();
    wait_for(|| usize::try_from(meddler.ready(&queue)).ok().filter(|ready| *ready >= LETTERS)).expect("all are back");

    let mut whole = services.begin(&list);
    let mut peak = 0;
    wait_for(|| {
        peak = whole.memory("VmHWM:").unwrap_or(peak).max(peak);
        (!whole.runs()).then_some(())
    })
    .expect("it ends");
    let done = whole.end();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut seen: Vec<String> = letters(&done).iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)).collect();
    println!("listing {LETTERS} letters of {BODY_BYTES} bytes took {} MiB at most", peak >> 20);
    assert!(peak > 0 && peak < MEMORY_BYTES, "{peak} bytes");
    // After a kill the broker may have given pages back in another order; after an end they are as they were.
    let again: Vec<String> = listed(&services, &list[2..6]).iter().filter_map(|l| l["id"].as_str().map(str::to_owned)).collect();
    assert!(again == seen, "an ended list changes no order");
    seen.sort();
    // The broker may have one twice whose confirm was late.
    seen.dedup();
    assert!(seen == names, "{} of {LETTERS} letters", seen.len());
}

/// A worker dies under the first unit, which is waited for longest: the others are valid, its items fail and say why.
fn a_deadly_unit(name: &str, policy: Option<&str>, settings: &[(&str, &str)], cause: &str) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), name);
    if let Some(policy) = policy {
        servers::rabbitmq().set_policy(&services.amqp, "frail", policy);
    }
    // Two slots: the deadly unit holds one, and comes before others.
    let settings = [ONE_LANE.as_slice(), &[("OFFPEAK__WORKER__SLOTS", "2")], settings].concat();
    let start = |kind| services.start(kind, &settings);
    let others = ["producer", "aggregator"].map(start);
    let mut worker = start("worker");
    others.iter().chain([&worker]).for_each(Running::ready);
    // Item 0 is the MessagePack byte 00, behind the frame's count and length.
    let app = tiny_app("(if (i32.eqz (i32.load8_u (i32.const 1032))) (then (loop br 0)))");
    let app = module(folder.path(), "deadly", &app);
    let rest = "max_failures = 0\n[input]\nrange = [0, 6]\n[unit]\nmax_items = 1\n[limits]\nfuel_per_item = 1000000000000000\n";
    let file = job(folder.path(), "deadly", &app, rest).display().to_string();
    let submitted = services.offpeak(&["submit", &file, "--json"]);
    let id = submitted.json()["job"].as_str().expect("job").to_owned();
    let status = || serde_json::from_str::<Value>(&services.offpeak(&["status", &id, "--json"]).stdout).unwrap_or(Value::Null);
    let alone = || (status()["items_succeeded"] == 5 && metric(&worker, "offpeak_worker_busy_slots") == 1).then_some(());
    wait_for(alone).unwrap_or_else(|| panic!("stuck at {}", status()));
    for _ in 0..2 {
        worker.kill9();
        worker = start("worker");
        let ends = || (metric(&worker, "offpeak_worker_busy_slots") == 1 || status()["state"] == "completed").then_some(());
        wait_for(ends).unwrap_or_else(|| panic!("stuck at {}", status()));
    }
    wait_for(|| (status()["state"] == "completed").then_some(())).unwrap_or_else(|| panic!("stuck at {}", status()));
    let result = services.offpeak(&["result", &id, "--out", "out", "--json"]);
    assert_eq!(result.code, Some(1), "{result:?}");
    let summary = result.json();
    assert_eq!((&summary["items_succeeded"], &summary["items_failed"]), (&Value::from(5), &Value::from(1)), "{summary}");
    let failure = &summary["failures"][0];
    assert_eq!(failure["item"], 0, "{summary}");
    let reason = failure["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the unit is dead") && reason.contains(cause), "{summary}");
    let mut parked = until_listed(&services, &["--job", &id], |letters| !letters.is_empty());
    assert_eq!(parked.len(), 1, "{parked:?}");
    parked.remove(0)
}

#[test]
fn a_unit_that_kills_its_workers_is_given_up_by_a_worker() {
    let letter = a_deadly_unit("deadly", None, &[("OFFPEAK__WORKER__MAX_DELIVERIES", "2")], "delivered 2 times");
    assert_eq!((letter["parked_by"].as_str(), letter["attempts"].as_u64()), (Some("service"), Some(3)), "{letter}");
    assert_eq!((letter["customer"].as_str(), letter["unit"].as_u64()), (Some("local"), Some(0)), "{letter}");
}

#[test]
fn a_unit_that_kills_its_workers_is_given_up_by_the_broker() {
    let policy = r#"{"pattern":"^offpeak\\.work\\.","apply-to":"queues","definition":{"dead-letter-exchange":"offpeak.dead",
        "dead-letter-routing-key":"work","dead-letter-strategy":"at-least-once","overflow":"reject-publish","delivery-limit":1}}"#;
    let letter = a_deadly_unit("frail", Some(policy), &[], "the broker gave it up");
    assert_eq!((letter["parked_by"].as_str(), letter["attempts"].as_u64()), (Some("broker"), Some(1)), "{letter}");
    assert_eq!((letter["routing_key"].as_str(), letter["queue"].as_str()), (Some("open.0"), Some("offpeak.work.open.0")));
    assert!(letter["first_at"].as_str().is_some_and(|at| at.starts_with("20")), "{letter}");
}
