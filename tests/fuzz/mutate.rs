//! Damage to bytes: bits flipped, spans cut, doubled or moved, and words put in that readers trip over.

use proptest::prelude::*;
use proptest::sample::Index;

/// One thing done to bytes.
#[derive(Debug, Clone)]
pub(crate) enum Mutation {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Remove(Index, Index),
    /// A span, put in elsewhere so many times.
    Repeat(Index, Index, Index, u8),
    /// A word put in.
    Insert(Index, Vec<u8>),
    /// A word in the place of a span.
    Replace(Index, Index, Vec<u8>),
}

/// Up to a few mutations with these words.
pub(crate) fn mutations(words: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<Index>;
    let word = prop_oneof![4 => proptest::sample::select(words), 1 => any::<Vec<u8>>()];
    let word = word.boxed();
    let one = prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        at().prop_map(Mutation::Truncate),
        (at(), at()).prop_map(|(a, b)| Mutation::Remove(a, b)),
        (at(), at(), at(), 1..4_u8).prop_map(|(a, b, to, times)| Mutation::Repeat(a, b, to, times)),
        (at(), word.clone()).prop_map(|(at, word)| Mutation::Insert(at, word)),
        (at(), at(), word).prop_map(|(a, b, word)| Mutation::Replace(a, b, word)),
    ];
    proptest::collection::vec(one, 0..5)
}

/// The bytes after all that.
pub(crate) fn mutated(seed: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for mutation in mutations {
        apply(&mut bytes, mutation);
    }
    bytes
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: &Index| at.index(bytes.len() + 1);
    let span = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
    match mutation {
        Mutation::Flip(at, bit) => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Mutation::Set(at, to) => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = *to;
            }
        }
        Mutation::Truncate(at) => bytes.truncate(place(at)),
        Mutation::Remove(a, b) => drop(bytes.drain(span(a, b))),
        Mutation::Repeat(a, b, to, times) => {
            let (to, part) = (place(to), bytes[span(a, b)].repeat(usize::from(*times)));
            drop(bytes.splice(to..to, part));
        }
        Mutation::Insert(at, word) => {
            let at = place(at);
            drop(bytes.splice(at..at, word.iter().copied()));
        }
        Mutation::Replace(a, b, word) => drop(bytes.splice(span(a, b), word.iter().copied())),
    }
}
