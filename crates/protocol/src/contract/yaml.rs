//! A document as YAML for people: blocks, long texts folded, everything ambiguous in quotes.

use super::node::Node;

/// Lines of folded text are about as long as those of the other documents.
const WIDTH: usize = 110;

/// Writes the document.
pub(super) fn write(document: &Node) -> String {
    let mut out = String::new();
    block(&mut out, document, 0);
    out
}

/// Writes a node on lines of its own, so far indented.
fn block(out: &mut String, node: &Node, indent: usize) {
    match node {
        Node::Map(entries) => {
            for (key, value) in entries {
                pad(out, indent);
                out.push_str(&plain_or_quoted(key));
                out.push(':');
                after(out, value, indent + 2);
            }
        }
        Node::List(elements) => {
            for element in elements {
                pad(out, indent);
                out.push('-');
                let nested = matches!(element, Node::Map(entries) if !entries.is_empty());
                if nested { beside(out, element, indent + 2) } else { after(out, element, indent + 2) }
            }
        }
        Node::Scalar(_) => after(out, node, indent),
    }
}

/// Writes a map whose first line follows a dash.
fn beside(out: &mut String, node: &Node, indent: usize) {
    let mut lines = String::new();
    block(&mut lines, node, indent);
    out.push(' ');
    out.push_str(lines.trim_start_matches(' '));
}

/// Writes what follows a key or a dash, up to the line's end.
fn after(out: &mut String, value: &Node, indent: usize) {
    match value {
        Node::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Node::List(elements) if elements.is_empty() => out.push_str(" []\n"),
        Node::List(elements) if elements.iter().all(is_short) => {
            let texts: Vec<String> = elements.iter().map(scalar).collect();
            let flow = texts.join(", ");
            if flow.len() <= WIDTH - indent {
                out.push_str(" [");
                out.push_str(&flow);
                out.push_str("]\n");
            } else {
                out.push('\n');
                block(out, value, indent);
            }
        }
        Node::Map(_) | Node::List(_) => {
            out.push('\n');
            block(out, value, indent);
        }
        Node::Scalar(serde_json::Value::String(text)) if text.contains('\n') => literal(out, text, indent),
        Node::Scalar(serde_json::Value::String(text)) if text.len() > WIDTH - indent && foldable(text) => {
            folded(out, text, indent);
        }
        Node::Scalar(_) => {
            out.push(' ');
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

fn is_short(node: &Node) -> bool {
    matches!(node, Node::Scalar(_)) && !scalar(node).contains(' ')
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Lines as they are.
fn literal(out: &mut String, text: &str, indent: usize) {
    out.push_str(if text.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in text.lines() {
        if !line.is_empty() {
            pad(out, indent);
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// Whether folding gives the same text back: it is words with one space between each two.
fn foldable(text: &str) -> bool {
    text.contains(' ') && text.split(' ').all(|word| !word.is_empty() && !word.contains(char::is_control))
}

/// One line, broken between words.
fn folded(out: &mut String, text: &str, indent: usize) {
    out.push_str(" >-\n");
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && indent + line.len() + word.len() >= WIDTH {
            pad(out, indent);
            out.push_str(&line);
            out.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    pad(out, indent);
    out.push_str(&line);
    out.push('\n');
}

fn scalar(node: &Node) -> String {
    match node {
        Node::Scalar(serde_json::Value::String(text)) => plain_or_quoted(text),
        Node::Scalar(value) => value.to_string(),
        Node::List(_) | Node::Map(_) => String::new(),
    }
}

/// A text as it stands where no reader can take it for anything else, in JSON's quotes otherwise, which are YAML's too.
fn plain_or_quoted(text: &str) -> String {
    let first = text.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '/' || sign == '$');
    let inside = text.chars().all(|sign| sign.is_alphanumeric() || " -_./()$+;'`^|~<>=,:".contains(sign));
    // A colon before a space ends a key, and a comma ends an element of a list that is written in one line.
    let structure = text.contains(": ") || text.ends_with([':', ' ']) || (text.contains(',') && !text.contains(' '));
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let ambiguous = words.contains(&text.to_ascii_lowercase().as_str());
    if first && inside && !structure && !ambiguous { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
