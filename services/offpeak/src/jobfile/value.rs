//! TOML values as the values of apps: what a table, a date or a number becomes in MessagePack.

use protocol::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::Collector;
use super::section::{integer_of, number_of};

/// Lists and tables within each other; readers of JSON and MessagePack stop a little beyond, so an app could not read more.
const MAX_NESTING: usize = 100;

/// The value an app is handed: dates as their text, tables as maps in the order of the file.
pub(super) fn value_of(value: &Spanned<DeValue<'_>>, say: &mut Collector<'_>) -> Value {
    nested(value, 0, say)
}

/// A table as a map.
pub(super) fn map_of(table: &DeTable<'_>, say: &mut Collector<'_>) -> Value {
    map(table, 0, say)
}

/// Dotted keys within inline tables nest deeper than TOML's own bound on either.
fn nested(value: &Spanned<DeValue<'_>>, depth: usize, say: &mut Collector<'_>) -> Value {
    if depth > MAX_NESTING {
        let problem = format!("this value is nested more than {MAX_NESTING} levels deep");
        say.say(&value.span(), problem, "make it flatter, or put the data into a file: `input.shared`");
        return Value::Nil;
    }
    match value.get_ref() {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Float(_) => number_of(value.get_ref()).map_or(Value::Nil, Value::F64),
        DeValue::Integer(_) => integer(value, say),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| nested(item, depth + 1, say)).collect()),
        DeValue::Table(table) => map(table, depth + 1, say),
    }
}

fn map(table: &DeTable<'_>, depth: usize, say: &mut Collector<'_>) -> Value {
    Value::Map(in_file_order(table).map(|(key, value)| (Value::from(key), nested(value, depth + 1, say))).collect())
}

/// A table's entries as they stand in the file.
pub(super) fn in_file_order<'a>(table: &'a DeTable<'a>) -> impl Iterator<Item = (&'a str, &'a Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries.into_iter().map(|(key, value)| (key.get_ref().as_ref(), value))
}

fn integer(value: &Spanned<DeValue<'_>>, say: &mut Collector<'_>) -> Value {
    let number = integer_of(value.get_ref());
    let signed = number.and_then(|number| i64::try_from(number).ok()).map(Value::from);
    let unsigned = number.and_then(|number| u64::try_from(number).ok()).map(Value::from);
    signed.or(unsigned).unwrap_or_else(|| {
        say.say(&value.span(), "this number is beyond 64 bits", "give it as a text, or as a number with a fraction");
        Value::Nil
    })
}
