//! The inbox: which messages of customers had their effect, so that one that is delivered again has none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use protocol::{CustomerName, Digest, Micros};

use super::state::{rows, text};

/// What a message did: whose it was, its id, and what it did to what.
pub(super) type Effect = (CustomerName, String, String);

/// What an effect is known by; nothing where no customer's message asks for it.
pub(super) fn effect(customer: &CustomerName, message: Option<&str>, act: String) -> Option<Effect> {
    message.map(|message| (customer.clone(), text(message.to_owned()), act))
}

/// That an effect was refused, which is noted where what was asked since must not be undone by the same message.
pub(super) fn refused(effect: Option<&Effect>) -> Option<Effect> {
    effect.map(|(customer, message, act)| (customer.clone(), message.clone(), format!("refuse {act}")))
}

/// What a message does that sends a part of a blob.
pub(super) fn put(digest: Digest, size: u64, offset: u64) -> String {
    format!("put {digest} {size} {offset}")
}

/// Effects of messages, each with its time and what it freed.
#[derive(Clone, Default)]
pub(super) struct Inbox(BTreeMap<Effect, (Micros, u64)>);

impl Inbox {
    /// Notes an effect; `false` if its message had it before. What no message asks for is done each time.
    pub(super) fn note(&mut self, effect: Option<Effect>, freed: u64, now: Micros) -> bool {
        let Some(effect) = effect else { return true };
        match self.0.entry(effect) {
            Entry::Vacant(place) => {
                place.insert((now, freed));
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// What an effect freed, if its message had it before.
    pub(super) fn freed(&self, effect: Option<&Effect>) -> Option<u64> {
        self.0.get(effect?).map(|(_, freed)| *freed)
    }

    /// Forgets the oldest effects of before that time; how many.
    pub(super) fn forget(&mut self, before: Micros, limit: u32) -> u32 {
        let old = self.0.iter().filter(|(_, (at, _))| *at < before);
        let mut old: Vec<(Micros, Effect)> = old.map(|(effect, (at, _))| (*at, effect.clone())).collect();
        old.sort_unstable();
        old.truncate(rows(limit));
        for (_, effect) in &old {
            self.0.remove(effect);
        }
        u32::try_from(old.len()).unwrap_or(u32::MAX)
    }
}
