//! The arguments of the commands that look at a running grid: health, top, doctor.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::dead::duration;
use super::url::Url;
use super::{BrokerArgs, StoreArgs};

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  offpeak health                         is the service on this machine alive
  offpeak health --ready --address 127.0.0.1:9461
  offpeak health --ready --json | jq .reason
  offpeak health --started               are the database's tables those it needs

For health checks of containers, which have no curl. The answer is waited for 3 s
at most. Alive is what a restart would mend; ready is whether it can do its work
now, with the broker and the database: never restart for that. Started is said once
and for ever: it is up, and has seen no tables that it cannot use.

Exit codes:
  0  alive, or with --ready: ready, or with --started: started
  1  not so; the reasons are printed
  2  bad usage, or settings with mistakes
  3  no answer")]
pub struct HealthArgs {
    /// The service's admin side [default: admin.address of the settings]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub address: Option<String>,
    /// Ask whether it is ready for work, not only alive
    #[arg(long)]
    pub ready: bool,
    /// Ask whether it has started
    #[arg(long, conflicts_with = "ready")]
    pub started: bool,
    /// The service's settings file, for the default address
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  offpeak doctor --config /etc/offpeak/producer.toml
  offpeak doctor --management http://user:password@rabbit:15672
  offpeak doctor --admin producer:9460 --admin worker:9460 --service producer
  offpeak doctor --json | jq -r '.findings[] | select(.cure) | .cure'

It looks at what services with the same settings would use: the built-in
defaults, the file, the variables OFFPEAK__SECTION__KEY, and what is given here.
It changes nothing, asks each part for some seconds at most, and says of each
thing what is wrong and what to do.

Exit codes:
  0  all well
  1  warnings only: the grid works, but not as it should, or not for long
  2  bad usage, or settings with mistakes
  3  something is wrong: the grid does not work, or not all of it")]
pub struct DoctorArgs {
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// RabbitMQ's management side, as http://user:password@host:15672 [default: amqp.management_url of the settings]
    #[arg(long, value_name = "URL")]
    pub management: Option<String>,
    /// PostgreSQL or SQLite [default: database.url of the settings]
    #[arg(long, value_name = "URL", env = "OFFPEAK__DATABASE__URL", hide_env_values = true, value_parser = Url::Database)]
    pub database: Option<String>,
    /// A service's admin side; may be given again and again
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub admin: Vec<String>,
    /// The rights to check: of the broker's user, for this service only [default: for all of them]
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<ServiceArg>,
    /// The services' settings file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceArg {
    /// Reads submissions and requests for blobs, sends work
    Producer,
    /// Reads work, sends outcomes and requests for blobs
    Worker,
    /// Reads outcomes, sends replies
    Aggregator,
}

/// Arguments of `top`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  offpeak top --amqp URL --database URL
  offpeak top --once                     one frame as text, also when piped
  offpeak top --json | jq .database.said.rates
  offpeak top --data ./work              the jobs of an `offpeak run --data`

Keys: q ends, arrows or j and k move, s or < and > choose the column that sorts,
r turns the order, space stops and goes on. What is away is named, with
since when, and the rest goes on. Rates are of the last minute, from the ledger.")]
pub struct TopArgs {
    /// How often everything is read
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    pub interval: Duration,
    /// Print one frame as text and end
    #[arg(long)]
    pub once: bool,
    /// Print one snapshot as a JSON object and end
    #[arg(long, conflicts_with = "once")]
    pub json: bool,
    /// The broker.
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The services' settings file, for the names of pools
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A view that is renewed more seldom is no live view.
const LONGEST_INTERVAL: Duration = Duration::from_hours(1);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval > LONGEST_INTERVAL { Err("take an hour at most".to_owned()) } else { Ok(interval) }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        Some(0) | None => Err("write HOST:PORT, such as 127.0.0.1:9460".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_intervals_are_checked() {
        for good in ["127.0.0.1:9460", "producer.grid.svc:1", "[::1]:9460"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        for bad in ["", "9460", ":9460", "host:", "host:0", "host:65536", "http://host:80/"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        assert!(["0s", "x", "2h"].iter().all(|bad| interval(bad).is_err()));
    }
}
