//! A unit: its items in one fresh instance; and if one of them breaks it, each in an instance of its own.

use ports::sandbox::ExecuteError;
use protocol::Fuel;
use protocol::frame::{self, ResultFrame};
use protocol::outcome::MAX_UNIT_OUTPUT_BYTES;
use protocol::unit::Call;

use super::app::{App, Item};
use super::command;
use super::failure::Failure;
use super::host::Log;
use super::loaded::{Entry, Loaded};

/// What is to be computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub(crate) call: Call,
    pub(crate) first: u64,
    /// A frame in.
    pub(crate) items: &'a [u8],
}

/// A unit computed.
#[derive(Debug)]
pub(crate) struct Done {
    /// A frame out.
    pub(crate) output: Vec<u8>,
    pub(crate) fuel: Fuel,
    pub(crate) log: Vec<String>,
}

/// Asked before each item whether to go on.
pub(crate) type Gate<'a> = &'a mut dyn FnMut() -> Result<(), ExecuteError>;

/// Runs a unit.
pub(crate) fn run(loaded: &Loaded, unit: Unit<'_>, gate: Gate<'_>) -> Result<Done, ExecuteError> {
    let items =
        frame::items(unit.items).map_err(|e| ExecuteError::App { reason: format!("the unit's items are broken: {e}") })?;
    let mut log = Log::default();
    let results = match &loaded.entry {
        Entry::Command(pre) => {
            if unit.call != Call::Map {
                return Err(ExecuteError::App { reason: "a command cannot reduce: it has no op_reduce".into() });
            }
            let mut results = Results::new(items.len());
            for (index, item) in (unit.first..).zip(&items) {
                gate()?;
                results.add(command::run(pre, loaded, index, item))?;
            }
            results
        }
        Entry::App(pre) => {
            let mut start = || App::start(pre, loaded, unit.call);
            match together(&items, &mut start, &mut log, gate)? {
                Some(results) => results,
                None => apart(&items, &mut start, &mut log, gate)?,
            }
        }
    };
    Ok(Done { output: results.frame.finish(), fuel: results.fuel, log: log.into_lines() })
}

type Start<'a> = &'a mut dyn FnMut() -> Result<App, ExecuteError>;

/// All items in one instance; nothing if one of several broke it.
fn together(items: &[&[u8]], start: Start<'_>, log: &mut Log, gate: Gate<'_>) -> Result<Option<Results>, ExecuteError> {
    let mut results = Results::new(items.len());
    let mut app = start()?;
    for item in items {
        gate()?;
        match app.compute(item) {
            Err(Failure::Item(_)) if items.len() > 1 => return Ok(None),
            result => results.add(result)?,
        }
    }
    log.append(app.log());
    Ok(Some(results))
}

/// Each item in an instance of its own, so that exactly those fail which break it.
fn apart(items: &[&[u8]], start: Start<'_>, log: &mut Log, gate: Gate<'_>) -> Result<Results, ExecuteError> {
    let mut results = Results::new(items.len());
    for item in items {
        gate()?;
        let mut app = start()?;
        results.add(app.compute(item))?;
        log.append(app.log());
    }
    Ok(results)
}

struct Results {
    frame: ResultFrame,
    fuel: Fuel,
    items: usize,
}

impl Results {
    fn new(items: usize) -> Self {
        Self { frame: ResultFrame::default(), fuel: Fuel::ZERO, items }
    }

    fn add(&mut self, result: Result<Item, Failure>) -> Result<(), ExecuteError> {
        let added = match result {
            Ok(Item::Done(output, fuel)) => {
                self.fuel = self.fuel.saturating_add(Fuel::new(fuel).unwrap_or(Fuel::MAX));
                self.frame.ok(&output)
            }
            Ok(Item::Failed(reason)) | Err(Failure::Item(reason)) => self.frame.failed(&reason),
            Err(Failure::Host(reason)) => return Err(ExecuteError::Died { reason }),
        };
        let over = self.items > 1 && self.frame.len() > MAX_UNIT_OUTPUT_BYTES;
        match added {
            Ok(()) if !over => Ok(()),
            Ok(()) | Err(_) => Err(ExecuteError::OutputLimit { limit: MAX_UNIT_OUTPUT_BYTES }),
        }
    }
}
