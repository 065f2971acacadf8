//! From the version before to this one and back, by two builds, with a job under way.

use std::path::{Path, PathBuf};

use crate::offpeak::{ONE_SLOT, Running, Services, monte_carlo, offpeak, program, wait_for};
use crate::services::{billed_units, settled, status};

/// The command as scripts/previous.sh builds it, from the commit that tests/previous-version names.
fn previous() -> Option<PathBuf> {
    let folder = program().parent().and_then(|profile| profile.parent().map(|target| target.join("previous")))?;
    Some(folder.join("offpeak")).filter(|built| built.exists())
}

/// Starts a service of one version, and then ends that of the other, which hands back what it has.
fn roll(services: &Services, to: &Path, kind: &str, from: Running) -> Running {
    let new = services.start_of(to, kind, &ONE_SLOT);
    new.ready();
    from.signal("-TERM");
    let ended = from.end();
    assert_eq!(ended.code, Some(0), "{kind}: {ended:?}");
    new
}

#[test]
fn a_job_lives_through_an_upgrade_and_the_way_back() {
    let Some(previous) = previous() else {
        eprintln!("skipped: there is no build of the version before; scripts/previous.sh makes it from the history of git");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = monte_carlo(folder.path(), 300, 2, "").display().to_string();
    let undisturbed = offpeak(folder.path(), ["run", &file, "--json"]).json();
    let services = Services::made_by(&previous, folder.path(), "upgrade");
    let kinds = ["producer", "aggregator", "worker"];
    let mut running = kinds.map(|kind| services.start_of(&previous, kind, &ONE_SLOT));
    running.iter().for_each(Running::ready);
    let submitted = services.offpeak_of(&previous, &["submit", &file, "--json"]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let id = submitted.json()["job"].as_str().expect("job").to_owned();

    let mut items = 10;
    for to in [program(), previous] {
        // The tables first, while the other version works with them.
        let migrated = services.offpeak_of(&to, &["migrate"]);
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        let mut rolled = Vec::new();
        for (kind, from) in kinds.into_iter().zip(running) {
            settled(&services, &id, items);
            items += 20;
            rolled.push(roll(&services, &to, kind, from));
        }
        running = rolled.try_into().unwrap_or_else(|_| unreachable!("as many as there are kinds"));
    }

    let ended = || (status(&services, &id)["state"] == "completed").then_some(());
    wait_for(ended).unwrap_or_else(|| panic!("stuck at {}", status(&services, &id)));
    let summary = services.offpeak(&["result", &id, "--out", "out", "--json"]).json();
    for same in ["output_digest", "items_digest", "fuel", "items_succeeded", "items_failed"] {
        assert_eq!(summary[same], undisturbed[same], "{same}");
    }
    let rows = services.offpeak(&["usage", "--format", "csv"]);
    assert_eq!(Some(billed_units(&rows.stdout)), summary["units"].as_u64(), "one row of the ledger a valid unit");
}
