//! The commands, each a short list of what it does; an error carries the exit code.

mod app;
mod cancel;
mod connect;
mod contract;
mod customer;
mod dead;
mod doctor;
mod finish;
mod health;
mod pause;
mod result;
mod run;
mod status;
mod submit;
mod top;
mod usage;

use std::pin::Pin;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use service::telemetry::{self, Format};

use crate::args::{AppCommand, Cli, Command, PauseArgs, ResumeArgs};
use crate::exit::{self, Refused};
use crate::{bench, grid};

/// The whole program: reads the arguments, runs the command; the exit code.
pub fn main() -> ExitCode {
    let Cli { log, command } = Cli::parse();
    // A log on the screen that it draws on would spoil it.
    let draws = matches!(command, Command::Top(_)) && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = if draws { "off".to_owned() } else { log };
    let command = match command {
        // They have no runtime, and stderr is their parent's.
        Command::Executor => return grid::executor_main(),
        Command::Compiler => return grid::compiler_main(),
        // They log as their settings say.
        Command::Producer(args) => return crate::run(grid::producer_main(args.config)),
        Command::Worker(args) => return crate::run(grid::worker_main(args.config)),
        Command::Aggregator(args) => return crate::run(grid::aggregator_main(args.config)),
        Command::Run(args) => boxed(run::run(args)),
        Command::Migrate(args) => boxed(connect::migrate(args)),
        Command::Submit(args) => boxed(submit::submit(args)),
        Command::Status(args) => boxed(status::status(args)),
        Command::Result(args) => boxed(result::result(args)),
        Command::Cancel(args) => boxed(cancel::cancel(args)),
        Command::Pause(PauseArgs { job, store, .. }) => boxed(pause::pause(job, true, store)),
        Command::Resume(ResumeArgs { job, store, .. }) => boxed(pause::pause(job, false, store)),
        Command::Usage(args) => boxed(usage::usage(args)),
        Command::App(args) => match args.command {
            AppCommand::Inspect(args) => boxed(async move { app::inspect(&args) }),
        },
        Command::Customer(args) => boxed(customer::customer(args.command)),
        Command::Contract(args) => boxed(async move { contract::contract(&args) }),
        Command::Definitions(args) => boxed(async move { customer::definitions(&args) }),
        Command::Dead(args) => boxed(dead::dead(args.command)),
        Command::Top(args) => boxed(top::top(args)),
        Command::Doctor(args) => boxed(doctor::doctor(args)),
        Command::Health(args) => boxed(health::health(args)),
        Command::Bench(args) => boxed(bench::bench(args)),
    };
    crate::run(async {
        telemetry::init(Format::Human, &log).map_err(|error| Refused::Usage(exit::told(&error.into())))?;
        command.await
    })
}

type Boxed = Pin<Box<dyn Future<Output = Result<u8>>>>;

fn boxed(command: impl Future<Output = Result<u8>> + 'static) -> Boxed {
    Box::pin(command)
}
