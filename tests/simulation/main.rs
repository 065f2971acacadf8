//! The simulation: the real services over a faulty broker and store, under virtual time, from one seed a run.
//!
//! `OFFPEAK_SIM_SEED=7` runs seed 7 alone and prints its trace; `OFFPEAK_SIM_SEEDS=100000` runs so many.

mod check;
mod customer;
mod grid;
mod plan;
mod run;
mod seen;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use testkit::simulator::Broken;

use crate::seen::Seen;

/// Runs of `make test`.
const SEEDS: u64 = 1_000;
/// Of so many seeds one is run twice, to see that a seed is a run.
const TWICE: u64 = 50;
/// After so many failures there is no news in further ones.
const ENOUGH: usize = 8;
/// A broken guard must be caught within so many seeds.
const CAUGHT_WITHIN: u64 = 100;
/// Seeds that failed once, a line each: the seed, then what it showed.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// A number in the environment.
#[expect(clippy::disallowed_methods, reason = "a person chooses the seed")]
fn chosen(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn regressions() -> Vec<u64> {
    let lines = REGRESSIONS.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("a seed")).collect()
}

/// Runs a seed; what it met, or what is wrong with it.
fn check(seed: u64) -> Result<Seen, String> {
    let first = run::run(seed, None, false).map_err(|error| format!("seed {seed}: {error}"))?;
    if seed.is_multiple_of(TWICE) {
        let again = run::run(seed, None, false);
        if again.as_ref() != Ok(&first) {
            return Err(format!("seed {seed} is not one run: {first:?}, then {again:?}"));
        }
    }
    Ok(first.seen)
}

#[test]
fn every_seed_comes_to_rest_with_everything_in_order() {
    if let Some(seed) = chosen("OFFPEAK_SIM_SEED") {
        let outcome = run::run(seed, None, true).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        tell(&format!("seed {seed}: {outcome:?}"));
        return;
    }
    let kept = regressions();
    let seeds: Vec<u64> = kept.into_iter().chain(0..chosen("OFFPEAK_SIM_SEEDS").unwrap_or(SEEDS)).collect();
    let (next, found) = (AtomicU64::new(0), Mutex::new((Seen::default(), Vec::new())));
    let work = || {
        loop {
            let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("fits");
            let Some(seed) = seeds.get(place) else { return };
            let checked = check(*seed);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match checked {
                Ok(met) => found.0 = found.0.and(met),
                Err(fault) => {
                    tell(&fault);
                    found.1.push(fault);
                    if found.1.len() >= ENOUGH {
                        next.store(u64::MAX / 2, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let (seen, faults) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let way_out = "run one with its trace: OFFPEAK_SIM_SEED=... cargo test -p offpeak-tests --test simulation -- --nocapture";
    assert!(faults.is_empty(), "{} seeds fail; {way_out}", faults.len());
    tell(&format!("{} seeds met {seen:?}", seeds.len()));
    assert!(seen.is_all() || seeds.len() < usize::try_from(SEEDS).expect("fits"), "not all of it came up: {seen:?}");
}

#[expect(clippy::print_stdout, reason = "a fault is told when it is found, not when all seeds have run")]
fn tell(what: &str) {
    println!("{what}");
}

/// The first seed that shows the broken guard, and how.
fn caught(broken: Broken) -> (u64, String) {
    let fault = |seed| run::run(seed, Some(broken), false).err().map(|error| (seed, error));
    let found = (0..CAUGHT_WITHIN).find_map(fault);
    let (seed, error) = found.unwrap_or_else(|| panic!("{broken:?} is not noticed within {CAUGHT_WITHIN} seeds"));
    tell(&format!("{broken:?} is caught by seed {seed}: {error}"));
    (seed, error)
}

#[test]
fn a_grid_that_acknowledges_before_the_effect_is_caught() {
    let (_, error) = caught(Broken::AckBeforeEffect);
    assert!(error.contains("was never accepted"), "{error}");
}

#[test]
fn a_grid_without_an_inbox_is_caught() {
    let (_, error) = caught(Broken::NoInbox);
    assert!(error.contains("I4"), "{error}");
}

#[test]
fn a_grid_that_reserves_nothing_is_caught() {
    let (_, error) = caught(Broken::NoReserve);
    assert!(error.contains("I7") || error.contains("invariant budget"), "{error}");
}

#[test]
fn a_grid_without_fencing_is_caught() {
    let (_, error) = caught(Broken::NoFencing);
    assert!(error.contains("I6") || error.contains("I9"), "{error}");
}
