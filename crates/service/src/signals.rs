//! SIGTERM and Ctrl-C: the first drains, the second aborts.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::scope::{Ended, Reason, Scope, ScopeError};

/// Exit status of a process that failed, or did not end in time.
const EXIT_FAILED: u8 = 3;

/// Exit status of a process that SIGINT ended, by the shell's convention of 128 + signal number.
const EXIT_INTERRUPTED: u8 = 130;

/// The same for SIGTERM.
const EXIT_TERMINATED: u8 = 143;

/// The process's stop signals, caught from the moment of [`install`](Self::install).
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches SIGTERM and SIGINT. Call it first thing, so that a signal during start-up is not lost.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next stop signal.
    async fn next(&mut self) -> Reason {
        let reason = tokio::select! {
            caught = self.terminate.recv() => caught.map(|()| Reason::Terminate),
            caught = self.interrupt.recv() => caught.map(|()| Reason::Interrupt),
        };
        match reason {
            Some(reason) => reason,
            // The runtime delivers no more signals: there is nothing left to wait for.
            None => std::future::pending().await,
        }
    }

    async fn relay_to(mut self, scope: &Scope, grace: Duration) -> Infallible {
        let first = self.next().await;
        let seconds = grace.as_secs();
        tracing::info!("{first}: draining for at most {seconds} s; a second signal stops at once");
        scope.drain(first);
        loop {
            let again = self.next().await;
            tracing::warn!("second signal ({again}): stopping at once");
            scope.abort(again);
        }
    }
}

/// Joins `scope` while the process's stop signals drain, then abort it; the last line of a main function.
pub async fn run(scope: &Scope, signals: Signals, grace: Duration) -> Result<Ended, ScopeError> {
    tokio::select! {
        biased;
        ended = scope.join(grace) => ended,
        never = signals.relay_to(scope, grace) => match never {},
    }
}

/// The exit status that tells how a scope ended: 0 well, 3 a failure or late drain, 130 or 143 aborted by a signal.
pub fn exit_code(ended: &Result<Ended, ScopeError>) -> u8 {
    match ended {
        Ok(Ended::Completed | Ended::Drained(_)) => 0,
        Err(ScopeError::Aborted { reason, .. }) => match reason {
            Reason::Interrupt => EXIT_INTERRUPTED,
            Reason::Terminate => EXIT_TERMINATED,
            Reason::Request(_) => EXIT_FAILED,
        },
        Err(ScopeError::Failed { .. } | ScopeError::Panicked { .. } | ScopeError::Late { .. }) => EXIT_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because signals reach the whole process.
    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_aborts() {
        let scope = Scope::new();
        let signals = Signals::install().expect("signals");
        let stopping = scope.stopping();
        scope.spawn("sender", async move {
            kill("-TERM").await;
            stopping.cancelled().await;
            Ok(())
        });
        let ended = run(&scope, signals, Duration::from_mins(1)).await;
        assert_eq!(*ended.as_ref().expect("drained"), Ended::Drained(Reason::Terminate));
        assert_eq!(exit_code(&ended), 0);

        let scope = Scope::new();
        let signals = Signals::install().expect("signals");
        let stopping = scope.stopping();
        scope.spawn("sender", async move {
            kill("-TERM").await;
            stopping.cancelled().await;
            kill("-INT").await;
            std::future::pending().await
        });
        let ended = run(&scope, signals, Duration::from_mins(1)).await;
        assert_eq!(exit_code(&ended), EXIT_INTERRUPTED);
        let text = ended.expect_err("aborted").to_string();
        assert_eq!(text, "aborted by SIGINT with tasks still busy: sender");
    }

    async fn kill(signal: &str) {
        let own = std::process::id().to_string();
        let status = tokio::process::Command::new("kill").args([signal, &own]).status().await;
        assert!(status.expect("kill").success());
    }
}
