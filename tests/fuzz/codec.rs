//! The codec: the golden messages damaged, read as every message in both formats; frames, chains and names.

use std::fmt::Debug;

use proptest::prelude::*;
use protocol::app::{AppRegistered, RegisterApp};
use protocol::blob::{BlobDeleted, BlobPart, BlobStored, BlobsListed, DeleteBlob, GetBlob, ListBlobs, PutBlob};
use protocol::codec::{CodecError, MAX_BODY_BYTES, decode, decoded, encode};
use protocol::frame;
use protocol::job::{Brief, CancelJob, DropJob, JobSpec};
use protocol::outcome::Outcome;
use protocol::problem::{Problem, Refused};
use protocol::query::{
    ExplainJob, FetchResults, GetJobStatus, JobExplained, JobStatus, JobsListed, ListJobs, PauseJob, ReleaseResults,
    ResultsFetched, ResultsReleased, ResumeJob,
};
use protocol::quote::{QuoteJob, Quoted};
use protocol::reply::{Accepted, Completed, Part, Progress};
use protocol::unit::Work;
use protocol::usage::{ReportUsage, UsageReported};
use protocol::{CustomerName, Digest, Format, HostId, JobId, MeterId, OutputChain, PoolName, ReplicaKey, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mutate::{mutated, mutations};
use crate::{cases, holds, measured, turn};

const GOLDEN: &str = include_str!("../../crates/protocol/golden/v1.txt");
const FORMATS: [Format; 2] = [Format::MessagePack, Format::Json];

/// Memory for each byte of a body: a map of one entry is 3 bytes of MessagePack and room for four pairs of values.
const BYTES_PER_BYTE: usize = 192;
/// Memory whatever the body: serde sets up to 1 MiB aside for a list by what its header claims.
const BYTES_ANYWAY: usize = 1 << 20;

/// The golden messages in both formats.
fn golden() -> Vec<Vec<u8>> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    let of_line = |line: &str| {
        let mut parts = line.splitn(3, ' ').skip(1);
        let (hex, json) = (parts.next().unwrap(), parts.next().unwrap());
        let msgpack = hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        [msgpack, json.as_bytes().to_vec()]
    };
    GOLDEN.lines().flat_map(of_line).collect()
}

/// What readers of MessagePack and JSON trip over.
fn words() -> Vec<Vec<u8>> {
    let headers = [0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf];
    let huge = headers.map(|marker| vec![marker, 0xff, 0xff, 0xff, 0xff]);
    let numbers = [0xca, 0xcb, 0xcf, 0xd3].map(|marker| [vec![marker], vec![0xff; 8]].concat());
    let nested = [0x91, 0x81, b'[', b'{'].map(|marker| vec![marker; 300]);
    let texts: [&[u8]; 18] = [
        b"1e999",
        b"-0",
        b"-0.0",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"0.1000000000000000055511151231257827",
        b"123456789.123456789e-300",
        b"4.9e-324",
        b"\"\\ud800\"",
        b"\"\\u0000\"",
        b"null",
        b"{\"a\":{}}",
        b"\"grid\":[]",
        b"\"range\":{\"start\":9,\"end\":1},",
        b"\xc1",
        b"\xa4\xff\xfe\xfd\xfc",
        b"\xc7\x00\x05",
        b"\xd9\x00",
    ];
    let texts = texts.map(<[u8]>::to_vec);
    [huge.to_vec(), numbers.to_vec(), nested.to_vec(), texts.to_vec()].concat()
}

/// Reads the bytes as one type; what can be read is written, and reads back as the same.
fn try_as<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], format: Format) -> Result<(), TestCaseError> {
    let (read, peak) = measured(|| decode::<T>("body", bytes, format));
    let bound = bytes.len() * BYTES_PER_BYTE + BYTES_ANYWAY;
    prop_assert!(peak <= bound, "{} bytes took {peak} bytes, over {bound}", bytes.len());
    let value = match read {
        Ok(value) => value,
        Err(error) => {
            let told = error.to_string();
            prop_assert!(!told.is_empty() && told.len() <= 1_000 + bytes.len() * 8, "{} bytes: {told}", told.len());
            return Ok(());
        }
    };
    let written = match encode("body", &value, format) {
        Ok(written) => written,
        // A body at the limit may be written longer than it was read: base64 with line ends left out, JSON's escapes.
        Err(CodecError::Oversized { .. }) => return Ok(()),
        Err(error) => return Err(TestCaseError::fail(format!("{value:?} is not written: {error}"))),
    };
    let again = decode::<T>("body", &written, format);
    let again = again.map_err(|e| TestCaseError::fail(format!("{value:?} does not read back: {e}")))?;
    // What is no number equals nothing, but looks the same.
    let same = value == again || format!("{value:?}") == format!("{again:?}");
    prop_assert!(same, "{value:?} reads back as {again:?}");
    Ok(())
}

