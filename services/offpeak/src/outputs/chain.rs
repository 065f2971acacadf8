//! Checks outputs against a job's certificate while they stream by.

use protocol::job::{Certificate, JobState};
use protocol::{Digest, OutputChain};

/// Follows the chain over outputs in item order.
///
/// A job that was cut short is certified up to where its outputs are whole; computed items beyond a gap
/// may lie in the store all the same. So its digest may be that of a prefix, of the prefix followed by
/// cancelled items, or of all items with the gaps cancelled.
#[derive(Debug)]
pub struct Verifier {
    certificate: Certificate,
    complete: bool,
    all: OutputChain,
    /// The chain as it was before the first gap.
    before_gap: Option<OutputChain>,
    prefix_agreed: bool,
    gap_items: u64,
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
    /// For a job that ended like this.
    pub fn new(state: JobState, certificate: Certificate) -> Self {
        let complete = match state {
            JobState::Completed => true,
            JobState::Running | JobState::Cancelled | JobState::Expired => false,
        };
        let (all, prefix_agreed) = (OutputChain::default(), OutputChain::default().0 == certificate.output_digest);
        Self { certificate, complete, all, before_gap: None, prefix_agreed, gap_items: 0 }
    }

    /// The next item succeeded.
    pub fn succeeded(&mut self, output: &[u8]) {
        self.all.succeeded(output);
        self.stepped();
    }

    /// The next item failed.
    pub fn failed(&mut self) {
        self.all.failed();
        self.stepped();
    }

    /// The next item was never computed.
    pub fn cancelled(&mut self) {
        self.before_gap.get_or_insert(self.all);
        self.all.cancelled();
        self.gap_items += 1;
    }

    fn stepped(&mut self) {
        if self.before_gap.is_some() {
            self.gap_items += 1;
        } else if self.all.0 == self.certificate.output_digest {
            self.prefix_agreed = true;
        }
    }

    /// The verdict after the last item.
    pub fn finish(self) -> Result<(), ChainMismatch> {
        let certified = self.certificate.output_digest;
        let found = self.all.0;
        if found == certified || (!self.complete && (self.prefix_agreed || self.rest_cancelled() == certified)) {
            return Ok(());
        }
        Err(ChainMismatch { found, certified })
    }

    fn rest_cancelled(&self) -> Digest {
        let mut chain = self.before_gap.unwrap_or(self.all);
        for _ in 0..self.gap_items {
            chain.cancelled();
        }
        chain.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::job::ItemCounts;

    fn verifier(state: JobState, digest: Digest) -> Verifier {
        let certificate = Certificate { items: ItemCounts::default(), items_digest: digest, output_digest: digest };
        Verifier::new(state, certificate)
    }

    fn feed(mut verifier: Verifier, items: &[Option<&str>]) -> Result<(), ChainMismatch> {
        for item in items {
            match item {
                Some("fails") => verifier.failed(),
                Some(output) => verifier.succeeded(output.as_bytes()),
                None => verifier.cancelled(),
            }
        }
        verifier.finish()
    }

    fn chain(items: &[Option<&str>]) -> Digest {
        let mut chain = OutputChain::default();
        for item in items {
            match item {
                Some("fails") => chain.failed(),
                Some(output) => chain.succeeded(output.as_bytes()),
                None => chain.cancelled(),
            }
        }
        chain.0
    }

    #[test]
    fn a_completed_job_must_agree_to_the_last_item() {
        let items = [Some("a"), Some("fails"), Some("c")];
        assert!(feed(verifier(JobState::Completed, chain(&items)), &items).is_ok());
        let wrong = feed(verifier(JobState::Completed, chain(&items[..2])), &items).unwrap_err();
        assert_eq!((wrong.found, wrong.certified), (chain(&items), chain(&items[..2])));
    }

    #[test]
    fn a_job_cut_short_agrees_up_to_its_gap() {
        let items = [Some("a"), Some("fails"), None, Some("d"), None];
        for certified in
            [chain(&items), chain(&items[..2]), chain(&items[..1]), chain(&[Some("a"), Some("fails"), None, None, None])]
        {
            assert!(feed(verifier(JobState::Cancelled, certified), &items).is_ok());
        }
        assert!(feed(verifier(JobState::Expired, chain(&[Some("b")])), &items).is_err());
    }
}
