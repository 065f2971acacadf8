//! A private PostgreSQL, and the address of any.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::address::unique;
use super::supervisor::{Recipe, Supervised, free_port, output, scratch, search_path};

/// Where packages put the server's programs, one folder a version.
const VERSIONS: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql"];

/// A server starts in under a second on an idle machine; recovery after a kill and a crowded machine take longer.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// A port found free may be taken by someone else before the server binds it.
const START_TRIES: usize = 3;

/// Who runs the server when the tests run as root, which PostgreSQL refuses.
const ACCOUNT: &str = "postgres";

/// Makes the databases of one process differ.
static NEXT_DATABASE: AtomicU32 = AtomicU32::new(0);

/// Where a PostgreSQL is: enough to connect and to make databases.
#[derive(Debug, Clone)]
pub struct PostgresAddress {
    url: String,
}

impl PostgresAddress {
    /// An address by its URL, with a user who may create databases.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// The URL of the database that is there from the start.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Makes a fresh, empty database and returns its URL.
    ///
    /// # Panics
    /// When the server refuses or `psql` is not installed.
    pub fn fresh_database(&self) -> String {
        let number = NEXT_DATABASE.fetch_add(1, Ordering::Relaxed);
        let name = format!("offpeak-test-{}-{number}", unique());
        let statement = format!("create database \"{name}\"");
        if let Err(problem) = psql(&self.url, &statement) {
            panic!("no fresh database for the test: {problem}");
        }
        let (before, options) = match self.url.split_once('?') {
            Some((before, options)) => (before, format!("?{options}")),
            None => (self.url.as_str(), String::new()),
        };
        let host_at = before.find("://").map_or(0, |at| at + 3);
        let host_end = before[host_at..].find('/').map_or(before.len(), |at| host_at + at);
        format!("{}/{name}{options}", &before[..host_end])
    }
}

/// Runs SQL against the database of that URL; its rows, columns separated by `|`.
pub fn psql(url: &str, statement: &str) -> Result<String, String> {
    let arguments =
        ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement];
    // Debian's command of that name is a script, which takes several times as long as the program.
    let program = newest_programs("psql").map_or_else(|| "psql".into(), |programs| programs.join("psql"));
    let printed = output("psql (is it installed? `make setup`)", Command::new(program).args(arguments))?;
    Ok(printed.trim().to_owned())
}

/// What a commit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As in production: a commit has reached the disk.
    Synced,
    /// Nothing is synced: faster, for tests that do not kill the server.
    Fast,
}

/// A PostgreSQL of one's own; it ends when dropped or when the process ends.
#[derive(Debug)]
pub struct Postgres {
    address: PostgresAddress,
    server: Supervised,
    programs: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start(durability: Durability) -> Self {
        let mut problem = String::new();
        for _ in 0..START_TRIES {
            match Self::try_start(durability) {
                Ok(server) => return server,
                Err(failed) => problem = failed,
            }
        }
        panic!("no PostgreSQL for the tests: {problem}")
    }

    fn try_start(durability: Durability) -> Result<Self, String> {
        let missing = "it is not installed: run `make setup`, or name a running one in OFFPEAK_TEST_DATABASE_URL";
        let programs = newest_programs("postgres").ok_or(missing)?;
        let folder = scratch("postgres")?;
        let account = Account::of(&folder)?;
        account.give(&folder)?;
        let data = folder.join("data").to_string_lossy().into_owned();
        let program = |name: &str| programs.join(name).to_string_lossy().into_owned();

        let mut initdb = account.run_as(vec![program("initdb"), "-D".into(), data.clone()]);
        let options = "-U offpeak -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions";
        initdb.extend(options.split(' ').map(str::to_owned));
        let mut command = Command::new(&initdb[0]);
        output("initdb", command.args(&initdb[1..]).current_dir(&folder))?;

        let port = free_port()?;
        let synced = match durability {
            Durability::Synced => "on",
            Durability::Fast => "off",
        };
        let mut arguments = vec![program("postgres"), "-D".into(), data, "-p".into(), port.to_string()];
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            &format!("fsync={synced}"),
            &format!("synchronous_commit={synced}"),
            &format!("full_page_writes={synced}"),
        ] {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let server = Self {
            address: PostgresAddress::new(&format!("postgres://offpeak@127.0.0.1:{port}/postgres")),
            server: Supervised::new(Recipe {
                name: "postgres",
                scratch: folder,
                // Immediate shutdown: nothing is kept, but its shared memory is released.
                stop: "QUIT",
                command: account.run_as(arguments),
                env: vec![("PATH", search_path()), ("LANG", "C.UTF-8".into())],
            })?,
            programs,
            port,
        };
        server.server.start(START_PATIENCE, || server.is_up())?;
        Ok(server)
    }

