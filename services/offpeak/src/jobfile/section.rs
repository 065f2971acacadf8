//! A table of the job file with the keys it may hold; typed reading that says what is wrong and goes on.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::Collector;

/// A name this close (Jaro-Winkler, 1990) to a known one is taken for a slip of the finger.
const NEAR: f64 = 0.8;

/// One table of the file.
pub(super) struct Section<'a> {
    /// Its dotted name with a final dot; empty for the file itself.
    prefix: String,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// A table whose keys are all among `known`; others are reported.
    pub(super) fn new(name: &str, table: &'a DeTable<'a>, known: &[&str], say: &mut Collector<'_>) -> Self {
        let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let problem = format!("unknown key `{prefix}{}`", key.get_ref());
            say.say(&key.span(), problem, suggestion(key.get_ref(), &prefix, known));
        }
        Self { prefix, table }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// Where the key itself stands.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.table.get_key_value(key).map_or(0..0, |(key, _)| key.span())
    }

    pub(super) fn name_of(&self, key: &str) -> String {
        format!("`{}{key}`", self.prefix)
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, key: &str, bounds: RangeInclusive<i128>, say: &mut Collector<'_>) -> Option<i128> {
        let value = self.get(key)?;
        let name = self.name_of(key);
        let (low, high) = (bounds.start(), bounds.end());
        let Some(number) = integer_of(value.get_ref()) else {
            say.say(
                &value.span(),
                wrong_type(&name, value, "a whole number"),
                format!("give a whole number from {low} to {high}"),
            );
            return None;
        };
        if !bounds.contains(&number) {
            say.say(&value.span(), format!("{name} is {number}"), format!("give a whole number from {low} to {high}"));
            return None;
        }
        Some(number)
    }

    pub(super) fn text(&self, key: &str, example: &str, say: &mut Collector<'_>) -> Option<(&'a str, Range<usize>)> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            say.say(&value.span(), wrong_type(&self.name_of(key), value, "a text"), format!("write {key} = {example}"));
        }
        text.map(|text| (text, value.span()))
    }

    pub(super) fn boolean(&self, key: &str, say: &mut Collector<'_>) -> Option<bool> {
        let value = self.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            let way_out = format!("write {key} = true or {key} = false");
            say.say(&value.span(), wrong_type(&self.name_of(key), value, "true or false"), way_out);
        }
        boolean
    }

    pub(super) fn table(&self, key: &str, say: &mut Collector<'_>) -> Option<&'a DeTable<'a>> {
        let value = self.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            let way_out = format!("write it as a section [{}{key}]", self.prefix);
            say.say(&value.span(), wrong_type(&self.name_of(key), value, "a table"), way_out);
        }
        table
    }
}

/// A whole number as TOML writes it, in any of its bases.
pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A number of either kind.
pub(super) fn number_of(value: &DeValue<'_>) -> Option<f64> {
    let text = match value {
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Integer(_) => integer_of(value)?.to_string(),
        DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => return None,
    };
    text.parse().ok()
}

pub(super) fn wrong_type(name: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> String {
    let kind = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("{name} must be {expected}, but is {kind}")
}

fn suggestion(written: &str, prefix: &str, known: &[&str]) -> String {
    let lower = written.to_ascii_lowercase();
    let near = known.iter().map(|name| (strsim::jaro_winkler(&lower, name), *name));
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((likeness, name)) = nearest
        && likeness >= NEAR
    {
        return format!("did you mean `{prefix}{name}`?");
    }
    if let Some(elsewhere) = super::KEYS.iter().find(|key| key.rsplit('.').next() == Some(lower.as_str())) {
        return format!("did you mean `{elsewhere}`?");
    }
    let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("known here are {}", list.join(", "))
}
