//! The wire, byte for byte: golden messages of version 1 are kept and read for ever; rubbish is a clear error.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::input::{Axis, Input};
use crate::job::{Certificate, Delivery, ItemCounts, JobState, Limits, UnitSizing};
use crate::outcome::{Computed, OutcomeResult};
use crate::reply::{FieldError, UsageSummary};
use crate::unit::{Call, Items, Slice};
use crate::{CustomerName, Digest, Fuel, HostId, JobId, MeterId, PoolName, ReplicaKey, UnitKey, Value};

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
        max_failures: 4,
        limits: Limits { fuel_per_item: Fuel::new(1 << 60).unwrap(), memory_bytes: 1 << 26, output_bytes: 4_096 },
        unit: UnitSizing { target_ms: 5_000, max_items: 100 },
        reduce: true,
        delivery: Delivery::Parts,
    }
}

/// Checks one message against its golden line, both ways and in both formats.
fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
    let msgpack = message.to_bytes(Format::MessagePack).unwrap();
    let json = String::from_utf8(message.to_bytes(Format::Json).unwrap()).unwrap();
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap());
    let hex: String = msgpack.iter().flat_map(digits).collect();
    let line = format!("{} {hex} {json}", M::KIND);
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
    check(&CancelJob { job: job() });
    check(&Accepted { job: job(), items: 10_000_000 });
    let mut problem = Problem::new(422, "invalid-job", "Job is not valid", "it has one mistake");
    problem.errors.push(FieldError { pointer: "/quorum".into(), detail: "0 is not from 1 to 16".into() });
    check(&problem);
    let items = ItemCounts { submitted: 10, succeeded: 8, failed: 1, cancelled: 1 };
    check(&Progress { job: job(), items, units: 4, eta_s: Some(12) });
    check(&Part { job: job(), part: 3, first: 12, output: vec![1, 0, 0, 0] });
    let certificate = Certificate { items, items_digest: Digest::of(b"1"), output_digest: Digest::of(b"2") };
    let usage = UsageSummary { units: 4, replicas: 9, fuel: Fuel::MAX, bytes: 1 << 40, compute_us: 1_234_567, wasted_us: 89 };
    check(&Completed { job: job(), state: JobState::Completed, certificate, usage, parts: 4 });
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
    let golden = golden();
    let known: Vec<&str> = golden.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(KINDS.iter().all(|kind| known.contains(kind)), "every type of message has a golden line");
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
