//! Whether the process is alive: none of its loops is stuck.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::lock::lock;

/// A loop's turn takes milliseconds: one that goes on for so long blocks its thread for ever, on a crowded machine too.
const LONGEST_TURN: Duration = Duration::from_mins(1);

/// Watches tasks for turns that do not end.
///
/// A turn is what a task does between two waits. Waiting is never held against it, so that neither a broker or database
/// that is away nor a unit that computes for hours makes a process look dead: only a task that is stuck inside this
/// process does, in a deadlock, an endless loop or a call that blocks. When every thread is stuck, the admin side does not
/// answer either, which is the same verdict.
#[derive(Debug, Clone)]
pub struct Liveness {
    turns: Arc<Mutex<Turns>>,
    longest: Duration,
}

#[derive(Debug, Default)]
struct Turns {
    next: u64,
    /// The watched tasks; `since` when they are in a turn, `None` while they wait.
    tasks: BTreeMap<u64, (String, Since)>,
}

type Since = Arc<Mutex<Option<Instant>>>;

/// A task whose turn does not end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// The task.
    pub task: String,
    /// For how many milliseconds its turn has lasted.
    pub turn_ms: u128,
    /// How many are allowed.
    pub max_turn_ms: u128,
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new(LONGEST_TURN)
    }
}

impl Liveness {
    /// Watches for turns longer than this.
    pub fn new(longest: Duration) -> Self {
        Self { turns: Arc::default(), longest }
    }

    /// The task, watched until it ends or is dropped.
    pub fn watch<F: Future>(&self, name: String, task: F) -> impl Future<Output = F::Output> + use<F> {
        let watched = self.begin(name);
        let mut task = Box::pin(task);
        poll_fn(move |context| {
            *lock(&watched.since) = Some(Instant::now());
            let polled = task.as_mut().poll(context);
            *lock(&watched.since) = None;
            polled
        })
    }

    /// The tasks whose turn does not end.
    pub fn stuck(&self) -> Vec<Stuck> {
        let now = Instant::now();
        let turns = lock(&self.turns);
        let lasting = turns.tasks.values().filter_map(|(task, since)| Some((task, now - (*lock(since))?)));
        let stuck = lasting.filter(|(_, turn)| *turn > self.longest).map(|(task, turn)| Stuck {
            task: task.clone(),
            turn_ms: turn.as_millis(),
            max_turn_ms: self.longest.as_millis(),
        });
        stuck.collect()
    }

    fn begin(&self, name: String) -> Watched {
        let (since, mut turns) = (Since::default(), lock(&self.turns));
        let id = turns.next;
        turns.next = id.wrapping_add(1);
        turns.tasks.insert(id, (name, Arc::clone(&since)));
        Watched { id, since, turns: Arc::clone(&self.turns) }
    }
}

/// A task's entry; it goes with the task, also when that panics or is aborted.
struct Watched {
    id: u64,
    since: Since,
    turns: Arc<Mutex<Turns>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.turns).tasks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Scope;
    use crate::scope::{Ended, ScopeError};

    const BOUND: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_task_may_wait_for_as_long_as_it_likes() {
        let liveness = Liveness::default();
        let day = Duration::from_hours(24);
        let task = liveness.watch("a unit".to_owned(), tokio::time::sleep(day));
        let looks = async {
            tokio::time::sleep(day / 2).await;
            liveness.stuck()
        };
        assert_eq!(tokio::join!(task, looks).1, []);
        assert!(lock(&liveness.turns).tasks.is_empty(), "what has ended is not watched");
    }

    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_loop_that_blocks_its_thread_is_named_until_it_goes_on() {
        let scope = Scope::watched_by(Liveness::new(Duration::ZERO));
        let (go_on, blocked) = mpsc::channel::<()>();
        scope.spawn("dispatch", async move { Ok(blocked.recv()?) });
        let liveness = scope.liveness();
        tokio::time::timeout(BOUND, until(|| !liveness.stuck().is_empty())).await.expect("it is found");
        assert_eq!(liveness.stuck()[0].task, "dispatch");
        go_on.send(()).expect("it waits");
        tokio::time::timeout(BOUND, until(|| liveness.stuck().is_empty())).await.expect("it is well again");
        assert_eq!(scope.join(BOUND).await.expect("complete"), Ended::Completed);
    }

    #[tokio::test]
    async fn a_task_that_panics_is_not_stuck() {
        let scope = Scope::watched_by(Liveness::new(Duration::ZERO));
        scope.spawn("dispatch", async { panic!("a bug") });
        let ended = scope.join(BOUND).await;
        assert!(matches!(ended, Err(ScopeError::Panicked { .. })), "{ended:?}");
        assert_eq!(scope.liveness().stuck(), []);
    }
}
