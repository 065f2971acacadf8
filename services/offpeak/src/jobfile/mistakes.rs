//! What is wrong in a job file: where, what, and the way out; all mistakes together.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file with more mistakes than this is not a job file; the rest is counted, not listed.
const LISTED_MISTAKES: usize = 100;
/// Mistakes whose place is looked up and kept; the lookup reads the file up to there, so it is not done for ever more.
const KEPT_MISTAKES: usize = 300;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// The line, from 1; `None` if the file as a whole is at fault.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub way_out: String,
}

/// A job file was refused; every mistake found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    path: PathBuf,
    list: Vec<Mistake>,
    /// Beyond those kept.
    more: usize,
}

impl Mistakes {
    /// A file that could not be read at all.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let problem = format!("cannot read the job file: {error}");
        let way_out = "give the path of a job file (docs/job-file.md)".to_owned();
        Self { path: path.to_owned(), list: vec![Mistake { line: None, column: 0, problem, way_out }], more: 0 }
    }

    /// The first mistakes found, in the order of the file.
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.list.len().saturating_add(self.more) {
            1 => write!(out, "1 mistake in the job file {path}")?,
            count => write!(out, "{count} mistakes in the job file {path}")?,
        }
        for mistake in self.list.iter().take(LISTED_MISTAKES) {
            write!(out, "\n  {path}")?;
            if let Some(line) = mistake.line {
                write!(out, ":{line}:{}", mistake.column)?;
            }
            write!(out, ": {}; {}", mistake.problem, mistake.way_out)?;
        }
        match self.list.len().saturating_sub(LISTED_MISTAKES).saturating_add(self.more) {
            0 => Ok(()),
            more => write!(out, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// Collects mistakes while a file is read, and knows the file's lines.
#[derive(Debug)]
pub(super) struct Collector<'t> {
    text: &'t str,
    list: Vec<Mistake>,
    /// Lines on which the TOML itself is broken: what follows from that is not said again.
    broken_lines: Vec<usize>,
    more: usize,
}

impl<'t> Collector<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, list: Vec::new(), broken_lines: Vec::new(), more: 0 }
    }

    /// The TOML is broken here.
    pub(super) fn broken(&mut self, span: Option<Range<usize>>, message: &str) {
        let Some((line, column)) = self.place(span.map_or(0, |span| span.start)) else { return };
        self.broken_lines.push(line);
        let problem = format!("this is not TOML: {}", message.trim().replace('\n', ", "));
        self.list.push(Mistake { line: Some(line), column, problem, way_out: "see https://toml.io".to_owned() });
    }

    /// Something is wrong at `span`.
    pub(super) fn say(&mut self, span: &Range<usize>, problem: impl Into<String>, way_out: impl Into<String>) {
        let Some((line, column)) = self.place(span.start) else { return };
        if !self.broken_lines.contains(&line) {
            self.list.push(Mistake { line: Some(line), column, problem: problem.into(), way_out: way_out.into() });
        }
    }

    /// Something is missing; where the TOML is broken it may stand there after all, so then nothing is said.
    pub(super) fn missing(&mut self, problem: impl Into<String>, way_out: impl Into<String>) {
        if self.broken_lines.is_empty() {
            self.list.push(Mistake { line: None, column: 0, problem: problem.into(), way_out: way_out.into() });
        }
    }

    /// Something is missing in what begins at `span`; likewise.
    pub(super) fn missing_at(&mut self, span: &Range<usize>, problem: impl Into<String>, way_out: impl Into<String>) {
        if self.broken_lines.is_empty() {
            self.say(span, problem, way_out);
        }
    }

    /// The file's verdict: `value`, unless there were mistakes.
    pub(super) fn finish<T>(self, path: &Path, value: Option<T>) -> Result<T, Mistakes> {
        let mut list = self.list;
        list.sort();
        list.dedup();
        match value {
            Some(value) if list.is_empty() => Ok(value),
            Some(_) | None => Err(Mistakes { path: path.to_owned(), list, more: self.more }),
        }
    }

    /// Line and column; nothing, but a count, once enough mistakes are kept.
    fn place(&mut self, offset: usize) -> Option<(usize, usize)> {
        if self.list.len() >= KEPT_MISTAKES {
            self.more += 1;
            return None;
        }
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + before.matches('\n').count();
        Some((line, 1 + before[line_start..].chars().count()))
    }
}
