//! The job file: the examples' files damaged, in a folder with the files they name; each refusal names its place.

use std::fmt::Write as _;
use std::path::Path;

use offpeak::jobfile::{self, JobFile, Mistakes};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::mutate::{mutated, mutations};
use crate::{cases, holds, measured, turn};

const EXAMPLES: [&str; 6] = [
    include_str!("../../examples/c-sum/job.toml"),
    include_str!("../../examples/drift-search/job.toml"),
    include_str!("../../examples/mandelbrot/job.toml"),
    include_str!("../../examples/monte-carlo/job.toml"),
    include_str!("../../examples/signal-search/job.toml"),
    include_str!("../../examples/wc-command/job.toml"),
];

/// Every key with a value, so that damage meets all of them.
const ALL: &str = "app = \"app.wasm\"\npool = \"open\"\nquorum = 2\npriority = -5\ndeadline = \"2h30m\"\nmax_failures = 7\nreduce = true\n\
    [input]\nrecords = { file = \"numbers.txt\", bytes = 1 }\nshared = \"text.txt\"\n[params]\nz = [1.5, true, 2026-01-02, {x = \"y\"}]\n\
    [limits]\nfuel_per_item = 1_000\nmemory_bytes = 0x100000\noutput_bytes = 77\n[unit]\ntarget_seconds = 0.5\nmax_items = 9\n";

/// Memory for each byte of a job file.
const BYTES_PER_BYTE: usize = 1_024;
/// Memory whatever the file: the buffer that files are read through, and some.
const BYTES_ANYWAY: usize = 4 << 20;

/// A folder with small files under the names that the examples use.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("app.wasm", b"\0asm\x01\0\0\0");
    write("empty", b"");
    for name in ["numbers.txt", "text.txt", "spectrum.f32", "recording.c64"] {
        write(name, b"1\n2 3\n");
    }
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    folder
}

/// What readers of job files trip over.
fn words() -> Vec<Vec<u8>> {
    let words = [
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551616",
        "340282366920938463463374607431768211456",
        "1e999",
        "-1e-999",
        "nan",
        "-inf",
        "0x1_0000_0000_0000_0000",
        "0b1",
        "-0",
        "[",
        "{",
        "]",
        "}",
        "\"\"\"",
        "'''",
        "#",
        "=",
        ".",
        ",",
        "\r",
        "\n",
        "\u{feff}",
        "\u{0}",
        "\u{7f}",
        "é\u{10ffff}",
        "\\ud800",
        "\\U0010ffff",
        "2026-13-99",
        "07:32:61",
        "true",
        "\"\"",
        "\"folder\"",
        "\"loop\"",
        "\"empty\"",
        "\"..\"",
        "\"/\"",
        "\"a\\u0000b\"",
        "\"./app.wasm/\"",
        "\"app.wasm\"",
        "range = [5, 3]\n",
        "range = [0, 18446744073709551616]\n",
        "range = [0, 18446744073709551615]\n",
        "unknown = 1\n",
        "\"\" = 1\n",
        "[input.grid]\n",
        "[[input]]\n",
        "[params.a.b.c]\n",
        "lines = \"text.txt\"\n",
        "items = [1, [2], {a = 3}]\n",
        "[input]\n",
        "deadline = \"99999999999999999999d\"\n",
        "target_seconds = 1e-320\n",
        "bytes = 0\n",
    ];
    let long = ["x".repeat(5_000), "[".repeat(500), "{a=".repeat(500), "a.".repeat(500), format!("\"{}\"", "../".repeat(3_000))];
    words.iter().map(|word| (*word).to_owned()).chain(long).map(String::into_bytes).collect()
}

/// Reads a text as the job file of that folder, within bounds, and checks what is said of it.
fn try_text(folder: &Path, text: &str) -> Result<(), TestCaseError> {
    let (read, peak) = measured(|| jobfile::parse(&folder.join("job.toml"), text));
    let bound = text.len() * BYTES_PER_BYTE + BYTES_ANYWAY;
    prop_assert!(peak <= bound, "{} bytes took {peak} bytes, over {bound}", text.len());
    check(&read)
}

