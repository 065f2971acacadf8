//! Judges the database: reachable, of a known version, its tables this version's, room and clock.

use protocol::Micros;
use store::{About, Product};

use super::{Finding, Level, clock};
use crate::terminal::grouped;

const ABOUT: &str = "database";
/// The oldest PostgreSQL that its makers still mend; the grid is tested with 15.
const OLDEST_POSTGRES: u32 = 14;
/// Above this share of its connections in use, in percent, the next service may find none left.
const BUSY_PERCENT: u64 = 90;
/// Under this much free disk a SQLite file has no room for a large job.
const LITTLE_DISK: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// What is known of a database.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it tells of itself, or why it does not.
    pub about: Result<About, String>,
    /// Whether its tables are this version's, or why not.
    pub schema: Result<(), String>,
    /// Our clock before and after it was asked.
    pub asked: (Micros, Micros),
    /// Free bytes where a SQLite file lies.
    pub free_disk: Option<u64>,
}

/// Judges a database at this address, shown without its password.
pub fn judge(address: &str, known: &Known) -> Vec<Finding> {
    let about = match &known.about {
        Ok(about) => about,
        Err(reason) => {
            let says = format!("{address} cannot be used: {reason}");
            let cure = if address.starts_with("sqlite:") {
                "name the file of the grid; that of an `offpeak run --data DIR` is sqlite://DIR/grid.db"
            } else {
                "see that it is up, that address, user, password and database name are right, and that a network policy lets \
                 this machine through"
            };
            return vec![Finding::bad(Level::Wrong, ABOUT, says, cure)];
        }
    };
    let size = format!("{} MiB", grouped(&(about.bytes / MIB)));
    let mut findings = Vec::new();
    match &about.product {
        Product::Sqlite => {
            findings.push(Finding::well(ABOUT, format!("SQLite {}, {size}", about.version)));
            if let Some(free) = known.free_disk.filter(|free| *free < LITTLE_DISK) {
                let says = format!("only {} MiB are free where {address} lies", grouped(&(free / MIB)));
                findings.push(Finding::bad(Level::Warning, "disk", says, "free some, or move the folder to a larger disk"));
            }
        }
        Product::Postgres { .. } => findings.extend(postgres(address, about, &size, known.asked)),
    }
    findings.push(match &known.schema {
        Ok(()) => Finding::well("schema", "the tables are those of this version"),
        Err(reason) => {
            let newer = reason.contains("newer version");
            let cure = if newer {
                "run the version of offpeak that made them, or restore a backup from before"
            } else {
                "run `offpeak migrate` of this version against it, then start the services again"
            };
            Finding::bad(Level::Wrong, "schema", reason.clone(), cure)
        }
    });
    findings
}

fn postgres(address: &str, about: &About, size: &str, asked: (Micros, Micros)) -> Vec<Finding> {
    let Product::Postgres { now, connections, max_connections, read_only, durable } = about.product else { return Vec::new() };
    let says = format!("PostgreSQL {} at {address}, {size}, {connections} of {max_connections} connections", about.version);
    let major = about.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let mut findings = vec![if major.is_some_and(|major| major >= OLDEST_POSTGRES) {
        Finding::well(ABOUT, says)
    } else {
        let says = format!("{says}: this version is out of its makers' support");
        Finding::bad(Level::Warning, ABOUT, says, format!("update it to PostgreSQL {OLDEST_POSTGRES} or later"))
    }];
    if read_only {
        let cure = "name the primary in database.url: this server is a standby, or default_transaction_read_only is on";
        findings.push(Finding::bad(Level::Wrong, ABOUT, format!("{address} takes no writes"), cure));
    }
    if !durable {
        let says = "a commit is told before it is on disk: a power cut loses results that customers were told of";
        let cure = "set fsync and synchronous_commit to on in postgresql.conf, for this database and its user too";
        findings.push(Finding::bad(Level::Warning, ABOUT, says, cure));
    }
    if u64::from(connections) * 100 >= u64::from(max_connections) * BUSY_PERCENT {
        let says = format!("{connections} of {max_connections} connections are in use");
        let cure = "raise max_connections, put a pooler in front, or lower database.max_connections of the services";
        findings.push(Finding::bad(Level::Warning, ABOUT, says, cure));
    }
    findings.push(clock("the database", now, asked, 0));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(version: &str, change: impl FnOnce(&mut Known)) -> Vec<Finding> {
        let now = Micros(1_000_000_000);
        let product = Product::Postgres { now, connections: 7, max_connections: 100, read_only: false, durable: true };
        let about = About { product, version: version.to_owned(), bytes: 5 * MIB };
        let mut known = Known { about: Ok(about), schema: Ok(()), asked: (now, now), free_disk: None };
        change(&mut known);
        judge("postgres://ann@db/grid", &known)
    }

    fn bad(findings: &[Finding]) -> Vec<(Level, &'static str)> {
        let bad = findings.iter().filter(|finding| finding.level > Level::Well);
        bad.map(|finding| (finding.level, finding.about)).collect()
    }

    #[test]
    fn each_fault_is_told_by_itself() {
        assert_eq!(bad(&known("15.6 (Debian 15.6-0)", |_| {})), []);
        assert_eq!(bad(&known("12.1", |_| {})), [(Level::Warning, "database")]);
        assert_eq!(bad(&known("17.0", |known| known.about = Err("refused".to_owned()))), [(Level::Wrong, "database")]);
        let product = |change: fn(&mut Product)| bad(&known("16.2", |known| change(&mut known.about.as_mut().unwrap().product)));
        assert_eq!(product(|product| *product = postgres_with(7, true, true, 0)), [(Level::Wrong, "database")]);
        assert_eq!(product(|product| *product = postgres_with(7, false, false, 0)), [(Level::Warning, "database")]);
        assert_eq!(product(|product| *product = postgres_with(90, false, true, 0)), [(Level::Warning, "database")]);
        assert_eq!(product(|product| *product = postgres_with(7, false, true, -60)), [(Level::Wrong, "clock")]);
    }

    fn postgres_with(connections: u32, read_only: bool, durable: bool, skew_s: i64) -> Product {
        let now = Micros(1_000_000_000 + skew_s * 1_000_000);
        Product::Postgres { now, connections, max_connections: 100, read_only, durable }
    }

    #[test]
    fn tables_of_another_version_have_their_own_way_out() {
        let behind = known("15.6", |known| known.schema = Err("schema is at version 1 of 2".to_owned()));
        assert!(behind.last().unwrap().cure.as_ref().unwrap().contains("offpeak migrate"));
        let ahead = known("15.6", |known| known.schema = Err("migrated by a newer version of offpeak".to_owned()));
        assert!(ahead.last().unwrap().cure.as_ref().unwrap().contains("restore a backup"));
    }

    #[test]
    fn a_small_disk_is_told() {
        let sqlite = About { product: Product::Sqlite, version: "3.46".to_owned(), bytes: 4096 };
        let now = (Micros(0), Micros(0));
        let known = |free_disk| Known { about: Ok(sqlite.clone()), schema: Ok(()), asked: now, free_disk };
        assert_eq!(bad(&judge("sqlite:///x", &known(Some(LITTLE_DISK)))), []);
        assert_eq!(bad(&judge("sqlite:///x", &known(Some(MIB)))), [(Level::Warning, "disk")]);
    }
}
