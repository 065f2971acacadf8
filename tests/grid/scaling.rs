//! Workers that come and go under load: nothing is lost, nothing that was finished is computed again.

use crate::dead::metric;
use crate::offpeak::{Running, Services, monte_carlo, offpeak, wait_for};
use crate::services::{billed_units, settled, status};

/// Workers at the height of the load, one slot each.
const MOST: usize = 8;

fn worker(services: &Services, drain_ms: &str) -> Running {
    let grace = ("OFFPEAK__GRID__SHUTDOWN_GRACE_MS", "660000");
    services.start("worker", &[("OFFPEAK__WORKER__SLOTS", "1"), ("OFFPEAK__WORKER__DRAIN_TIMEOUT_MS", drain_ms), grace])
}

/// Tells workers to end, all at once, and checks that each does in its grace, with exit code 0.
fn drain(workers: Vec<Running>) {
    for worker in &workers {
        worker.signal("-TERM");
    }
    for mut worker in workers {
        let gone = wait_for(|| (!worker.runs()).then_some(()));
        assert!(gone.is_some(), "still there: {}", worker.stderr());
        let ended = worker.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn growing_to_eight_workers_and_back_loses_nothing_and_repeats_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 400, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json"]).json();
    let services = Services::new(folder.path(), "scaling");
    let others = ["producer", "aggregator"].map(|kind| services.start(kind, &[]));
    let first = worker(&services, "60000");
    others.iter().chain([&first]).for_each(Running::ready);
    let submitted = services.offpeak(&["submit", &file, "--json"]);
    let id = submitted.json()["job"].as_str().expect("job").to_owned();
    settled(&services, &id, 10);

    // Four that may finish what they have, and three that must hand it back at once.
    let patient: Vec<Running> = (1..5).map(|_| worker(&services, "600000")).collect();
    let hasty: Vec<Running> = (5..MOST).map(|_| worker(&services, "1")).collect();
    patient.iter().chain(&hasty).for_each(Running::ready);
    settled(&services, &id, 100);
    drain(patient);
    settled(&services, &id, 120);
    let handed_back = u64::try_from(hasty.len()).expect("a few");
    drain(hasty);

    let ended = || (status(&services, &id)["state"] == "completed").then_some(());
    wait_for(ended).unwrap_or_else(|| panic!("stuck at {}", status(&services, &id)));
    let summary = services.offpeak(&["result", &id, "--out", "out", "--json"]).json();
    for same in ["output_digest", "items_digest", "fuel", "items_succeeded", "items_failed"] {
        assert_eq!(summary[same], undisturbed[same], "{same}");
    }
    let number = |name: &str| summary[name].as_u64().expect(name);
    // On a machine that is busy beyond measure a replica may be given up for lost.
    let lost = metric(&others[0], "offpeak_replicas_lost_total");
    let again = number("replicas") - number("units");
    assert!(again <= handed_back + lost, "{again} more replicas than units, {handed_back} could be handed back: {summary}");
    let rows = services.offpeak(&["usage", "--format", "csv"]);
    assert_eq!(billed_units(&rows.stdout), number("units"), "one row of the ledger a valid unit");
}
