//! What became of a job, in one object: for programs as JSON, for people as a few lines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ports::store::JobReport;
use protocol::job::JobState;
use protocol::{Digest, Fuel, JobId};
use serde::{Serialize, Serializer};

use crate::exit;
use crate::outputs::Written;
use crate::terminal::grouped;

/// How many failures people are shown; the file has them all.
const SHOWN_FAILURES: usize = 20;

/// The summary; the names are documented in `docs/job-file.md` and do not change.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The job.
    pub job: JobId,
    /// How it ended.
    pub state: JobState,
    /// Items of the input; the sum of the next three.
    pub items_submitted: u64,
    /// Items with an output.
    pub items_succeeded: u64,
    /// Items with a reason instead.
    pub items_failed: u64,
    /// Items never computed.
    pub items_cancelled: u64,
    /// Valid units.
    pub units: u64,
    /// Dispatches of them.
    pub replicas: u64,
    /// Metered instructions; a text in JSON.
    pub fuel: Fuel,
    /// Metered bytes.
    pub bytes: u64,
    /// From admission to the end.
    pub wall_seconds: f64,
    /// Computing time of all replicas.
    pub compute_seconds: f64,
    /// Of that, time whose outcome was not needed.
    pub wasted_seconds: f64,
    /// The chain over all items.
    pub items_digest: Option<Digest>,
    /// The chain over what the customer gets.
    pub output_digest: Option<Digest>,
    /// The folder with the outputs.
    #[serde(serialize_with = "as_text")]
    pub outputs: PathBuf,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// How many there are.
    pub failures_total: u64,
    /// Why there is no result, if the reduction failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce_failed: Option<String>,
}

/// An item that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its index.
    pub item: u64,
    /// Why.
    pub reason: String,
}

impl Summary {
    /// Of a job that ended, with its outputs written.
    pub fn new(report: &JobReport, written: &Written, outputs: &Path) -> Self {
        // The certificate, not the running counts, is what was promised.
        let items = report.certificate.as_ref().map_or(report.items, |certificate| certificate.items);
        let ended = report.ended_at.unwrap_or(report.admitted_at);
        let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
        let failures = written.failures.iter().map(|failure| Failure { item: failure.item, reason: failure.reason.clone() });
        Self {
            job: report.id,
            state: report.state,
            items_submitted: items.submitted,
            items_succeeded: items.succeeded,
            items_failed: items.failed,
            items_cancelled: items.cancelled,
            units: report.usage.units,
            replicas: report.usage.replicas,
            fuel: report.usage.fuel,
            bytes: report.usage.bytes,
            wall_seconds: seconds(u64::try_from(ended.since(report.admitted_at).as_micros()).unwrap_or(u64::MAX)),
            compute_seconds: seconds(report.usage.compute_us),
            wasted_seconds: seconds(report.usage.wasted_us),
            items_digest: report.certificate.as_ref().map(|certificate| certificate.items_digest),
            output_digest: report.certificate.as_ref().map(|certificate| certificate.output_digest),
            outputs: outputs.to_owned(),
            failures: failures.collect(),
            failures_total: written.failures_total,
            reduce_failed: written.reduce_failed.clone(),
        }
    }

    /// The exit code of a command that waited for this.
    pub fn exit_code(&self) -> u8 {
        let whole = self.items_succeeded == self.items_submitted && self.reduce_failed.is_none();
        if whole { exit::SUCCESS } else { exit::SOME_FAILED }
    }

    /// The failures for people, each with its reason, the first of them only; empty if there are none.
    pub fn failures_text(&self) -> String {
        let mut lines: Vec<String> = self
            .failures
            .iter()
            .take(SHOWN_FAILURES)
            .map(|failure| format!("item {} failed: {}", failure.item, failure.reason))
            .collect();
        let shown = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let more = self.failures_total.saturating_sub(shown);
        if more > 0 {
            lines.push(format!("and {} more failed, all in {}", grouped(&more), self.outputs.join("failures.jsonl").display()));
        }
        if let Some(reason) = &self.reduce_failed {
            lines.push(format!("no result: the reduction failed: {reason}"));
        }
        lines.join("\n")
    }

