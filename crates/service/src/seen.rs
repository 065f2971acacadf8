//! What was seen: a memory of the last keys, bounded, for what is to be said once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use crate::lock::lock;

/// The last keys that came; beyond its bound the one that came first is forgotten.
#[derive(Debug)]
pub struct Seen<K> {
    bound: usize,
    keys: Mutex<(BTreeSet<K>, VecDeque<K>)>,
}

impl<K: Ord + Copy> Seen<K> {
    /// A memory of so many keys.
    pub fn new(bound: usize) -> Self {
        Self { bound, keys: Mutex::new((BTreeSet::new(), VecDeque::new())) }
    }

    /// Whether a key comes for the first time, as far as is remembered.
    pub fn is_new(&self, key: K) -> bool {
        let mut keys = lock(&self.keys);
        let (known, order) = &mut *keys;
        if !known.insert(key) {
            return false;
        }
        order.push_back(key);
        if order.len() > self.bound
            && let Some(first) = order.pop_front()
        {
            known.remove(&first);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_once_until_it_is_forgotten() {
        let seen = Seen::new(2);
        assert!(seen.is_new(1) && seen.is_new(2) && !seen.is_new(1) && !seen.is_new(2));
        assert!(seen.is_new(3), "and 1 is forgotten");
        assert!(!seen.is_new(2) && !seen.is_new(3) && seen.is_new(1));
    }
}
