//! Structured concurrency: every task belongs to a scope that joins it, and a failed task stops the process.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use crate::{Liveness, told};

/// How long an aborted task has to reach its next await; one that blocks its thread is left behind and named.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// The error type of tasks: whatever they have.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

type TaskResult = Result<(), TaskError>;

/// The owner of a process's tasks; clones are handles to the same scope.
///
/// It ends in two phases. *Drain*: [`stopping`](Self::stopping) is cancelled, tasks stop taking work, finish what
/// they hold and return, within a grace period. *Abort*: what is left is dropped at its next await. A task that
/// returns an error or panics starts the drain of the others, and [`join`](Self::join) says which it was.
#[derive(Debug, Clone)]
pub struct Scope {
    tasks: Arc<Mutex<Tasks>>,
    liveness: Liveness,
    stopping: CancellationToken,
    aborting: CancellationToken,
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Tasks {
    /// Joined by the drain.
    main: JoinSet<TaskResult>,
    /// Serve the others (admin HTTP), and so end after them.
    background: JoinSet<TaskResult>,
    main_names: BTreeMap<Id, String>,
    background_names: BTreeMap<Id, String>,
    reason: Option<Reason>,
    ended: bool,
}

/// Why a scope was told to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// SIGTERM: an orchestrator or operator wants it gone.
    Terminate,
    /// SIGINT: a person pressed Ctrl-C.
    Interrupt,
    /// The program itself.
    Request(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminate => write!(out, "SIGTERM"),
            Self::Interrupt => write!(out, "SIGINT"),
            Self::Request(text) => write!(out, "{text}"),
        }
    }
}

/// A scope ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Every task returned by itself.
    Completed,
    /// Every task returned within the grace period after it was asked to.
    Drained(Reason),
}

/// A scope ended badly; work may have been cut off (which every service survives, as after a crash).
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// A task returned an error.
    #[error("task {task} failed")]
    Failed {
        /// The task's name.
        task: String,
        /// Its error.
        #[source]
        source: TaskError,
    },
    /// A task panicked: a bug.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// The task's name.
        task: String,
        /// The panic's message.
        message: String,
    },
    /// Tasks were still busy when the grace period was over, and were aborted.
    #[error("drain after {reason} was cut off after {grace_ms} ms with tasks still busy: {}", tasks.join(", "))]
    Late {
        /// Why it was told to stop.
        reason: Reason,
        /// The grace period.
        grace_ms: u128,
        /// The names of the tasks that were busy.
        tasks: Vec<String>,
    },
    /// It was told to stop at once.
    #[error("aborted by {reason} with tasks still busy: {}", tasks.join(", "))]
    Aborted {
        /// Why.
        reason: Reason,
        /// The names of the tasks that were busy.
        tasks: Vec<String>,
    },
}

