//! Bad input: told with its place and the way out; the good part of a job is done.

use std::process::Command;

use testkit::servers;

use crate::offpeak::{job, module, offpeak, start, tiny_app, wait_for};

#[test]
fn a_poisoned_item_fails_alone_among_ten_thousand() {
    let folder = tempfile::tempdir().expect("a folder");
    // Item 5000 is the MessagePack bytes cd 13 88, behind the frame's count and length.
    let poison = "(if (i32.eq (i32.load (i32.const 1032)) (i32.const 0x008813cd)) (then unreachable))";
    let app = module(folder.path(), "poison", &tiny_app(poison));
    let file = job(folder.path(), "poison", &app, "[input]\nrange = [0, 10000]\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), "out".as_ref()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let summary = done.json();
    assert_eq!(summary["items_succeeded"].as_u64(), Some(9_999));
    assert_eq!(summary["items_failed"].as_u64(), Some(1));
    assert_eq!(summary["failures"][0]["item"].as_u64(), Some(5_000));
    assert!(summary["failures"][0]["reason"].as_str().is_some_and(|reason| reason.contains("unreachable")), "{summary}");
}

#[test]
fn an_endless_loop_ends_by_its_fuel_and_an_oversized_output_by_its_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "endless", &tiny_app("(loop br 0)"));
    let file = job(folder.path(), "endless", &app, "[input]\nrange = [0, 3]\n[limits]\nfuel_per_item = 1000000\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), "out".as_ref()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let summary = done.json();
    assert_eq!((summary["items_failed"].as_u64(), summary["fuel"].as_str()), (Some(3), Some("0")), "{summary}");
    assert!(summary["failures"][0]["reason"].as_str().is_some_and(|reason| reason.contains("fuel")), "{summary}");
}

#[test]
fn a_job_ends_by_its_budget_and_keeps_what_was_computed() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "tiny", &tiny_app(""));
    let run = |name: &str, budget: u64| {
        let limits = "[input]\nrange = [0, 500]\n[limits]\nfuel_per_item = 1000\n[unit]\nmax_items = 7\n";
        let file = job(folder.path(), name, &app, &format!("budget_fuel = {budget}\n{limits}"));
        offpeak(folder.path(), ["run".as_ref(), file.as_os_str(), "--json".as_ref(), "--out".as_ref(), name.as_ref()])
    };
    let whole = run("whole", 1_000_000);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let number = |summary: &serde_json::Value, name: &str| summary[name].as_u64().expect("a number");
    let fuel = |summary: &serde_json::Value| summary["fuel"].as_str().and_then(|fuel| fuel.parse::<u64>().ok()).expect("fuel");
    let each = fuel(&whole.json()) / 500;
    // As much as half of the items take, and it is not to be passed though all of it may be reserved at once.
    let budget = (each * 250).max(1_000);
    let done = run("half", budget);
    assert_eq!(done.code, Some(1), "{done:?}");
    let summary = done.json();
    assert_eq!(summary["state"], "exhausted", "{summary}");
    let (spent, done_items) = (fuel(&summary), number(&summary, "items_succeeded"));
    assert!(spent <= budget && spent + 1_000 > budget && spent == done_items * each, "{summary} of {budget}, {each} each");
    assert_eq!(number(&summary, "items_cancelled") + done_items, 500);
    let refused = run("less", 999);
    assert!(refused.code == Some(2) && refused.stderr.contains("budget_fuel") && refused.stderr.contains(":2:"), "{refused:?}");
}

#[test]
fn every_mistake_of_a_job_file_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "app = \"nowhere.wasm\"\nquorom = 2\npriority = 900\n[input]\nrange = [9, 1]\n").expect("write");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str()]);
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in ["nowhere.wasm", "quorom", "quorum", ":2", ":3", ":5", "900"] {
        assert!(done.stderr.contains(part), "{part} is not in {}", done.stderr);
    }
    let done = offpeak(folder.path(), ["run", "nothing-here.toml"]);
    assert!(done.code == Some(2) && done.stderr.contains("nothing-here.toml"), "{done:?}");
}

