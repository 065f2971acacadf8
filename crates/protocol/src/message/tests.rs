//! The wire, byte for byte: golden messages of version 1 are kept and read for ever; rubbish is a clear error.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::blob::BlobEntry;
use crate::input::{Axis, Input};
use crate::job::{Certificate, Delivery, EntryKind, ItemCounts, JobState, Limits, UnitSizing};
use crate::money::Money;
use crate::outcome::{Computed, OutcomeResult};
use crate::problem::{Code, FieldError};
use crate::quantity::Total;
use crate::query::{Explanation, FailureCount, JobLine, LaneDepth, ResultsState};
use crate::quote::{Basis, Estimate};
use crate::reply::UsageSummary;
use crate::unit::{Call, Items, Slice};
use crate::usage::{UsageRow, UsageTotal};
use crate::{CustomerName, Digest, Fuel, HostId, JobId, MeterId, Micros, PoolName, ReplicaKey, UnitKey, Value};

/// One line a message: type, MessagePack in hexadecimal, JSON.
const SLICE: Slice = Slice { stage: 1, first: 64, end: 65 };
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/v1.txt");

fn golden() -> String {
    std::fs::read_to_string(GOLDEN).unwrap()
}

fn job() -> JobId {
    JobId(Uuid::from_u128(0x0192_8f5a_3c4d_7e8f_9a0b_1c2d_3e4f_5a6b))
}

fn replica() -> ReplicaKey {
    UnitKey { job: job(), unit: 7 }.replica(1)
}

fn host() -> HostId {
    HostId::new("host-1").unwrap()
}

fn spec() -> JobSpec {
    JobSpec {
        app: Digest::of(b"app"),
        input: Input::Grid(vec![
            Axis { name: "x".into(), values: vec![Value::from(1), Value::from(2.5)] },
            Axis { name: "y".into(), values: vec![Value::from("a"), Value::Nil] },
        ]),
        shared: Some(Digest::of(b"shared")),
        params: Value::Map(vec![(Value::from("rate"), Value::from(0.25))]),
        pool: PoolName::new("open").unwrap(),
        quorum: 2,
        priority: -3,
        deadline_s: Some(3_600),
        budget_fuel: None,
        max_failures: 4,
        limits: Limits { fuel_per_item: Fuel::new(1 << 60).unwrap(), memory_bytes: 1 << 26, output_bytes: 4_096 },
        unit: UnitSizing { target_ms: 5_000, max_items: 100 },
        reduce: true,
        delivery: Delivery::Parts,
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap());
    bytes.iter().flat_map(digits).collect()
}

/// Checks one message against its golden line, both ways and in both formats.
fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let msgpack = message.to_bytes(Format::MessagePack).unwrap();
    let json = String::from_utf8(message.to_bytes(Format::Json).unwrap()).unwrap();
    let line = format!("{} {} {json}", M::KIND, hex(&msgpack));
    assert!(golden().lines().any(|known| known == line), "golden/v1.txt has no line:\n{line}");
    assert_eq!(&M::from_bytes(&msgpack, Format::MessagePack).unwrap(), message);
    assert_eq!(&M::from_bytes(json.as_bytes(), Format::Json).unwrap(), message);

    for cut in 0..msgpack.len() {
        let error = M::from_bytes(&msgpack[..cut], Format::MessagePack).unwrap_err();
        assert!(matches!(error, CodecError::Truncated { .. }), "{} cut at {cut}: {error}", M::KIND);
    }
    for (format, bytes) in [(Format::MessagePack, msgpack), (Format::Json, json.into_bytes())] {
        let extended = [bytes.as_slice(), b"12"].concat();
        let error = M::from_bytes(&extended, format).unwrap_err();
        assert!(matches!(error, CodecError::Trailing { extra: 2, .. }), "{}: {error}", M::KIND);
    }
}

