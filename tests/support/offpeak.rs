//! The command `offpeak` as a user types it, and its services as processes that can be killed.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::servers;

/// No command of a test runs longer, and nothing is waited for longer: a hang is a failure with a name. A crowded machine is many
/// times as slow as an idle one.
pub(crate) const LIMIT: Duration = Duration::from_mins(15);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The command under test, built beside this test.
pub(crate) fn program() -> PathBuf {
    program_named("offpeak")
}

fn program_named(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let folder = test.parent().and_then(Path::parent).expect("the profile's folder");
    let program = folder.join(name);
    assert!(program.exists(), "{} is not there: build the workspace first (make test does)", program.display());
    program
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Its one JSON object.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}

/// Runs a command to its end.
pub(crate) fn offpeak<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Done {
    start(folder, args).end()
}

/// Starts a command.
pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Running {
    let mut command = Command::new(program());
    command.args(args).current_dir(folder).env_remove("OFFPEAK__AMQP__URL").env_remove("OFFPEAK__DATABASE__URL");
    Running::new(command, folder)
}

/// A started process; killed by its pid when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    fn new(mut command: Command, folder: &Path) -> Self {
        let unique = uuid::Uuid::now_v7();
        let (stdout, stderr) = (folder.join(format!("{unique}.out")), folder.join(format!("{unique}.err")));
        let file = |path: &Path| Stdio::from(std::fs::File::create(path).expect("a file for output"));
        let child = command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr)).spawn();
        Self { child: child.expect("start offpeak"), stdout, stderr }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Done {
        let ended = wait_for(|| self.child.try_wait().expect("wait"));
        let code = ended.unwrap_or_else(|| panic!("offpeak did not end in {LIMIT:?}: {}", self.stderr())).code();
        Done { code, stdout: read(&self.stdout), stderr: self.stderr() }
    }

    /// What it has written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// The address of its admin side, as it logs it.
    pub(crate) fn admin(&self) -> String {
        let listens = || {
            let log = self.stderr();
            let (_, rest) = log.split_once("admin http listens on ")?;
            // In JSON a quote ends it.
            rest.split(|char: char| char.is_whitespace() || char == '"').next().map(str::to_owned)
        };
        wait_for(listens).unwrap_or_else(|| panic!("no admin side: {}", self.stderr()))
    }

    /// What its admin side answers: the status line and the body.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(self.admin()).expect("connect to the admin side");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        answer
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(&self) {
        let ready = || self.get("/readyz").starts_with("HTTP/1.1 200").then_some(());
        wait_for(ready).unwrap_or_else(|| panic!("not ready: {} {}", self.get("/readyz"), self.stderr()));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `-INT`.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// kill -9, and waits for its end.
    pub(crate) fn kill9(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Its memory in bytes, as the system names it: `VmHWM:` is the most so far, `VmRSS:` what it takes now.
    pub(crate) fn memory(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.runs() {
            self.child.kill().expect("kill");
            self.child.wait().expect("wait");
        }
    }
}

fn read(path: &Path) -> String {
    let mut text = Vec::new();
    std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)).expect("read output");
    String::from_utf8_lossy(&text).into_owned()
}

/// Looks until there is something, within a bound.
#[expect(clippy::disallowed_methods, reason = "a bound on waiting; no result depends on it")]
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is a folder of the root").to_owned()
}

/// Writes a job file for an example app, with keys before the tables and a body of tables.
pub(crate) fn job(folder: &Path, name: &str, app: &str, rest: &str) -> PathBuf {
    let app = if app.contains(".wasm") { PathBuf::from(app) } else { root().join("examples").join(app).join("app.wasm") };
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, format!("app = {:?}\n{rest}", app.display().to_string())).expect("write the job file");
    path
}

/// The parameters of monte-carlo that small jobs share; those of its own job.
pub(crate) const MONTE_CARLO: &str = "[params.market]\nspot = 100.0\nstrike = 100.0\nrate = 0.05\nvolatility = 0.2\nmaturity_years = 1.0\n\
    steps = 52\n[params.beam]\nspan_m = 4.0\nsection_modulus_m3 = 2.52e-4\nload_mean_n = 40_000.0\nload_variation = 0.2\n\
    strength_mean_pa = 280.0e6\nstrength_variation = 0.07\n";

/// A monte-carlo job of so many items in units of at most so many.
pub(crate) fn monte_carlo(folder: &Path, items: u32, max_items: u32, before: &str) -> PathBuf {
    let unit = format!("[unit]\nmax_items = {max_items}\n");
    job(folder, "monte-carlo", "monte-carlo", &format!("{before}{}{unit}", monte_carlo_body(items, 4096)))
}

