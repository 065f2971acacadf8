//! `offpeak bench`: the grid in this process under loads that do nothing, so that only the grid is measured.

mod load;
mod noop;
mod relay;
mod report;

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use ports::broker::Verdict;
use ports::clock::SystemClock;
use ports::{Broker, Consumer};
use protocol::{CustomerName, address};

use crate::args::BenchArgs;
use crate::client::Client;
use crate::data::DataFolder;
use crate::grid::{self, Grid, Options};
use crate::{exit, terminal};

use report::{Rate, Report};

/// Replies taken off the queue at once.
const REPLIES: u16 = 200;

/// Measures.
pub(crate) async fn bench(args: BenchArgs) -> Result<u8> {
    let data = DataFolder::open(None)?;
    let workers = args.workers.map_or_else(grid::cores, NonZeroUsize::get);
    let options = Options {
        data: data.path().to_owned(),
        workers,
        pool: noop::pool()?,
        executor_bytes: 0,
        amqp: args.broker.amqp.clone(),
        database: args.database.clone(),
    };
    let grid = Grid::start(options).await.context("cannot start the grid")?;
    let report = tokio::select! {
        report = measured(&grid, &args, workers, data.path()) => report,
        error = grid.failed() => Err(error.context("the grid stopped")),
        _ = tokio::signal::ctrl_c() => { data.close(); return Ok(exit::INTERRUPTED) }
    };
    if let Err(error) = grid.drain().await {
        tracing::warn!("the grid did not end well: {}", exit::told(&error));
    }
    data.close();
    let report = report?;
    if args.json {
        terminal::print_json(&report)?;
    } else {
        terminal::print(&report.text())?;
    }
    Ok(exit::SUCCESS)
}

async fn measured(grid: &Grid, args: &BenchArgs, workers: usize, folder: &std::path::Path) -> Result<Report> {
    let client = |customer: &str| -> Result<Client> {
        let customer = CustomerName::new(customer)?;
        Ok(Client { store: grid.store(), broker: grid.broker(), customer, clock: Arc::new(SystemClock), user_id: None })
    };
    let (bench, alone) = (client("bench")?, client("bench-latency")?);
    let module = noop::module(folder)?;
    // A customer has the use of what it uploaded itself.
    for customer in [&bench, &alone] {
        customer.upload(std::slice::from_ref(&module), &mut |_, _| {}).await?;
    }
    let progress = |text: &str| {
        if !args.json {
            terminal::note(text);
        }
    };
    let one = noop::job(module.digest, 1, None)?;
    // The first job waits for the app to be compiled; that is measured nowhere.
    load::latency(&alone, &one, 1).await?;
    progress("one-item jobs, one after the other");
    let latency = load::latency(&alone, &one, args.samples).await?;
    progress("jobs of no-op units");
    let units = noop::job(module.digest, u64::from(args.units), Some(1))?;
    let specs: Vec<_> = (0..args.jobs).map(|_| units.clone()).collect();
    let noop_units = with_replies_read(&bench, load::load(&bench, &specs)).await?;
    progress("a job of tiny items");
    let tiny = noop::job(module.digest, args.items, None)?;
    let tiny_items = with_replies_read(&bench, load::load(&bench, std::slice::from_ref(&tiny))).await?;
    let relay = match args.broker.amqp {
        Some(_) => {
            progress("the raw two-hop relay");
            let count = u64::from(args.jobs) * u64::from(args.units);
            Some(raw(grid.broker().as_ref(), count, noop_units.settle_units).await?)
        }
        None => None,
    };
    let broker = if args.broker.amqp.is_some() { "RabbitMQ" } else { "in memory" };
    let database = match args.database.as_deref() {
        Some(url) if url.starts_with("postgres") => "PostgreSQL",
        Some(_) | None => "SQLite",
    };
    Ok(Report { broker, database, workers, noop_units, tiny_items, latency, relay })
}

async fn raw(broker: &dyn Broker, count: u64, settled: Rate) -> Result<report::Relay> {
    relay::relay(broker, &SystemClock, count, settled).await.context("the raw relay failed")
}

/// Does the work while the customer's replies are taken off its queue, as a customer would.
async fn with_replies_read<T>(client: &Client, work: impl Future<Output = Result<T>>) -> Result<T> {
    client.broker.declare_customer(&client.customer).await?;
    let consumer = client.broker.consume(&address::results_queue(&client.customer), REPLIES).await?;
    let done = tokio::select! {
        done = work => done,
        error = read_all(consumer.as_ref()) => Err(error.context("cannot read the replies")),
    };
    consumer.cancel().await?;
    done
}

async fn read_all(consumer: &dyn Consumer) -> anyhow::Error {
    loop {
        let settled = match consumer.next(usize::from(REPLIES)).await {
            Ok(batch) if batch.is_empty() => return anyhow::anyhow!("the queue ended"),
            Ok(batch) => {
                let verdicts: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
                consumer.settle(&verdicts).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            return error.into();
        }
    }
}
