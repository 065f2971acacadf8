//! The known keys and their types, read off the default document.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;

use super::Mistake;

/// How many neighbours of an unknown key a message lists, so that it stays one line.
const LISTED_KEYS: usize = 12;

/// A key as its segments: `worker.slots` is `["worker", "slots"]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(pub(super) Vec<String>);

impl KeyPath {
    /// Whether `dotted` is this key, or a key inside the table that this key holds.
    pub(super) fn is_or_holds(&self, dotted: &str) -> bool {
        let own = self.to_string();
        own == dotted || dotted.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'))
    }

    pub(super) fn child(&self, segment: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment.to_owned());
        Self(segments)
    }

    /// Puts `value` into `table` at this key, making the tables on the way.
    pub(super) fn insert_into(&self, table: &mut toml::Table, value: Value) {
        let Some((last, parents)) = self.0.split_last() else {
            return;
        };
        let mut current = table;
        for parent in parents {
            let entry = current.entry(parent.clone()).or_insert_with(|| Value::Table(toml::Table::new()));
            let Value::Table(next) = entry else { return };
            current = next;
        }
        current.insert(last.clone(), value);
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.join("."))
    }
}

/// The type of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
    Time,
    /// A list; the kind of its items, when the default shows one.
    List(Option<Box<Kind>>),
    /// A table whose keys the operator chooses.
    Open,
}

impl Kind {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::Text,
            Value::Integer(_) => Self::Integer,
            Value::Float(_) => Self::Float,
            Value::Boolean(_) => Self::Boolean,
            Value::Datetime(_) => Self::Time,
            Value::Array(items) => Self::List(items.first().map(|item| Box::new(Self::of(item)))),
            Value::Table(_) => Self::Open,
        }
    }

    /// Whether `value` may stand where this kind is asked for; an integer may stand for a float.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Float, Value::Integer(_)) | (Self::List(None), Value::Array(_)) => true,
            (Self::List(Some(kind)), Value::Array(items)) => items.iter().all(|item| kind.accepts(item)),
            (kind, value) => *kind == Self::of(value),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => write!(out, "a text"),
            Self::Integer => write!(out, "an integer"),
            Self::Float => write!(out, "a number"),
            Self::Boolean => write!(out, "true or false"),
            Self::Time => write!(out, "a time"),
            Self::List(None) => write!(out, "a list"),
            Self::List(Some(kind)) => write!(out, "a list, each item {kind}"),
            Self::Open => write!(out, "a table"),
        }
    }
}

/// What the default document knows about a key.
#[derive(Debug)]
pub(super) enum Known<'a> {
    /// A key with a value.
    Leaf(&'a Kind, &'a Value),
    /// Inside a table whose keys the operator chooses.
    InsideOpen,
    /// The name of a file that holds the value of this text key.
    FileFor(KeyPath),
    /// A section that holds further keys.
    Section,
    /// Nothing.
    Unknown,
}

/// Every known key with its kind and default.
#[derive(Debug)]
pub(super) struct Schema {
    leaves: BTreeMap<KeyPath, (Kind, Value)>,
}

impl Schema {
    pub(super) fn parse(defaults: &str) -> Result<Self, Mistake> {
        let table: toml::Table =
            defaults.parse().map_err(|error: toml::de::Error| Mistake::new("", format!("is not TOML: {}", error.message())))?;
        let mut leaves = BTreeMap::new();
        collect(&KeyPath(Vec::new()), &table, &mut leaves);
        Ok(Self { leaves })
    }

    pub(super) fn find(&self, path: &KeyPath) -> Known<'_> {
        if let Some((kind, default)) = self.leaves.get(path) {
            return Known::Leaf(kind, default);
        }
        let inside_open = self
            .leaves
            .iter()
            .any(|(known, (kind, _))| *kind == Kind::Open && path.0.len() > known.0.len() && path.0.starts_with(&known.0));
        if inside_open {
            return Known::InsideOpen;
        }
        if self.leaves.keys().any(|known| known.0.starts_with(&path.0)) {
            return Known::Section;
        }
        let mut plain = path.clone();
        if let Some(last) = plain.0.last_mut()
            && let Some(name) = last.strip_suffix("_file")
        {
            *last = name.to_owned();
            if matches!(self.leaves.get(&plain), Some((Kind::Text, _))) {
                return Known::FileFor(plain);
            }
        }
        Known::Unknown
    }

    /// The way out of an unknown key: the nearest known one, or what its section knows.
    pub(super) fn suggestion(&self, unknown: &KeyPath, show: impl Fn(&KeyPath) -> String) -> String {
        let written = unknown.to_string();
        let nearest = self.leaves.keys().map(|known| (distance(&written, &known.to_string()), known)).min();
        if let Some((edits, known)) = nearest
            && edits <= 1 + written.chars().count() / 5
        {
            return format!("did you mean {}?", show(known));
        }
        if let Some(same_name) = self.leaves.keys().find(|known| known.0.last() == unknown.0.last()) {
            return format!("did you mean {}?", show(same_name));
        }
        let parent = unknown.0.split_last().map_or(&[][..], |(_, parents)| parents);
        let mut siblings: Vec<String> =
            self.leaves.keys().filter(|known| known.0.len() > parent.len() && known.0.starts_with(parent)).map(&show).collect();
        if siblings.is_empty() {
            siblings = self.leaves.keys().map(&show).collect();
        }
        let more = if siblings.len() > LISTED_KEYS { ", ..." } else { "" };
        siblings.truncate(LISTED_KEYS);
        format!("known are {}{more}", siblings.join(", "))
    }
}

fn collect(at: &KeyPath, table: &toml::Table, leaves: &mut BTreeMap<KeyPath, (Kind, Value)>) {
    for (key, value) in table {
        let path = at.child(key);
        match value {
            Value::Table(inner) if !inner.is_empty() => collect(&path, inner, leaves),
            Value::Table(_)
            | Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => {
                leaves.insert(path, (Kind::of(value), value.clone()));
            }
        }
    }
}

/// Edit distance (Levenshtein, 1966), with two rows.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(from != *to);
            current.push(replaced.min(above[column + 1] + 1).min(current[column] + 1));
        }
        above = current;
    }
    above.last().copied().unwrap_or_default()
}