/// The rest of a monte-carlo job's file; an item is a matter of so many paths.
pub(crate) fn monte_carlo_body(items: u32, paths: u32) -> String {
    format!("reduce = true\n[input]\nrange = [0, {items}]\n[params]\nseed = 7\npaths_per_item = {paths}\n{MONTE_CARLO}")
}

/// A module written as text.
pub(crate) fn module(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, wat::parse_str(text).expect("a module")).expect("write the module");
    path.display().to_string()
}

/// An app that answers each item with nothing; `body` runs first and may look at the item's frame at 1024.
pub(crate) fn tiny_app(body: &str) -> String {
    format!(
        "(module (memory (export \"memory\") 1)\n\
         (func (export \"op_alloc\") (param i32) (result i32) i32.const 1024)\n\
         (func (export \"op_map\") (param i32 i32) (result i64) {body}\n\
         (i32.store (i32.const 4096) (i32.const 1))\n\
         (i64.or (i64.shl (i64.const 4096) (i64.const 32)) (i64.const 16))))"
    )
}

/// A worker that computes one unit at a time.
pub(crate) const ONE_SLOT: [(&str, &str); 1] = [("OFFPEAK__WORKER__SLOTS", "1")];

/// The services over real servers: a vhost and a database of their own.
pub(crate) struct Services {
    folder: PathBuf,
    pub(crate) amqp: String,
    pub(crate) database: String,
}

impl Services {
    /// A fresh vhost and database, its tables made by the command.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        Self::on(folder, servers::rabbitmq().vhost(name), servers::postgres().fresh_database())
    }

    /// The same, the tables made by another build of the command.
    pub(crate) fn made_by(program: &Path, folder: &Path, name: &str) -> Self {
        Self::migrated_by(program, folder, servers::rabbitmq().vhost(name), servers::postgres().fresh_database())
    }

    /// Over a broker and an empty database that are there.
    pub(crate) fn on(folder: &Path, amqp: String, database: String) -> Self {
        Self::migrated_by(&program(), folder, amqp, database)
    }

    fn migrated_by(program: &Path, folder: &Path, amqp: String, database: String) -> Self {
        let services = Self { folder: folder.to_owned(), amqp, database };
        let migrated = services.offpeak_of(program, &["migrate"]);
        assert_eq!(migrated.code, Some(0), "{migrated:?}");
        services
    }

    /// Starts a service, with settings such as `OFFPEAK__WORKER__LANE`, which may also name other servers.
    pub(crate) fn start(&self, kind: &str, settings: &[(&str, &str)]) -> Running {
        self.start_of(&program(), kind, settings)
    }

    /// The same of another build.
    pub(crate) fn start_of(&self, program: &Path, kind: &str, settings: &[(&str, &str)]) -> Running {
        let mut command = Command::new(program);
        command.arg(kind);
        self.service(command, settings)
    }

    /// The same from the service's own program.
    pub(crate) fn start_own(&self, kind: &str, settings: &[(&str, &str)]) -> Running {
        self.service(Command::new(program_named(&format!("offpeak-{kind}"))), settings)
    }

    fn service(&self, mut command: Command, settings: &[(&str, &str)]) -> Running {
        command.current_dir(&self.folder).env("OFFPEAK__ADMIN__ADDRESS", "127.0.0.1:0");
        command.env("OFFPEAK__AMQP__URL", &self.amqp).env("OFFPEAK__DATABASE__URL", &self.database);
        command.envs(settings.iter().copied());
        Running::new(command, &self.folder)
    }

    /// A command with both addresses.
    pub(crate) fn offpeak(&self, args: &[&str]) -> Done {
        self.begin(args).end()
    }

    /// The same of another build.
    pub(crate) fn offpeak_of(&self, program: &Path, args: &[&str]) -> Done {
        self.begin_of(program, args, &[]).end()
    }

    /// The same, not waited for.
    pub(crate) fn begin(&self, args: &[&str]) -> Running {
        self.begin_with(args, &[])
    }

    /// The same, with settings.
    pub(crate) fn begin_with(&self, args: &[&str], settings: &[(&str, &str)]) -> Running {
        self.begin_of(&program(), args, settings)
    }

    fn begin_of(&self, program: &Path, args: &[&str], settings: &[(&str, &str)]) -> Running {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.folder);
        command.env("OFFPEAK__AMQP__URL", &self.amqp).env("OFFPEAK__DATABASE__URL", &self.database);
        command.envs(settings.iter().copied());
        Running::new(command, &self.folder)
    }
}
