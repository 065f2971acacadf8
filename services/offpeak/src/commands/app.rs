//! `offpeak app inspect`: what a module needs and offers, and whether the grid would accept it.

use std::io::Read as _;

use anyhow::Result;
use ports::Publish;
use ports::sandbox::Inspection;
use protocol::Digest;
use protocol::job::EntryKind;
use serde_json::json;

use crate::args::InspectArgs;
use crate::exit::Refused;
use crate::{exit, grid, jobfile, terminal};

/// More of a file is not looked at: it is far beyond any module that is accepted.
const MOST_READ: u64 = 256 << 20;

/// The next line of a value, below its first.
const NEXT: &str = "\n          ";

/// Inspects.
pub(super) fn inspect(args: &InspectArgs) -> Result<u8> {
    let unreadable = |error| Refused::Usage(format!("cannot read {}: {error}", args.file.display()));
    let (file, _size) = jobfile::open(&args.file).map_err(unreadable)?;
    let mut module = Vec::new();
    file.take(MOST_READ).read_to_end(&mut module).map_err(unreadable)?;
    let publisher = grid::publisher()?;
    let inspection = Publish::inspect(publisher.as_ref(), &module);
    let digest = Digest::of(&module);
    if args.json {
        terminal::print_json(&as_json(&inspection, digest, module.len()))?;
    } else {
        terminal::print(&as_text(&inspection, digest, module.len()))?;
    }
    Ok(if inspection.reasons.is_empty() { exit::SUCCESS } else { exit::REFUSED })
}

fn as_json(inspection: &Inspection, digest: Digest, bytes: usize) -> serde_json::Value {
    let manifest = inspection.manifest.as_deref();
    let parsed = manifest.map(|text| serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(text)));
    json!({
        "digest": digest, "bytes": bytes, "entry": inspection.entry, "imports": inspection.imports, "exports": inspection.exports,
        "manifest": parsed, "accepted": inspection.reasons.is_empty(), "reasons": inspection.reasons,
    })
}

fn as_text(inspection: &Inspection, digest: Digest, bytes: usize) -> String {
    let entry = match inspection.entry {
        Some(EntryKind::Offpeak1) => "the ABI offpeak1",
        Some(EntryKind::Command) => "a WASI program, run once per item from stdin to stdout",
        None => "none that the grid knows",
    };
    let listed = |lines: &[String]| if lines.is_empty() { "none".to_owned() } else { lines.join(NEXT) };
    let verdict = if inspection.reasons.is_empty() {
        "it would be accepted, if it also compiles within the limits".to_owned()
    } else {
        format!("it would not be accepted:{NEXT}{}", inspection.reasons.join(NEXT))
    };
    let rows = [
        ("digest", digest.to_string()),
        ("size", format!("{} bytes", terminal::grouped(&bytes))),
        ("entry", entry.to_owned()),
        ("imports", listed(&inspection.imports)),
        ("exports", listed(&inspection.exports)),
        ("manifest", inspection.manifest.clone().unwrap_or_else(|| "none".to_owned())),
        ("verdict", verdict),
    ];
    rows.map(|(name, value)| format!("{name:<10}{value}\n")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_names_every_reason() {
        let inspection = Inspection {
            imports: vec!["env.now: [] -> [i64]".to_owned()],
            exports: Vec::new(),
            entry: None,
            manifest: Some("{\"name\":\"x\"}".to_owned()),
            reasons: vec!["import env.now is not allowed".to_owned(), "export memory is missing".to_owned()],
        };
        let text = as_text(&inspection, Digest([0; 32]), 1_234);
        assert!(text.contains("size      1,234 bytes\nentry     none that the grid knows\n"), "{text}");
        assert!(
            text.ends_with("not be accepted:\n          import env.now is not allowed\n          export memory is missing\n"),
            "{text}"
        );
        let json = as_json(&inspection, Digest([0; 32]), 1_234);
        assert_eq!((json["accepted"].as_bool(), json["manifest"]["name"].as_str()), (Some(false), Some("x")));
    }
}
