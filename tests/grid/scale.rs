//! A job of ten million items: accepted at once, cut as it is computed, in flat memory.

use crate::offpeak::{Running, Services, job, module, offpeak, start, tiny_app, wait_for};

/// What the whole grid in one process may take; it took 68 MB when this was written.
const MEMORY: u64 = 400 << 20;

#[test]
fn ten_million_items_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "nothing", &tiny_app(""));
    let file = job(folder.path(), "large", &app, "[input]\nrange = [0, 10000000]\n");
    let mut running =
        start(folder.path(), ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), "out".as_ref()]);
    let mut peak = 0;
    let ended = || {
        peak = peak.max(running.memory("VmHWM:").unwrap_or(0));
        (!running.runs()).then_some(())
    };
    wait_for(ended).expect("it ends");
    let done = running.end();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.json()["items_succeeded"].as_u64(), Some(10_000_000));
    assert!(peak > 0 && peak < MEMORY, "peak memory {peak}");
    println!("ten million items: peak memory {} MB", peak >> 20);
}

#[test]
fn ten_million_items_leave_services_and_queues_small() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "nothing", &tiny_app(""));
    let file = job(folder.path(), "large", &app, "[input]\nrange = [0, 10000000]\n").display().to_string();
    let services = Services::new(folder.path(), "large");
    let running = ["producer", "aggregator", "worker"].map(|kind| services.start(kind, &[]));
    running.iter().for_each(Running::ready);
    let submitted = services.offpeak(&["submit", &file]);
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let ended = || {
        let jobs = services.offpeak(&["status", "--json"]).stdout;
        let jobs: serde_json::Value = serde_json::from_str(&jobs).unwrap_or_default();
        let succeeded = jobs.pointer("/jobs/0/items_succeeded").or(jobs.pointer("/0/items_succeeded"));
        (succeeded.and_then(serde_json::Value::as_u64) == Some(10_000_000)).then_some(())
    };
    wait_for(ended).expect("it ends");
    for (service, name) in running.iter().zip(["producer", "aggregator", "worker"]) {
        let peak = service.memory("VmHWM:").expect("a peak");
        println!("ten million items: peak memory of the {name} {} MB", peak >> 20);
        assert!(peak < MEMORY, "peak memory of the {name} {peak}");
        // The producer looks at the lanes each time that it fills them, and counts one that is beyond its window.
        let metrics = service.get("/metrics");
        let broken = metrics.lines().filter(|line| line.starts_with("offpeak_invariants_broken_total{"));
        assert!(broken.clone().all(|line| line.ends_with(" 0")), "{:?}", broken.collect::<Vec<_>>());
    }
}

#[test]
fn a_job_past_its_deadline_is_certified_to_its_last_item() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "nothing", &tiny_app(""));
    let ended = |deadline: u32| {
        let rest = "[input]\nrange = [0, 1000000000000]\n[unit]\nmax_items = 100000\n";
        let file = job(folder.path(), "endless", &app, &format!("deadline = {deadline}\n{rest}"));
        let args = ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), "out".as_ref()];
        let done = offpeak(folder.path(), args);
        assert_eq!(done.code, Some(1), "{done:?}");
        Some(done.json()).filter(|summary| summary["items_succeeded"] != 0)
    };
    // A busy machine may take longer for the first unit.
    let summary = [2, 8, 32].into_iter().find_map(ended).expect("some items before the deadline");
    let count = |name: &str| summary[name].as_u64().expect("a count");
    assert_eq!(summary["state"], "expired");
    assert!(count("items_cancelled") > 0, "{summary}");
    assert_eq!(count("items_succeeded") + count("items_failed") + count("items_cancelled"), count("items_submitted"));
    assert_eq!(summary["items_digest"], summary["output_digest"]);
    let outputs = std::fs::read_to_string(folder.path().join("out/outputs.jsonl")).expect("the outputs agree with the digest");
    let last = format!("\"end\":{},\"cancelled\":true}}", count("items_submitted"));
    assert!(outputs.trim_end().ends_with(&last), "{}", outputs.lines().last().unwrap_or_default());
}