    /// The summary for people.
    pub fn text(&self, files: &[PathBuf]) -> String {
        let state = match self.state {
            JobState::Running => "is running",
            JobState::Completed => "completed",
            JobState::Cancelled => "was cancelled",
            JobState::Expired => "passed its deadline",
            JobState::Exhausted => "spent its budget",
        };
        let rows = [
            (
                "items",
                format!(
                    "{} submitted = {} succeeded + {} failed + {} cancelled",
                    grouped(&self.items_submitted),
                    grouped(&self.items_succeeded),
                    grouped(&self.items_failed),
                    grouped(&self.items_cancelled)
                ),
            ),
            ("units", format!("{} valid, {} replicas", grouped(&self.units), grouped(&self.replicas))),
            ("metered", format!("{} instructions (fuel), {} bytes", grouped(&self.fuel), grouped(&self.bytes))),
            (
                "time",
                format!(
                    "{:.1} s wall, {:.1} s computing, {:.1} s of it wasted",
                    self.wall_seconds, self.compute_seconds, self.wasted_seconds
                ),
            ),
            ("digest", self.output_digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string())),
            ("outputs", self.listed(files)),
        ];
        let lines = rows.map(|(name, value)| format!("  {name:<9}{value}\n")).concat();
        format!("job {} {state}\n{lines}", self.job)
    }

    fn listed(&self, files: &[PathBuf]) -> String {
        let names = files.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy().into_owned());
        format!("{} ({})", self.outputs.display(), names.collect::<Vec<_>>().join(", "))
    }
}

/// A path as it is shown: one that is not UTF-8 has no other text, and is not to cost a job its summary.
fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;
    use uuid::Uuid;

    fn summary() -> Summary {
        Summary {
            job: JobId(Uuid::nil()),
            state: JobState::Completed,
            items_submitted: 10_000,
            items_succeeded: 9_999,
            items_failed: 1,
            items_cancelled: 0,
            units: 12,
            replicas: 13,
            fuel: Fuel::MAX,
            bytes: 1_234,
            wall_seconds: 1.25,
            compute_seconds: 2.0,
            wasted_seconds: 0.0,
            items_digest: None,
            output_digest: Some(Digest([0xab; 32])),
            outputs: PathBuf::from("x-out"),
            failures: vec![Failure { item: 77, reason: "out of fuel".to_owned() }],
            failures_total: 31,
            reduce_failed: None,
        }
    }

    #[test]
    fn people_read_it_so() {
        let text = summary().text(&[PathBuf::from("x-out/outputs.jsonl"), PathBuf::from("x-out/failures.jsonl")]);
        let expected = "job 00000000-0000-0000-0000-000000000000 completed\n  \
            items    10,000 submitted = 9,999 succeeded + 1 failed + 0 cancelled\n  \
            units    12 valid, 13 replicas\n  \
            metered  9,223,372,036,854,775,807 instructions (fuel), 1,234 bytes\n  \
            time     1.2 s wall, 2.0 s computing, 0.0 s of it wasted\n  \
            digest   abababababababababababababababababababababababababababababababab\n  \
            outputs  x-out (outputs.jsonl, failures.jsonl)\n";
        assert_eq!(text, expected);
        assert_eq!(summary().failures_text(), "item 77 failed: out of fuel\nand 30 more failed, all in x-out/failures.jsonl");
    }

    #[test]
    fn programs_read_it_by_its_names() {
        let json = serde_json::to_value(summary()).unwrap();
        assert_eq!(json["fuel"], "9223372036854775807");
        assert_eq!(json["failures"][0]["item"], 77);
        let document = include_str!("../../../../docs/job-file.md");
        for name in json.as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{name}`")), "docs/job-file.md does not name {name}");
        }
        let foreign = Summary { outputs: PathBuf::from(OsStr::from_bytes(b"x\xff-out")), ..summary() };
        assert_eq!(serde_json::to_value(foreign).unwrap()["outputs"], "x\u{fffd}-out");
    }

    #[test]
    fn only_whole_success_is_exit_code_0() {
        assert_eq!(summary().exit_code(), exit::SOME_FAILED);
        let mut whole = Summary { items_succeeded: 10_000, items_failed: 0, ..summary() };
        assert_eq!(whole.exit_code(), exit::SUCCESS);
        whole.reduce_failed = Some("trap".to_owned());
        assert_eq!(whole.exit_code(), exit::SOME_FAILED);
    }
}
