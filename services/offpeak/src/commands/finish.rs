//! The end of a job, for every command that waits for one: outputs, summary, failures, exit code.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ports::Store;
use ports::store::JobReport;

use crate::exit::{self, Refused};
use crate::follow::Summary;
use crate::outputs::{self, FileError, write_whole};
use crate::times::instant;
use crate::{grid, terminal};

/// Writes a job's outputs and tells of them; the exit code.
pub(super) async fn finish(store: &dyn Store, report: &JobReport, folder: &Path, json: bool) -> Result<u8> {
    if let Some(at) = report.results_gone_at {
        return Err(Refused::ResultsGone { job: report.id, since: instant(at) }.into());
    }
    let publisher = grid::publisher()?;
    let written = outputs::write(store, publisher.as_ref(), report, folder).await?;
    let absolute = std::path::absolute(folder).map_err(|source| FileError::new(folder, source))?;
    let summary = Summary::new(report, &written, &absolute);
    let mut text = serde_json::to_vec_pretty(&summary)?;
    text.push(b'\n');
    write_whole(folder.join("summary.json"), &text)?;
    if json {
        terminal::print_json(&summary)?;
    } else {
        let failures = summary.failures_text();
        if !failures.is_empty() {
            terminal::note(&failures);
        }
        terminal::print(&summary.text(&written.files))?;
    }
    Ok(summary.exit_code())
}

/// Where a job file's outputs go if nothing is said: beside where the person stands, named like the job's folder.
pub(super) fn default_folder(job_file: &Path) -> PathBuf {
    let absolute = std::path::absolute(job_file).unwrap_or_else(|_| job_file.to_owned());
    let folder = absolute.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    PathBuf::from(format!("{}-out", folder.unwrap_or_else(|| "offpeak".to_owned())))
}

/// The exit code of a job's state as it stands, for commands that only look.
pub(super) fn exit_code_of(report: &JobReport) -> u8 {
    let whole = report.items.succeeded == report.items.submitted;
    if !report.state.is_terminal() || whole { exit::SUCCESS } else { exit::SOME_FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named_like_the_jobs_folder() {
        assert_eq!(default_folder(Path::new("/x/signal-search/job.toml")), PathBuf::from("signal-search-out"));
        assert_eq!(default_folder(Path::new("/job.toml")), PathBuf::from("offpeak-out"));
    }
}
