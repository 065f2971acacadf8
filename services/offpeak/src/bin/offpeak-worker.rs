//! A worker by itself; its executor children are this program too.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offpeak::args::ServiceArgs;

/// Run a worker: computes units in the sandbox
#[derive(Parser)]
#[command(
    name = "offpeak-worker",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Examples:
  offpeak-worker --config /etc/offpeak/worker.toml
  OFFPEAK__AMQP__URL=amqp://grid:secret@rabbit:5672 offpeak-worker

Settings come from the built-in defaults, then the file, then variables OFFPEAK__SECTION__KEY."
)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
    /// The child's task
    #[command(subcommand)]
    child: Option<Child>,
}

#[derive(Subcommand)]
enum Child {
    /// A child that computes; speaks frames on stdin and stdout
    #[command(hide = true)]
    Executor,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.child {
        Some(Child::Executor) => offpeak::grid::executor_main(),
        None => offpeak::run(offpeak::grid::worker_main(cli.service.config)),
    }
}