type Try = fn(&[u8], Format) -> Result<(), TestCaseError>;

macro_rules! tries {
    ($($type:ty),* $(,)?) => {
        &[$(try_as::<$type>),*]
    };
}

/// Every message there is, and what else comes as bytes.
const TRIES: &[Try] = tries![
    RegisterApp,
    AppRegistered,
    PutBlob,
    BlobStored,
    ListBlobs,
    BlobsListed,
    DeleteBlob,
    BlobDeleted,
    QuoteJob,
    Quoted,
    JobSpec,
    CancelJob,
    Accepted,
    Problem,
    Progress,
    Part,
    Completed,
    Refused,
    PauseJob,
    ResumeJob,
    GetJobStatus,
    JobStatus,
    ListJobs,
    JobsListed,
    ExplainJob,
    JobExplained,
    FetchResults,
    ResultsFetched,
    ReleaseResults,
    ResultsReleased,
    ReportUsage,
    UsageReported,
    Work,
    Outcome,
    DropJob,
    GetBlob,
    BlobPart,
    Brief,
    Value,
];

/// Reads the bytes as everything there is.
fn try_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let each = FORMATS.iter().flat_map(|format| TRIES.iter().map(move |try_it| (try_it, *format)));
    for (try_it, format) in each {
        try_it(bytes, format)?;
    }
    Ok(())
}

#[test]
fn every_message_is_tried() {
    let others = [std::any::type_name::<Brief>(), std::any::type_name::<Value>()];
    assert_eq!(TRIES.len(), protocol::message::KINDS.len() + others.len());
}

#[test]
fn damaged_messages_are_refused_or_read_back() {
    let _turn = turn();
    let seeds = proptest::sample::select(golden());
    holds(cases(25_000, 1), &(seeds, mutations(words())), |(seed, mutations)| try_all(&mutated(&seed, &mutations)));
}

/// The largest block of zstd.
const ZSTD_BLOCK: usize = 128 << 10;
/// "abc" twelve times, by the reference implementation: a compressed block and a checksum.
const ZSTD_COMPRESSED: &[u8] = b"\x28\xb5\x2f\xfd\x04\x58\x4d\0\0\x18abc\x01\0\x8en\x08\x10\x1ci\xbe";

/// A frame of zstd with a content of so many bytes (RFC 8878, section 3.1.1).
fn zstd(bytes: usize, blocks: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let content = u32::try_from(bytes).unwrap().to_le_bytes();
    let mut frame = [b"\x28\xb5\x2f\xfd\xa0", content.as_slice()].concat();
    blocks(&mut frame);
    frame
}

/// A block that is stored (0) or one byte so many times (1).
fn block(kind: usize, bytes: usize, is_last: bool, content: &[u8]) -> Vec<u8> {
    let header = usize::from(is_last) | kind << 1 | bytes << 3;
    [&header.to_le_bytes()[..3], content].concat()
}

