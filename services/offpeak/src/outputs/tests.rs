//! Outputs on disk, from a store made of frames.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ports::sandbox::{Inspection, PublishError, Published};
use ports::store::{CustomerTotals, OutputPage, UsageFilter};
use protocol::frame::ResultFrame;
use protocol::job::{EntryKind, ItemCounts};
use protocol::usage::Usage;
use protocol::{CustomerName, OutputChain};

use super::*;
use crate::testing;

/// An ended unit: first item, then each item's output or reason.
type Unit = (u64, Vec<Result<&'static [u8], &'static str>>);

struct Frames {
    units: Vec<Unit>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

impl Frames {
    fn new(units: Vec<Unit>) -> Self {
        Self { units, blobs: BTreeMap::from([(Digest([1; 32]), vec![0; 3 * PART_BYTES / 2])]) }
    }

    /// A report of these frames as a job of so many items that ended like this, truly certified.
    fn report(&self, state: JobState, submitted: u64, reduce: bool) -> JobReport {
        let mut report = testing::report();
        let (mut chain, mut next, mut items) = (OutputChain::default(), 0, ItemCounts { submitted, ..ItemCounts::default() });
        for (first, entries) in &self.units {
            chain.cancelled(first - next);
            next = first + u64::try_from(entries.len()).unwrap();
            for entry in entries {
                if let Ok(output) = entry {
                    chain.succeeded(output);
                    items.succeeded += 1;
                } else {
                    chain.failed();
                    items.failed += 1;
                }
            }
        }
        chain.cancelled(submitted - next);
        let mut output = chain;
        if reduce && state != JobState::Completed {
            output = OutputChain::default();
            output.cancelled(1);
        }
        items.cancelled = submitted - items.succeeded - items.failed;
        report.state = state;
        report.items = items;
        report.spec.reduce = reduce;
        report.certificate = Some(Certificate { items, items_digest: chain.digest(), output_digest: output.digest() });
        report
    }
}

#[async_trait]
impl BlobStore for Frames {
    async fn put_part(&self, _: Digest, _: u64, _: u64, _: &[u8]) -> Result<bool, StoreError> {
        Ok(false)
    }
    async fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.blobs.get(&digest).map(|bytes| u64::try_from(bytes.len()).unwrap()))
    }
    async fn read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let bytes = &self.blobs[&digest][usize::try_from(offset).unwrap()..];
        Ok(bytes[..length.min(bytes.len())].to_vec())
    }
}

#[async_trait]
impl ReportStore for Frames {
    async fn job(&self, _: JobId) -> Result<Option<JobReport>, StoreError> {
        Ok(None)
    }
    async fn job_of_submission(&self, _: &CustomerName, _: &str) -> Result<Option<JobId>, StoreError> {
        Ok(None)
    }
    async fn jobs(&self, _: Option<&CustomerName>, _: u32) -> Result<Vec<JobReport>, StoreError> {
        Ok(Vec::new())
    }
    async fn failed_items(&self, _: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, StoreError> {
        let items = self.units.iter().flat_map(|(first, entries)| (*first..).zip(entries));
        let failed = items.filter_map(|(item, entry)| entry.err().map(|reason| FailedItem { item, reason: reason.to_owned() }));
        Ok(failed.filter(|failure| failure.item >= from).take(usize::try_from(limit).unwrap()).collect())
    }
    async fn outputs(&self, _: JobId, from: u64) -> Result<OutputPage, StoreError> {
        // A page of one unit, so that paging is tested too.
        let next = self.units.iter().find(|(first, entries)| first + u64::try_from(entries.len()).unwrap() > from);
        let page = next.map(|(first, entries)| {
            let mut frame = ResultFrame::default();
            for entry in entries {
                match entry {
                    Ok(output) => frame.ok(output).unwrap(),
                    Err(reason) => frame.failed(reason).unwrap(),
                }
            }
            (*first, first + u64::try_from(entries.len()).unwrap(), frame.finish())
        });
        Ok(page.into_iter().collect())
    }
    async fn usage(&self, _: &UsageFilter, _: i64, _: u32) -> Result<Vec<(i64, Usage)>, StoreError> {
        Ok(Vec::new())
    }
    async fn usage_totals(&self, _: &UsageFilter) -> Result<Vec<CustomerTotals>, StoreError> {
        Ok(Vec::new())
    }
}

/// Says of every module that its outputs are of one kind.
struct Says(&'static str);

#[async_trait]
impl Publish for Says {
    async fn publish(&self, _: &[u8]) -> Result<Published, PublishError> {
        Err(PublishError::Unavailable { reason: "not here".to_owned() })
    }
    fn inspect(&self, module: &[u8]) -> Inspection {
        assert_eq!(module.len(), 3 * PART_BYTES / 2, "the whole module is looked at");
        let manifest = Some(format!("{{\"output\":\"{}\"}}", self.0));
        Inspection { imports: Vec::new(), exports: Vec::new(), entry: Some(EntryKind::Offpeak1), manifest, reasons: Vec::new() }
    }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Makes the folder that of an earlier job.
fn summarise(folder: &Path) {
    let summary = r#"{"job":"j","state":"completed","items_submitted":1,"output_digest":null}"#;
    fs::write(folder.join(SUMMARY_NAME), summary).unwrap();
}

#[tokio::test]
async fn every_item_has_its_line_and_every_failure_too() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new/out");
    fs::create_dir_all(&out).unwrap();
    summarise(&out);
    fs::write(out.join("result.json"), "of an earlier job").unwrap();
    let store = Frames::new(vec![(0, vec![Ok(b"a"), Err("no \"b\"")]), (2, vec![Ok(b"c")])]);
    let report = store.report(JobState::Completed, 3, false);
    let written = write(&store, &Says("text"), &report, &out).await.unwrap();
    let expected = "{\"item\":0,\"output\":\"a\"}\n{\"item\":1,\"failed\":\"no \\\"b\\\"\"}\n{\"item\":2,\"output\":\"c\"}\n";
    assert_eq!(read(&out, "outputs.jsonl"), expected);
    assert_eq!(read(&out, "failures.jsonl"), "{\"item\":1,\"reason\":\"no \\\"b\\\"\"}\n");
    assert_eq!((written.failures_total, written.failures[0].item), (1, 1));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "nothing of the earlier job but its summary, no partial file");
}

#[tokio::test]
async fn files_that_no_job_has_left_there_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = Frames::new(vec![(0, vec![Ok(b"a")])]);
    let report = store.report(JobState::Completed, 1, false);
    fs::write(folder.path().join("result.txt"), "my own").unwrap();
    for summary in ["", "of my thesis", "{\"job\": \"baker\"}"] {
        fs::write(folder.path().join(SUMMARY_NAME), summary).unwrap();
        write(&store, &Says("text"), &report, folder.path()).await.unwrap();
        assert_eq!(read(folder.path(), "result.txt"), "my own", "{summary}");
    }
    summarise(folder.path());
    write(&store, &Says("text"), &report, folder.path()).await.unwrap();
    assert!(!folder.path().join("result.txt").exists());
}

