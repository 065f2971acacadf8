//! What the tests are written with: modules published, units run on every executor, results compared.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use ports::sandbox::{Execute, ExecuteError, Executed, Program, Publish as _, Published, Task};
use protocol::frame::{Entry, ItemFrame, results};
use protocol::job::Limits;
use protocol::unit::Call;
use protocol::{CustomerName, Digest, Fuel};
use sandbox::{Compiler, ExecutorPool, ExecutorSettings, InProcess, PublishSettings, Publisher};

/// Fuel that no good item of these tests uses up, and that every endless one does at once.
pub(crate) const FUEL: u64 = 1_000_000;
/// Memory of an instance in these tests.
pub(crate) const MEMORY: u64 = 4 << 20;
/// Output of an item in these tests.
pub(crate) const OUTPUT: u32 = 1 << 20;

/// What became of an item, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok(Vec<u8>),
    Failed(String),
}

/// The child processes' program, with a mark to find them by.
pub(crate) fn child(role: &str, mark: &str) -> Vec<OsString> {
    [env!("CARGO_BIN_EXE_offpeak-sandbox"), role, mark].map(OsString::from).to_vec()
}

pub(crate) fn pool(slots: usize, mark: &str) -> ExecutorPool {
    ExecutorPool::new(ExecutorSettings { command: child("executor", mark), slots, memory_bytes: 512 << 20 }).unwrap()
}

/// Both kinds.
pub(crate) fn executors() -> Vec<Box<dyn Execute>> {
    vec![Box::new(InProcess::new(2).unwrap()), Box::new(pool(2, "contract"))]
}

pub(crate) async fn publish(module: &str) -> Published {
    let module = wat::parse_str(module).unwrap();
    Publisher::new(PublishSettings::new(Compiler::InProcess)).unwrap().publish(&module).await.unwrap()
}

pub(crate) async fn program(module: &str) -> Program {
    let published = publish(module).await;
    Program {
        brief: published.app,
        customer: CustomerName::new("acme").unwrap(),
        artefact: Arc::new(published.artefact),
        entry: published.entry,
        params: Arc::new(vec![0x80]),
        shared: Arc::new(Vec::new()),
        limits: Limits { fuel_per_item: Fuel::new(FUEL).unwrap(), memory_bytes: MEMORY, output_bytes: OUTPUT },
    }
}

/// The same program for another job, so that executors load it anew.
pub(crate) fn renamed(program: &Program, name: &str) -> Program {
    Program { brief: Digest::of(name.as_bytes()), ..program.clone() }
}

pub(crate) fn task(program: &Program, items: &[impl AsRef<[u8]>]) -> Task {
    let mut frame = ItemFrame::default();
    for item in items {
        frame.push(item.as_ref()).unwrap();
    }
    let time_limit = Duration::from_mins(5);
    Task { program: program.clone(), call: Call::Map, first: 0, items: frame.finish(), time_limit }
}

/// Runs a task on one executor.
pub(crate) async fn run(executor: &dyn Execute, task: Task) -> Result<(Vec<Outcome>, u64), ExecuteError> {
    let Executed { output, fuel, .. } = executor.execute(task).await?;
    let outcome = |entry: &Entry<'_>| match entry {
        Entry::Ok(output) => Outcome::Ok(output.to_vec()),
        Entry::Failed(reason) => Outcome::Failed(String::from_utf8(reason.to_vec()).unwrap()),
    };
    Ok((results(&output).unwrap().iter().map(outcome).collect(), fuel.get()))
}

/// Runs a task on every executor and gives the one result that all must agree on.
pub(crate) async fn agreed(task: Task) -> Result<(Vec<Outcome>, u64), String> {
    let mut agreed = None;
    for executor in executors() {
        let result = run(executor.as_ref(), task.clone()).await.map_err(|e| e.to_string());
        let first = agreed.get_or_insert_with(|| result.clone());
        let start = |result: &dyn std::fmt::Debug| format!("{result:?}").chars().take(500).collect::<String>();
        assert!(*first == result, "executors disagree: {} and {}", start(first), start(&result));
    }
    agreed.unwrap()
}

pub(crate) fn ok(output: &[u8]) -> Outcome {
    Outcome::Ok(output.to_vec())
}

pub(crate) fn failed(reason: &str) -> Outcome {
    Outcome::Failed(reason.to_owned())
}

/// Waits for a condition, for some minutes at most: executors have the lowest priority, and the machine may be busy.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come to pass");
}
