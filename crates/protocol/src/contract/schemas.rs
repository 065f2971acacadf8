//! JSON Schemas of the bodies, as components of the document, their keys in the order in which people read.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::node::Node;
use super::table::{Role, Row};

/// Keys of a schema that come first, in this order; all others follow as they are.
const FIRST: &[&str] = &[
    "title",
    "description",
    "$ref",
    "type",
    "const",
    "enum",
    "format",
    "pattern",
    "contentEncoding",
    "minimum",
    "maximum",
    "exclusiveMaximum",
    "default",
    "required",
    "properties",
];

/// Schemas as they are collected.
pub(super) struct Schemas {
    /// Of what the grid reads: what has a default may be left out.
    read: SchemaGenerator,
    /// Of what the grid writes: what it always writes can be relied on.
    written: SchemaGenerator,
}

impl Schemas {
    /// None yet.
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { read: settings.clone().for_deserialize().into(), written: settings.for_serialize().into() }
    }

    /// The schema of a message's body, which refers to those collected.
    pub(super) fn of(&mut self, row: &Row) -> Node {
        let generator = match row.role {
            Role::Request { .. } => &mut self.read,
            Role::Answer | Role::News => &mut self.written,
        };
        ordered((row.schema)(generator).to_value())
    }

    /// All that was collected, by name.
    pub(super) fn into_components(mut self) -> Node {
        let mut all = self.read.take_definitions(true);
        all.extend(self.written.take_definitions(true));
        Node::Map(all.into_iter().map(|(name, schema)| (name, ordered(schema))).collect())
    }
}

/// A schema with its keys in order: what says most first, and of the properties the required ones.
fn ordered(schema: Value) -> Node {
    let entries = match schema {
        Value::Object(entries) => entries,
        Value::Array(elements) => return Node::List(elements.into_iter().map(ordered).collect()),
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => return Node::Scalar(scalar),
    };
    let required: Vec<String> = entries.get("required").and_then(Value::as_array).into_iter().flatten().map(text).collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    let mut ordered_entries: Vec<(String, Node)> = Vec::new();
    for (key, value) in entries {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; all that is not named is put in order alike")]
        let node = match value {
            Value::Object(properties) if key == "properties" => properties_in(properties, &required),
            Value::String(text) if key == "description" => for_customers(&text).as_str().into(),
            value => ordered(value),
        };
        ordered_entries.push((key, node));
    }
    ordered_entries.sort_by_key(|(key, _)| rank(key));
    Node::Map(ordered_entries)
}

fn properties_in(properties: serde_json::Map<String, Value>, required: &[String]) -> Node {
    let rank = |name: &String| required.iter().position(|known| known == name).unwrap_or(required.len());
    let mut properties: Vec<(String, Node)> = properties.into_iter().map(|(name, schema)| (name, ordered(schema))).collect();
    properties.sort_by_key(|(name, _)| rank(name));
    Node::Map(properties)
}

/// A comment in the code as a text of its own: in one line, and with the customer's word for what is absent.
fn for_customers(comment: &str) -> String {
    comment.replace("`None`", "null").replace('\n', " ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Whether both generators say the same of a name they share.
#[cfg(test)]
pub(super) fn disagreements() -> Vec<String> {
    let mut schemas = Schemas::new();
    for row in super::TABLE {
        schemas.of(row);
    }
    let read = schemas.read.take_definitions(true);
    let written = schemas.written.take_definitions(true);
    read.iter()
        .filter(|(name, schema)| written.get(*name).is_some_and(|other| other != *schema))
        .map(|(name, _)| name.clone())
        .collect()
}
