//! The services as processes over real RabbitMQ and PostgreSQL: killed at the worst moment, away, and told to stop.

use serde_json::Value;
use testkit::servers;

use crate::offpeak::{ONE_SLOT, Running, Services, monte_carlo, offpeak, start, wait_for};
use crate::proxy::Proxy;

pub(crate) fn status(services: &Services, job: &str) -> Value {
    let done = services.offpeak(&["status", job, "--json"]);
    serde_json::from_str(&done.stdout).unwrap_or(Value::Null)
}

/// The units of a usage report in CSV.
pub(crate) fn billed_units(csv: &str) -> u64 {
    let mut lines = csv.lines();
    let column = lines.next().and_then(|head| head.split(',').position(|name| name == "units")).expect("a column of units");
    lines.filter_map(|line| line.split(',').nth(column)).map(|units| units.parse::<u64>().expect("a number")).sum()
}

/// Waits until that many items of the job are settled.
pub(crate) fn settled(services: &Services, job: &str, items: u64) {
    let enough = || (status(services, job)["items_succeeded"].as_u64()? >= items).then_some(());
    wait_for(enough).unwrap_or_else(|| panic!("stuck at {}", status(services, job)));
}

#[test]
fn kill_9_of_each_service_in_the_middle_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 160, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json"]).json();
    let services = Services::new(folder.path(), "killed");
    let mut producer = services.start("producer", &[]);
    let mut aggregator = services.start("aggregator", &[]);
    let mut workers = [services.start("worker", &ONE_SLOT), services.start("worker", &ONE_SLOT)];
    [&producer, &aggregator, &workers[0], &workers[1]].into_iter().for_each(Running::ready);

    let submitted = services.offpeak(&["submit", &file, "--json"]);
    assert_eq!(submitted.code, Some(0), "{submitted:?} {}", producer.stderr());
    let id = submitted.json()["job"].as_str().expect("job").to_owned();
    settled(&services, &id, 4);
    producer.kill9();
    producer = services.start("producer", &[]);
    settled(&services, &id, 30);
    aggregator.kill9();
    aggregator = services.start("aggregator", &[]);
    settled(&services, &id, 60);
    let [first, second] = workers;
    first.kill9();
    workers = [services.start("worker", &ONE_SLOT), second];

    let ended = || (status(&services, &id)["state"] == "completed").then_some(());
    wait_for(ended).unwrap_or_else(|| panic!("stuck at {}", status(&services, &id)));
    let result = services.offpeak(&["result", &id, "--out", "out", "--json"]);
    assert_eq!(result.code, Some(0), "{result:?}");
    let summary = result.json();
    for same in ["output_digest", "items_digest", "fuel", "items_succeeded", "items_failed"] {
        assert_eq!(summary[same], undisturbed[same], "{same}");
    }
    let rows = services.offpeak(&["usage", "--format", "csv"]);
    assert_eq!(rows.code, Some(0), "{rows:?}");
    assert_eq!(Some(billed_units(&rows.stdout)), summary["units"].as_u64(), "one row of the ledger a valid unit");
    drop((producer, aggregator, workers));
}

#[test]
fn a_drained_service_in_its_own_program_ends_well_and_hands_its_work_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 160, 2, "").display().to_string();
    let services = Services::new(folder.path(), "drained");
    let running = ["producer", "aggregator", "worker"].map(|kind| services.start_own(kind, &ONE_SLOT));
    running.iter().for_each(Running::ready);
    let metrics = running[0].get("/metrics");
    assert!(metrics.contains("offpeak_build_info") && metrics.contains("offpeak_jobs_admitted_total 0"), "{metrics}");
    let submitted = services.offpeak(&["submit", &file, "--json"]).json();
    let id = submitted["job"].as_str().expect("job").to_owned();
    settled(&services, &id, 6);
    let [producer, aggregator, worker] = running;
    worker.signal("-TERM");
    let ended = worker.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let other = services.start_own("worker", &[]);
    let ended = || (status(&services, &id)["state"] == "completed").then_some(());
    wait_for(ended).unwrap_or_else(|| panic!("stuck at {}", status(&services, &id)));
    for service in [producer, aggregator, other] {
        service.signal("-TERM");
        let ended = service.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_worker_moves_to_a_lane_without_workers_so_that_a_quorum_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 8, 2, "quorum = 2\n").display().to_string();
    let services = Services::new(folder.path(), "uneven");
    let others = ["producer", "aggregator"].map(|kind| services.start(kind, &[]));
    let free = services.start("worker", &ONE_SLOT);
    let lane = wait_for(|| {
        let log = free.stderr();
        let (_, rest) = log.split_once("serves lane ")?;
        rest.split_whitespace().next().map(str::to_owned)
    });
    let lane = lane.unwrap_or_else(|| panic!("it serves no lane: {}", free.stderr()));
    let fixed = services.start("worker", &[ONE_SLOT[0], ("OFFPEAK__WORKER__LANE", &lane)]);
    others.iter().chain([&free, &fixed]).for_each(Running::ready);
    let done = services.offpeak(&["submit", &file, "--wait", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?} {}", free.stderr());
    assert_eq!(free.stderr().matches("serves lane ").count(), 2, "{}", free.stderr());
}

