//! The guest's border: apps and commands that do as random scripts say, run by two executors that must agree.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ports::sandbox::{Execute as _, ExecuteError, Executed, Program, Publish as _, Published, Task};
use proptest::prelude::*;
use proptest::sample::select;
use protocol::codec::{Format, encode};
use protocol::frame::{Entry, ItemFrame, results};
use protocol::job::Limits;
use protocol::outcome::{MAX_REASON_BYTES, MAX_UNIT_OUTPUT_BYTES};
use protocol::unit::Call;
use protocol::{CustomerName, Digest, Fuel, Value};
use sandbox::{Compiler, InProcess, PublishSettings, Publisher, wasi};
use tokio::runtime::Runtime;

use crate::modules::{PUPPET, puppet_command};
use crate::{cases, holds, measured, turn};

const FUEL: u64 = 100_000;
const MEMORY: u64 = 1 << 20;
const OUTPUT: u32 = 64 << 10;
/// Memory of the host that one unit may hold: its native code, its stacks, its results and its log. The guest's own is mapped.
const HOST_BYTES: usize = 8 << 20;

/// Two executors, and what makes modules ready for them.
struct Rig {
    runtime: Runtime,
    executors: [InProcess; 2],
    publisher: Publisher,
    programs: AtomicU64,
}

impl Rig {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let executors = [InProcess::new(1).unwrap(), InProcess::new(1).unwrap()];
        let publisher = Publisher::new(PublishSettings::new(Compiler::InProcess)).unwrap();
        Self { runtime, executors, publisher, programs: AtomicU64::new(0) }
    }

    fn publish(&self, module: &[u8]) -> Published {
        self.runtime.block_on(self.publisher.publish(module)).unwrap()
    }

    /// A program of its own, so that nothing kept of an earlier one is used.
    fn program(&self, published: &Published, params: &[u8], shared: &[u8]) -> Program {
        let number = self.programs.fetch_add(1, Ordering::Relaxed);
        Program {
            brief: Digest::of(&number.to_le_bytes()),
            customer: CustomerName::new("acme").unwrap(),
            artefact: Arc::new(published.artefact.clone()),
            entry: published.entry,
            params: Arc::new(params.to_vec()),
            shared: Arc::new(shared.to_vec()),
            limits: Limits { fuel_per_item: Fuel::new(FUEL).unwrap(), memory_bytes: MEMORY, output_bytes: OUTPUT },
        }
    }

    /// Runs a unit on both executors; what comes back is within bounds, and the same.
    fn agreed(&self, program: &Program, call: Call, items: &[Vec<u8>]) -> Result<(), TestCaseError> {
        let mut frame = ItemFrame::default();
        for item in items {
            frame.push(item).unwrap();
        }
        let time_limit = Duration::from_mins(5);
        let task = Task { program: program.clone(), call, first: 3, items: frame.finish(), time_limit };
        let (ran, peak) =
            measured(|| self.executors.each_ref().map(|executor| self.runtime.block_on(executor.execute(task.clone()))));
        prop_assert!(peak <= HOST_BYTES, "the host held {peak} bytes");
        let [first, second] = ran.map(told);
        prop_assert_eq!(&first, &second);
        within(first, items.len())
    }
}

type Told = Result<(Vec<u8>, u64), String>;

fn told(ran: Result<Executed, ExecuteError>) -> Told {
    // A panic of the executor's thread is told as a death.
    let ran = ran.inspect_err(|error| assert!(!matches!(error, ExecuteError::Died { .. }), "{error}"));
    ran.map(|done| (done.output, done.fuel.get())).map_err(|error| error.to_string())
}

fn within(told: Told, items: usize) -> Result<(), TestCaseError> {
    let (output, fuel) = match told {
        Ok(done) => done,
        Err(reason) => {
            prop_assert!(reason.len() <= MAX_REASON_BYTES + 100, "{} bytes of reason", reason.len());
            return Ok(());
        }
    };
    let entries = results(&output).unwrap();
    prop_assert_eq!(entries.len(), items);
    prop_assert!(
        fuel <= FUEL * u64::try_from(items).unwrap() && output.len() <= MAX_UNIT_OUTPUT_BYTES,
        "{fuel} {}",
        output.len()
    );
    for entry in entries {
        match entry {
            Entry::Ok(output) => prop_assert!(output.len() <= usize::try_from(OUTPUT).unwrap()),
            Entry::Failed(reason) => {
                prop_assert!(std::str::from_utf8(reason).is_ok() && reason.len() <= MAX_REASON_BYTES + 3, "{}", reason.len());
            }
        }
    }
    Ok(())
}

/// A number of a script: small, at a border of memory, or anything.
fn word() -> impl Strategy<Value = u32> {
    let borders = [65_535, 65_536, 131_072, 131_064, 131_068, 1 << 20, (1 << 20) - 4, 0x7fff_ffff, 0x8000_0000];
    prop_oneof![
        6 => 0..16_u32,
        2 => (0..2_000_u32).prop_map(|n| n * 4),
        2 => select(borders.to_vec()),
        1 => (0..64_u32).prop_map(|n| u32::MAX - n),
        1 => any::<u32>(),
    ]
}

/// A script: numbers, one after the other.
fn script(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(word(), 0..longest).prop_map(|words| words.into_iter().flat_map(u32::to_le_bytes).collect())
}

#[test]
fn apps_that_do_anything_are_contained() {
    let _turn = turn();
    let rig = Rig::new();
    let published = rig.publish(&wat::parse_str(PUPPET).unwrap());
    let items = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4);
    let calls = select(vec![Call::Map, Call::Reduce, Call::ReduceAndFinish]);
    holds(cases(4_000, 20), &(script(80), items, calls, any::<[u8; 3]>()), |(script, items, call, params)| {
        rig.agreed(&rig.program(&published, &params, &script), call, &items)
    });
}

#[test]
fn commands_that_call_anything_are_contained() {
    let _turn = turn();
    let rig = Rig::new();
    let published = rig.publish(&wat::parse_str(puppet_command()).unwrap());
    let item = |script: Vec<u8>| encode("item", &Value::Binary(script), Format::MessagePack).unwrap();
    let items = proptest::collection::vec(prop_oneof![9 => script(120).prop_map(item), 1 => any::<Vec<u8>>()], 1..3);
    holds(cases(3_000, 20), &items, |items| rig.agreed(&rig.program(&published, b"", b""), Call::Map, &items));
}

#[test]
fn each_function_of_a_command_is_called_with_each_border() {
    let _turn = turn();
    let rig = Rig::new();
    let published = rig.publish(&wat::parse_str(puppet_command()).unwrap());
    let borders = [0, 1, 8, 1_024, 1_025, 65_535, 65_536, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    for (function, (name, _)) in (0_u32..).zip(wasi::FUNCTIONS) {
        for number in borders {
            for fd in [0, 1, 2, 3, number] {
                // Two calls, so that the first may change what the second meets.
                let call = [vec![function + 3, fd], vec![number; 10]].concat();
                let script: Vec<u8> = call.repeat(2).into_iter().flat_map(u32::to_le_bytes).collect();
                let item = encode("item", &Value::Binary(script), Format::MessagePack).unwrap();
                let program = rig.program(&published, b"", b"");
                rig.agreed(&program, Call::Map, &[item]).unwrap_or_else(|e| panic!("{name}({fd}, {number}..): {e}"));
            }
        }
    }
}