#[tokio::test]
async fn a_cancelled_job_tells_what_was_not_computed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Frames::new(vec![(0, vec![Ok(b"a")]), (2, vec![Ok(b"c")])]);
    let report = store.report(JobState::Cancelled, 5, false);
    write(&store, &Says("text"), &report, folder.path()).await.unwrap();
    let text = read(folder.path(), "outputs.jsonl");
    let cancelled: Vec<_> = text.lines().filter(|line| line.contains("\"cancelled\":true")).collect();
    assert_eq!(cancelled, ["{\"item\":1,\"cancelled\":true}", "{\"item\":3,\"end\":5,\"cancelled\":true}"]);
}

#[tokio::test]
async fn outputs_that_were_not_certified_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Frames::new(vec![(0, vec![Ok(b"a"), Ok(b"b")])]);
    let mut report = store.report(JobState::Completed, 2, false);
    if let Some(certificate) = &mut report.certificate {
        certificate.output_digest = Digest([9; 32]);
    }
    let error = write(&store, &Says("text"), &report, folder.path()).await.unwrap_err();
    assert!(matches!(error, OutputError::Mismatch { .. }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    report.certificate = None;
    let error = write(&store, &Says("text"), &report, folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("has not ended yet"), "{error}");
}

#[tokio::test]
async fn a_reduction_is_one_file_of_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let store = Frames::new(vec![(0, vec![Ok(&[0x81, 0xa1, b'x', 7])])]);
    let report = store.report(JobState::Completed, 1, true);
    write(&store, &Says("msgpack"), &report, folder.path()).await.unwrap();
    assert_eq!(read(folder.path(), "result.json"), "{\n  \"x\": 7\n}\n");
    summarise(folder.path());
    write(&store, &Says("png"), &report, folder.path()).await.unwrap();
    assert_eq!(fs::read(folder.path().join("result.png")).unwrap(), [0x81, 0xa1, b'x', 7]);
    assert!(!folder.path().join("result.json").exists());
    // What is not MessagePack after all is handed over as it is.
    let store = Frames::new(vec![(0, vec![Ok(&[0xc1])])]);
    let report = store.report(JobState::Completed, 1, true);
    let written = write(&store, &Says("msgpack"), &report, folder.path()).await.unwrap();
    assert_eq!(written.files, [folder.path().join("result.bin")]);
    assert_eq!(fs::read(folder.path().join("result.bin")).unwrap(), [0xc1]);
    assert!(written.not_json.is_some() && written.reduce_failed.is_none(), "{written:?}");
    assert!(!folder.path().join("result.png").exists());
}

#[tokio::test]
async fn a_failed_reduction_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = Frames::new(vec![(0, vec![Err("trap in op_reduce")])]);
    let report = store.report(JobState::Completed, 1, true);
    let written = write(&store, &Says("msgpack"), &report, folder.path()).await.unwrap();
    assert_eq!(written.reduce_failed.as_deref(), Some("trap in op_reduce"));
    assert!(!folder.path().join("result.json").exists());
}
