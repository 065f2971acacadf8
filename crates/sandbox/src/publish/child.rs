//! The compiler's process: limited in time and memory, fed by stdin, answering on stdout.

use std::ffi::OsString;
use std::process::ExitCode;

use ports::sandbox::{MAX_MODULE_BYTES, PublishError};
use serde::{Deserialize, Serialize};

use super::PublishSettings;
use super::compile;
use crate::confine::{Bounds, confine, ignore_stops};
use crate::process::{bury, spawn};
use crate::wire::{self, Parcel, WireError};

/// An artefact is a few times its module.
const MAX_ARTEFACT_BYTES: u64 = 1 << 30;
/// The signal of a process that used up its processor time.
const SIGXCPU: i32 = 24;
/// The signal of a process killed by someone else.
const SIGKILL: i32 = 9;

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    cpu_seconds: u64,
    memory_bytes: u64,
    optimise: bool,
}

/// Nothing is wrong, or why the module does not compile.
#[derive(Debug, Serialize, Deserialize)]
struct Answer(Option<String>);

/// The compiler's process: to be called by a binary's hidden subcommand, and nothing else in that process.
pub fn compiler_main() -> ExitCode {
    ignore_stops();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("compiler: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), WireError> {
    let mut request: Parcel<Request> = wire::read(&mut std::io::stdin().lock(), MAX_MODULE_BYTES)?;
    let Request { cpu_seconds, memory_bytes, optimise } = request.header;
    confine(Bounds { cpu_seconds: Some(cpu_seconds), data_bytes: memory_bytes, address_bytes: Some(memory_bytes) })?;
    let compiled = compile::compile(&request.section(), optimise);
    let mut stdout = std::io::stdout().lock();
    match compiled {
        Ok(artefact) => wire::write(&mut stdout, &Answer(None), &[&artefact]),
        Err(reason) => wire::write(&mut stdout, &Answer(Some(reason)), &[]),
    }
}

/// Compiles in a child. The inner error is the module's fault, the outer one the host's.
pub(super) async fn compile(
    command: &[OsString],
    settings: &PublishSettings,
    module: &[u8],
    optimise: bool,
) -> Result<Result<Vec<u8>, String>, PublishError> {
    let unavailable = |reason: String| PublishError::Unavailable { reason };
    let mut child = spawn(command).map_err(|e| unavailable(format!("{} cannot be started: {e}", words(command))))?;
    let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(unavailable("the compiler process has no pipes".into()));
    };
    let header = Request { cpu_seconds: settings.cpu_seconds, memory_bytes: settings.memory_bytes, optimise };
    let answer = async {
        wire::send(&mut stdin, &header, &[module]).await?;
        wire::receive::<Answer>(&mut stdout, MAX_ARTEFACT_BYTES).await
    };
    match tokio::time::timeout(settings.wall_limit, answer).await {
        Ok(Ok(mut answer)) => Ok(match answer.header.0.take() {
            None => Ok(answer.section()),
            Some(reason) => Err(reason),
        }),
        Ok(Err(WireError::Broken(reason))) => Err(unavailable(reason)),
        Ok(Err(WireError::Pipe(_))) => {
            drop((stdin, stdout));
            let death = bury(child).await;
            match death.signal {
                Some(SIGXCPU) => Ok(Err(format!("compiling takes more than {} s: split large functions", settings.cpu_seconds))),
                Some(SIGKILL) => Err(unavailable("the compiler process was killed from outside".into())),
                _ if death.words.contains("memory allocation of") => {
                    Ok(Err(format!("compiling needs more than {} bytes of memory: split large functions", settings.memory_bytes)))
                }
                _ => Ok(Err(format!("the compiler gave up: {}", death.words))),
            }
        }
        Err(_elapsed) => Err(unavailable(format!("compiling took longer than {:?} on a busy machine", settings.wall_limit))),
    }
}

fn words(command: &[OsString]) -> String {
    command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