#[test]
fn golden_messages_are_written_and_read_as_ever() {
    check(&PutBlob { digest: Digest::of(b"abc"), size: 3, offset: 0, data: b"abc".to_vec() });
    check(&spec());
    check(&JobSpec { budget_fuel: Some(Fuel::MAX), ..spec() });
    check(&CancelJob { job: job() });
    check(&Accepted { job: job(), items: 10_000_000 });
    let mut problem = Problem::new(Code::InvalidJob, "it has one mistake");
    problem.errors.push(FieldError { pointer: "/quorum".into(), detail: "0 is not from 1 to 16".into() });
    check(&problem);
    let items = ItemCounts { submitted: 10, succeeded: 8, failed: 1, cancelled: 1 };
    check(&Progress { job: job(), items, units: 4, eta_s: Some(12) });
    check(&Part { job: job(), part: 3, first: 12, output: vec![1, 0, 0, 0] });
    let certificate = Certificate { items, items_digest: Digest::of(b"1"), output_digest: Digest::of(b"2") };
    let usage = UsageSummary { units: 4, replicas: 9, fuel: Fuel::MAX, bytes: 1 << 40, compute_us: 1_234_567, wasted_us: 89 };
    let of_certificate = |certificate, withheld, cost| {
        check(&Completed { job: job(), state: JobState::Completed, certificate, usage, parts: 4, withheld, cost });
    };
    of_certificate(certificate.clone(), false, None);
    let cost = Money { amount: "0.5".parse().unwrap(), currency: "EUR".parse().unwrap() };
    of_certificate(certificate, true, Some(cost));
    check(&RegisterApp { app: Some(Digest::of(b"app")), module: None });
    check(&Work {
        replica: replica(),
        customer: CustomerName::new("acme").unwrap(),
        brief: Digest::of(b"brief"),
        call: Call::ReduceAndFinish,
        slice: SLICE,
        items: Items::Frame(vec![0, 0, 0, 0]),
        time_limit_ms: 300_000,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
    });
    let computed = Computed {
        meter: MeterId::new("wasmtime-48-fuel").unwrap(),
        fuel: Fuel::new(123_456_789_012).unwrap(),
        digest: Digest::of(&[0, 0, 0, 0]),
        output: vec![0, 0, 0, 0],
        input_bytes: 4,
    };
    let result = OutcomeResult::Computed(computed);
    check(&Outcome { replica: replica(), slice: SLICE, host: host(), result, compute_us: 5_000_000 });
    check(&DropJob { job: job(), customer: CustomerName::new("acme").unwrap() });
    check(&GetBlob { digest: Digest::of(b"abc"), offset: 1 << 20, host: host() });
    check(&BlobPart { digest: Digest::of(b"abc"), offset: 0, size: Some(3), data: b"abc".to_vec() });
    requests_and_their_answers();
    let golden = golden();
    let known: Vec<&str> = golden.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(KINDS.iter().all(|kind| known.contains(kind)), "every type of message has a golden line");
}

/// What customers ask beside submitting, with the answers.
fn requests_and_their_answers() {
    apps_and_blobs();
    jobs_and_usage();
    let (job, part, limit) = (job(), 2, 100);
    check(&FetchResults { job, part, limit });
    check(&ResultsFetched { job, parts: 2, next_part: Some(4), ended: false });
    check(&ReleaseResults { job });
    check(&ResultsReleased { job });
    check(&PauseJob { job });
    check(&ResumeJob { job });
    let reasons = vec![Explanation { code: "computing".into(), detail: "2 replicas are computing".into() }];
    let failures = vec![FailureCount { reason: "trap".into(), replicas: 3 }];
    let lanes = vec![LaneDepth { lane: 0, ready: 2, workers: 1 }];
    let (position, next_attempt_s, eta_s) = (Some(1), Some(0), Some(60));
    check(&ExplainJob { job });
    check(&JobExplained { job, reasons, position, lanes, live_hosts: 1, failures, next_attempt_s, eta_s });
    check(&QuoteJob { job: spec() });
    let fuel = Estimate { low: Fuel::ZERO, likely: Fuel::new(5).unwrap(), high: Fuel::MAX };
    let money = |amount: &str| Money { amount: amount.parse().unwrap(), currency: "EUR".parse().unwrap() };
    let cost = Some(Estimate { low: money("0"), likely: money("0.5"), high: money("12.25") });
    let seconds = Some(Estimate { low: 1, likely: 60, high: 600 });
    check(&Quoted { app: Digest::of(b"app"), items: 4, fuel, cost, seconds, basis: Basis::EarlierJobs, basis_items: 400 });
}

fn apps_and_blobs() {
    let (digest, meter) = (Digest::of(b"abc"), MeterId::new("wasmtime-48-fuel").unwrap());
    check(&RegisterApp { app: None, module: Some(b"\0asm".to_vec()) });
    check(&AppRegistered { app: digest, entry: EntryKind::Command, meter, reduces: false, manifest: None });
    check(&BlobStored { digest, size: 3, received: 3, whole: true });
    check(&ListBlobs { after: Some(digest), limit: 10 });
    let missing = vec![(1 << 20, 1 << 20)];
    let entry =
        BlobEntry { digest, size: 2 << 20, received: 1 << 20, whole: false, missing, begun_at_us: Micros(1_700_000_000_000_000) };
    check(&BlobsListed { blobs: vec![entry], more: false, stored_bytes: 2 << 20, limit_bytes: 1 << 30 });
    check(&DeleteBlob { digest });
    check(&BlobDeleted { digest, freed_bytes: 3 });
    let full = Problem::over(Code::StorageFull, 1 << 30, None, "your blobs take 1073741824 bytes");
    check(&Refused(Problem { retry_after_s: None, ..full }));
}

