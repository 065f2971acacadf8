//! The customer's contract as an AsyncAPI document: types, schemas, examples, problems, and which request has which answers.

mod document;
mod node;
mod properties;
mod schemas;
mod table;
mod yaml;

pub use node::Node;
pub use table::{Role, Row, TABLE};

/// Examples, one a line: the type, a name, what it shows, the body.
const EXAMPLES: &str = include_str!("contract/examples.jsonl");

/// The document as YAML, for people.
pub fn yaml() -> String {
    let notice = "# Made from the types of crates/protocol: `offpeak contract` prints it. Do not edit.\n";
    format!("{notice}{}", yaml::write(&document::document()))
}

/// The document as JSON, for programs.
pub fn json() -> String {
    let mut text = serde_json::to_string_pretty(&document::document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The examples of a type of message.
fn examples(kind: &str) -> Vec<Node> {
    let lines = EXAMPLES.lines().filter_map(|line| serde_json::from_str::<Node>(line).ok());
    lines.filter(|example| example.get("type").and_then(Node::as_str) == Some(kind)).collect()
}

#[cfg(test)]
mod tests;
