//! Routing: which queues a message goes to, as topic, direct and fanout exchanges choose them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::topology::ExchangeKind;

/// An exchange with its bindings.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) kind: ExchangeKind,
    bindings: HashMap<String, Vec<Arc<str>>>,
}

impl Exchange {
    pub(super) fn new(kind: ExchangeKind) -> Self {
        Self { kind, bindings: HashMap::new() }
    }

    /// Binds a queue by a key or pattern; harmless if it is bound so already.
    pub(super) fn bind(&mut self, key: &str, queue: &Arc<str>) {
        let key = if self.kind == ExchangeKind::Fanout { "" } else { key };
        let bound = self.bindings.entry(key.to_owned()).or_default();
        if !bound.contains(queue) {
            bound.push(Arc::clone(queue));
        }
    }

    /// Forgets all bindings of a queue.
    pub(super) fn unbind(&mut self, queue: &str) {
        self.bindings.retain(|_, bound| {
            bound.retain(|name| &**name != queue);
            !bound.is_empty()
        });
    }

    /// The queues a key leads to, each once.
    pub(super) fn route(&self, key: &str) -> Vec<Arc<str>> {
        match self.kind {
            ExchangeKind::Direct => self.bindings.get(key).cloned().unwrap_or_default(),
            ExchangeKind::Fanout => self.bindings.get("").cloned().unwrap_or_default(),
            ExchangeKind::Topic => self.route_topic(key),
        }
    }

    fn route_topic(&self, key: &str) -> Vec<Arc<str>> {
        let words: Vec<&str> = key.split('.').collect();
        let matching = self.bindings.iter().filter(|(pattern, _)| {
            let pattern: Vec<&str> = pattern.split('.').collect();
            matches_topic(&pattern, &words)
        });
        let mut queues: Vec<Arc<str>> = matching.flat_map(|(_, queues)| queues.iter().cloned()).collect();
        queues.sort();
        queues.dedup();
        queues
    }
}

/// AMQP's topic patterns: `*` is one word, `#` any number of words.
fn matches_topic(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern.split_first(), words.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), None) => matches_topic(rest, words),
        (Some((&"#", rest)), Some((_, tail))) => matches_topic(rest, words) || matches_topic(pattern, tail),
        (Some((&part, rest)), Some((&word, tail))) => (part == "*" || part == word) && matches_topic(rest, tail),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_patterns_match_as_amqp_says() {
        let cases = [
            ("#", "", true),
            ("#", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.#", "a", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
            ("*.b", "a.b.c", false),
        ];
        for (pattern, key, expected) in cases {
            let (pattern, words): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), key.split('.').collect());
            assert_eq!(matches_topic(&pattern, &words), expected, "{pattern:?} on {key:?}");
        }
    }
}
