//! Executors as processes: killed, paused, too slow, confined, kept apart by customer.

use std::sync::Arc;
use std::time::Duration;

use ports::sandbox::{Execute as _, ExecuteError, Program, Task};
use protocol::{CustomerName, Fuel};
use sandbox::{ExecutorPool, ExecutorSettings};

use crate::modules::{ENDLESS, GOOD, behaving};
use crate::rig::{MEMORY, ok, pool, program, renamed, run, task, until};

/// Child processes of this one that carry the mark.
fn children(mark: &str) -> Vec<u32> {
    let ours = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let (Ok(status), Ok(words)) = (read(pid, "status"), read(pid, "cmdline")) else { continue };
        let parent = field(&status, "PPid");
        if parent == ours && words.split('\0').any(|word| word == mark) && !ended(pid) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process is gone with all its threads: the first may end before the others.
fn ended(pid: u32) -> bool {
    let Ok(status) = read(pid, "status") else { return true };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    field(&status, "State").starts_with('Z') && threads <= 1
}

fn read(pid: u32, file: &str) -> std::io::Result<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}"))
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Clock ticks that a process has computed, all its threads together.
fn ticks(pid: u32) -> u64 {
    let stat = read(pid, "stat").unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(11)?.parse().ok()).unwrap_or(0)
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A unit that computes until it is stopped.
async fn endless() -> (Program, Task) {
    let mut program = program(&behaving()).await;
    program.limits.fuel_per_item = Fuel::MAX;
    (program.clone(), task(&program, &[[ENDLESS, 0]]))
}

