//! Checks outputs against a job's certificate while they stream by.

use protocol::{Digest, OutputChain};

/// Follows the chain over outputs in item order.
#[derive(Debug)]
pub struct Verifier {
    certified: Digest,
    chain: OutputChain,
}

/// The outputs are not those that were certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("outputs have digest {found}, the certificate says {certified}")]
pub struct ChainMismatch {
    /// Of the outputs as read.
    pub found: Digest,
    /// Of the certificate.
    pub certified: Digest,
}

impl Verifier {
    /// For outputs that were certified with that digest.
    pub fn new(certified: Digest) -> Self {
        Self { certified, chain: OutputChain::default() }
    }

    /// The next item succeeded.
    pub fn succeeded(&mut self, output: &[u8]) {
        self.chain.succeeded(output);
    }

    /// The next item failed.
    pub fn failed(&mut self) {
        self.chain.failed();
    }

    /// The next items, so many, were never computed.
    pub fn cancelled(&mut self, items: u64) {
        self.chain.cancelled(items);
    }

    /// The verdict after the last item.
    pub fn finish(self) -> Result<(), ChainMismatch> {
        let (found, certified) = (self.chain.digest(), self.certified);
        if found == certified { Ok(()) } else { Err(ChainMismatch { found, certified }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_must_agree_to_the_last_item() {
        let mut chain = OutputChain::default();
        chain.succeeded(b"a");
        chain.failed();
        let before = chain.digest();
        chain.cancelled(5);
        for (cancelled, agrees) in [(5, true), (4, false), (0, false)] {
            let mut verifier = Verifier::new(chain.digest());
            verifier.succeeded(b"a");
            verifier.failed();
            verifier.cancelled(cancelled);
            assert_eq!(verifier.finish().is_ok(), agrees);
        }
        let wrong = Verifier::new(before).finish().unwrap_err();
        assert_eq!((wrong.found, wrong.certified), (OutputChain::default().digest(), before));
    }
}
