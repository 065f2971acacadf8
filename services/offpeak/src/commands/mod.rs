//! The commands, each a short list of what it does; an error carries the exit code.

mod app;
mod cancel;
mod connect;
mod dead;
mod finish;
mod result;
mod run;
mod status;
mod submit;
mod usage;

use std::process::ExitCode;

use anyhow::Result;

pub(crate) use run::cores;

use crate::args::{AppCommand, Command};
use crate::{bench, grid};

/// Runs a command; its exit code.
pub async fn perform(command: Command) -> Result<ExitCode> {
    let code = match command {
        Command::Run(args) => run::run(args).await,
        Command::Producer(args) => grid::service_main(grid::Kind::Producer, args.config.as_deref()).await,
        Command::Worker(args) => grid::service_main(grid::Kind::Worker, args.config.as_deref()).await,
        Command::Aggregator(args) => grid::service_main(grid::Kind::Aggregator, args.config.as_deref()).await,
        Command::Migrate(args) => connect::migrate(args).await,
        Command::Submit(args) => submit::submit(args).await,
        Command::Status(args) => status::status(args).await,
        Command::Result(args) => result::result(args).await,
        Command::Cancel(args) => cancel::cancel(args).await,
        Command::Usage(args) => usage::usage(args).await,
        Command::App(args) => match args.command {
            AppCommand::Inspect(args) => app::inspect(&args),
        },
        Command::Dead(args) => dead::dead(args.command).await,
        Command::Bench(args) => bench::bench(args).await,
        Command::Executor => return Ok(grid::executor_main()),
        Command::Compiler => return Ok(grid::compiler_main()),
    };
    code.map(ExitCode::from)
}