#[tokio::test]
async fn an_executor_killed_from_outside_is_replaced() {
    let pool = pool(1, "killed");
    let (program, endless) = endless().await;
    let kill = async {
        until("a computing child", || children("killed").first().is_some_and(|pid| ticks(*pid) > 0)).await;
        signal(children("killed")[0], rustix::process::Signal::KILL);
    };
    let (result, ()) = tokio::join!(pool.execute(endless), kill);
    // It says so if the child was still starting.
    let told = result.unwrap_err().to_string();
    assert!(told.starts_with("executor died: ") && told.ends_with("signal 9"), "{told}");
    assert_eq!(run(&pool, task(&program, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    // Killed while idle, it is replaced too.
    let idle = children("killed")[0];
    signal(idle, rustix::process::Signal::KILL);
    until("the end of the child", || ended(idle)).await;
    assert_eq!(run(&pool, task(&program, &[[GOOD, 2]])).await.unwrap().0, [ok(&[4])]);
}

#[tokio::test]
async fn a_signal_to_all_processes_of_a_worker_leaves_its_executors_to_it() {
    let pool = pool(1, "stopped");
    let (program, endless) = endless().await;
    assert_eq!(run(&pool, task(&program, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    let pid = children("stopped")[0];
    let computes = async || {
        let before = ticks(pid);
        until("computing", || ticks(pid) > before).await;
    };
    let stop = async {
        computes().await;
        for word in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
            signal(pid, word);
            computes().await;
        }
        assert_eq!(children("stopped"), [pid]);
    };
    tokio::select! {
        result = pool.execute(endless) => panic!("{result:?}"),
        () = stop => {}
    }
    until("the end of the child", || children("stopped").is_empty()).await;
}

#[tokio::test]
async fn a_unit_over_its_time_is_ended() {
    let pool = pool(1, "slow");
    let (program, mut endless) = endless().await;
    endless.time_limit = Duration::from_millis(200);
    let error = pool.execute(endless).await.unwrap_err();
    assert!(matches!(error, ExecuteError::TimeLimit { limit } if limit == Duration::from_millis(200)), "{error}");
    until("the end of the child", || children("slow").is_empty()).await;
    assert_eq!(run(&pool, task(&program, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
}

#[tokio::test]
async fn a_paused_executor_stands_still_and_goes_on() {
    let pool = pool(1, "paused");
    let (_, endless) = endless().await;
    let pause = async {
        until("a computing child", || children("paused").first().is_some_and(|pid| ticks(*pid) > 0)).await;
        pool.pause();
        let pid = children("paused")[0];
        until("the stop", || field(&read(pid, "status").unwrap(), "State").starts_with('T')).await;
        let before = ticks(pid);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(ticks(pid), before);
        pool.resume();
        until("more computing", || ticks(pid) > before).await;
    };
    tokio::select! {
        result = pool.execute(endless) => panic!("{result:?}"),
        () = pause => {}
    }
}

#[tokio::test]
async fn a_unit_nobody_waits_for_ends_its_executor() {
    let pool = pool(1, "dropped");
    let (_, endless) = endless().await;
    tokio::select! {
        result = pool.execute(endless) => panic!("{result:?}"),
        () = until("a computing child", || children("dropped").first().is_some_and(|pid| ticks(*pid) > 0)) => {}
    }
    until("the end of the child", || children("dropped").is_empty()).await;
}

#[tokio::test]
async fn each_customer_has_executors_of_their_own() {
    let pool = pool(1, "apart");
    let first = program(&behaving()).await;
    assert_eq!(run(&pool, task(&first, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    let served_first = children("apart");
    assert_eq!(run(&pool, task(&renamed(&first, "next job"), &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    assert_eq!(children("apart"), served_first, "the same customer's next job is served by the same process");
    let second = Program { customer: CustomerName::new("globex").unwrap(), ..first };
    assert_eq!(run(&pool, task(&second, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    until("the end of the first", || !children("apart").contains(&served_first[0])).await;
    assert_eq!(children("apart").len(), 1);
}

#[tokio::test]
async fn an_executor_is_confined() {
    let pool = pool(1, "confined");
    let program = program(&behaving()).await;
    assert_eq!(run(&pool, task(&program, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
    let pid = children("confined")[0];
    let status = read(pid, "status").unwrap();
    assert_eq!((field(&status, "NoNewPrivs"), field(&status, "Seccomp")), ("1".into(), "2".into()));
    let limits = read(pid, "limits").unwrap();
    let limit = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap()[26..].trim().to_owned();
    assert!(limit("Max core file size").starts_with("0 "));
    assert!(limit("Max open files").starts_with("64 "));
    assert!(limit("Max data size").starts_with(&format!("{} ", 512 << 20)));
    assert_eq!(read(pid, "environ").unwrap(), "");
    let nice = read(pid, "stat").unwrap().rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned();
    assert_eq!(nice, "19");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open: Vec<_> = files.map(|file| std::fs::read_link(file.path()).unwrap().to_string_lossy().into_owned()).collect();
    assert!(open.iter().all(|file| file.starts_with("pipe:") || file.starts_with("/memfd:")), "{open:?}");
}

#[tokio::test]
async fn a_host_out_of_memory_is_no_fault_of_the_item() {
    let settings = |memory_bytes| ExecutorSettings { command: crate::rig::child("executor", "small"), slots: 1, memory_bytes };
    let mut large = program(&behaving()).await;
    large.limits.memory_bytes = 1 << 30;
    let small = ExecutorPool::new(settings(128 << 20)).unwrap();
    let error = small.execute(task(&large, &[[GOOD, 1]])).await.unwrap_err();
    assert!(matches!(&error, ExecuteError::Unsupported { reason } if reason.contains("lower the job's memory limit")), "{error}");
    large.limits.memory_bytes = MEMORY;
    assert_eq!(run(&small, task(&large, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
}

#[tokio::test]
async fn a_shared_input_reaches_the_child_whole() {
    let pool = pool(1, "shared");
    let mut program = program(&behaving()).await;
    program.shared = Arc::new(vec![7; 20 << 20]);
    let (outcomes, _) = run(&pool, task(&program, &[[crate::modules::BLOB]])).await.unwrap();
    let crate::rig::Outcome::Ok(output) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(output[..8], (20_i64 << 20).to_le_bytes());
    assert_eq!(output[32..], [7; 8]);
}

#[tokio::test]
async fn a_program_that_is_no_executor_is_named() {
    for (command, expected) in [
        (vec!["/nonexistent/executor".into()], "executor /nonexistent/executor cannot be started: No such file"),
        (vec!["/bin/false".into()], "executor /bin/false cannot be started: exit code 1"),
        (crate::rig::child("nothing", "x"), "is none of: compiler, executor"),
        (vec![], "the command is empty"),
    ] {
        let pool = ExecutorPool::new(ExecutorSettings { command, slots: 1, memory_bytes: 128 << 20 }).unwrap();
        let error = pool.execute(endless().await.1).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
