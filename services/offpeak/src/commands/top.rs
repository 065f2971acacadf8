//! `offpeak top`: a live view of the grid on a terminal, one frame or one object elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use anyhow::{Context as _, Result};
use protocol::PoolName;
use service::CancellationToken;
use tokio::sync::watch;

use super::connect;
use super::run::Signals;
use crate::args::TopArgs;
use crate::exit::{self, Refused};
use crate::grid::Settings;
use crate::terminal;
use crate::times::now;
use crate::top::read::{BrokerReader, DatabaseReader};
use crate::top::view::Wish;
use crate::top::{Picture, Source, draw, live};

/// The width of a frame where there is no terminal.
const WIDTH: u16 = 110;

/// Shows the grid.
pub(super) async fn top(args: TopArgs) -> Result<u8> {
    let settings = Settings::load(args.config.as_deref())?;
    let pools = settings.pools().map_err(Refused::Usage)?;
    let pools: BTreeMap<PoolName, u16> = pools.into_iter().map(|(name, pool)| (name, pool.lanes)).collect();
    let named = args.store.url().is_some() || args.store.data.is_some();
    if args.broker.url().is_none() && !named {
        let problem =
            "neither a database nor a broker is named: give --database URL, --amqp URL, or --data DIR of an `offpeak run`";
        return Err(Refused::Usage(problem.to_owned()).into());
    }
    let database = if named { Some(DatabaseReader::new(connect::database_url(&args.store)?)) } else { None };
    let broker =
        args.broker.url().map(|url| BrokerReader::new(url, settings.amqp.management_url.expose(), pools, settings.grid.shards));
    let mut sources = Sources { database, broker: broker.transpose()? };
    let code = if args.once || args.json || !stdout().is_terminal() {
        once(&mut sources, args.json).await
    } else {
        Box::pin(watched(&mut sources, args.interval)).await
    };
    if let Some(broker) = &sources.broker {
        broker.close().await;
    }
    code
}

/// What is read.
struct Sources {
    database: Option<DatabaseReader>,
    broker: Option<BrokerReader>,
}

impl Sources {
    /// A picture before anything is read.
    fn blank(&self) -> Picture {
        Picture::new(now(), Source::new(self.database.is_some()), Source::new(self.broker.is_some()))
    }

    /// Reads both, and puts what was heard over what was known.
    async fn read(&mut self, known: Picture) -> Picture {
        let Picture { mut database, mut broker, .. } = known;
        let (heard_database, heard_broker) = tokio::join!(
            Box::pin(async {
                match &mut self.database {
                    Some(reader) => Some(reader.read(now()).await),
                    None => None,
                }
            }),
            Box::pin(async {
                match &self.broker {
                    Some(reader) => Some(reader.read().await),
                    None => None,
                }
            }),
        );
        let at = now();
        if let Some(heard) = heard_database {
            database.heard(at, heard);
        }
        if let Some(heard) = heard_broker {
            broker.heard(at, heard);
        }
        Picture::new(at, database, broker)
    }
}

async fn once(sources: &mut Sources, as_json: bool) -> Result<u8> {
    let blank = sources.blank();
    let picture = sources.read(blank).await;
    if as_json {
        terminal::print_json(&picture)?;
    } else {
        let width =
            ratatui::crossterm::terminal::size().ok().filter(|_| stdout().is_terminal()).map_or(WIDTH, |(width, _)| width);
        terminal::print(&draw::as_text(&picture, width))?;
    }
    Ok(if picture.is_partial() { exit::UNAVAILABLE } else { exit::SUCCESS })
}

async fn watched(sources: &mut Sources, interval: Duration) -> Result<u8> {
    let mut signals = Signals::install()?;
    let (send, mut pictures) = watch::channel(sources.blank());
    let stopped = CancellationToken::new();
    let told = stopped.clone();
    let mut showing = tokio::task::spawn_blocking(move || live::show(&mut pictures, &told));
    let reading = async {
        loop {
            let known = send.borrow().clone();
            let picture = sources.read(known).await;
            if send.send(picture).is_err() {
                // Nobody looks any more.
                return;
            }
            tokio::time::sleep(interval).await;
        }
    };
    let (shown, code) = tokio::select! {
        shown = &mut showing => (shown, None),
        code = signals.next() => {
            stopped.cancel();
            (showing.await, Some(code))
        }
        () = reading => (showing.await, None),
    };
    let wish = shown.context("the view broke off")?.context("cannot use the terminal")?;
    Ok(match (wish, code) {
        (_, Some(code)) => code,
        (Wish::Interrupt, None) => exit::INTERRUPTED,
        (Wish::End | Wish::Stay, None) => exit::SUCCESS,
    })
}
