//! Writes a job's outputs into a folder: page by page, checked against the certificate, each file whole or not at all.

mod chain;
mod files;
mod names;
mod render;

use std::fs;
use std::path::{Path, PathBuf};

use ports::store::{FailedItem, JobReport, StoreError};
use ports::{BlobStore, Publish, ReportStore};
use protocol::blob::PART_BYTES;
use protocol::frame::{self, Entry, FrameError};
use protocol::job::{Certificate, JobState};
use protocol::{Digest, JobId};

pub use chain::{ChainMismatch, Verifier};
pub use files::{FileError, write_whole};
pub use names::{SUMMARY_NAME, replaced};
pub use render::{Json, OutputKind};

use files::NewFile;
use names::remove_stale;

/// How many failures are asked for at once.
const FAILURES_PAGE: u32 = 1_000;
/// How many failures are kept for the summary; all are in `failures.jsonl`.
pub const LISTED_FAILURES: usize = 1_000;

/// Why outputs were not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The job has not ended.
    #[error("job {0} has not ended yet: ask again later, `offpeak status {0}` says how far it is")]
    Unfinished(JobId),
    /// The store did not answer.
    #[error("cannot read the outputs of job {job}")]
    Store {
        /// The job.
        job: JobId,
        /// The store's error.
        #[source]
        source: StoreError,
    },
    /// A stored frame is broken.
    #[error("stored outputs of items {first} to {end} are not valid")]
    Frame {
        /// The first item.
        first: u64,
        /// The first item that is no longer among them.
        end: u64,
        /// What is wrong.
        #[source]
        source: FrameError,
    },
    /// Stored outputs overlap.
    #[error("stored outputs of items {first} to {end} begin before item {next}, the next one to be written")]
    Overlap {
        /// The first item.
        first: u64,
        /// The first item that is no longer among them.
        end: u64,
        /// The first item that is not written.
        next: u64,
    },
    /// The outputs are not the certified ones; nothing was written.
    #[error("outputs of job {job} are not those that were certified, nothing was written")]
    Mismatch {
        /// The job.
        job: JobId,
        /// Both digests.
        #[source]
        source: ChainMismatch,
    },
    /// A line cannot be made.
    #[error("cannot write item {item} as JSON")]
    Json {
        /// The item.
        item: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file was not written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// The files, the result first.
    pub files: Vec<PathBuf>,
    /// The first failures.
    pub failures: Vec<FailedItem>,
    /// How many there are.
    pub failures_total: u64,
    /// Why there is no result, if the reduction failed.
    pub reduce_failed: Option<String>,
    /// Why the result's bytes stand in `result.bin` as they came, if they cannot be written as JSON.
    pub not_json: Option<String>,
}

/// Writes the outputs of a job that has ended.
pub async fn write<S: ReportStore + BlobStore + ?Sized>(
    store: &S,
    publisher: &dyn Publish,
    report: &JobReport,
    folder: &Path,
) -> Result<Written, OutputError> {
    let certificate = report.certificate.clone().ok_or(OutputError::Unfinished(report.id))?;
    fs::create_dir_all(folder).map_err(|source| FileError::new(folder, source))?;
    let kind = kind_of(store, publisher, report).await?;
    let mut written = Written::default();
    if report.spec.reduce {
        write_result(store, report, certificate, (kind, folder), &mut written).await?;
    } else {
        let path = write_items(store, report, certificate, (kind, folder)).await?;
        written.files.push(path);
    }
    write_failures(store, report, folder, &mut written).await?;
    remove_stale(folder, &written.files)?;
    Ok(written)
}

/// What the app's outputs are, from its module as the grid has it.
async fn kind_of<S: BlobStore + ?Sized>(
    store: &S,
    publisher: &dyn Publish,
    report: &JobReport,
) -> Result<OutputKind, OutputError> {
    let module = read_blob(store, report.spec.app).await.map_err(|source| OutputError::Store { job: report.id, source })?;
    Ok(OutputKind::of(&publisher.inspect(&module)))
}

async fn read_blob<S: BlobStore + ?Sized>(store: &S, digest: Digest) -> Result<Vec<u8>, StoreError> {
    let size = store.blob_size(digest).await?.unwrap_or(0);
    let mut bytes = Vec::new();
    // The offset grows with each part, so this ends with the blob.
    loop {
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if offset >= size {
            return Ok(bytes);
        }
        let part = store.read_blob(digest, offset, PART_BYTES).await?;
        if part.is_empty() {
            let detail = format!("blob {digest} ends at byte {offset} of {size}");
            return Err(StoreError::Corrupt { operation: "read blob", detail });
        }
        bytes.extend(part);
    }
}

