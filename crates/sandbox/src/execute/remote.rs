//! One executor process, seen from the worker: started, loaded, asked, paused with its like, and buried.

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ports::sandbox::{ExecuteError, Program};
use protocol::{CustomerName, Digest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::messages::{Answer, MAX_ANSWER_BYTES, Request};
use crate::process::{bury, spawn};
use crate::wire::{self, Parcel, WireError};

/// Programs that a process keeps loaded: the jobs of one customer that run at the same time.
const MAX_LOADED: usize = 4;
/// A process that has not come up after this never will, however busy the machine is.
const START_LIMIT: Duration = Duration::from_mins(1);

/// The processes of a pool, to be paused together.
#[derive(Debug)]
pub(crate) struct Herd {
    paused: watch::Sender<bool>,
    /// Only processes that have not been waited for, so that no number belongs to someone else.
    members: Mutex<Vec<Pid>>,
}

impl Herd {
    pub(crate) fn new() -> Self {
        Self { paused: watch::Sender::new(false), members: Mutex::default() }
    }

    /// Stops or continues them all.
    pub(crate) fn set_paused(&self, paused: bool) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        self.paused.send_replace(paused);
        for pid in members.iter() {
            // A process that is gone needs no signal; its reader learns that it died.
            let _sent = kill_process(*pid, if paused { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Waits until not paused.
    pub(crate) async fn running(&self) {
        let mut paused = self.paused.subscribe();
        // The sender lives as long as the herd, so this cannot fail; the answer holds a lock, so it goes at once.
        drop(paused.wait_for(|paused| !paused).await);
    }

    /// Waits for work that may take so much time, pauses not counted; nothing if it takes longer.
    pub(crate) async fn bounded<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<(T, Duration)> {
        let mut work = std::pin::pin!(work);
        let mut paused = self.paused.subscribe();
        let mut used = Duration::ZERO;
        loop {
            let stopped = *paused.borrow_and_update();
            let since = Instant::now();
            let spent = || if stopped { Duration::ZERO } else { since.elapsed() };
            tokio::select! {
                biased;
                done = &mut work => return Some((done, used + spent())),
                _changed = paused.changed() => used += spent(),
                () = sleep(limit.saturating_sub(used)), if !stopped => return None,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pid>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Remote {
    child: Option<Child>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    pid: Pid,
    herd: Arc<Herd>,
    customer: Option<CustomerName>,
    /// Programs it holds, least recently used first.
    loaded: Vec<Digest>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.herd.lock().retain(|pid| *pid != self.pid);
    }
}

impl Remote {
    /// Starts a process and waits until it has bounded itself.
    pub(crate) async fn start(command: &[OsString], memory_bytes: u64, herd: &Arc<Herd>) -> Result<Self, ExecuteError> {
        let words = || command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let failed = |reason: String| ExecuteError::Died { reason: format!("executor {} cannot be started: {reason}", words()) };
        let mut child = spawn(command).map_err(|e| failed(e.to_string()))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let (Some(stdin), Some(stdout), Some(pid)) = (child.stdin.take(), child.stdout.take(), pid) else {
            return Err(failed("it has no pipes".into()));
        };
        herd.lock().push(pid);
        let child = Some(child);
        let mut remote = Self { child, stdin, stdout, pid, herd: herd.clone(), customer: None, loaded: Vec::new() };
        let asked = timeout(START_LIMIT, remote.ask(&Request::Start { memory_bytes }, &[])).await;
        match asked {
            Ok(Ok(_ready)) => Ok(remote),
            Ok(Err(e)) => Err(failed(remote.epitaph(&e).await)),
            Err(_elapsed) => Err(failed(format!("it did not answer within {START_LIMIT:?}"))),
        }
    }

    /// Whether it has served no other customer than this one.
    pub(crate) fn may_serve(&self, customer: &CustomerName) -> bool {
        self.customer.as_ref().is_none_or(|served| served == customer)
    }

    /// Whether it still runs, as far as is known.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Makes sure that it holds the program.
    pub(crate) async fn load(&mut self, program: &Program) -> Result<Result<(), ExecuteError>, WireError> {
        self.customer = Some(program.customer.clone());
        if let Some(at) = self.loaded.iter().position(|brief| *brief == program.brief) {
            let brief = self.loaded.remove(at);
            self.loaded.push(brief);
            return Ok(Ok(()));
        }
        if self.loaded.len() >= MAX_LOADED {
            let brief = self.loaded.remove(0);
            self.ask(&Request::Forget { brief }, &[]).await?;
        }
        let Program { brief, customer, entry, limits, .. } = program.clone();
        let sections = [program.artefact.as_slice(), &program.params, &program.shared];
        let answer = self.ask(&Request::Load { brief, customer, entry, limits }, &sections).await?;
        Ok(match answer.header {
            Answer::Failed(failure) => Err(failure.into()),
            Answer::Ready | Answer::Done { .. } => {
                self.loaded.push(brief);
                Ok(())
            }
        })
    }

    /// Asks one thing and waits for its answer.
    pub(crate) async fn ask(&mut self, request: &Request, sections: &[&[u8]]) -> Result<Parcel<Answer>, WireError> {
        wire::send(&mut self.stdin, request, sections).await?;
        wire::receive(&mut self.stdout, MAX_ANSWER_BYTES).await
    }

    /// Why a process that broke off did so.
    pub(crate) async fn epitaph(mut self, error: &WireError) -> String {
        let Some(child) = self.child.take() else { return error.to_string() };
        self.herd.lock().retain(|pid| *pid != self.pid);
        drop(self);
        match error {
            WireError::Pipe(_) => bury(child).await.words,
            // It talks nonsense: dropped, it is killed.
            WireError::Broken(_) => error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn work_over_its_time_is_given_up() {
        let herd = Herd::new();
        assert_eq!(herd.bounded(SECOND, sleep(2 * SECOND)).await, None);
        assert_eq!(herd.bounded(3 * SECOND, sleep(2 * SECOND)).await, Some(((), 2 * SECOND)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_counted() {
        let herd = Herd::new();
        let pauses = async {
            for _ in 0..3 {
                sleep(SECOND).await;
                herd.set_paused(true);
                sleep(100 * SECOND).await;
                herd.set_paused(false);
            }
        };
        let (done, ()) = tokio::join!(herd.bounded(5 * SECOND, sleep(304 * SECOND)), pauses);
        assert_eq!(done, Some(((), 4 * SECOND)));
    }
}
