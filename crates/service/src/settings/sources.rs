//! Reads the settings file and the environment into layers, noting every mistake with its line or variable.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::schema::{KeyPath, Kind, Known, Schema};
use super::{ENV_PREFIX, Layer, Mistake, Origin};

/// The largest settings or secret file that is read; real ones have a few kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the settings file at `path`.
pub(super) fn from_file(path: &Path, schema: &Schema, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(problem) => {
            mistakes.push(Mistake::new("", problem).from_origin(origin(None)));
            return layer;
        }
    };
    let (spans, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let line = error.span().map(|span| line_of(&text, span.start));
        mistakes.push(Mistake::new("", format!("is not TOML: {}", error.message())).from_origin(origin(line)));
    }
    let Ok(table) = text.parse::<toml::Table>() else {
        return layer;
    };
    let mut lines = BTreeMap::new();
    collect_lines(&KeyPath(Vec::new()), spans.get_ref(), &text, &mut lines);
    let mut given = Vec::new();
    collect_values(&KeyPath(Vec::new()), &table, schema, &mut given);
    for (key, value) in given {
        let origin = origin(lines.get(&key).copied());
        match accept_file_value(schema, &key, value) {
            Ok((key, value)) => add(&mut layer, key, value, origin, mistakes),
            Err(mistake) => mistakes.push(mistake.from_origin(origin)),
        }
    }
    layer
}

/// Reads the variables that begin with [`ENV_PREFIX`].
pub(super) fn from_env(env: impl Iterator<Item = (String, String)>, schema: &Schema, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    // Sorted, so that the report does not depend on the order of the environment.
    let variables: BTreeMap<String, String> = env.collect();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let key = KeyPath(rest.split("__").map(str::to_lowercase).collect());
        let origin = Origin::Variable(name.clone());
        match accept_variable(schema, &key, &text) {
            Ok((key, value)) => add(&mut layer, key, value, origin, mistakes),
            Err(mistake) => mistakes.push(mistake.from_origin(origin)),
        }
    }
    layer
}

fn add(layer: &mut Layer, key: KeyPath, value: Value, origin: Origin, mistakes: &mut Vec<Mistake>) {
    if let Some((_, earlier)) = layer.values.get(&key) {
        let problem = format!("is already given by {earlier}");
        mistakes.push(Mistake::new(&key.to_string(), problem).way_out("keep one of the two").from_origin(origin));
        return;
    }
    layer.values.insert(key, (value, origin));
}

fn accept_file_value(schema: &Schema, key: &KeyPath, value: Value) -> Result<(KeyPath, Value), Mistake> {
    match schema.find(key) {
        Known::Leaf(kind, default) => {
            if kind.accepts(&value) {
                return Ok((key.clone(), value));
            }
            Err(wrong_kind(key, kind, default, &Kind::of(&value).to_string()))
        }
        Known::InsideOpen => Ok((key.clone(), value)),
        Known::FileFor(plain) => match value.as_str() {
            Some(path) => secret(plain, path),
            None => Err(Mistake::new(&key.to_string(), "must be the path of a file, as a text")),
        },
        Known::Section => {
            Err(Mistake::new(&key.to_string(), "is a section, not a value").way_out(format!("write its keys under [{key}]")))
        }
        Known::Unknown => {
            Err(Mistake::new(&key.to_string(), "is not a known key").way_out(schema.suggestion(key, KeyPath::to_string)))
        }
    }
}

fn accept_variable(schema: &Schema, key: &KeyPath, text: &str) -> Result<(KeyPath, Value), Mistake> {
    match schema.find(key) {
        Known::Leaf(kind, default) => match parse(kind, text) {
            Some(value) => Ok((key.clone(), value)),
            None => Err(wrong_kind(key, kind, default, &format!("{text:?}"))),
        },
        Known::InsideOpen => Ok((key.clone(), guess(text))),
        Known::FileFor(plain) => secret(plain, text),
        Known::Section => {
            Err(Mistake::new(&key.to_string(), "is a section, not a value").way_out("add __ and the name of a key in it"))
        }
        Known::Unknown => {
            let variable = |known: &KeyPath| format!("{ENV_PREFIX}{}", known.0.join("__").to_uppercase());
            Err(Mistake::new(&key.to_string(), "is not a known key").way_out(schema.suggestion(key, variable)))
        }
    }
}

fn wrong_kind(key: &KeyPath, kind: &Kind, default: &Value, given: &str) -> Mistake {
    Mistake::new(&key.to_string(), format!("must be {kind}, but is {given}")).way_out(format!("the default is {default}"))
}

/// Reads the value of the text key `plain` from the file at `path`, without the newline at its end.
fn secret(plain: KeyPath, path: &str) -> Result<(KeyPath, Value), Mistake> {
    match read_bounded(Path::new(path)) {
        Ok(text) => Ok((plain, Value::String(text.trim_end_matches(['\r', '\n']).to_owned()))),
        Err(problem) => {
            let problem = format!("is to be read from {path}, which {problem}");
            Err(Mistake::new(&plain.to_string(), problem))
        }
    }
}

/// Reads the text of a variable as `kind`; a list is written `a, b` or as a TOML array.
fn parse(kind: &Kind, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match kind {
        Kind::Text => Some(Value::String(text.to_owned())),
        Kind::Integer => trimmed.parse().ok().map(Value::Integer),
        Kind::Float => trimmed.parse().ok().map(Value::Float),
        Kind::Boolean => trimmed.parse().ok().map(Value::Boolean),
        Kind::Time => trimmed.parse().ok().map(Value::Datetime),
        Kind::List(_) if trimmed.starts_with('[') => literal(trimmed).filter(|value| kind.accepts(value)),
        Kind::List(_) if trimmed.is_empty() => Some(Value::Array(Vec::new())),
        Kind::List(item) => {
            let item = item.as_deref().unwrap_or(&Kind::Text);
            let items = trimmed.split(',').map(|part| parse(item, part.trim()));
            items.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Kind::Open => literal(trimmed).filter(Value::is_table),
    }
}

/// Reads the text of a variable whose type no default shows: a TOML value if it is one, else a text.
fn guess(text: &str) -> Value {
    literal(text.trim()).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn literal(text: &str) -> Option<Value> {
    let mut table: toml::Table = format!("value = {text}").parse().ok()?;
    // More than one key means that the text held a line break and further assignments.
    if table.len() == 1 { table.remove("value") } else { None }
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

/// The given keys down to what the schema knows as one value.
fn collect_values(at: &KeyPath, table: &toml::Table, schema: &Schema, given: &mut Vec<(KeyPath, Value)>) {
    for (key, value) in table {
        let path = at.child(key);
        let leaf = matches!(schema.find(&path), Known::Leaf(kind, _) if *kind != Kind::Open);
        let section = matches!(schema.find(&path), Known::Section | Known::Leaf(Kind::Open, _));
        if let Value::Table(inner) = value
            && !leaf
            && (section || !inner.is_empty())
        {
            collect_values(&path, inner, schema, given);
        } else {
            given.push((path, value.clone()));
        }
    }
}

fn collect_lines(at: &KeyPath, table: &DeTable<'_>, text: &str, lines: &mut BTreeMap<KeyPath, usize>) {
    for (key, value) in table {
        let path = at.child(key.get_ref());
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(&path, inner, text, lines);
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}