    /// Where it is.
    pub fn address(&self) -> &PostgresAddress {
        &self.address
    }

    /// The URL of the database that is there from the start.
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// Makes a fresh, empty database and returns its URL.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn fresh_database(&self) -> String {
        self.address.fresh_database()
    }

    /// Copies a database into a fresh one while it is used, as it was at one moment, and returns the copy's URL.
    ///
    /// # Panics
    /// When the server refuses, or its dump cannot be kept.
    pub fn copy(&self, url: &str) -> String {
        let fresh = self.fresh_database();
        let name = fresh.rsplit('/').next().unwrap_or("copy");
        let dump = std::env::temp_dir().join(format!("{name}.dump"));
        let (dumped, kept) = (self.programs.join("pg_dump"), dump.display().to_string());
        let made = output("pg_dump", Command::new(dumped).args(["--format=custom", "--compress=0", "--file", &kept, url]));
        let restore = self.programs.join("pg_restore");
        let restored =
            made.and_then(|_| output("pg_restore", Command::new(restore).args(["--exit-on-error", "-d", &fresh, &kept])));
        drop(fs::remove_file(&dump)); // a dump that was not made is not there
        restored.unwrap_or_else(|problem| panic!("{problem}"));
        fresh
    }

    /// The process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Kills the server and its backends with SIGKILL, as a power cut would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill9(&self) {
        self.server.kill9().unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Starts the server again on the same port and data, and waits for its recovery.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&self) {
        let started = self.server.stop().and_then(|()| self.server.start(START_PATIENCE, || self.is_up()));
        started.unwrap_or_else(|problem| panic!("{problem}"));
    }

    fn is_up(&self) -> bool {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-d", "postgres"]);
        output("pg_isready", &mut ready).is_ok()
    }
}

/// The account that the server runs under.
#[derive(Debug)]
enum Account {
    /// That of the tests.
    Own,
    /// Another one, because the tests run as root.
    Other { user: u32, group: u32 },
}

impl Account {
    /// `folder` was just made by this process, so its owner is this process's user.
    fn of(folder: &Path) -> Result<Self, String> {
        let made = fs::metadata(folder).map_err(|error| error.to_string())?;
        if made.uid() != 0 {
            return Ok(Self::Own);
        }
        let number = |flag: &str| {
            let printed = output("id", Command::new("id").args([flag, ACCOUNT]))?;
            printed.trim().parse().map_err(|error| format!("id {flag} {ACCOUNT}: {error}"))
        };
        Ok(Self::Other { user: number("-u")?, group: number("-g")? })
    }

    fn give(&self, folder: &Path) -> Result<(), String> {
        match self {
            Self::Own => Ok(()),
            Self::Other { user, group } => chown(folder, Some(*user), Some(*group))
                .map_err(|error| format!("cannot give {} to {ACCOUNT}: {error}", folder.display())),
        }
    }

    fn run_as(&self, command: Vec<String>) -> Vec<String> {
        let mut whole = match self {
            Self::Own => Vec::new(),
            Self::Other { user, group } => vec![
                "setpriv".to_owned(),
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--init-groups".to_owned(),
                "--pdeathsig=KILL".to_owned(),
                "--".to_owned(),
            ],
        };
        whole.extend(command);
        whole
    }
}

/// The programs of the newest version installed that has this one.
fn newest_programs(with: &str) -> Option<PathBuf> {
    let folders = VERSIONS.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let versions = folders.filter_map(|folder| {
        let version: u32 = folder.file_name().to_str()?.parse().ok()?;
        Some((version, folder.path().join("bin")))
    });
    versions.filter(|(_, programs)| programs.join(with).exists()).max().map(|(_, programs)| programs)
}
