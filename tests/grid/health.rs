//! `offpeak health` against services as processes: started, alive, ready, and why not, or not there.

use testkit::servers;

use crate::offpeak::{Done, Running, Services, wait_for};

fn health(services: &Services, args: &[&str]) -> Done {
    services.offpeak(&[&["health"], args].concat())
}

/// Asks until it is answered like this: the command waits for three seconds, which a busy machine may need for an answer.
fn until_code(code: i32, ask: impl Fn() -> Done) -> Done {
    let answer = wait_for(|| Some(ask()).filter(|done| done.code == Some(code)));
    answer.unwrap_or_else(|| panic!("no code {code}: {:?}", ask()))
}

#[test]
fn a_service_is_asked_by_address_or_by_its_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "health");
    let aggregator = services.start("aggregator", &[]);
    aggregator.ready();
    let address = aggregator.admin();
    let well = until_code(0, || health(&services, &["--address", &address]));
    assert_eq!(well.stdout, "alive\n", "{well:?}");
    let set = [("OFFPEAK__ADMIN__ADDRESS", address.replace("127.0.0.1", "0.0.0.0"))];
    let set = set.each_ref().map(|(name, value)| (*name, value.as_str()));
    let well = until_code(0, || services.begin_with(&["health", "--ready", "--json"], &set).end());
    assert_eq!(well.json()["well"].as_bool(), Some(true), "{well:?}");
    assert_eq!(well.json()["report"]["checks"]["broker"]["ready"], true, "{well:?}");
}

#[test]
fn what_is_wrong_is_told_within_three_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "unhealthy");
    let nowhere = [("OFFPEAK__AMQP__URL", "amqp://ann:s3cret@127.0.0.1:1/%2f")];
    let worker = services.start("worker", &nowhere);
    let address = worker.admin();
    // A broker that is away is no reason to restart.
    until_code(0, || health(&services, &["--address", &address]));
    let unready = until_code(1, || health(&services, &["--ready", "--address", &address]));
    assert!(unready.stdout.starts_with("not ready: broker: ") && !unready.stdout.contains("s3cret"), "{unready:?}");

    let gone = health(&services, &["--address", "127.0.0.1:1"]);
    assert_eq!(gone.code, Some(3), "{gone:?}");
    assert!(gone.stderr.contains("127.0.0.1:1 cannot be reached"), "{gone:?}");
    let gone = health(&services, &["--address", "127.0.0.1:1", "--json"]);
    assert_eq!((gone.code, gone.json()["well"].as_bool()), (Some(3), Some(false)), "{gone:?}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    assert_eq!(health(&services, &["--address", &silent]).code, Some(3));
    let any = services.begin_with(&["health"], &[("OFFPEAK__ADMIN__ADDRESS", "127.0.0.1:0")]).end();
    assert_eq!(any.code, Some(2), "{any:?}");
}

#[test]
fn tables_that_do_not_fit_hold_up_the_start_and_a_database_that_is_away_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "startup");
    let started = |service: &Running| health(&services, &["--started", "--address", &service.admin()]);
    let no_tables = servers::postgres().fresh_database();
    let database = [("OFFPEAK__DATABASE__URL", no_tables.as_str())];
    let aggregator = services.start("aggregator", &database);
    let why = wait_for(|| Some(started(&aggregator).stdout).filter(|why| why.contains("offpeak migrate")));
    assert!(why.as_ref().is_some_and(|why| why.starts_with("not started: database: ")), "{why:?} {}", aggregator.stderr());
    until_code(0, || health(&services, &["--address", &aggregator.admin()]));
    let migrated = services.begin_with(&["migrate"], &database).end();
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    aggregator.ready();
    assert_eq!(until_code(0, || started(&aggregator)).stdout, "started\n");

    let away = [("OFFPEAK__DATABASE__URL", "postgres://a:b@127.0.0.1:1/a"), ("OFFPEAK__AMQP__URL", "amqp://127.0.0.1:1")];
    let producer = services.start("producer", &away);
    let done = wait_for(|| Some(started(&producer)).filter(|done| done.code == Some(0)));
    assert!(done.is_some(), "{}", producer.stderr());
    until_code(1, || health(&services, &["--ready", "--address", &producer.admin()]));
}

#[test]
fn only_a_worker_needs_a_pool_of_the_grid() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "pools");
    let pools = [("OFFPEAK__GRID__POOLS", "night:1"), ("OFFPEAK__WORKER__POOL", "open")];
    services.start("producer", &pools).ready();
    let worker = services.start("worker", &pools).end();
    assert_eq!(worker.code, Some(2), "{worker:?}");
    assert!(worker.stderr.contains("worker.pool is open, which is no pool of grid.pools"), "{worker:?}");
}
