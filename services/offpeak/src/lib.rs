//! The command line of the grid: job files, submission, progress, outputs, usage, and the whole grid in one process.

pub mod admin;
pub mod args;
#[cfg(feature = "compiler")]
pub mod bench;
pub mod client;
#[cfg(feature = "compiler")]
pub mod commands;
#[cfg(feature = "compiler")]
pub mod customer;
pub mod data;
pub mod dead;
#[cfg(feature = "compiler")]
pub mod doctor;
pub mod exit;
pub mod follow;
pub mod grid;
pub mod jobfile;
pub mod outputs;
pub mod terminal;
pub mod times;
#[cfg(feature = "compiler")]
pub mod top;

#[cfg(test)]
mod testing;

use std::process::ExitCode;

/// Runs a command or service to its end, on a runtime; tells an error once; the exit code.
pub fn run(task: impl Future<Output = anyhow::Result<u8>>) -> ExitCode {
    match ended(task) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            terminal::note(&format!("error: {}", exit::told(&error)));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

fn ended(task: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(Box::pin(task));
    // What still runs is of no more use: a connection's tasks, a child's wait.
    runtime.shutdown_background();
    code
}