/// A long-lived task returned although nobody had asked it to.
#[derive(Debug, thiserror::Error)]
#[error("it returned although nothing had asked it to stop")]
struct EndedEarly;

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl Scope {
    /// A scope without tasks.
    pub fn new() -> Self {
        Self::watched_by(Liveness::default())
    }

    /// A scope whose tasks are watched so.
    pub(crate) fn watched_by(liveness: Liveness) -> Self {
        Self {
            tasks: Arc::default(),
            liveness,
            stopping: CancellationToken::new(),
            aborting: CancellationToken::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Starts a task that may return at any time. `name` tells people and logs what it does.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = TaskResult> + Send + 'static,
    {
        let mut tasks = self.lock();
        if tasks.ended {
            let name = name.into();
            tracing::debug!(task = name, "task {name} was not started: its scope has ended");
            return;
        }
        let name = name.into();
        let handle = tasks.main.spawn(self.liveness.watch(name.clone(), task));
        tasks.main_names.insert(handle.id(), name);
    }

    /// Starts a loop of the service: to return before [`stopping`](Self::stopping) is a failure, even without error.
    pub fn spawn_loop<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = TaskResult> + Send + 'static,
    {
        let stopping = self.stopping.clone();
        self.spawn(name, async move {
            task.await?;
            if stopping.is_cancelled() { Ok(()) } else { Err(TaskError::from(EndedEarly)) }
        });
    }

    /// Starts a task that serves the others and ends after them, told by [`closing`](Self::closing); admin HTTP is one.
    pub fn spawn_background<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = TaskResult> + Send + 'static,
    {
        let mut tasks = self.lock();
        if !tasks.ended {
            let handle = tasks.background.spawn(task);
            tasks.background_names.insert(handle.id(), name.into());
        }
    }

    /// Whether none of its tasks is stuck, background tasks aside.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Cancelled when the drain begins: take nothing new, finish what you hold, return.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when all but the background tasks have ended.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Begins the drain; the first reason counts.
    pub fn drain(&self, reason: Reason) {
        self.lock().reason.get_or_insert(reason);
        self.stopping.cancel();
    }

    /// Ends the grace period at once.
    pub fn abort(&self, reason: Reason) {
        self.lock().reason = Some(reason);
        self.stopping.cancel();
        self.aborting.cancel();
    }

    /// Runs until every task has returned, or one failed, or [`drain`](Self::drain) was called; then joins the rest
    /// for at most `grace` and aborts what is left. To be awaited once, by the main function.
    pub async fn join(&self, grace: Duration) -> Result<Ended, ScopeError> {
        let mut failure = self.run_until_stopping().await;
        if let Some(error) = &failure {
            tracing::error!("stopping: {error}");
            self.drain(Reason::Request(error.to_string()));
        }
        let asked = self.stopping.is_cancelled();
        if asked {
            let cut_off = self.drain_within(grace, &mut failure).await;
            failure = failure.or(cut_off);
        }
        self.close(&mut failure).await;
        match failure {
            Some(error) => Err(error),
            None if asked => Ok(Ended::Drained(self.reason())),
            None => Ok(Ended::Completed),
        }
    }

    async fn run_until_stopping(&self) -> Option<ScopeError> {
        loop {
            tokio::select! {
                biased;
                ended = self.next_ended() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Some(error),
                    None => return None,
                },
                () = self.stopping.cancelled() => return None,
            }
        }
    }

    /// Waits for the tasks to end; returns why they were cut off, if they were. Notes the first failure.
    async fn drain_within(&self, grace: Duration, failure: &mut Option<ScopeError>) -> Option<ScopeError> {
        let all_ended = async {
            while let Some(ended) = self.next_ended().await {
                note(failure, ended);
            }
        };
        tokio::select! {
            biased;
            () = all_ended => None,
            () = self.aborting.cancelled() => {
                let tasks = self.abort_main().await;
                Some(ScopeError::Aborted { reason: self.reason(), tasks })
            }
            () = tokio::time::sleep(grace) => {
                let tasks = self.abort_main().await;
                Some(ScopeError::Late { reason: self.reason(), grace_ms: grace.as_millis(), tasks })
            }
        }
    }

    /// Aborts the tasks that are left and returns their names.
    async fn abort_main(&self) -> Vec<String> {
        let names = {
            let mut tasks = self.lock();
            tasks.main.abort_all();
            tasks.busy()
        };
        let reaped = async { while self.next_ended().await.is_some() {} };
        if tokio::time::timeout(ABORT_PATIENCE, reaped).await.is_err() {
            tracing::warn!("a task blocks its thread and was left behind");
        }
        names
    }

    /// Ends the background tasks and the scope.
    async fn close(&self, failure: &mut Option<ScopeError>) {
        self.closing.cancel();
        let all_ended = async {
            while let Some(ended) = poll_fn(|cx| self.lock().poll_background(cx)).await {
                note(failure, ended);
            }
        };
        let late = tokio::time::timeout(ABORT_PATIENCE, all_ended).await.is_err();
        let mut tasks = self.lock();
        tasks.ended = true;
        if late {
            tasks.background.abort_all();
        }
    }

    /// The next end of a task; none when no main task is left.
    async fn next_ended(&self) -> Option<Result<(), ScopeError>> {
        poll_fn(|cx| self.lock().poll_any(cx)).await
    }

    fn reason(&self) -> Reason {
        let given = self.lock().reason.clone();
        given.unwrap_or_else(|| Reason::Request("its stopping token".to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        lock(&self.tasks)
    }
}

impl Tasks {
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), ScopeError>>> {
        // A background task that ends well is no event; the loop ends because the set shrinks.
        while let Poll::Ready(Some(ended)) = self.poll_background(cx) {
            if ended.is_err() {
                return Poll::Ready(Some(ended));
            }
        }
        let polled = self.main.poll_join_next_with_id(cx);
        polled.map(|joined| joined.map(|joined| self.result_of(joined)))
    }

    fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), ScopeError>>> {
        let polled = self.background.poll_join_next_with_id(cx);
        polled.map(|joined| joined.map(|joined| self.result_of(joined)))
    }

    fn result_of(&mut self, joined: Result<(Id, TaskResult), JoinError>) -> Result<(), ScopeError> {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.main_names.remove(&id).or_else(|| self.background_names.remove(&id));
        let task = name.unwrap_or_else(|| "unnamed".to_owned());
        match joined {
            Ok((_, Ok(()))) => Ok(()),
            Ok((_, Err(source))) => Err(ScopeError::Failed { task, source }),
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(ScopeError::Panicked { task, message: panic_message(payload.as_ref()) }),
                // Aborted by this scope, which names it elsewhere.
                Err(_cancelled) => Ok(()),
            },
        }
    }

    /// The names of the main tasks that have not ended, sorted.
    fn busy(&self) -> Vec<String> {
        let mut busy: Vec<String> = self.main_names.values().cloned().collect();
        busy.sort();
        busy
    }
}

fn note(failure: &mut Option<ScopeError>, ended: Result<(), ScopeError>) {
    let Err(error) = ended else { return };
    if failure.is_none() {
        tracing::error!("while stopping: {error}");
        *failure = Some(error);
    } else {
        tracing::warn!("also while stopping: {}", told(&error));
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

#[cfg(test)]
mod tests;
