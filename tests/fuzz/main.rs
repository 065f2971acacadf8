//! Fuzzing of every border that strangers' bytes cross: the codec, the job file, the guest. No panic, and memory within a bound.
//!
//! Each property runs a few seconds' worth of cases; `OFFPEAK_FUZZ_CASES=1000000` (or `make fuzz CASES=1000000`) asks for more.
//! A case that fails is shrunk and printed as the value that the strategy made.

#![allow(clippy::unwrap_used, clippy::panic_in_result_fn, reason = "helpers of tests, which fail by it")]

mod codec;
mod guest;
mod jobfile;
mod modules;
mod mutate;
mod special;

use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole process, so one test runs at a time.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the work gives, and how many bytes it held at its height beyond those held before.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work();
    (done, MEMORY.peak_usage().saturating_sub(before))
}

/// How many cases: those asked for, or a number that takes seconds. `share` of the budget asked for is left to dear cases.
#[expect(clippy::disallowed_methods, reason = "the budget is the tester's, not a setting of the grid")]
fn cases(by_default: u32, share: u32) -> u32 {
    let asked = std::env::var("OFFPEAK_FUZZ_CASES").ok();
    let asked = asked.map(|text| text.parse::<u32>().expect("OFFPEAK_FUZZ_CASES is a whole number"));
    asked.map_or(by_default, |asked| (asked / share).max(by_default))
}

/// Runs a property.
fn holds<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Debug,
{
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    if let Err(failure) = runner.run(strategy, test) {
        panic!("{failure}");
    }
}