fn jobs_and_usage() {
    let (job, at, state) = (job(), Micros(1_700_000_000_000_000), JobState::Running);
    let items = ItemCounts { submitted: 10, succeeded: 8, failed: 1, cancelled: 0 };
    check(&GetJobStatus { job });
    let status = |budget_fuel| JobStatus {
        job,
        message_id: "m-1".into(),
        state,
        paused: true,
        items,
        stage: 0,
        stage_items: 10,
        units_open: 1,
        units_valid: 3,
        units_failed: 1,
        usage: UsageSummary::default(),
        budget_fuel,
        cost: None,
        eta_s: None,
        parts: 3,
        results: ResultsState::Kept,
        results_until_us: None,
        admitted_at_us: at,
        ended_at_us: None,
        deadline_at_us: Some(at),
        certificate: None,
    };
    check(&status(None));
    check(&status(Some(Fuel::MAX)));
    check(&ListJobs { state: Some(state), before: Some(job), limit: 5 });
    let correlation_id = Some("order-7".to_owned());
    let line = JobLine {
        job,
        message_id: "m-1".into(),
        correlation_id,
        state,
        paused: false,
        items,
        admitted_at_us: at,
        ended_at_us: None,
    };
    check(&JobsListed { jobs: vec![line], more: true });
    let (pool, meter) = (PoolName::new("open").unwrap(), MeterId::new("wasmtime-48-fuel").unwrap());
    let fuel = Fuel::new(123_456_789_012).unwrap();
    check(&ReportUsage { period: "2026-11".into(), after: Some(7), limit: 100 });
    let output = Digest::of(b"1");
    let row = UsageRow { job, unit: 7, pool: pool.clone(), meter: meter.clone(), fuel, bytes: 4, output, recorded_at_us: at };
    let (fuel, bytes) = (Total(u128::from(u64::MAX) * 2), Total(4));
    let totals = vec![UsageTotal { pool, meter, units: 1, fuel, bytes, cost: None }];
    check(&UsageReported { period: "2026-11".into(), rows: vec![row], next_after: Some(8), totals });
}

