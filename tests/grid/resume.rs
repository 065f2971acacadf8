//! A run that is interrupted or killed goes on where it was, and computes nothing twice.

use std::time::Duration;

use serde_json::Value;

use crate::offpeak::{monte_carlo, offpeak, start, wait_for};

fn settled(folder: &std::path::Path) -> u64 {
    let jobs = offpeak(folder, ["status", "--data", "data", "--json"]);
    let listed: Value = serde_json::from_str(&jobs.stdout).unwrap_or(Value::Null);
    listed.pointer("/0/items_succeeded").or(listed.pointer("/jobs/0/items_succeeded")).and_then(Value::as_u64).unwrap_or(0)
}

#[test]
fn interrupted_then_killed_then_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 120, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json", "--out", "whole"]).json();
    let arguments = ["run", &file, "--json", "--data", "data", "--workers", "2", "--out", "out"];

    let running = start(folder.path(), arguments);
    let begun = || (settled(folder.path()) >= 4).then_some(());
    wait_for(Duration::from_mins(2), begun).unwrap_or_else(|| panic!("nothing settled: {}", running.stderr()));
    running.signal("-INT");
    let done = running.end();
    assert!(done.code == Some(130) && done.stderr.contains("--data"), "{done:?}");
    let after_interrupt = settled(folder.path());

    let running = start(folder.path(), arguments);
    let further = || (settled(folder.path()) >= after_interrupt + 10).then_some(());
    wait_for(Duration::from_mins(2), further).unwrap_or_else(|| panic!("nothing more settled: {}", running.stderr()));
    running.kill9();

    let done = offpeak(folder.path(), arguments);
    assert_eq!(done.code, Some(0), "{done:?}");
    let summary = done.json();
    for same in ["output_digest", "items_digest", "fuel", "items_succeeded"] {
        assert_eq!(summary[same], undisturbed[same], "{same}");
    }
    let again = offpeak(folder.path(), arguments).json();
    assert_eq!((&again["job"], &again["replicas"]), (&summary["job"], &summary["replicas"]), "nothing is computed again");
}
