//! The publishing half: a module is looked at, compiled in a limited child process, and named by its digests.

mod caps;
mod child;
mod compile;
mod inspect;
mod module;

use std::ffi::OsString;
use std::time::Duration;

use async_trait::async_trait;
use ports::sandbox::{Inspection, Publish, PublishError, Published};
use protocol::job::EntryKind;
use protocol::{Digest, MeterId};

pub use child::compiler_main;
pub use inspect::inspect;

/// How apps are compiled.
#[derive(Debug, Clone)]
pub struct PublishSettings {
    /// Where the compiler runs.
    pub compiler: Compiler,
    /// Processor time of one compilation.
    pub cpu_seconds: u64,
    /// Memory of the compiler process.
    pub memory_bytes: u64,
    /// Time of one compilation; above `cpu_seconds`, since the process has the lowest priority.
    pub wall_limit: Duration,
}

/// Where the compiler runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// In a child process: a program with arguments that lead to [`compiler_main`].
    Child(Vec<OsString>),
    /// In this process, without limits: for modules one has written oneself.
    InProcess,
}

impl PublishSettings {
    /// Bounds for modules of strangers: 60 s of processor time, 2 GiB, 10 minutes.
    pub fn new(compiler: Compiler) -> Self {
        Self { compiler, cpu_seconds: 60, memory_bytes: 2 << 30, wall_limit: Duration::from_mins(10) }
    }
}

/// Makes apps ready to run on every worker of this generation ([`crate::generation`]).
#[derive(Debug)]
pub struct Publisher {
    settings: PublishSettings,
    meter: MeterId,
}

impl Publisher {
    /// A publisher with these settings.
    pub fn new(settings: PublishSettings) -> Result<Self, PublishError> {
        let meter = MeterId::new(crate::engine::METER).map_err(|e| PublishError::Unavailable { reason: e.to_string() })?;
        Ok(Self { settings, meter })
    }

    /// Compiles; a module that takes too long is given a second chance without optimisation.
    async fn compile(&self, module: &[u8]) -> Result<Vec<u8>, PublishError> {
        let mut reasons = Vec::new();
        for optimise in [true, false] {
            let compiled = match &self.settings.compiler {
                Compiler::Child(command) => child::compile(command, &self.settings, module, optimise).await?,
                Compiler::InProcess => {
                    let module = module.to_vec();
                    let compiling = tokio::task::spawn_blocking(move || compile::compile(&module, optimise));
                    compiling.await.map_err(|e| PublishError::Unavailable { reason: e.to_string() })?
                }
            };
            match compiled {
                Ok(artefact) => return Ok(artefact),
                Err(reason) => reasons.push(if optimise { reason } else { format!("without optimisation: {reason}") }),
            }
        }
        reasons.dedup();
        Err(PublishError::Rejected { reasons })
    }
}

#[async_trait]
impl Publish for Publisher {
    async fn publish(&self, module: &[u8]) -> Result<Published, PublishError> {
        let bytes = module.to_vec();
        let inspecting = tokio::task::spawn_blocking(move || (inspect(&bytes), Digest::of(&bytes)));
        let (inspection, app) = inspecting.await.map_err(|e| PublishError::Unavailable { reason: e.to_string() })?;
        let entry = match inspection.entry {
            Some(entry) if inspection.reasons.is_empty() => entry,
            Some(_) | None => return Err(PublishError::Rejected { reasons: inspection.reasons }),
        };
        let artefact = self.compile(module).await?;
        let reduces = entry == EntryKind::Offpeak1 && inspection.exports.iter().any(|export| export.starts_with("op_reduce: "));
        let digest = Digest::of(&artefact);
        Ok(Published { app, artefact, digest, entry, meter: self.meter.clone(), reduces, manifest: inspection.manifest })
    }

    fn inspect(&self, module: &[u8]) -> Inspection {
        inspect(module)
    }
}
