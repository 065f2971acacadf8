//! A program made ready in this process: native code loaded, imports resolved.

use std::sync::Arc;

use ports::sandbox::{ExecuteError, Program};
use protocol::Digest;
use protocol::job::{EntryKind, Limits};
use wasmtime::{Engine, InstancePre, Linker, Module};

use super::host::{self, Host};
use super::shim::{self, Shim};

/// A program ready to run; kept for all units of its job.
pub(crate) struct Loaded {
    pub(crate) brief: Digest,
    pub(crate) entry: Entry,
    pub(crate) params: Arc<Vec<u8>>,
    pub(crate) shared: Arc<Vec<u8>>,
    pub(crate) limits: Limits,
}

/// How it is entered, with its imports resolved.
pub(crate) enum Entry {
    /// The ABI `offpeak1`.
    App(InstancePre<Host>),
    /// A WASI preview 1 program.
    Command(InstancePre<Shim>),
}

impl Loaded {
    /// Loads native code: only what our own publisher made, which the caller has checked by its digest.
    pub(crate) fn new(engine: &Engine, program: &Program) -> Result<Self, ExecuteError> {
        let unsupported = |e: wasmtime::Error| ExecuteError::Unsupported { reason: format!("{e:#}") };
        let module = load(engine, &program.artefact).map_err(unsupported)?;
        let entry = match program.entry {
            EntryKind::Offpeak1 => {
                let mut linker = Linker::new(engine);
                host::link(&mut linker).map_err(unsupported)?;
                Entry::App(linker.instantiate_pre(&module).map_err(unsupported)?)
            }
            EntryKind::Command => {
                let mut linker = Linker::new(engine);
                shim::link(&mut linker).map_err(unsupported)?;
                Entry::Command(linker.instantiate_pre(&module).map_err(unsupported)?)
            }
        };
        let limits = program.limits;
        Ok(Self { brief: program.brief, entry, params: program.params.clone(), shared: program.shared.clone(), limits })
    }
}

#[expect(unsafe_code, reason = "native code cannot be validated; it is trusted because our publisher made it")]
fn load(engine: &Engine, artefact: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the caller has checked the artefact's digest against the one our own publisher recorded
    // (`ports::sandbox::Program::artefact`); the engine checks version, target and configuration.
    unsafe { Module::deserialize(engine, artefact) }
}
