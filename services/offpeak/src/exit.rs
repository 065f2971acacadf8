//! How a command ends: the exit codes, and the errors that have one of their own.

use protocol::problem::Problem;

use crate::client::ClientError;
use crate::jobfile::Mistakes;

/// Everything asked for was done; of a job: every item succeeded.
pub const SUCCESS: u8 = 0;
/// The job ended, and some of its items failed or were cancelled.
pub const SOME_FAILED: u8 = 1;
/// Bad usage, a job file with mistakes, a job that the grid rejects or does not know, or outputs that are gone: the same again will
/// fail again.
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
    Rejected(Box<Problem>),
    /// There is no job of that id.
    #[error("job {0} is not in the database: `offpeak status` lists those that are")]
    UnknownJob(protocol::JobId),
    /// The outputs that are asked for are no longer kept.
    #[error(
        "the outputs of job {job} are no longer kept since {since}: their customer released them, or they were kept as long as the grid keeps results (grid.results_days); what was metered is still told by `offpeak status` and `offpeak usage`"
    )]
    ResultsGone {
        /// The job.
        job: protocol::JobId,
        /// Since when, as text.
        since: String,
    },
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
        if let ClientError::Rejected(problem) = error { Self::Rejected(problem).into() } else { error.into() }
    }
}

/// The exit code that an error stands for.
pub fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Refused>() {
        Some(Refused::Rejected(problem)) if problem.retryable => UNAVAILABLE,
        Some(
            Refused::JobFile(_) | Refused::Rejected(_) | Refused::UnknownJob(_) | Refused::ResultsGone { .. } | Refused::Usage(_),
        ) => REFUSED,
        None => UNAVAILABLE,
    }
}

/// An error with its causes, each once, as one text.
pub fn told(error: &anyhow::Error) -> String {
    service::told(&**error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use protocol::problem::Code;

    #[test]
    fn errors_have_their_exit_codes_also_under_context() {
        let problem = |code| Refused::Rejected(Box::new(Problem::new(code, "because")));
        let refused: anyhow::Error = problem(Code::InvalidJob).into();
        assert_eq!(code_of(&refused.context("submitting")), REFUSED);
        assert_eq!(code_of(&problem(Code::PublisherUnavailable).into()), UNAVAILABLE);
        assert_eq!(code_of(&Refused::Usage("x".to_owned()).into()), REFUSED);
        let gone = Refused::ResultsGone { job: protocol::JobId(uuid::Uuid::nil()), since: "1970-01-01T00:00:00Z".to_owned() };
        assert_eq!(code_of(&gone.into()), REFUSED);
        assert_eq!(code_of(&Refused::UnknownJob(protocol::JobId(uuid::Uuid::nil())).into()), REFUSED);
        let away = Err::<(), _>(std::io::Error::other("refused")).context("cannot reach it").unwrap_err();
        assert_eq!((code_of(&away), told(&away).as_str()), (UNAVAILABLE, "cannot reach it: refused"));
    }
}
