//! `offpeak top` on a grid of processes: one picture as text and as JSON, and what it says when something is away.

use serde_json::Value;

use crate::offpeak::{ONE_SLOT, Running, Services, monte_carlo, wait_for};

fn picture(services: &Services) -> Value {
    services.offpeak(&["top", "--json"]).json()
}

#[test]
fn a_working_grid_is_shown_with_jobs_lanes_hosts_and_rates() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "top");
    let kinds = ["producer", "aggregator", "worker"];
    let running: Vec<Running> = kinds.iter().map(|kind| services.start(kind, &ONE_SLOT)).collect();
    running.iter().for_each(Running::ready);
    let file = monte_carlo(folder.path(), 400, 4, "").display().to_string();
    let submitted = services.offpeak(&["submit", &file, "--json"]);
    let id = submitted.json()["job"].as_str().expect("a job").to_owned();

    let rate = |picture: &Value| picture["database"]["said"]["rates"]["units_per_10_s"].as_u64();
    // Either may be late at a look, on a busy machine.
    let is_working = |seen: &Value| {
        let done = seen["database"]["said"]["jobs"][0]["done"].as_u64();
        rate(seen) > Some(0) && done > Some(0) && seen["broker"]["said"].is_object()
    };
    let working = || Some(picture(&services)).filter(is_working);
    let seen = wait_for(working).unwrap_or_else(|| panic!("no rate: {}", picture(&services)));
    let said = &seen["database"]["said"];
    let job = said["jobs"].as_array().expect("jobs").iter().find(|job| job["job"] == id.as_str()).expect("the job");
    assert_eq!((&job["customer"], &job["items"]), (&Value::from("local"), &Value::from(400)), "{seen}");
    assert!(job["done"].as_u64() > Some(0) && said["hosts"][0]["fuel_per_s"].as_u64() > Some(0), "{seen}");
    let queues = &seen["broker"]["said"];
    let workers = queues["pools"]["open"].as_array().expect("lanes").iter().filter_map(|lane| lane["consumers"].as_u64());
    assert_eq!((workers.sum::<u64>(), queues["outcomes"].as_array().map(Vec::len)), (1, Some(4)), "{seen}");
    assert_eq!(seen["alarms"], Value::Array(Vec::new()), "{seen}");

    let frame = || Some(services.offpeak(&["top", "--once"])).filter(|frame| frame.code == Some(0));
    let frame = wait_for(frame).expect("a frame of all");
    for part in ["database up  broker up", "units/s", "local", "pool open", "pool trusted", "0 dead letters"] {
        assert!(frame.stdout.contains(part), "{part} is not in\n{}", frame.stdout);
    }
    let top = || services.begin_with(&["top"], &[("OFFPEAK__AMQP__URL", "amqp://ann:s3cret@127.0.0.1:1/%2f")]).end();
    let away = wait_for(|| Some(top()).filter(|away| away.stdout.contains("database up  broker AWAY"))).expect("a database");
    assert_eq!(away.code, Some(3), "{away:?}");
    assert!(away.stdout.contains("! broker away since"), "{away:?}");
    assert!(away.stdout.contains("local") && !format!("{away:?}").contains("s3cret"), "{away:?}");
}
