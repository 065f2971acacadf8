//! A run that is interrupted or killed goes on where it was, and computes nothing twice.

use std::path::Path;

use serde_json::Value;
use testkit::servers;

use crate::offpeak::{Done, Services, monte_carlo, offpeak, start, wait_for};

/// So many items that a machine which does something else for a moment is not through with them.
const ITEMS: u32 = 300;

fn settled(folder: &Path, place: [&str; 2]) -> u64 {
    let jobs = offpeak(folder, ["status", place[0], place[1], "--json"]);
    let listed: Value = serde_json::from_str(&jobs.stdout).unwrap_or(Value::Null);
    listed.pointer("/0/items_succeeded").or(listed.pointer("/jobs/0/items_succeeded")).and_then(Value::as_u64).unwrap_or(0)
}

const DATA: [&str; 2] = ["--data", "data"];

#[test]
fn interrupted_then_killed_then_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), ITEMS, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json", "--out", "whole"]).json();
    let arguments = ["run", &file, "--json", "--data", "data", "--workers", "2", "--out", "out"];

    let running = start(folder.path(), arguments);
    let begun = || (settled(folder.path(), DATA) >= 4).then_some(());
    wait_for(begun).unwrap_or_else(|| panic!("nothing settled: {}", running.stderr()));
    running.signal("-INT");
    let done = running.end();
    assert!(done.code == Some(130) && done.stderr.contains("--data"), "{done:?}");
    let after_interrupt = settled(folder.path(), DATA);

    let running = start(folder.path(), arguments);
    let further = || (settled(folder.path(), DATA) >= u64::from(ITEMS).min(after_interrupt + 10)).then_some(());
    wait_for(further).unwrap_or_else(|| panic!("nothing more settled: {}", running.stderr()));
    running.kill9();

    let summary = completed_as(&undisturbed, &offpeak(folder.path(), arguments));
    let again = offpeak(folder.path(), arguments).json();
    assert_eq!((&again["job"], &again["replicas"]), (&summary["job"], &summary["replicas"]), "nothing is computed again");
}

#[test]
fn a_run_on_servers_goes_on_after_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 120, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json", "--out", "whole"]).json();
    let (amqp, database) = (servers::rabbitmq().vhost("resumed"), servers::postgres().fresh_database());
    let arguments = ["run", &file, "--json", "--workers", "2", "--out", "out", "--amqp", &amqp, "--database", &database];

    let running = start(folder.path(), arguments);
    let begun = || (settled(folder.path(), ["--database", &database]) >= 4).then_some(());
    wait_for(begun).unwrap_or_else(|| panic!("nothing settled: {}", running.stderr()));
    running.kill9();

    completed_as(&undisturbed, &once_alone(folder.path(), arguments));
}

#[test]
fn no_run_begins_on_the_servers_of_a_grid() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 4, 2, "").display().to_string();
    let services = Services::new(folder.path(), "beside");
    let producer = services.start("producer", &[]);
    producer.ready();
    let other = format!("sqlite://{}", folder.path().join("other.db").display());
    let arguments = ["run", &file, "--amqp", &services.amqp, "--database", &other];
    let beside = offpeak(folder.path(), arguments);
    assert!(beside.code == Some(2) && beside.stderr.contains("hand it the job with `offpeak submit`"), "{beside:?}");
    assert!(!folder.path().join("other.db").exists(), "nothing was opened");
    // Nor on its database, with whatever broker.
    let on_database = ["run", &file, "--database", &services.database];
    let beside = offpeak(folder.path(), on_database);
    assert!(beside.code == Some(2) && beside.stderr.contains("a grid runs on this database already"), "{beside:?}");
    producer.kill9();
    assert_eq!(once_alone(folder.path(), arguments).code, Some(0));
    assert_eq!(once_alone(folder.path(), on_database).code, Some(0));
}

/// A run that begins when the broker has noticed that who was killed is gone.
fn once_alone<const N: usize>(folder: &Path, arguments: [&str; N]) -> Done {
    let run = || Some(offpeak(folder, arguments)).filter(|done| done.code != Some(2));
    wait_for(run).expect("nobody is there any more")
}

/// A run's summary, which says of the job what that of the undisturbed run says.
fn completed_as(undisturbed: &Value, done: &Done) -> Value {
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = done.json();
    for same in ["output_digest", "items_digest", "fuel", "items_succeeded"] {
        assert_eq!(summary[same], undisturbed[same], "{same}");
    }
    summary
}
