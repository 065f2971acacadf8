//! How a command ends: the exit codes, and the errors that have one of their own.

use protocol::reply::Problem;

use crate::client::ClientError;
use crate::jobfile::Mistakes;

/// Everything asked for was done; of a job: every item succeeded.
pub const SUCCESS: u8 = 0;
/// The job ended, and some of its items failed or were cancelled.
pub const SOME_FAILED: u8 = 1;
/// Bad usage, a job file with mistakes, or a job that the grid rejects: the same again will fail again.
pub const REFUSED: u8 = 2;
/// Broker, database, disk or grid did not do as asked: the same again may succeed.
pub const UNAVAILABLE: u8 = 3;
/// Interrupted by Ctrl-C, by the shell's convention of 128 + signal number.
pub const INTERRUPTED: u8 = 130;
/// Interrupted by SIGTERM, likewise.
pub const TERMINATED: u8 = 143;

/// What the caller must change before trying again.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The job file has mistakes.
    #[error(transparent)]
    JobFile(#[from] Mistakes),
    /// The grid rejected the job.
    #[error("the grid rejects the job: {0}{list}", list = listed(.0))]
    Rejected(Problem),
    /// The command cannot be meant like this.
    #[error("{0}")]
    Usage(String),
}

fn listed(problem: &Problem) -> String {
    let unsaid = problem.errors.iter().filter(|error| !problem.detail.contains(&error.detail));
    unsaid.map(|error| format!("\n  {}: {}", error.pointer, error.detail)).collect::<Vec<_>>().concat()
}

impl Refused {
    /// A client's error; a rejection keeps its own exit code.
    pub fn or_error(error: ClientError) -> anyhow::Error {
        if let ClientError::Rejected(problem) = error { Self::Rejected(*problem).into() } else { error.into() }
    }
}

/// The exit code that an error stands for.
pub fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Refused>() {
        Some(Refused::Rejected(problem)) if problem.retryable => UNAVAILABLE,
        Some(Refused::JobFile(_) | Refused::Rejected(_) | Refused::Usage(_)) => REFUSED,
        None => UNAVAILABLE,
    }
}

/// An error with its causes, each once, as one text.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn errors_have_their_exit_codes_also_under_context() {
        let problem = |status| Refused::Rejected(Problem::new(status, "x", "no", "because"));
        let refused: anyhow::Error = problem(422).into();
        assert_eq!(code_of(&refused.context("submitting")), REFUSED);
        assert_eq!(code_of(&problem(503).into()), UNAVAILABLE);
        assert_eq!(code_of(&Refused::Usage("x".to_owned()).into()), REFUSED);
        let away = Err::<(), _>(std::io::Error::other("refused")).context("cannot reach it").unwrap_err();
        assert_eq!((code_of(&away), told(&away).as_str()), (UNAVAILABLE, "cannot reach it: refused"));
    }
}
