//! What a job must satisfy before it is admitted; every mistake is named with its place.

use std::collections::BTreeMap;

use protocol::input::{Input, MAX_RECORD_BYTES};
use protocol::job::{JobSpec, Limits, UnitSizing};
use protocol::problem::FieldError;
use protocol::{Format, PoolName, Value, codec};

use crate::PoolSettings;

/// Units are numbered in 32 bits, and each is a row.
const MAX_UNITS: u64 = 100_000_000;

/// Every mistake that can be seen in the submission itself.
pub(crate) fn spec(spec: &JobSpec, pools: &BTreeMap<PoolName, PoolSettings>) -> Vec<FieldError> {
    let mut mistakes = Mistakes::default();
    match pools.get(&spec.pool) {
        None => {
            let known: Vec<&str> = pools.keys().map(PoolName::as_str).collect();
            mistakes.add("/pool", format!("there is no pool {}: choose one of {}", spec.pool, known.join(", ")));
        }
        Some(pool) if u16::from(spec.quorum) > pool.lanes => {
            let (pool, lanes) = (&spec.pool, pool.lanes);
            mistakes.add(
                "/quorum",
                format!("pool {pool} has {lanes} lanes, so at most {lanes} hosts can agree, not {}", spec.quorum),
            );
        }
        Some(_) => {}
    }
    mistakes.unless((1..=JobSpec::MAX_QUORUM).contains(&spec.quorum), "/quorum", || {
        format!("{} is not from 1 to {}", spec.quorum, JobSpec::MAX_QUORUM)
    });
    mistakes.unless((-JobSpec::MAX_PRIORITY..=JobSpec::MAX_PRIORITY).contains(&spec.priority), "/priority", || {
        format!("{} is not from -{max} to {max}", spec.priority, max = JobSpec::MAX_PRIORITY)
    });
    mistakes.unless(spec.deadline_s != Some(0), "/deadline_s", || "a deadline of 0 s has passed already".to_owned());
    limits(&spec.limits, &mut mistakes);
    let (budget, each) = (spec.budget_fuel, spec.limits.fuel_per_item);
    mistakes.unless(budget.is_none_or(|budget| budget >= each), "/budget_fuel", || {
        format!("it is less than the {each} fuel that one item may take (limits.fuel_per_item): lower that or raise the budget")
    });
    mistakes.unless(spec.unit.max_items > 0, "/unit/max_items", || "a unit has at least 1 item".to_owned());
    let target = spec.unit.target_ms;
    mistakes.unless((1..=UnitSizing::MAX_TARGET_MS).contains(&target), "/unit/target_ms", || {
        format!("{target} is not from 1 to {}", UnitSizing::MAX_TARGET_MS)
    });
    params(&spec.params, &mut mistakes);
    input(&spec.input, &mut mistakes);
    mistakes.0
}

/// The mistake in having so many items, if it is one.
pub(crate) fn count(items: u64, spec: &JobSpec) -> Option<FieldError> {
    let units = items / u64::from(spec.unit.max_items.max(1));
    (units > MAX_UNITS).then(|| FieldError {
        pointer: "/unit/max_items".to_owned(),
        detail: format!(
            "{items} items in units of {} are over {MAX_UNITS} units: raise max_items or split the job",
            spec.unit.max_items
        ),
    })
}

#[derive(Default)]
struct Mistakes(Vec<FieldError>);

impl Mistakes {
    fn add(&mut self, pointer: &str, detail: String) {
        self.0.push(FieldError { pointer: pointer.to_owned(), detail });
    }

    fn unless(&mut self, fine: bool, pointer: &str, detail: impl FnOnce() -> String) {
        if !fine {
            self.add(pointer, detail());
        }
    }
}

fn limits(limits: &Limits, mistakes: &mut Mistakes) {
    let (memory, output) = (limits.memory_bytes, limits.output_bytes);
    mistakes
        .unless(limits.fuel_per_item.get() > 0, "/limits/fuel_per_item", || "no item can be computed with no fuel".to_owned());
    mistakes.unless((65_536..=Limits::MAX_MEMORY_BYTES).contains(&memory), "/limits/memory_bytes", || {
        format!("{memory} is not from 65536 (one page) to {}", Limits::MAX_MEMORY_BYTES)
    });
    mistakes.unless((1..=Limits::MAX_OUTPUT_BYTES).contains(&output), "/limits/output_bytes", || {
        format!("{output} is not from 1 to {}", Limits::MAX_OUTPUT_BYTES)
    });
}

fn params(params: &Value, mistakes: &mut Mistakes) {
    mistakes.unless(params.is_map(), "/params", || "parameters are a map of names to values".to_owned());
    match codec::encode("params", params, Format::MessagePack) {
        Ok(bytes) if bytes.len() <= JobSpec::MAX_PARAMS_BYTES => {}
        Ok(bytes) => {
            let (size, limit) = (bytes.len(), JobSpec::MAX_PARAMS_BYTES);
            mistakes.add("/params", format!("{size} bytes are over {limit}: hand larger data to the app as shared"));
        }
        Err(error) => mistakes.add("/params", error.to_string()),
    }
}

fn input(input: &Input, mistakes: &mut Mistakes) {
    match input {
        Input::Range { start, end } => {
            mistakes.unless(start <= end, "/input/range", || format!("start {start} is after end {end}"));
        }
        Input::Records { bytes, .. } => {
            mistakes.unless((1..=MAX_RECORD_BYTES).contains(bytes), "/input/records/bytes", || {
                format!("a record of {bytes} bytes is not from 1 to {MAX_RECORD_BYTES}")
            });
        }
        Input::Grid(axes) => {
            for (i, axis) in axes.iter().enumerate() {
                let twice = axes[..i].iter().any(|other| other.name == axis.name);
                mistakes.unless(!twice, &format!("/input/grid/{i}/name"), || format!("axis {:?} is there twice", axis.name));
            }
            mistakes.unless(input.count().is_some(), "/input/grid", || "more than 2^64 points".to_owned());
        }
        Input::Items(_) | Input::Lines { .. } => {}
    }
}