/// One line for each item, streamed; `outputs.jsonl`.
async fn write_items<S: ReportStore + ?Sized>(
    store: &S,
    report: &JobReport,
    certificate: Certificate,
    (kind, folder): (OutputKind, &Path),
) -> Result<PathBuf, OutputError> {
    let submitted = certificate.items.submitted;
    let mut verifier = Verifier::new(certificate.output_digest);
    let mut file = NewFile::create(folder.join("outputs.jsonl"))?;
    let mut next = 0;
    loop {
        let page = page(store, report.id, next).await?;
        if page.is_empty() {
            break;
        }
        for (first, end, output) in page {
            if first < next {
                return Err(OutputError::Overlap { first, end, next });
            }
            cancel_until(&mut next, first, &mut verifier, &mut file)?;
            for entry in entries(first, end, &output)? {
                let line = match entry {
                    Entry::Ok(output) => {
                        verifier.succeeded(output);
                        render::item_line(kind, next, output)
                    }
                    Entry::Failed(reason) => {
                        verifier.failed();
                        render::failed_line(next, reason)
                    }
                };
                file.write(&line.map_err(|source| OutputError::Json { item: next, source })?)?;
                next += 1;
            }
        }
    }
    cancel_until(&mut next, submitted, &mut verifier, &mut file)?;
    verifier.finish().map_err(|source| OutputError::Mismatch { job: report.id, source })?;
    Ok(file.finish()?)
}

fn cancel_until(next: &mut u64, end: u64, verifier: &mut Verifier, file: &mut NewFile) -> Result<(), OutputError> {
    if *next < end {
        verifier.cancelled(end - *next);
        file.write(&render::cancelled_line(*next, end))?;
        *next = end;
    }
    Ok(())
}

/// The one result of a reduction; `result.*`.
async fn write_result<S: ReportStore + ?Sized>(
    store: &S,
    report: &JobReport,
    certificate: Certificate,
    (kind, folder): (OutputKind, &Path),
    written: &mut Written,
) -> Result<(), OutputError> {
    let mut verifier = Verifier::new(certificate.output_digest);
    let completed = report.state == JobState::Completed;
    // What a reduction that was cut short left behind is no result.
    let pages = if completed { page(store, report.id, 0).await? } else { Vec::new() };
    if !completed {
        verifier.cancelled(1);
    }
    let mut result = None;
    for (first, end, output) in &pages {
        for entry in entries(*first, *end, output)? {
            match entry {
                Entry::Ok(output) => {
                    verifier.succeeded(output);
                    result = Some(output);
                }
                Entry::Failed(reason) => {
                    verifier.failed();
                    written.reduce_failed = Some(String::from_utf8_lossy(reason).into_owned());
                }
            }
        }
    }
    verifier.finish().map_err(|source| OutputError::Mismatch { job: report.id, source })?;
    let Some(output) = result else {
        written.reduce_failed.get_or_insert_with(|| "the job ended before it was reduced".to_owned());
        return Ok(());
    };
    let (kind, bytes) = match render::file_bytes(kind, output) {
        Ok(bytes) => (kind, bytes),
        Err(error) => {
            // The job is done and paid for: its result is handed over in any case.
            written.not_json = Some(error.to_string());
            (OutputKind::Bin, output.to_vec())
        }
    };
    let path = folder.join(format!("result.{}", kind.extension()));
    written.files.push(write_whole(path, &bytes)?);
    Ok(())
}

async fn write_failures<S: ReportStore + ?Sized>(
    store: &S,
    report: &JobReport,
    folder: &Path,
    written: &mut Written,
) -> Result<(), OutputError> {
    let mut file = None;
    let mut from = 0;
    loop {
        let source = |source| OutputError::Store { job: report.id, source };
        let page = store.failed_items(report.id, from, FAILURES_PAGE).await.map_err(source)?;
        let Some(last) = page.last() else { break };
        from = last.item.saturating_add(1);
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(NewFile::create(folder.join("failures.jsonl"))?),
        };
        for failure in page {
            let reason =
                serde_json::to_string(&failure.reason).map_err(|source| OutputError::Json { item: failure.item, source })?;
            file.write(format!("{{\"item\":{},\"reason\":{reason}}}\n", failure.item).as_bytes())?;
            written.failures_total += 1;
            if written.failures.len() < LISTED_FAILURES {
                written.failures.push(failure);
            }
        }
    }
    if let Some(file) = file {
        written.files.push(file.finish()?);
    }
    Ok(())
}

async fn page<S: ReportStore + ?Sized>(store: &S, job: JobId, from: u64) -> Result<ports::store::OutputPage, OutputError> {
    store.outputs(job, from).await.map_err(|source| OutputError::Store { job, source })
}

fn entries(first: u64, end: u64, output: &[u8]) -> Result<Vec<Entry<'_>>, OutputError> {
    frame::results_of(output, end.saturating_sub(first)).map_err(|source| OutputError::Frame { first, end, source })
}

#[cfg(test)]
mod tests;
