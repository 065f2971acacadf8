//! The document is what the types say, and its examples are read by the codec.

use super::*;
use crate::customer::CustomerLimits;
use crate::message::{KINDS, READERS};
use crate::problem::{Code, Problem, Refused};
use crate::reply::{Completed, Part};
use crate::{Format, Message, OutputChain, frame};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contract/asyncapi.yaml");

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/customers.md");
const PROBLEMS: [&str; 2] = ["<!-- problems: made from crates/protocol/src/problem.rs -->\n", "<!-- problems: end -->"];

/// What services say to each other: customers never see it.
const INTERNAL: &[&str] =
    &["offpeak.unit.compute.v1", "offpeak.unit.outcome.v1", "offpeak.job.drop.v1", "offpeak.blob.get.v1", "offpeak.blob.part.v1"];

#[test]
fn the_committed_document_is_what_the_types_say() {
    let committed = std::fs::read_to_string(DOCUMENT).unwrap();
    let renew = "cargo run -p protocol --example contract > docs/contract/asyncapi.yaml";
    let first = committed.lines().zip(yaml().lines().map(str::to_owned)).find(|(there, made)| there != made);
    assert!(committed == yaml(), "docs/contract/asyncapi.yaml is not up to date, first in {first:?}; renew it: {renew}");
}

#[test]
fn every_message_is_in_the_contract_or_internal() {
    for kind in KINDS {
        let in_contract = TABLE.iter().filter(|row| row.kind == *kind).count();
        assert_eq!(in_contract + usize::from(INTERNAL.contains(kind)), 1, "{kind}");
    }
    assert_eq!(TABLE.len() + INTERNAL.len(), KINDS.len());
    assert_eq!(schemas::disagreements(), Vec::<String>::new(), "of a type that is both read and written there is one schema");
}

#[test]
fn every_answer_is_one_of_the_table() {
    let role = |kind| TABLE.iter().find(|row| row.kind == kind).map(|row| row.role);
    for row in TABLE {
        let Role::Request { answers, refused } = row.role else { continue };
        assert_eq!(role(refused), Some(Role::Answer), "{}", row.kind);
        assert!(answers.iter().all(|kind| matches!(role(kind), Some(Role::Answer | Role::News))), "{}", row.kind);
    }
}

#[test]
fn every_example_is_read_by_the_codec_in_both_formats() {
    let document: Node = serde_json::from_str(&json()).unwrap();
    let messages = document.get("components").and_then(|components| components.get("messages")).unwrap();
    let mut seen = 0;
    for (kind, message) in messages.entries() {
        let (_, read) = READERS.iter().find(|(known, _)| known == kind).unwrap();
        let examples = message.get("examples").unwrap().elements();
        assert!(!examples.is_empty(), "{kind}");
        for example in examples {
            let payload = serde_json::to_string(example.get("payload").unwrap()).unwrap();
            let written = read(payload.as_bytes(), Format::Json).unwrap_or_else(|error| panic!("{payload}: {error}"));
            for (bytes, format) in written.iter().zip([Format::MessagePack, Format::Json]) {
                assert_eq!(read(bytes, format).unwrap(), written);
            }
            let written: serde_json::Value = serde_json::from_slice(&written[1]).unwrap();
            let given: serde_json::Value = serde_json::from_str(&payload).unwrap();
            // A request may leave out what has a default; an answer is exactly what the grid writes.
            let is_request = TABLE.iter().any(|row| row.kind == kind && matches!(row.role, Role::Request { .. }));
            assert!(is_request || written == given, "{kind}: {given} is written as {written}");
            seen += 1;
        }
    }
    assert_eq!(seen, EXAMPLES.lines().count(), "every line of the examples is in the document");
}

