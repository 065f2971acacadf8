//! Progress on stderr: a bar on a terminal, a line every few seconds elsewhere, nothing where a program reads.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ports::Clock;
use ports::store::JobReport;
use protocol::Micros;

use crate::terminal::{grouped, note};

/// A line in a log is no bar: one each so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Redraws a second.
const DRAWS_PER_SECOND: u8 = 5;
const TEMPLATE: &str = "{bar:30.green} {percent:>3} %  {human_pos} of {human_len} items  {per_sec}  {msg}  ETA {eta}";

/// Shows how a job proceeds.
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a log or pipe.
    Lines(Lines),
    /// Not at all.
    Silent,
}

/// What lines of progress remember.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// The first report: time and items done, so that a resumed job's rate is that of this run.
    first: Option<(Micros, u64)>,
    told: Option<Micros>,
}

impl Progress {
    /// As stderr allows; `silent` where stdout is for programs.
    pub fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !stderr().is_terminal() {
            return Self::Lines(Lines::default());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Says what is going on before there are items to count.
    pub fn says(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Lines(_) => note(text),
            Self::Silent => {}
        }
    }

    /// Shows a report.
    pub fn show(&mut self, report: &JobReport, clock: &dyn Clock) {
        let done = report.items.succeeded.saturating_add(report.items.failed);
        match self {
            Self::Bar(bar) => {
                if bar.length() != Some(report.items.submitted) {
                    bar.set_length(report.items.submitted);
                    // What an earlier run computed is no part of this run's rate.
                    bar.set_position(done);
                    bar.reset_eta();
                }
                bar.set_position(done);
                bar.set_message(units_text(report));
            }
            Self::Lines(lines) => {
                if let Some(line) = lines.line(report, done, clock.now()) {
                    note(&line);
                }
            }
            Self::Silent => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines(_) | Self::Silent => {}
        }
    }
}

impl Lines {
    fn line(&mut self, report: &JobReport, done: u64, now: Micros) -> Option<String> {
        let (began, done_before) = *self.first.get_or_insert((now, done));
        if self.told.is_some_and(|told| now.since(told) < LINE_EVERY) {
            return None;
        }
        self.told = Some(now);
        let elapsed = now.since(began);
        let rate = rate_per_second(done.saturating_sub(done_before), elapsed);
        let left = report.items.submitted.saturating_sub(done);
        let eta = if rate == 0 { "unknown".to_owned() } else { format!("{} s", grouped(&left.div_ceil(rate))) };
        let (done, all) = (grouped(&done), grouped(&report.items.submitted));
        Some(format!("{done} of {all} items, {} items/s, {}, ETA {eta}", grouped(&rate), units_text(report)))
    }
}

fn rate_per_second(items: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(items) * 1_000 / millis).unwrap_or(u64::MAX)
}

fn units_text(report: &JobReport) -> String {
    let stage = if report.stage.0 > 0 { ", reducing" } else { "" };
    format!("{} units done, {} open{stage}", grouped(&(report.units.valid + report.units.failed)), grouped(&report.units.open))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::report;

    #[test]
    fn lines_come_seldom_and_tell_rate_and_rest() {
        let mut lines = Lines::default();
        let mut report = report();
        report.items.submitted = 1_000;
        assert_eq!(
            lines.line(&report, 100, Micros(0)).unwrap(),
            "100 of 1,000 items, 0 items/s, 0 units done, 0 open, ETA unknown"
        );
        assert_eq!(lines.line(&report, 150, Micros(4_999_999)), None);
        report.stage.0 = 1;
        report.units.valid = 7;
        let line = lines.line(&report, 600, Micros(5_000_000)).unwrap();
        assert_eq!(line, "600 of 1,000 items, 100 items/s, 7 units done, 0 open, reducing, ETA 4 s");
    }
}
