//! `offpeak doctor`: examines broker, database and services at the same time, and tells what is wrong and what to do.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use broker::RabbitSettings;
use broker::rabbit::{self, Account, Accounts, Examination, ManagementError, Outside};
use protocol::Micros;
use protocol::address::WORK_EXCHANGE;
use store::{SqlStore, StoreOptions};

use super::connect::redacted;
use crate::args::DoctorArgs;
use crate::doctor::broker::Expected;
use crate::doctor::database::Known;
use crate::doctor::{self, Finding, Level};
use crate::exit::{Refused, told};
use crate::grid::{self, Settings};
use crate::terminal;
use crate::times::now;

/// How long one answer of the broker may take, a connection too.
const STEP_PATIENCE: Duration = Duration::from_secs(4);
/// And all of them: a large grid has hundreds of queues.
const BROKER_PATIENCE: Duration = Duration::from_secs(30);
/// How long each answer of the database may take.
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);

/// Examines a grid.
pub(super) async fn doctor(args: DoctorArgs) -> Result<u8> {
    let settings = Settings::load(args.config.as_deref())?;
    let amqp = args.broker.url().unwrap_or_else(|| settings.amqp.url.expose()).to_owned();
    let management = args.management.unwrap_or_else(|| settings.amqp.management_url.expose().to_owned());
    let database = args.database.unwrap_or_else(|| settings.database.url.expose().to_owned());
    let pools = settings.pools().map_err(Refused::Usage)?;
    let expected = Expected {
        address: redacted(&amqp),
        topology: grid::topology(pools.iter().map(|(name, pool)| (name, pool.lanes)), settings.grid.shards),
        declares: settings.amqp.declare,
        service: args.service,
        max_unit_ms: settings.producer.max_unit_ms,
        lanes: format!("{WORK_EXCHANGE}.{}", settings.worker.pool),
    };
    let step_ms = u64::try_from(STEP_PATIENCE.as_millis()).unwrap_or(u64::MAX);
    let rabbit =
        RabbitSettings { name: "offpeak doctor".to_owned(), connection_timeout_ms: step_ms, ..RabbitSettings::new(&amqp) };
    let asking = async {
        let mut answers = Vec::new();
        for address in args.admin {
            answers.push(doctor::services::ask(address).await);
        }
        answers
    };
    let (examined, (outside, asked), accounts, known, services) = tokio::join!(
        Box::pin(examine(&rabbit, &expected)),
        Box::pin(look(&rabbit, &management, &expected)),
        Box::pin(customers(&amqp, &management)),
        Box::pin(know(&database)),
        Box::pin(asking),
    );
    let mut findings = doctor::broker::judge(&expected, &examined);
    findings.extend(doctor::management::judge(&expected, outside.as_ref(), asked));
    findings.extend(doctor::customers::judge(accounts.as_ref()));
    if let Some(known) = known {
        findings.extend(doctor::database::judge(&redacted(&database), &known));
    } else {
        let (says, cure) = ("not named, so it is not checked", "name it with --database URL, or set database.url");
        findings.push(Finding::bad(Level::Unchecked, "database", says, cure));
    }
    let mut shared = settings.shared();
    match grid::Terms::load(&settings) {
        Ok(terms) => shared.extend(terms.shared()),
        Err(error) => findings.push(Finding::bad(
            Level::Wrong,
            "settings",
            error.to_string(),
            "mend the rate card: no producer starts with it",
        )),
    }
    findings.extend(doctor::services::judge(&services, &shared, env!("CARGO_PKG_VERSION")));
    if args.json {
        terminal::print_json(&doctor::as_json(&findings))?;
    } else {
        terminal::print(&doctor::as_text(&findings))?;
    }
    Ok(doctor::exit_code(&findings))
}

async fn examine(settings: &RabbitSettings, expected: &Expected) -> Result<Examination, String> {
    match tokio::time::timeout(BROKER_PATIENCE, rabbit::examine(settings, &expected.topology)).await {
        Ok(examined) => examined.map_err(|error| told(&error.into())),
        Err(_late) => Err(format!("it did not answer all questions within {BROKER_PATIENCE:?}")),
    }
}

type Looked = (Option<Result<Outside, ManagementError>>, (Micros, Micros));

async fn look(settings: &RabbitSettings, management: &str, expected: &Expected) -> Looked {
    let before = now();
    if management.is_empty() {
        return (None, (before, before));
    }
    let outside = rabbit::look(settings, management, &expected.topology, STEP_PATIENCE).await;
    (Some(outside), (before, now()))
}

/// What customers have at the broker; `None` without a management side.
async fn customers(amqp: &str, management: &str) -> Option<Result<Vec<Account>, ManagementError>> {
    if management.is_empty() {
        return None;
    }
    let vhost = rabbit::vhost_of(amqp).unwrap_or_else(|| "/".to_owned());
    match Accounts::new(management, &vhost, STEP_PATIENCE) {
        Ok(accounts) => Some(accounts.all().await),
        Err(error) => Some(Err(error)),
    }
}

/// What the database tells; `None` without one.
async fn know(url: &str) -> Option<Known> {
    if url.is_empty() {
        return None;
    }
    let before = now();
    let unknown = |reason: String| Known { about: Err(reason), schema: Ok(()), asked: (before, before), free_disk: None };
    if let Some(reason) = grid::no_file(url) {
        return Some(unknown(reason));
    }
    let options = StoreOptions { max_connections: 1, patience: DATABASE_PATIENCE, ..StoreOptions::default() };
    let store = match SqlStore::connect(url, options).await {
        Ok(store) => store,
        Err(error) => return Some(unknown(told(&error.into()))),
    };
    let late = || format!("it did not answer within {DATABASE_PATIENCE:?}");
    let before = now();
    let about = tokio::time::timeout(DATABASE_PATIENCE, store.about()).await;
    let after = now();
    let schema = tokio::time::timeout(DATABASE_PATIENCE, store.check_schema()).await;
    Some(Known {
        about: about.map_or_else(|_late| Err(late()), |about| about.map_err(|error| told(&error.into()))),
        schema: match schema {
            Ok(Ok(_standing)) => Ok(()),
            Ok(Err(error)) => Err(told(&error.into())),
            Err(_late) => Err(late()),
        },
        asked: (before, after),
        free_disk: url.strip_prefix("sqlite://").and_then(|path| free_disk(Path::new(path))),
    })
}

fn free_disk(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
