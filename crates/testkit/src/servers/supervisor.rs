//! One server process that never outlives the test process, whichever way that ends.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The shell side: starts, kills and restarts the server, and cleans up when its stdin ends.
const SCRIPT: &str = include_str!("supervisor.sh");

/// How often a condition is looked at while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of a server's console a failure message quotes.
const QUOTED_LINES: usize = 25;

/// Where ports for servers are looked for: below those that systems give to outgoing connections, one of which could have the
/// port of a server that is killed and started again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many ports are tried; more are never taken in a row.
const PORT_TRIES: usize = 100;

/// Ports that this process was given.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Makes folder names of one process differ.
static NEXT_SCRATCH: AtomicU32 = AtomicU32::new(0);

/// A server under a supervising shell.
#[derive(Debug)]
pub(super) struct Supervised {
    name: &'static str,
    scratch: PathBuf,
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    server: Option<u32>,
}

/// How to run a server.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) scratch: PathBuf,
    /// The signal that stops it in an orderly way, by name.
    pub(super) stop: &'static str,
    pub(super) command: Vec<String>,
    /// Its whole environment.
    pub(super) env: Vec<(&'static str, String)>,
}

impl Supervised {
    /// Starts the shell, not yet the server.
    pub(super) fn new(recipe: Recipe) -> Result<Self, String> {
        let failed = |error| format!("cannot start the supervisor of {}: {error}", recipe.name);
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "supervisor.sh"])
            .arg(&recipe.scratch)
            .arg(recipe.stop)
            .args(&recipe.command)
            .env_clear()
            .envs(recipe.env)
            .current_dir(&recipe.scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Apart from the terminal's group: Ctrl-C reaches the test process, whose end is the signal here.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("the supervisor of {} has no pipes", recipe.name));
        };
        let shell = Shell { child, stdin: Some(stdin), stdout: BufReader::new(stdout), server: None };
        Ok(Self { name: recipe.name, scratch: recipe.scratch, shell: Mutex::new(shell) })
    }

    /// Starts the server and waits until `is_up`, for at most `patience`.
    pub(super) fn start(&self, patience: Duration, is_up: impl Fn() -> bool) -> Result<(), String> {
        let answer = self.say("start")?;
        let server: u32 = answer.parse().map_err(|error| format!("{} has no process id in {answer:?}: {error}", self.name))?;
        self.lock().server = Some(server);
        let looks = patience.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..looks {
            if is_up() {
                return Ok(());
            }
            if has_ended(server) {
                return Err(format!("{} ended while starting{}", self.name, self.console()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let seconds = patience.as_secs();
        Err(format!("{} was not up after {seconds} s{}", self.name, self.console()))
    }

    /// The server's process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.lock().server
    }

    /// Kills the server and its children with SIGKILL, and returns when they are gone.
    pub(super) fn kill9(&self) -> Result<(), String> {
        self.lock().server = None;
        self.say("kill9").map(drop)
    }

    /// Stops the server in an orderly way, and returns when it is gone.
    pub(super) fn stop(&self) -> Result<(), String> {
        self.lock().server = None;
        self.say("stop").map(drop)
    }

    fn say(&self, word: &str) -> Result<String, String> {
        let mut shell = self.lock();
        let failed = |error| format!("the supervisor of {} does not answer: {error}", self.name);
        if let Some(stdin) = &mut shell.stdin {
            writeln!(stdin, "{word}").and_then(|()| stdin.flush()).map_err(failed)?;
        }
        let mut answer = String::new();
        shell.stdout.read_line(&mut answer).map_err(failed)?;
        if answer.is_empty() {
            return Err(format!("the supervisor of {} is gone", self.name));
        }
        Ok(answer.trim().to_owned())
    }

    /// The end of what the server printed, for a failure message.
    fn console(&self) -> String {
        let text = fs::read(self.scratch.join("console.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(QUOTED_LINES);
        format!("; its console ends with:\n{}", lines[from..].join("\n"))
    }

    fn lock(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let mut shell = self.lock();
        shell.stdin = None;
        if let Err(error) = shell.child.wait() {
            eprintln!("the supervisor of {} was lost: {error}", self.name);
        }
    }
}

/// Whether a child of the supervisor has ended; it stays as a zombie until the supervisor looks.
fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// Makes a fresh scratch folder that only its owner can read.
pub(super) fn scratch(name: &str) -> Result<PathBuf, String> {
    let base = std::env::temp_dir();
    // A folder left behind by a process of the same id is passed over.
    for _ in 0..1000 {
        let number = NEXT_SCRATCH.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("offpeak-{name}-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot make {}: {error}", path.display())),
        }
    }
    Err(format!("{} is full of old scratch folders", base.display()))
}

/// A TCP port of loopback that was free a moment ago, and that this process was not given before: a server asks for several, and
/// opens them later.
pub(super) fn free_port() -> Result<u16, String> {
    let mut problem = String::new();
    for _ in 0..PORT_TRIES {
        // By chance, so that test processes that begin together do not go for the same.
        let chance = u16::try_from(RandomState::new().hash_one(()) >> 48).unwrap_or_default();
        let port = PORTS.start + chance % (PORTS.end - PORTS.start);
        match std::net::TcpListener::bind(("127.0.0.1", port)) {
            Ok(_free) if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) => return Ok(port),
            Ok(_given_meanwhile) => {}
            Err(error) => problem = format!("{port}: {error}"),
        }
    }
    Err(format!("no free port on loopback: {problem}"))
}

/// Runs a command to its end and returns what it printed.
pub(super) fn output(what: &str, command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot run {what}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    Err(format!("{what} failed ({}): {}{}", output.status, printed.trim(), said.trim()))
}

/// Whether something accepts connections on a port of loopback.
pub(super) fn accepts(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// The first of these paths that exists.
pub(super) fn installed(candidates: &[&str]) -> Option<PathBuf> {
    candidates.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned)
}

/// The search path of this process, which the servers' own scripts need.
pub(super) fn search_path() -> String {
    variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

/// A variable of this process that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "test servers are configured by the environment of `cargo test`")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
