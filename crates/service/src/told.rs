//! Telling an error in full: its text and those of its causes.

/// An error's text with those of its causes, joined by `: `.
///
/// No error of the workspace prints its source, so that a log that prints the error alone would leave out why. A cause
/// that the text has already is not said again.
pub fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScopeError;
    use crate::scope::TaskError;

    fn failed(task: &str, source: impl Into<TaskError>) -> ScopeError {
        ScopeError::Failed { task: task.to_owned(), source: source.into() }
    }

    #[test]
    fn every_cause_is_told_and_none_twice() {
        assert_eq!(told(&failed("a", failed("b", "away"))), "task a failed: task b failed: away");
        assert_eq!(told(&failed("a", failed("a", "away"))), "task a failed: away");
        assert_eq!(told(&*TaskError::from("away")), "away");
    }
}
