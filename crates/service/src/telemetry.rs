//! Logs by tracing-subscriber on stderr, as JSON for machines or as text for people.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One line of text, coloured on a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one; `info,lapin=warn` is.
    #[error("log filter {filter:?} is not valid, write a level or a list such as info,lapin=warn")]
    Filter {
        /// The filter as given.
        filter: String,
        /// Where it breaks.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Someone else in the process has set up another subscriber.
    #[error("cannot install the log subscriber")]
    Install(#[source] TryInitError),
}

/// Whether this process's logs are set up already.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Sends the process's logs to stderr; a second call checks its filter and leaves the first set-up alone.
///
/// Under [`Format::Json`] panics become a log line too, so that every line of stderr is one object.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let builder = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(stderr);
    match format {
        Format::Human => builder.with_ansi(stderr().is_terminal()).with_target(false).finish().try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init(),
    }
    .map_err(TelemetryError::Install)?;
    if format == Format::Json {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("no message");
            tracing::error!(place, "a task panicked: {message}");
        }));
    }
    *installed = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_init_is_harmless_and_a_bad_filter_is_named() {
        init(Format::Human, "warn").expect("first");
        init(Format::Json, "info,lapin=warn").expect("second");
        let error = init(Format::Human, "info,offpeak=loud").expect_err("no such level");
        assert!(error.to_string().contains("\"info,offpeak=loud\""), "{error}");
    }
}
