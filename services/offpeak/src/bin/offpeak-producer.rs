//! A producer by itself; its compiler child is this program too.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offpeak::args::ServiceArgs;

/// Run a producer: admits, splits and dispatches jobs
#[derive(Parser)]
#[command(
    name = "offpeak-producer",
    version,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Examples:
  offpeak-producer --config /etc/offpeak/producer.toml
  OFFPEAK__DATABASE__URL=postgres://offpeak:secret@db/offpeak offpeak-producer

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
    /// A child that compiles; speaks frames on stdin and stdout
    #[command(hide = true)]
    Compiler,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.child {
        Some(Child::Compiler) => offpeak::grid::compiler_main(),
        None => offpeak::run(offpeak::grid::producer_main(cli.service.config)),
    }
}
