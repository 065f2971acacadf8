//! Measures what the sandbox adds: per tiny item, per unit, per fresh instance; in this process and in a child.
//!
//! `cargo run --release -p sandbox --features publish --example overhead`

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ports::sandbox::{Execute, Program, Publish as _, Task};
use protocol::frame::ItemFrame;
use protocol::job::Limits;
use protocol::unit::Call;
use protocol::{CustomerName, Digest};
use sandbox::{Compiler, ExecutorPool, ExecutorSettings, InProcess, PublishSettings, Publisher};

/// Answers each item with nothing, the cheapest app there is; traps on an item that begins with 1.
const NOOP: &str = r#"(module (memory (export "memory") 17)
  (func (export "op_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "op_map") (param i32 i32) (result i64)
    (if (i32.load8_u (i32.const 4104)) (then (unreachable)))
    (i32.store (i32.const 1024) (i32.const 1))
    (i64.const 0x4000000000c)))"#;

#[expect(clippy::disallowed_methods, reason = "a measurement")]
async fn timed(executor: &dyn Execute, task: &Task) -> (Duration, Duration) {
    let began = Instant::now();
    let executed = executor.execute(task.clone()).await.expect("the unit is computed");
    (began.elapsed(), executed.compute)
}

fn task(program: &Program, items: usize, first: u8) -> Task {
    let mut frame = ItemFrame::default();
    for index in 0..items {
        let item = [if index == 0 { first } else { 0 }; 64];
        frame.push(&item).expect("an item fits");
    }
    Task { program: program.clone(), call: Call::Map, first: 0, items: frame.finish(), time_limit: Duration::from_mins(1) }
}

async fn measure(name: &str, executor: &dyn Execute, program: &Program) {
    let rounds = 30;
    for (what, items, first) in [("1 item", 1, 0), ("10,000 items", 10_000, 0), ("10,000 items, the first traps", 10_000, 1)] {
        let task = task(program, items, first);
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(timed(executor, &task).await);
        }
        times.sort();
        let (whole, _) = times[rounds / 2];
        let inner = times.iter().map(|(_, compute)| *compute).min().unwrap_or_default();
        println!("{name}: unit of {what}: {whole:?} median, {inner:?} computing at best");
    }
}

#[tokio::main]
async fn main() {
    let module = wat::parse_str(NOOP).expect("the module is well-formed");
    let compiler = Publisher::new(PublishSettings::new(Compiler::InProcess)).expect("a publisher");
    let published = compiler.publish(&module).await.expect("the module is accepted");
    let program = Program {
        brief: Digest::of(b"overhead"),
        customer: CustomerName::new("acme").expect("a name"),
        artefact: Arc::new(published.artefact),
        entry: published.entry,
        params: Arc::new(vec![0x80]),
        shared: Arc::default(),
        limits: Limits::default(),
    };
    measure("in process", &InProcess::new(1).expect("an executor"), &program).await;
    let Some(command) = std::env::args_os().nth(1) else {
        println!("give the path of the program offpeak-sandbox to measure a child process");
        return;
    };
    let settings = ExecutorSettings { command: vec![command, "executor".into()], slots: 1, memory_bytes: 1 << 30 };
    let pool = ExecutorPool::new(settings).expect("a pool");
    measure("child", &pool, &program).await;
}
