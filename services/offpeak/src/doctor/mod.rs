//! Judges what was found out about a grid: what is wrong, in plain words, and what to do.

pub mod broker;
pub mod customers;
pub mod database;
pub mod management;
pub mod services;

use protocol::Micros;
use serde::Serialize;
use serde_json::{Value, json};

use crate::dead::plain;
use crate::exit;

/// Clocks of machines that ask a time server are milliseconds apart.
const SKEW_WARNING_S: u64 = 2;
/// A third of the default lease of a job: producers with such clocks take jobs from each other.
const SKEW_WRONG_S: u64 = 10;
/// How many things of a kind are named.
const NAMED: usize = 3;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Well,
    /// Not looked at, and how it could be.
    Unchecked,
    /// The grid works, but not as it should, or not for long.
    Warning,
    /// The grid does not work, or not all of it.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub about: &'static str,
    /// What was found.
    pub says: String,
    /// What to do.
    pub cure: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn well(about: &'static str, says: impl Into<String>) -> Self {
        Self { level: Level::Well, about, says: says.into(), cure: None }
    }

    /// Not as it should be.
    pub fn bad(level: Level, about: &'static str, says: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { level, about, says: says.into(), cure: Some(cure.into()) }
    }

    /// As a person reads it.
    fn as_text(&self) -> String {
        let word = match self.level {
            Level::Well => "ok",
            Level::Unchecked => "not checked",
            Level::Warning => "WARNING",
            Level::Wrong => "WRONG",
        };
        let cure = self.cure.as_ref().map(|cure| format!("{:<27}{}\n", "", plain(&format!("-> {cure}"))));
        format!("{word:<13}{:<14}{}\n{}", self.about, plain(&self.says), cure.unwrap_or_default())
    }
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Well)
}

/// The exit code for what was found.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match worst(findings) {
        Level::Well | Level::Unchecked => exit::SUCCESS,
        Level::Warning => exit::SOME_FAILED,
        Level::Wrong => exit::UNAVAILABLE,
    }
}

/// All of it for people, the worst last, where the eye is.
pub fn as_text(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.level);
    let words = [(Level::Wrong, "wrong"), (Level::Warning, "to look at"), (Level::Unchecked, "not checked")];
    let counted = words.map(|(level, word)| (findings.iter().filter(|finding| finding.level == level).count(), word));
    let counts: Vec<String> =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let sum = match (worst(findings), counts.is_empty()) {
        (Level::Well | Level::Unchecked, true) => "all well".to_owned(),
        (Level::Well | Level::Unchecked, false) => format!("all well, {}", counts.join(", ")),
        (Level::Warning | Level::Wrong, _) => counts.join(", "),
    };
    format!("{}{sum}\n", sorted.into_iter().map(Finding::as_text).collect::<String>())
}

/// All of it for programs.
pub fn as_json(findings: &[Finding]) -> Value {
    json!({ "level": worst(findings), "findings": findings })
}

/// Some of the names, and how many more there are.
fn some<T: AsRef<str>>(names: &[T]) -> String {
    let first = names.iter().take(NAMED).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What a clock says that was read between `before` and `after` of our own.
fn clock(whose: &str, theirs: Micros, (before, after): (Micros, Micros), resolution_s: u64) -> Finding {
    // How far it is beyond what the waiting for the answer explains.
    let (early, late) = (before.0.saturating_sub(theirs.0), theirs.0.saturating_sub(after.0));
    let skew_s = early.max(late).max(0).unsigned_abs() / 1_000_000;
    let skew_s = if early > late { skew_s.saturating_sub(resolution_s) } else { skew_s };
    let direction = if early > late { "behind" } else { "ahead of" };
    let says = format!("the clock of {whose} is {skew_s} s {direction} this machine's");
    let cure = "let both machines ask a time server (chrony, systemd-timesyncd): leases and deadlines are compared with clocks";
    match skew_s {
        SKEW_WRONG_S.. => Finding::bad(Level::Wrong, "clock", says, cure),
        SKEW_WARNING_S.. => Finding::bad(Level::Warning, "clock", says, cure),
        _ => Finding::well("clock", format!("the clock of {whose} agrees with this machine's")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_stands_last() {
        let well = Finding::well("broker", "up");
        let unchecked = Finding::bad(Level::Unchecked, "services", "not named", "name them");
        let wrong = Finding::bad(Level::Wrong, "topology", "gone\u{1b}[2J", "declare it");
        assert_eq!(as_text(std::slice::from_ref(&well)), "ok           broker        up\nall well\n");
        assert_eq!(exit_code(&[unchecked.clone(), well.clone()]), exit::SUCCESS);
        assert!(as_text(&[unchecked.clone(), well.clone()]).ends_with("all well, 1 not checked\n"));
        let warning = Finding::bad(Level::Warning, "disk", "small", "grow it");
        assert_eq!(exit_code(&[warning, well.clone()]), exit::SOME_FAILED);
        let all = [wrong, well, unchecked];
        assert_eq!(exit_code(&all), exit::UNAVAILABLE);
        let text = as_text(&all);
        assert!(text.ends_with("-> declare it\n1 wrong, 1 not checked\n") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(as_json(&all)["level"], "wrong");
    }

    #[test]
    fn clocks_may_differ_by_what_the_answer_took() {
        let level = |theirs: i64, before: i64, after: i64| {
            clock("it", Micros(theirs * 1_000_000), (Micros(before * 1_000_000), Micros(after * 1_000_000)), 1).level
        };
        assert_eq!([level(100, 100, 101), level(105, 100, 110), level(101, 100, 100)], [Level::Well; 3]);
        assert_eq!(level(98, 100, 101), Level::Well, "whole seconds are cut");
        assert_eq!([level(97, 100, 101), level(103, 100, 100)], [Level::Warning; 2]);
        assert_eq!([level(80, 100, 101), level(130, 100, 101)], [Level::Wrong; 2]);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(some(&["a", "b"]), "a, b");
        assert_eq!(some(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
