//! `offpeak health` against services as processes: alive, ready, not ready and why, not there.

use crate::offpeak::{Done, Services};

fn health(services: &Services, args: &[&str]) -> Done {
    services.offpeak(&[&["health"], args].concat())
}

#[test]
fn a_service_is_asked_by_address_or_by_its_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "health");
    let aggregator = services.start("aggregator", &[]);
    aggregator.ready();
    let address = aggregator.admin();
    let well = health(&services, &["--address", &address]);
    assert_eq!((well.code, well.stdout.as_str()), (Some(0), "alive\n"), "{well:?}");
    let set = [("OFFPEAK__ADMIN__ADDRESS", address.replace("127.0.0.1", "0.0.0.0"))];
    let set = set.each_ref().map(|(name, value)| (*name, value.as_str()));
    let well = services.begin_with(&["health", "--ready", "--json"], &set).end();
    assert_eq!((well.code, well.json()["well"].as_bool()), (Some(0), Some(true)), "{well:?}");
    assert_eq!(well.json()["report"]["checks"]["broker"]["ready"], true, "{well:?}");
}

#[test]
fn what_is_wrong_is_told_within_three_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "unhealthy");
    let nowhere = [("OFFPEAK__AMQP__URL", "amqp://ann:s3cret@127.0.0.1:1/%2f")];
    let worker = services.start("worker", &nowhere);
    let address = worker.admin();
    assert_eq!(health(&services, &["--address", &address]).code, Some(0), "a broker that is away is no reason to restart");
    let unready = health(&services, &["--ready", "--address", &address]);
    assert_eq!(unready.code, Some(1), "{unready:?}");
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