#[test]
fn damaged_frames_of_zstd_are_refused_or_unpacked_within_the_limit() {
    let _turn = turn();
    let stored = golden().into_iter().map(|bytes| zstd(bytes.len(), |frame| frame.extend(block(0, bytes.len(), true, &bytes))));
    // A byte 8 MiB times, and once more than that.
    let runs = [MAX_BODY_BYTES, MAX_BODY_BYTES + 1].map(|bytes| {
        zstd(bytes, |frame| {
            (0..bytes / ZSTD_BLOCK).for_each(|_| frame.extend(block(1, ZSTD_BLOCK, false, b"a")));
            frame.extend(block(1, bytes % ZSTD_BLOCK, true, b"a"));
        })
    });
    let frames: Vec<Vec<u8>> = stored.chain(runs).chain([ZSTD_COMPRESSED.to_vec()]).collect();
    let read: Vec<bool> = frames.iter().map(|frame| decoded(Some("zstd"), frame).is_ok()).collect();
    assert_eq!(read.iter().position(|is_read| !is_read), Some(read.len() - 2), "all but the one that is too long");
    // Headers that claim much: a window of a terabyte, a content of 2^64 - 1 bytes, a run of 2 MiB in one block.
    let words: [&[u8]; 4] =
        [b"\x28\xb5\x2f\xfd\0\xf0", b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\xff", b"\xfb\xff\xff\0", b"\xff\xff\xff"];
    let seeds = (proptest::sample::select(frames), mutations(words.map(<[u8]>::to_vec).to_vec()));
    holds(cases(5_000, 10), &seeds, |(seed, mutations)| {
        let body = mutated(&seed, &mutations);
        let (read, peak) = measured(|| decoded(Some("zstd"), &body).map(|bytes| bytes.len()));
        // The window and the body, each of which grows by doubling.
        prop_assert!(peak <= 6 * MAX_BODY_BYTES, "{} bytes took {peak} bytes", body.len());
        prop_assert!(read.is_err() || read.is_ok_and(|bytes| bytes <= MAX_BODY_BYTES));
        Ok(())
    });
}

#[test]
fn numbers_of_json_read_back_as_they_were() {
    let _turn = turn();
    let number = proptest::string::string_regex("-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?").unwrap();
    holds(cases(20_000, 1), &number, |text| {
        try_as::<Value>(text.as_bytes(), Format::Json)?;
        // The standard library reads to the nearest number; every reader of the same text must get the same number.
        if let Ok(Value::F64(read)) = decode::<Value>("number", text.as_bytes(), Format::Json) {
            prop_assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
        }
        Ok(())
    });
}

#[test]
fn nesting_is_bounded_and_headers_set_no_memory_aside() {
    let _turn = turn();
    let specs = golden().into_iter().filter(|seed| seed.windows(6).any(|window| window == b"params"));
    // In the place of the parameters of a job: { "rate": 0.25 } in MessagePack and in JSON.
    let places: [&[u8]; 2] = [b"\x81\xa4rate\xcb\x3f\xd0\0\0\0\0\0\0", b"{\"rate\":0.25}"];
    let specs: Vec<Vec<u8>> = specs.filter(|spec| places.iter().any(|place| find(spec, place).is_some())).collect();
    assert_eq!(specs.len(), 6, "two submissions and a quote, in both formats");
    let huge: [&[u8]; 4] = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff\xa1a", b"\xdd\0\0\0\x01"];
    let plain: [&[u8]; 7] = [b"\x91", b"\x81\xa1a", b"\xdc\0\x01", b"[", b"{\"a\":", b"[{\"a\":", b"\xc7\xff\x01"];
    for opening in [huge.as_slice(), plain.as_slice()].concat() {
        for depth in [100, 127, 128, 500, 1_000, 1_020, 1_024, 100_000] {
            let end: &[u8] = if opening.is_ascii() { b"1" } else { b"\xc0" };
            let closing: Vec<u8> = opening.iter().rev().filter_map(|byte| closes(*byte)).collect();
            let nested = [opening.repeat(depth), end.to_vec(), closing.repeat(depth)].concat();
            try_all(&nested).unwrap();
            for spec in &specs {
                let place = places.iter().find_map(|place| Some((find(spec, place)?, place.len())));
                let (at, len) = place.unwrap();
                try_all(&[&spec[..at], &nested, &spec[at + len..]].concat()).unwrap();
            }
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn closes(opening: u8) -> Option<u8> {
    match opening {
        b'[' => Some(b']'),
        b'{' => Some(b'}'),
        _ => None,
    }
}

#[test]
fn wide_bodies_take_memory_in_proportion() {
    let _turn = turn();
    let patterns: [&[u8]; 9] = [
        b"\xc0",
        b"\x90",
        b"\x91\xc0",
        b"\x81\xc0\xc0",
        b"\xa1a",
        b"\xc4\x01a",
        b"\xd4\x01a",
        b"\x91\x91\x91\xc0",
        b"\x95\xc0\xc0\xc0\xc0\xc0",
    ];
    for pattern in patterns {
        let count = (1 << 18) / pattern.len();
        let header = [b"\xdd".as_slice(), &u32::try_from(count).unwrap().to_be_bytes()].concat();
        try_as::<Value>(&[header, pattern.repeat(count)].concat(), Format::MessagePack).unwrap();
    }
    for pattern in ["1", "[]", "{}", "[1]", "{\"\":1}", "\"a\"", "[[1]]"] {
        let body = format!("[{}]", vec![pattern; (1 << 18) / (pattern.len() + 1)].join(","));
        try_as::<Value>(body.as_bytes(), Format::Json).unwrap();
    }
    for body in [vec![b'['; MAX_BODY_BYTES + 1], vec![0x91; MAX_BODY_BYTES + 1]] {
        try_all(&body).unwrap();
    }
}

#[test]
fn frames_chains_and_names_are_refused_or_read_back() {
    let _turn = turn();
    let words = vec![vec![0; 4], vec![0xff; 4], vec![1, 0, 0, 0], vec![0xff, 0xff, 0xff, 0x7f], vec![0xfc, 0xff, 0xff, 0xff]];
    let seed = |with_status: bool| {
        let mut items = frame::ItemFrame::default();
        let mut results = frame::ResultFrame::default();
        for body in [b"".as_slice(), b"abc", b"eight888", &[7; 100]] {
            items.push(body).unwrap();
            results.ok(body).unwrap();
            results.failed("no luck").unwrap();
        }
        if with_status { results.finish() } else { items.finish() }
    };
    let seeds = proptest::sample::select(vec![seed(false), seed(true), vec![0; 40], vec![0xff; 64]]);
    holds(cases(20_000, 1), &(seeds, mutations(words)), |(seed, mutations)| {
        let bytes = mutated(&seed, &mutations);
        // What the harness's other threads take meanwhile is counted too: the least of three is the frames' own.
        let peaks = [(); 3].map(|()| measured(|| try_frames(&bytes)).1);
        let peak = peaks.into_iter().min().unwrap_or(0);
        prop_assert!(peak <= bytes.len() * 64 + 4_096, "{} bytes took {peak}", bytes.len());
        if let Some(chain) = OutputChain::from_bytes(&bytes) {
            prop_assert_eq!(OutputChain::from_bytes(&chain.to_bytes()), Some(chain));
        }
        try_names(&String::from_utf8_lossy(&bytes))
    });
    let text = "[a-z0-9-]{0,60}|[0-9a-f]{60,68}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\\.[0-9+-]{1,12}){0,3}|\\PC{0,80}";
    holds(cases(20_000, 1), &proptest::string::string_regex(text).unwrap(), |text| try_names(&text));
}

fn try_frames(bytes: &[u8]) {
    if let Ok(items) = frame::items(bytes) {
        let mut again = frame::ItemFrame::default();
        for item in &items {
            again.push(item).unwrap();
        }
        assert_eq!(frame::items(&again.finish()).unwrap(), items);
        assert_eq!(frame::lengths(bytes).unwrap().len(), items.len());
    }
    if let Ok(results) = frame::results(bytes) {
        assert!(frame::succeeded_bytes(&vec![1; results.len()], bytes).unwrap() <= u64::try_from(results.len()).unwrap());
    }
}

fn try_names(text: &str) -> Result<(), TestCaseError> {
    let told = |error: Option<protocol::ids::IdError>| error.map_or(0, |error| error.to_string().len());
    let lengths = [
        told(CustomerName::new(text).err()),
        told(PoolName::new(text).err()),
        told(HostId::new(text).err()),
        told(MeterId::new(text).err()),
        told(text.parse::<Digest>().err()),
        told(text.parse::<JobId>().err()),
        told(text.parse::<ReplicaKey>().err()),
    ];
    prop_assert!(lengths.iter().all(|length| *length < 2_000), "{lengths:?}");
    if let Ok(key) = text.parse::<ReplicaKey>() {
        prop_assert_eq!(key.to_string().parse::<ReplicaKey>().unwrap(), key);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        prop_assert_eq!(digest.to_string(), text);
    }
    Ok(())
}