#[test]
fn a_service_waits_for_a_broker_and_a_database_that_are_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = [
        ("OFFPEAK__AMQP__URL", "amqp://guest:secret@127.0.0.1:1/x"),
        ("OFFPEAK__DATABASE__URL", "postgres://u:secret@127.0.0.1:1/x"),
    ];
    let services = Services::new(folder.path(), "away");
    for (kind, away) in [("worker", 0), ("producer", 1)] {
        let mut running = services.start(kind, &[nowhere[away], ("OFFPEAK__LOG__FORMAT", "json")]);
        let told = || running.stderr().contains("127.0.0.1:1").then_some(());
        wait_for(told).unwrap_or_else(|| panic!("nothing told: {}", running.stderr()));
        assert!(running.runs(), "it gave up: {}", running.stderr());
        assert!(!running.stderr().contains("secret"), "{}", running.stderr());
        running.signal("-TERM");
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_command_waits_for_a_broker_that_is_about_to_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 4, 2, "").display().to_string();
    let services = Services::new(folder.path(), "starting");
    let producer = services.start("producer", &[]);
    producer.ready();
    // More than those of the publisher, which tries by itself.
    let refused = 6;
    let (port, proxied) = (servers::rabbitmq().port(), Proxy::start(vec![servers::rabbitmq().port()], refused).port);
    let url = services.amqp.replace(&format!(":{port}/"), &format!(":{proxied}/"));
    assert_ne!(url, services.amqp);
    let submitted = services.begin_with(&["submit", &file], &[("OFFPEAK__AMQP__URL", &url)]).end();
    assert_eq!(submitted.code, Some(0), "{submitted:?} {}", producer.stderr());
    assert_eq!(submitted.stderr.matches("trying for 15s").count(), 1, "{submitted:?}");
}

#[test]
fn where_every_message_must_name_its_user_operators_still_end_jobs() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 120, 2, "").display().to_string();
    let services = Services::new(folder.path(), "named");
    let running =
        [services.start("producer", &[("OFFPEAK__PRODUCER__REQUIRE_USER_ID", "true")]), services.start("aggregator", &[])];
    running.iter().for_each(Running::ready);
    let refused = services.offpeak(&["submit", &file, "--customer", "somebody"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("user_id"), "{refused:?}");

    let login = services.amqp.strip_prefix("amqp://").and_then(|rest| rest.split(':').next()).expect("a user");
    let submitted = services.offpeak(&["submit", &file, "--customer", login, "--json"]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let id = submitted.json()["job"].as_str().expect("job").to_owned();
    for (command, told) in [
        ("pause", " rests: "),
        ("resume", " goes on\n"),
        ("cancel", " is cancelled: 0 items were computed, 120 were not\n"),
        ("cancel", " has ended already\n"),
    ] {
        let done = offpeak(folder.path(), [command, &id, "--database", &services.database]);
        assert!(done.code == Some(0) && done.stdout.contains(told), "{done:?}");
    }
    let named = services.offpeak(&["resume", &id, "--amqp", &services.amqp]);
    assert!(named.code == Some(0) && named.stdout.contains("has ended already"), "scripts may name the broker: {named:?}");
}

#[test]
fn settings_and_commands_that_cannot_work_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("bad.toml");
    std::fs::write(&config, "[worker]\nslot = 2\ndrain_timeout_ms = \"soon\"\n[grid]\nshards = 0\n").expect("write");
    let done = offpeak(folder.path(), ["worker".as_ref(), "--config".as_ref(), config.as_os_str()]);
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in ["worker.slot", "bad.toml", "drain_timeout_ms", "shards"] {
        assert!(done.stderr.contains(part), "{part} is not in {}", done.stderr);
    }
    let done = offpeak(folder.path(), ["producer"]);
    assert!(done.code == Some(2) && done.stderr.contains("OFFPEAK__DATABASE__URL"), "{done:?}");

    let empty = servers::rabbitmq().vhost("empty");
    let database = servers::postgres().fresh_database();
    let file = monte_carlo(folder.path(), 4, 2, "");
    let arguments = ["submit", &file.display().to_string(), "--amqp", &empty, "--database", &database].map(str::to_owned);
    let done = start(folder.path(), &arguments).end();
    assert!(done.code == Some(3) && done.stderr.contains("offpeak migrate"), "{done:?}");
}