/// A job is as its limits say; a refusal names a line or a key with each mistake.
pub(crate) fn check(read: &Result<JobFile, Mistakes>) -> Result<(), TestCaseError> {
    match read {
        Ok(job) => {
            let spec = &job.spec;
            prop_assert!((1..=16).contains(&spec.quorum) && (-100..=100).contains(&spec.priority), "{spec:?}");
            prop_assert!(spec.unit.target_ms >= 1 && spec.unit.max_items >= 1 && spec.limits.output_bytes >= 1, "{spec:?}");
            prop_assert!(spec.input.blob().is_some() || spec.input.count().is_some_and(|count| count > 0), "{spec:?}");
            prop_assert!(job.uploads.iter().all(|upload| upload.bytes > 0));
            let bytes = protocol::Message::to_bytes(spec, protocol::Format::MessagePack);
            let bytes = bytes.map_err(|e| TestCaseError::fail(format!("it cannot be sent: {e}")))?;
            let again = <protocol::job::JobSpec as protocol::Message>::from_bytes(&bytes, protocol::Format::MessagePack);
            let again = again.map_err(|e| TestCaseError::fail(format!("the grid cannot read it: {e}")))?;
            prop_assert_eq!(format!("{again:?}"), format!("{spec:?}"));
        }
        Err(mistakes) => {
            prop_assert!(!mistakes.list().is_empty());
            for mistake in mistakes.list() {
                let named = mistake.line.is_some_and(|line| line > 0 && mistake.column > 0) || mistake.problem.contains('`');
                let whole = mistake.problem.contains("the whole job") || mistake.problem.contains("the job file");
                prop_assert!(named || whole, "no place: {mistake:?}");
                prop_assert!(!mistake.way_out.is_empty(), "no way out: {mistake:?}");
            }
            prop_assert!(mistakes.to_string().lines().count() <= 102 * 4);
        }
    }
    Ok(())
}

#[test]
fn damaged_job_files_are_refused_by_place() {
    let _turn = turn();
    let folder = folder();
    let seeds = proptest::sample::select([EXAMPLES.as_slice(), &[ALL, ALL]].concat());
    holds(cases(15_000, 4), &(seeds, mutations(words())), |(seed, mutations)| {
        let bytes = mutated(seed.as_bytes(), &mutations);
        try_text(folder.path(), &String::from_utf8_lossy(&bytes))
    });
}

#[test]
fn any_value_under_any_key_is_read_or_refused_by_place() {
    let _turn = turn();
    let folder = folder();
    let keys = jobfile::KEYS.map(|key| key.replace("<name>", "x")).to_vec();
    let words: Vec<String> = words().into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
    let number = proptest::string::string_regex("[+-]?[0-9]{1,40}(\\.[0-9]{1,30})?(e[+-]?[0-9]{1,4})?").unwrap();
    let value =
        prop_oneof![proptest::sample::select(words), number, any::<String>().prop_map(|text| format!("{text:?}"))].boxed();
    let nested = prop_oneof![value.clone(), (value.clone(), value).prop_map(|(a, b)| format!("[{a}, {b}]"))];
    let lines = proptest::collection::vec((proptest::sample::select(keys), nested), 1..6);
    holds(cases(15_000, 4), &lines, |lines| {
        let mut text = String::new();
        for (key, value) in lines {
            writeln!(text, "{key} = {value}").unwrap();
        }
        try_text(folder.path(), &text)
    });
}

#[test]
fn nesting_size_and_mistakes_without_end_are_refused() {
    let _turn = turn();
    let folder = folder();
    let head = "app = \"app.wasm\"\ninput.range = [0, 1]\n";
    let dotted = |name: &str| vec![name; 70].join(".");
    // Keys of 70 parts in 70 tables within each other: a tree of 4,900 levels.
    let deep = format!("{}1{}", format!("{{{} = ", dotted("b")).repeat(70), "}".repeat(70));
    let axis = format!("[{}]", vec!["1"; 1_000].join(","));
    let texts = [
        format!("{head}params.a = {}1{}\n", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{head}params.a = {}1{}\n", "{a = ".repeat(10_000), "}".repeat(10_000)),
        format!("{head}params.a = {}1{}\n", "[".repeat(70), "]".repeat(70)),
        format!("{head}[params.{}]\nx = 1\n", dotted("a")),
        format!("{head}params.{} = 1\n", vec!["a"; 100_000].join(".")),
        format!("{head}[params.{}]\nx = {deep}\n", dotted("a")),
        format!("app = \"app.wasm\"\ninput.items = [{deep}]\n"),
        format!("app = \"app.wasm\"\ninput.grid.x = [{deep}]\n"),
        format!("app = \"app.wasm\"\n[input.grid]\n{}", (0..30).fold(String::new(), |text, n| format!("{text}a{n} = {axis}\n"))),
        format!("{head}params.a = \"{}\"\n", "x".repeat(4 << 20)),
        format!("{head}{}", (0..20_000).fold(String::new(), |text, n| text + &format!("k{n} = 1\n"))),
        format!("{head}limits = {{ {} }}", (0..20_000).map(|n| format!("k{n} = 1")).collect::<Vec<_>>().join(", ")),
        format!("{head}params.a = [{}]", vec!["99999999999999999999"; 50_000].join(", ")),
        "= \n".repeat(50_000),
        "\"".repeat(200_000),
        "[[a]]\n".repeat(20_000),
        "a = [\n".repeat(20_000),
    ];
    for text in texts {
        let shown: String = text.chars().skip(40).take(60).collect();
        let begun = begun();
        try_text(folder.path(), &text).unwrap_or_else(|e| panic!("{shown:?}: {e}"));
        assert!(begun.elapsed().as_secs() < 600, "{} bytes of {shown:?} took {:?}", text.len(), begun.elapsed());
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that nothing takes for ever")]
fn begun() -> std::time::Instant {
    std::time::Instant::now()
}
