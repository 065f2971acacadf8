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
/// items were cut into units nor needs more than 32 bytes kept between items.
///
/// `chain(0) = 32 zero bytes; chain(i + 1) = SHA-256(chain(i) | status(i) | output(i))`, where status is one byte
/// (0 succeeded, 1 failed, 2 cancelled) and output is empty unless the item succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputChain(pub Digest);

impl Default for OutputChain {
    fn default() -> Self {
        Self(Digest([0; 32]))
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

    /// The item was never computed.
    pub fn cancelled(&mut self) {
        self.extend(2, &[]);
    }

    fn extend(&mut self, status: u8, output: &[u8]) {
        let mut hash = Sha256::new();
        hash.update(self.0.0);
        hash.update([status]);
        hash.update(output);
        self.0 = Digest(hash.finalize().into());
    }
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
            chain.0
        };
        let all = [
            chain(&|_| ()),
            chain(&|c| c.succeeded(b"")),
            chain(&OutputChain::failed),
            chain(&OutputChain::cancelled),
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
}