#[test]
fn defaults_fill_what_a_short_submission_leaves_out() {
    let digest = Digest::of(b"app");
    let json = format!(r#"{{"app":"{digest}","input":{{"range":{{"start":0,"end":5}}}},"pool":"open","colour":"red"}}"#);
    let spec = JobSpec::from_bytes(json.as_bytes(), Format::Json).unwrap();
    assert_eq!((spec.quorum, spec.max_failures, spec.reduce, spec.limits), (1, 3, false, Limits::default()));
    let error = JobSpec::from_bytes(br#"{"app":"x"}"#, Format::Json).unwrap_err().to_string();
    assert!(error.contains("digest") && error.contains("column"), "{error}");
}

/// A submission that comes again is known by the digest of its job written anew, however old the grid is that admitted it. So
/// these bytes stay for ever: a field that is added to a job must be skipped where it has its default, or after an upgrade every
/// job that is submitted again would be another under the same `message_id`.
#[test]
fn a_job_of_defaults_is_written_with_the_same_bytes_for_ever() {
    let golden = [
        "8da3617070d940613137326365646361653437343734623631356335346435313061356438346138646561333033326539353835383734333062",
        "34313335333862653366333333a5696e70757481a56974656d7390a6736861726564c0a6706172616d7380a4706f6f6ca46f70656ea671756f72",
        "756d01a87072696f7269747900aa646561646c696e655f73c0ac6d61785f6661696c7572657303a66c696d69747383ad6675656c5f7065725f69",
        "74656dcf000000e8d4a51000ac6d656d6f72795f6279746573ce10000000ac6f75747075745f6279746573ce00100000a4756e697482a9746172",
        "6765745f6d73cd2710a96d61785f6974656d73cd2710a6726564756365c2a864656c6976657279a673746f726564",
    ]
    .concat();
    let digest = Digest::of(b"app");
    let json = format!(r#"{{"app":"{digest}","input":{{"items":[]}},"pool":"open"}}"#);
    let spec = JobSpec::from_bytes(json.as_bytes(), Format::Json).unwrap();
    let written = spec.to_bytes(Format::MessagePack).unwrap();
    assert_eq!(hex(&written), golden);
    assert_eq!(JobSpec::from_bytes(&written, Format::MessagePack).unwrap(), spec);
}

#[test]
fn oversized_and_foreign_bodies_are_refused() {
    let large = vec![b' '; codec::MAX_BODY_BYTES + 1];
    assert!(matches!(CancelJob::from_bytes(&large, Format::Json), Err(CodecError::Oversized { .. })));
    assert!(Format::from_content_type(Some("text/xml")).is_err());
    assert_eq!(Format::from_content_type(Some("Application/JSON; charset=utf-8")).unwrap(), Format::Json);
    assert_eq!(Format::from_content_type(None).unwrap(), Format::MessagePack);
    let blob = PutBlob { digest: Digest::of(b""), size: 0, offset: 0, data: vec![0; codec::MAX_BODY_BYTES] };
    assert!(matches!(blob.to_bytes(Format::MessagePack), Err(CodecError::Oversized { .. })));
}

#[test]
fn a_body_under_another_type_is_another_message() {
    let bytes = CancelJob { job: job() }.to_bytes(Format::MessagePack).unwrap();
    for kind in ["", CancelJob::KIND] {
        assert_eq!(CancelJob::from_typed(kind, &bytes, Format::MessagePack).unwrap(), CancelJob { job: job() });
    }
    for kind in ["offpeak.job.cancel.v2", PauseJob::KIND, &"x".repeat(1_000)] {
        let error = CancelJob::from_typed(kind, &bytes, Format::MessagePack).unwrap_err().to_string();
        let start: String = kind.chars().take(80).collect();
        assert_eq!(error, format!("offpeak.job.cancel.v1 body is not valid: it came under type {start:?}"));
    }
}

fn outcome_result() -> impl Strategy<Value = OutcomeResult> {
    let computed = (any::<Vec<u8>>(), 0..=Fuel::MAX.get(), any::<u64>()).prop_map(|(output, fuel, input_bytes)| {
        let (meter, fuel) = (MeterId::new("m").unwrap(), Fuel::new(fuel).unwrap());
        OutcomeResult::Computed(Computed { meter, fuel, digest: Digest::of(&output), output, input_bytes })
    });
    prop_oneof![
        computed,
        any::<String>().prop_map(|reason| OutcomeResult::AppFailed { reason }),
        any::<String>().prop_map(|reason| OutcomeResult::TooLarge { reason }),
        any::<String>().prop_map(|reason| OutcomeResult::Interrupted { reason }),
        any::<String>().prop_map(|reason| OutcomeResult::Dead { reason }),
    ]
}

proptest! {
    #[test]
    fn outcomes_read_back(unit: u32, replica: u16, result in outcome_result(), compute_us: u64) {
        let outcome = Outcome { replica: UnitKey { job: job(), unit }.replica(replica), slice: SLICE, host: host(), result, compute_us };
        for format in [Format::MessagePack, Format::Json] {
            prop_assert_eq!(&Outcome::from_bytes(&outcome.to_bytes(format).unwrap(), format).unwrap(), &outcome);
        }
    }

    #[test]
    fn work_reads_back(first: u64, start: u64, end: u64, frame: Vec<u8>, inline: bool, time_limit_ms: u32) {
        let items = if inline { Items::Frame(frame) } else { Items::Range { start, end } };
        let customer = CustomerName::new("a").unwrap();
        let slice = Slice { first, ..SLICE };
        let work = Work { replica: replica(), customer, brief: Digest::of(b""), call: Call::Map, slice, items, time_limit_ms, traceparent: None };
        for format in [Format::MessagePack, Format::Json] {
            prop_assert_eq!(&Work::from_bytes(&work.to_bytes(format).unwrap(), format).unwrap(), &work);
        }
    }

    #[test]
    fn rubbish_is_an_error_and_no_panic(bytes: Vec<u8>) {
        for format in [Format::MessagePack, Format::Json] {
            let _each = (JobSpec::from_bytes(&bytes, format), Work::from_bytes(&bytes, format), Outcome::from_bytes(&bytes, format));
        }
    }

    /// A flipped byte is read as another message or refused; it never panics and never takes memory it was not sent.
    #[test]
    fn damaged_messages_do_no_harm(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = spec().to_bytes(Format::MessagePack).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _either = JobSpec::from_bytes(&bytes, Format::MessagePack);
    }
}
