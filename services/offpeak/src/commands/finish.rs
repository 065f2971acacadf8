//! The end of a job, for every command that waits for one: outputs, summary, failures, exit code.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use ports::Store;
use ports::store::JobReport;
use protocol::job::JobState;

use crate::exit::{self, Refused};
use crate::follow::Summary;
use crate::jobfile::JobFile;
use crate::outputs::{self, FileError, SUMMARY_NAME, write_whole};
use crate::times::instant;
use crate::{grid, terminal};

/// Refuses to compute a job whose outputs would take the place of its job file, or of a file that it reads.
pub(super) fn check_folder(job_file: &Path, job: &JobFile, out: Option<&Path>) -> Result<(), Refused> {
    let folder = out.map_or_else(|| default_folder(job_file), Path::to_owned);
    let read = job.uploads.iter().map(|upload| upload.path.as_path());
    let Some(file) = outputs::replaced(&folder, read.chain([job_file])) else { return Ok(()) };
    let problem = format!(
        "the outputs in {} would replace {}, which the job needs: name another folder with --out DIR",
        folder.display(),
        file.display()
    );
    Err(Refused::Usage(problem))
}

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
    write_whole(folder.join(SUMMARY_NAME), &text)?;
    if let Some(reason) = &written.not_json {
        terminal::note(&format!(
            "the result is in result.bin as it came, since it cannot be written as JSON: {reason}; if it is no MessagePack, say \
             what it is with \"output\" in the app's manifest (docs/job-file.md)"
        ));
    }
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
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    // A folder that is written as `..` has its name elsewhere.
    let found = if folder.file_name().is_none() { folder.canonicalize().ok() } else { None };
    let name = found.as_deref().unwrap_or(folder).file_name().map(OsStr::to_string_lossy);
    PathBuf::from(format!("{}-out", name.as_deref().unwrap_or("offpeak")))
}

/// The exit code of a job's state as it stands, for commands that only look.
pub(super) fn exit_code_of(report: &JobReport) -> u8 {
    let whole = report.state == JobState::Completed && report.items.succeeded == report.items.submitted;
    if !report.state.is_terminal() || whole { exit::SUCCESS } else { exit::SOME_FAILED }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobfile;

    #[test]
    fn outputs_are_named_like_the_jobs_folder() {
        assert_eq!(default_folder(Path::new("/x/signal-search/job.toml")), PathBuf::from("signal-search-out"));
        assert_eq!(default_folder(Path::new("/job.toml")), PathBuf::from("offpeak-out"));
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("signal-search/data");
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(default_folder(&below.join("../job.toml")), PathBuf::from("signal-search-out"));
    }

    #[test]
    fn outputs_take_the_place_of_nothing_that_the_job_needs() {
        let folder = tempfile::tempdir().unwrap();
        let (file, out) = (folder.path().join("job.toml"), folder.path().join("out"));
        std::fs::create_dir(&out).unwrap();
        for name in ["app.wasm", "outputs.jsonl", "out/summary.json"] {
            std::fs::write(folder.path().join(name), b"\0asm").unwrap();
        }
        let needs = |lines: &str| {
            std::fs::write(&file, format!("app = \"app.wasm\"\ninput.lines = \"{lines}\"\n")).unwrap();
            jobfile::read(&file).unwrap()
        };
        let job = needs("outputs.jsonl");
        let error = check_folder(&file, &job, Some(folder.path())).unwrap_err();
        assert!(error.to_string().contains("outputs.jsonl, which the job needs: name another folder"), "{error}");
        assert_eq!(exit::code_of(&error.into()), exit::REFUSED);
        assert!(check_folder(&file, &job, Some(&out)).is_ok() && check_folder(&file, &job, None).is_ok());
        let job = needs("out/summary.json");
        assert!(check_folder(&file, &job, Some(&out)).is_err());
        assert!(check_folder(&file, &job, Some(folder.path())).is_ok());
        assert!(check_folder(&folder.path().join("outputs.jsonl"), &job, Some(folder.path())).is_err(), "the job file itself");
    }
}