#[test]
fn a_module_that_does_not_fit_is_refused_with_every_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let foreign = "(module (import \"env\" \"system\" (func (param i32))) (memory (export \"memory\") 1)\
                   (func (export \"op_map\") (param i32 i32) (result i64) i64.const 0))";
    let app = module(folder.path(), "foreign", foreign);
    let file = job(folder.path(), "foreign", &app, "[input]\nrange = [0, 3]\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str()]);
    assert!(done.code == Some(2) && done.stderr.contains("env") && done.stderr.contains("op_alloc"), "{done:?}");
    let done = offpeak(folder.path(), ["app", "inspect", &app]);
    assert!(done.stdout.contains("env") && done.stdout.contains("op_alloc"), "{done:?}");

    std::fs::write(folder.path().join("rubbish.wasm"), b"not a module").expect("write");
    let file =
        job(folder.path(), "rubbish", &folder.path().join("rubbish.wasm").display().to_string(), "[input]\nrange = [0, 3]\n");
    let done = offpeak(folder.path(), ["run".as_ref(), file.as_os_str()]);
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn an_unreachable_broker_or_database_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = module(folder.path(), "nothing", &tiny_app(""));
    let file = job(folder.path(), "job", &app, "[input]\nrange = [0, 3]\n").display().to_string();
    let broker = servers::rabbitmq().vhost("unreachable");
    let done = offpeak(folder.path(), ["run", &file, "--amqp", &broker, "--database", "postgres://u:secret@127.0.0.1:1/x"]);
    assert!(done.code == Some(3) && done.stderr.contains("127.0.0.1") && !done.stderr.contains("secret"), "{done:?}");
    let database = format!("sqlite://{}", folder.path().join("grid.db").display());
    let done = offpeak(folder.path(), ["run", &file, "--amqp", "amqp://u:secret@127.0.0.1:1/x", "--database", &database]);
    assert!(done.code == Some(3) && done.stderr.contains("127.0.0.1") && !done.stderr.contains("secret"), "{done:?}");
    assert!(!folder.path().join("grid.db").exists(), "the broker comes first");
    // Either alone is told likewise, and does with the other.
    for half in [["--amqp", "amqp://u:secret@127.0.0.1:1/x"], ["--database", "postgres://u:secret@127.0.0.1:1/x"]] {
        let done = offpeak(folder.path(), ["run", &file].into_iter().chain(half));
        assert!(done.code == Some(3) && done.stderr.contains("127.0.0.1") && !done.stderr.contains("secret"), "{done:?}");
    }
    for half in [["--amqp", &broker], ["--database", &database]] {
        let done = offpeak(folder.path(), ["run", &file].into_iter().chain(half));
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

/// A small file system is filled, and enlarged again.
#[test]
fn a_full_disk_is_told_and_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("create");
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "none"]).arg(&data);
        command.output().is_ok_and(|done| done.status.success())
    };
    if !mount("size=2m") {
        println!("skipped: mounting a small file system needs root and the right to mount");
        return;
    }
    let app = module(folder.path(), "nothing", &tiny_app(""));
    let file = job(folder.path(), "job", &app, "[input]\nrange = [0, 400000]\n");
    let running =
        start(folder.path(), ["run".as_ref(), file.as_os_str(), "--data".as_ref(), data.as_os_str(), "--json".as_ref()]);
    let told = || running.stderr().contains("storage is full").then_some(());
    let told = wait_for(told);
    let enlarged = mount("remount,size=200m");
    let log = running.stderr();
    let done = running.end();
    let unmounted = Command::new("umount").arg(&data).status().is_ok_and(|status| status.success());
    assert!(told.is_some() && enlarged && unmounted, "{log}");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.json()["items_succeeded"].as_u64(), Some(400_000));
}