#[test]
fn the_example_of_a_part_gives_the_digest_of_the_example_of_completed() {
    let payload = |kind: &str| serde_json::to_vec(examples(kind)[0].get("payload").unwrap()).unwrap();
    let part = Part::from_bytes(&payload(Part::KIND), Format::Json).unwrap();
    let completed = Completed::from_bytes(&payload(Completed::KIND), Format::Json).unwrap();
    let mut chain = OutputChain::default();
    for entry in frame::results(&part.output).unwrap() {
        match entry {
            frame::Entry::Ok(output) => chain.succeeded(output),
            frame::Entry::Failed(_) => chain.failed(),
        }
    }
    assert_eq!(chain.digest(), completed.certificate.items_digest);
}

#[test]
fn problems_in_examples_are_of_the_table() {
    for example in examples(Problem::KIND).iter().chain(&examples(Refused::KIND)) {
        let payload = serde_json::to_vec(example.get("payload").unwrap()).unwrap();
        let problem = Problem::from_bytes(&payload, Format::Json).unwrap();
        let code = Code::ALL.into_iter().find(|code| code.about().code == problem.code).unwrap();
        let made = Problem::new(code, problem.detail.clone());
        let same = (problem.status, &problem.title, &problem.type_uri, problem.retryable);
        assert_eq!(same, (made.status, &made.title, &made.type_uri, made.retryable));
    }
}

#[test]
fn yaml_puts_into_quotes_what_a_reader_could_mistake() {
    let node: Node = serde_json::from_str(
        r#"{"a":"no","b":"1.0","c":"x: y","d":"it's so","e":"a\nb\n","f":["null","b, c"],"g":[],"h":{},"i":[{"j":null,"k":-1}],"l":"a #b"}"#,
    )
    .unwrap();
    let written = "\
a: \"no\"
b: \"1.0\"
c: \"x: y\"
d: it's so
e: |
  a
  b
f:
  - \"null\"
  - b, c
g: []
h: {}
i:
  - j: null
    k: -1
l: \"a #b\"
";
    assert_eq!(yaml::write(&node), written);
}

#[test]
fn the_guide_has_every_message_and_every_problem() {
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    for row in TABLE {
        let short = row.kind.trim_start_matches("offpeak.").trim_end_matches(".v1");
        assert!(guide.contains(&format!("`{short}`")) || guide.contains(row.kind), "{} is not in docs/customers.md", row.kind);
    }
    let rows = Code::ALL.map(|code| {
        let about = code.about();
        let again = if about.retryable { "yes" } else { "no" };
        format!("| {} | `{}` | {again} | {} | {} |\n", about.status, about.code, about.cause, about.cure)
    });
    let table = format!("| status | code | may pass | cause | cure |\n| --- | --- | --- | --- | --- |\n{}", rows.concat());
    let inside = guide.split_once(PROBLEMS[0]).and_then(|(_, rest)| rest.split_once(PROBLEMS[1])).unwrap().0;
    assert_eq!(inside, table, "put this table between the marks in docs/customers.md:\n{table}");
}

#[test]
fn the_guide_has_the_default_limits() {
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let CustomerLimits { message_bytes, requests_per_second, jobs, units, stored_bytes, fuel_per_month } =
        CustomerLimits::default();
    let rows = [
        ("bytes of a message", format!("{} MiB", message_bytes >> 20)),
        ("requests a second", grouped(requests_per_second)),
        ("jobs that have not ended", grouped(jobs)),
        ("units computed at once", grouped(units)),
        ("bytes of your blobs", format!("{} GiB", stored_bytes >> 30)),
        ("fuel metered in a month", fuel_per_month.map_or("none".to_owned(), |fuel| fuel.to_string())),
    ];
    for (what, default) in rows {
        let line = guide.lines().find(|line| line.starts_with(&format!("| {what}"))).unwrap_or_default();
        let cell = line.split('|').nth(2).unwrap_or_default().trim();
        assert!(cell.starts_with(&default), "{what}: {cell:?} is not {default}");
    }
}

/// A number as people read it.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}
