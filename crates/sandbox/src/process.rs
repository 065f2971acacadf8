//! A child process of ours: started with nothing but its pipes, ended for certain, and what its end means in words.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// Bytes kept of what a child said before it died.
const STDERR_BYTES: u64 = 4 << 10;
/// A child that has closed its pipes, or was killed, is gone within this time unless the machine is stuck.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Starts a child: no environment, a process group of its own, killed when dropped.
pub(crate) fn spawn(command: &[OsString]) -> Result<Child, std::io::Error> {
    let Some((program, args)) = command.split_first() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the command is empty"));
    };
    // The group makes the kernel wake and end a paused child whose parent is gone (an orphaned group, POSIX `exit`).
    Command::new(program)
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// How a child ended that should not have.
#[derive(Debug)]
pub(crate) struct Death {
    #[cfg(feature = "publish")]
    pub(crate) signal: Option<i32>,
    /// Signal or code, and the end of what it said.
    pub(crate) words: String,
}

impl Death {
    fn new(status: Option<ExitStatus>, words: String) -> Self {
        #[cfg(not(feature = "publish"))]
        let _unasked = status;
        Self {
            #[cfg(feature = "publish")]
            signal: status.and_then(|status| status.signal()),
            words,
        }
    }
}

/// Ends a child and says how it had ended, if it had by itself.
pub(crate) async fn bury(mut child: Child) -> Death {
    // Its pipes are closed or broken, so it ends by itself in a moment; if not, it is killed when dropped.
    drop(child.stdin.take());
    drop(child.stdout.take());
    let status = match tokio::time::timeout(EXIT_LIMIT, child.wait()).await {
        Ok(Ok(status)) => status,
        Ok(Err(e)) => return Death::new(None, format!("its exit status is unknown: {e}")),
        Err(_elapsed) => return Death::new(None, "it did not end".into()),
    };
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is not said; the status is the answer.
        let _read = tokio::time::timeout(EXIT_LIMIT, stderr.take(STDERR_BYTES).read_to_end(&mut said)).await;
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let words = if said.is_empty() { exit_words(status) } else { format!("{}: {said}", exit_words(status)) };
    Death::new(Some(status), words)
}

fn exit_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => status.to_string(),
    }
}
