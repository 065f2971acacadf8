//! The executor's process: reads requests from stdin, answers on stdout, ends when its parent does.

use std::io::stdin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use ports::sandbox::{ExecuteError, Program};
use wasmtime::Engine;

use super::clock::Stopwatch;
use super::loaded::Loaded;
use super::messages::{Answer, Failure, Request};
use super::unit::{self, Unit};
use crate::confine::{Bounds, confine, filter_system_calls, ignore_stops};
use crate::wire::{self, Parcel, WireError};

/// The stack of the thread that computes: the guest's part, and as much again for the engine and the imports.
const STACK_BYTES: usize = 4 << 20;
/// Address space beyond private memory: the pool's reservation for one instance with its guards is below 5 GiB.
const ADDRESS_BYTES: u64 = 16 << 30;

/// The executor's process: to be called by a binary's hidden subcommand, and nothing else in that process.
pub fn executor_main() -> ExitCode {
    ignore_stops();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("executor: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), WireError> {
    let start: Parcel<Request> = wire::read(&mut stdin().lock(), 0)?;
    let Request::Start { memory_bytes } = start.header else {
        return Err(WireError::Broken("the first message is not a start".into()));
    };
    let address_bytes = Some(memory_bytes.saturating_add(ADDRESS_BYTES));
    confine(Bounds { cpu_seconds: None, data_bytes: memory_bytes, address_bytes })?;
    let engine = crate::engine::runtime(1).map_err(|e| WireError::Broken(format!("engine: {e:#}")))?;
    let (requests, queue) = sync_channel(1);
    std::thread::Builder::new().name("compute".into()).stack_size(STACK_BYTES).spawn(move || {
        let code = match compute(&engine, &queue) {
            Ok(()) => 0,
            Err(e) => {
                eprintln!("executor: {e}");
                1
            }
        };
        std::process::exit(code);
    })?;
    filter_system_calls()?;
    answer(&Answer::Ready, &[])?;
    // This thread only reads, so that it sees at once when the parent is gone, whatever the other one computes.
    loop {
        match wire::read(&mut stdin().lock(), memory_bytes) {
            Ok(parcel) => {
                if requests.send(parcel).is_err() {
                    return Ok(());
                }
            }
            Err(WireError::Pipe(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => std::process::exit(0),
            Err(e) => return Err(e),
        }
    }
}

fn answer(answer: &Answer, sections: &[&[u8]]) -> Result<(), WireError> {
    wire::write(&mut std::io::stdout().lock(), answer, sections)
}

fn compute(engine: &Engine, queue: &Receiver<Parcel<Request>>) -> Result<(), WireError> {
    let mut loaded: Vec<Loaded> = Vec::new();
    for Parcel { header, sections } in queue {
        let mut parcel = Parcel { header: (), sections };
        match header {
            Request::Start { .. } => return Err(WireError::Broken("a second start".into())),
            Request::Load { brief, customer, entry, limits } => {
                if loaded.iter().any(|program| program.brief == brief) {
                    return Err(WireError::Broken("a program came twice".into()));
                }
                let mut section = || Arc::new(parcel.section());
                let (artefact, params, shared) = (section(), section(), section());
                match Loaded::new(engine, &Program { brief, customer, artefact, entry, params, shared, limits }) {
                    Ok(program) => {
                        loaded.push(program);
                        answer(&Answer::Ready, &[])?;
                    }
                    Err(e) => answer(&Answer::Failed(e.into()), &[])?,
                }
            }
            Request::Forget { brief } => {
                loaded.retain(|program| program.brief != brief);
                answer(&Answer::Ready, &[])?;
            }
            Request::Run { brief, call, first } => {
                let Some(program) = loaded.iter().find(|program| program.brief == brief) else {
                    return Err(WireError::Broken("the program is not loaded".into()));
                };
                let items = parcel.section();
                run(program, Unit { call, first, items: &items })?;
            }
        }
    }
    Ok(())
}

fn run(program: &Loaded, unit: Unit<'_>) -> Result<(), WireError> {
    let watch = Stopwatch::start();
    let result: Result<unit::Done, ExecuteError> = unit::run(program, unit, &mut || Ok(()));
    match result {
        Ok(done) => {
            let compute_us = u64::try_from(watch.elapsed().as_micros()).unwrap_or(u64::MAX);
            answer(&Answer::Done { fuel: done.fuel, compute_us, log: done.log }, &[&done.output])
        }
        Err(e) => answer(&Answer::Failed(Failure::from(e)), &[]),
    }
}
