//! SHA-256 digests: the names of apps, artefacts, blobs and outputs, and the chain over a job's outputs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::IdError;

/// A SHA-256 digest; as text 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError::new("digest", text, "64 lowercase hexadecimal digits (SHA-256)");
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(error()),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_wrong_length| error())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest over a job's outputs in item order, extended item by item, so that it neither depends on how
/// items were cut into units nor needs more than 40 bytes kept between items.
///
/// `chain(0) = 32 zero bytes`. An item that succeeded or failed makes of it
/// `SHA-256(chain | status | output)`, where status is one byte (0 succeeded, 1 failed) and output is empty unless
/// the item succeeded. A longest possible run of cancelled items makes of it `SHA-256(chain | 2 | n)`, where n is the
/// run's length as 8 little-endian bytes: a job may be cancelled with more items left than anyone can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputChain {
    closed: Digest,
    /// Cancelled items at the end, which may still become more.
    cancelled: u64,
}

impl Default for OutputChain {
    fn default() -> Self {
        Self { closed: Digest([0; 32]), cancelled: 0 }
    }
}

impl OutputChain {
    /// The item succeeded with that output.
    pub fn succeeded(&mut self, output: &[u8]) {
        self.extend(0, output);
    }

    /// The item failed; its reason is for people and not part of the chain.
    pub fn failed(&mut self) {
        self.extend(1, &[]);
    }

    /// The next items, so many, were never computed.
    pub fn cancelled(&mut self, items: u64) {
        self.cancelled = self.cancelled.saturating_add(items);
    }

    /// The digest over all items so far.
    pub fn digest(&self) -> Digest {
        match self.cancelled {
            0 => self.closed,
            run => linked(self.closed, 2, &run.to_le_bytes()),
        }
    }

    /// As it is kept between steps.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.closed.0.to_vec();
        if self.cancelled > 0 {
            bytes.extend(self.cancelled.to_le_bytes());
        }
        bytes
    }

    /// Of what was kept; `None` if these bytes are no chain.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (closed, run) = bytes.split_first_chunk::<32>()?;
        let cancelled = if run.is_empty() { 0 } else { u64::from_le_bytes(run.try_into().ok()?) };
        Some(Self { closed: Digest(*closed), cancelled })
    }

    fn extend(&mut self, status: u8, output: &[u8]) {
        *self = Self { closed: linked(self.digest(), status, output), cancelled: 0 };
    }
}

/// The next link of a chain.
fn linked(chain: Digest, status: u8, output: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(chain.0);
    hash.update([status]);
    hash.update(output);
    Digest(hash.finalize().into())
}

/// A digest computed over parts as they come.
#[derive(Debug, Clone, Default)]
pub struct DigestWriter(Sha256);

impl DigestWriter {
    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The digest of all parts.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for bad in ["", "ba78", &"g".repeat(64), &"A".repeat(64)] {
            assert!(bad.parse::<Digest>().is_err());
        }
    }

    #[test]
    fn the_chain_tells_every_item_apart() {
        let chain = |step: &dyn Fn(&mut OutputChain)| {
            let mut chain = OutputChain::default();
            step(&mut chain);
            chain.digest()
        };
        let all = [
            chain(&|_| ()),
            chain(&|c| c.succeeded(b"")),
            chain(&OutputChain::failed),
            chain(&|c| c.cancelled(1)),
            chain(&|c| c.cancelled(2)),
            chain(&|c| {
                c.succeeded(b"a");
                c.succeeded(b"b");
            }),
            chain(&|c| c.succeeded(b"ab")),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn a_run_of_cancelled_items_is_one_link_however_it_was_told() {
        let mut whole = OutputChain::default();
        whole.failed();
        let (mut told, before) = (whole, whole.digest());
        whole.cancelled(1 << 60);
        told.cancelled(1);
        let kept = OutputChain::from_bytes(&told.to_bytes()).unwrap();
        assert_eq!(kept, told);
        told.cancelled((1 << 60) - 1);
        assert_eq!(told.digest(), whole.digest());
        assert_ne!(told.digest(), before);
        told.succeeded(b"after");
        assert_eq!(OutputChain::from_bytes(&told.to_bytes()), Some(told));
        assert_eq!(told.to_bytes().len(), 32);
        for bad in [31, 33, 41] {
            assert_eq!(OutputChain::from_bytes(&vec![0; bad]), None);
        }
    }
}
