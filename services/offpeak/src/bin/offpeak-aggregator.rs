//! An aggregator by itself.

use std::process::ExitCode;

use clap::Parser;
use offpeak::args::ServiceArgs;

/// Run an aggregator: checks, meters and puts together what was computed
#[derive(Parser)]
#[command(
    name = "offpeak-aggregator",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  offpeak-aggregator --config /etc/offpeak/aggregator.toml
  OFFPEAK__DATABASE__URL=postgres://offpeak:secret@db/offpeak offpeak-aggregator

Settings come from the built-in defaults, then the file, then variables OFFPEAK__SECTION__KEY."
)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    offpeak::run(offpeak::grid::aggregator_main(Cli::parse().service.config))
}
