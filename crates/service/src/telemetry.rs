//! Logs by tracing-subscriber on stderr, as JSON for machines or as text for people.

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

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
        source: ParseError,
    },
    /// Someone else in the process has set up another subscriber.
    #[error("cannot install the log subscriber")]
    Install(#[source] TryInitError),
}

/// Whether this process's logs are set up already.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Sends the process's logs to stderr; a second call checks its filter and leaves the first set-up alone. What lapin logs is left
/// out unless the filter names it: what an operator must know of it we say, and its warnings carry the bodies of messages.
///
/// A line that cannot be written is dropped: a full disk or a closed pipe under the logs ends no service.
///
/// Under [`Format::Json`] panics become a log line too, so that every line of stderr is one object.
pub fn init(format: Format, filter: &str) -> Result<(), TelemetryError> {
    let parsed = readable(filter)?;
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let coloured = stderr().is_terminal();
    match format {
        Format::Human => human(parsed, coloured, stderr).try_init(),
        Format::Json => json(parsed, stderr).try_init(),
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

/// Whether a filter can be read.
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    readable(filter).map(drop)
}

fn readable(filter: &str) -> Result<EnvFilter, TelemetryError> {
    complete(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })
}

fn complete(filter: &str) -> Result<EnvFilter, ParseError> {
    // Without any directive errors are logged.
    let said = if filter.is_empty() { "error" } else { filter };
    let lapin = if filter.contains("lapin") { "" } else { ",lapin=off" };
    EnvFilter::try_new(format!("{said}{lapin}"))
}

fn human<W>(filter: EnvFilter, coloured: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(writer);
    builder.with_ansi(coloured).with_target(false).finish()
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(writer);
    builder.json().flatten_event(true).with_current_span(false).finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lines").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lines").clone()).expect("utf-8")
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fields_at_its_top() {
        let lines = Lines::default();
        let writer = lines.clone();
        with_default(json(EnvFilter::new("info"), move || writer.clone()), || {
            tracing::info!(customer = "radio", units = 3, "job accepted");
            tracing::debug!("below the filter");
        });
        let text = lines.text();
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one object");
        assert_eq!(line["message"], "job accepted");
        assert_eq!((&line["customer"], &line["units"]), (&"radio".into(), &3.into()));
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_human_line_is_plain_without_a_terminal() {
        let lines = Lines::default();
        let writer = lines.clone();
        with_default(human(EnvFilter::new("warn"), false, move || writer.clone()), || {
            tracing::warn!(check = "broker", "not ready");
            tracing::info!("below the filter");
        });
        let text = lines.text();
        assert!(text.ends_with(" WARN not ready check=\"broker\"\n"), "{text:?}");
    }

    #[test]
    fn lapin_is_heard_only_if_it_is_named() {
        for (filter, heard) in [("warn", false), ("", false), ("info,store=debug", false), ("info,lapin=warn", true)] {
            let lines = Lines::default();
            let writer = lines.clone();
            with_default(human(complete(filter).expect("a filter"), false, move || writer.clone()), || {
                tracing::error!(target: "lapin::channel", "a body");
                tracing::error!(target: "broker", "ours");
            });
            assert_eq!((lines.text().contains("a body"), lines.text().contains("ours")), (heard, true), "{filter:?}");
        }
    }

    #[test]
    fn a_second_init_is_harmless_and_a_bad_filter_is_named() {
        init(Format::Human, "warn").expect("first");
        init(Format::Json, "info,lapin=warn").expect("second");
        let error = init(Format::Human, "info,offpeak=loud").expect_err("no such level");
        assert!(error.to_string().contains("\"info,offpeak=loud\""), "{error}");
    }
}
