//! The command line of the grid: job files, submission, progress, outputs, usage, and the whole grid in one process.

pub mod args;
pub mod bench;
pub mod client;
pub mod commands;
pub mod data;
pub mod dead;
pub mod exit;
pub mod follow;
pub mod grid;
pub mod jobfile;
pub mod months;
pub mod outputs;
pub mod terminal;

#[cfg(test)]
mod testing;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser as _;
use service::telemetry::{self, Format};

/// The whole program: reads the arguments, runs the command, tells an error once; the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    finished(start(cli))
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        // They have no runtime, and stderr is their parent's.
        Command::Executor => return Ok(grid::executor_main()),
        Command::Compiler => return Ok(grid::compiler_main()),
        // They log as their settings say.
        Command::Producer(_) | Command::Worker(_) | Command::Aggregator(_) => {}
        Command::Run(_)
        | Command::Migrate(_)
        | Command::Submit(_)
        | Command::Status(_)
        | Command::Result(_)
        | Command::Cancel(_)
        | Command::Usage(_)
        | Command::App(_)
        | Command::Dead(_)
        | Command::Bench(_) => {
            telemetry::init(Format::Human, &cli.log).map_err(|error| exit::Refused::Usage(exit::told(&error.into())))?;
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(Box::pin(commands::perform(cli.command)));
    // What still runs is of no more use: a connection's tasks, a child's wait.
    runtime.shutdown_background();
    code
}

fn finished(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            terminal::note(&format!("error: {}", exit::told(&error)));
            ExitCode::from(exit::code_of(&error))
        }
    }
}
