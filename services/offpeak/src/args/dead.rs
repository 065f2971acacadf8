//! The arguments of the commands about dead letters.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use protocol::address::Origin;
use protocol::{CustomerName, JobId};

use super::BrokerArgs;
use crate::jobfile::seconds;

/// Arguments of `dead`.
#[derive(Debug, Args)]
pub struct DeadArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: DeadCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List what is parked, and why; changes nothing
    List(ListArgs),
    /// Show all that one letter says; changes nothing
    Show(ShowArgs),
    /// Send letters again to where they came from
    Replay(ReplayArgs),
    /// Remove letters for good
    Drop(DropArgs),
}

/// Which letters.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Only of this origin
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<OriginArg>,
    /// Only with this text in their cause, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    pub cause: Option<String>,
    /// Only of this customer, as far as letters tell: submissions and units do
    #[arg(long, value_name = "NAME")]
    pub customer: Option<CustomerName>,
    /// Only of this job, as far as letters tell: units and outcomes do
    #[arg(long, value_name = "JOB")]
    pub job: Option<JobId>,
    /// Only those that died (last) longer ago than this, such as 90s, 1h, 2d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only those that died (last) within this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub newer_than: Option<Duration>,
}

impl FilterArgs {
    /// Whether every letter passes.
    pub fn is_empty(&self) -> bool {
        let Self { origin, cause, customer, job, older_than, newer_than } = self;
        origin.is_none() && cause.is_none() && customer.is_none() && job.is_none() && older_than.is_none() && newer_than.is_none()
    }

    /// Whose letters are to be read.
    pub fn origins(&self) -> Vec<Origin> {
        self.origin.map_or_else(|| Origin::ALL.to_vec(), |origin| vec![origin.into()])
    }
}

/// An origin of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OriginArg {
    /// What customers submitted
    Submit,
    /// Units
    Work,
    /// What workers reported
    Outcomes,
    /// Workers' requests for blobs
    Fetch,
}

impl From<OriginArg> for Origin {
    fn from(origin: OriginArg) -> Self {
        match origin {
            OriginArg::Submit => Self::Submit,
            OriginArg::Work => Self::Work,
            OriginArg::Outcomes => Self::Outcomes,
            OriginArg::Fetch => Self::Fetch,
        }
    }
}

/// Arguments of `dead list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak dead list --amqp URL
  offpeak dead list --origin submit --customer acme --newer-than 1h
  offpeak dead list --limit 100000 --json | jq -r .cause | sort | uniq -c

Reading removes nothing and changes no order, also when it is interrupted: the
broker takes back what was read. Until the command ends, others do not see the
letters it has read. With --json each letter is one object on a line of its own.")]
pub struct ListArgs {
    /// Which letters.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How many letters are listed
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dead show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak dead show nightly-2026-07-01 --amqp URL
  offpeak dead show 01980f3c-7b1e-7c55-8d42-0123456789ab.7.0 --body

An id may stand for several letters, since senders choose their ids: all are shown.
The exit code is 1 if there is none.")]
pub struct ShowArgs {
    /// The letter, as `offpeak dead list` names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Show the body too: decoded where that can be done, its first bytes otherwise
    #[arg(long)]
    pub body: bool,
    /// Where to look for it.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which letters are changed, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that people type")]
pub struct ChangeArgs {
    /// The letters, as `offpeak dead list` names them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All letters that pass the filters; without any filter it asks for --yes
    #[arg(long)]
    pub all: bool,
    /// Which letters.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Every letter there is, without filters, is meant
    #[arg(long)]
    pub yes: bool,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Print one JSON object for each letter
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dead replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak dead replay nightly-2026-07-01 --amqp URL
  offpeak dead replay --all --origin submit --cause 'ends early' --dry-run
  offpeak dead replay --all --yes

A letter is removed when the broker has its message at the place it came from.
Replay is idempotent: the message keeps its id, by which the grid knows a second
arrival, so that a message sent again twice, or one that had its effect before it
was parked, has the effect of once. If the command is interrupted the letter may
stay although it was sent; replay it again. What is still wrong with a message
parks it again, with the time of its first death and one attempt more.
A unit whose job has ended or that is decided by now has no effect: the grid
itself has tried it again since, from the database.
A submission that was sent again by a user whom the producer does not take for
its operator dies again, and then stays here: --believe USER takes that user's
word for whose it is.
The exit code is 1 if an id was not found, or a letter does not say where it
came from, leads nowhere now, is larger than any message may be, or was sent in
its customer's name by another user; such letters stay.")]
pub struct ReplayArgs {
    /// What is sent.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Take the word of this user, who sent submissions again, for whose they are
    #[arg(long, value_name = "USER")]
    pub believe: Option<String>,
}

/// Arguments of `dead drop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak dead drop nightly-2026-07-01 --amqp URL
  offpeak dead drop --all --origin fetch --older-than 7d --dry-run
  offpeak dead drop --all --yes

No job needs a parked letter to end. The exit code is 1 if an id was not found.")]
pub struct DropArgs {
    /// What is removed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    seconds(text).map(Duration::from_secs).ok_or_else(|| "write a duration as 90s, 1h30m, 2d".to_owned())
}
