//! What is wrong with a setting, where it was written, and the way out.

use std::fmt;
use std::path::PathBuf;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default document inside the program.
    Default,
    /// A settings file; the line counts from 1.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key, when it is known.
        line: Option<usize>,
    },
    /// An environment variable, by its full name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(out, "built-in default"),
            Self::File { path, line: None } => write!(out, "{}", path.display()),
            Self::File { path, line: Some(line) } => write!(out, "{} line {line}", path.display()),
            Self::Variable(name) => write!(out, "variable {name}"),
        }
    }
}

/// One mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The dotted key, such as `worker.slots`; empty when the whole source is at fault.
    pub key: String,
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong, as the end of a sentence that begins with the key.
    pub problem: String,
    /// What to do about it.
    pub way_out: Option<String>,
}

impl Mistake {
    /// A mistake at `key`; [`load`](super::load) finds out where the value came from.
    pub fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin: Origin::Default, problem: problem.into(), way_out: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }

    /// Says where the value was written.
    #[must_use]
    pub fn from_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(out, "{} ", self.key)?;
        }
        write!(out, "{}", self.problem)?;
        match &self.way_out {
            Some(way_out) => write!(out, "; {way_out}"),
            None => Ok(()),
        }
    }
}

/// The settings were refused; holds every mistake that was found, in the order of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    mistakes: Vec<Mistake>,
}

impl SettingsError {
    /// An error made of these mistakes.
    pub fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// Every mistake.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => write!(out, "1 mistake in the settings")?,
            count => write!(out, "{count} mistakes in the settings")?,
        }
        for mistake in &self.mistakes {
            write!(out, "\n  - {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsError {}
