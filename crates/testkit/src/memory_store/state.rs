//! All that is stored.

use std::collections::{BTreeMap, BTreeSet};

use ports::store::AppRecord;
use protocol::customer::CustomerRecord;
use protocol::usage::Usage;
use protocol::{CustomerName, Digest, JobId};

use super::blobs::Blobs;
use super::inbox::Inbox;
use super::outbox::Messages;
use super::rows::Job;
use super::uploads::Upload;

/// The store's tables.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Jobs that have not ended.
    pub(super) running: BTreeSet<JobId>,
    pub(super) submissions: BTreeMap<(CustomerName, String), JobId>,
    /// Verdicts by app and generation.
    pub(super) apps: BTreeMap<(Digest, String), AppRecord>,
    pub(super) blobs: Blobs,
    pub(super) customers: BTreeMap<CustomerName, CustomerRecord>,
    pub(super) uploads: BTreeMap<(CustomerName, Digest), Upload>,
    /// Row `n` has the number `n + 1`; rows are appended only.
    pub(super) ledger: Vec<Usage>,
    pub(super) outbox: Messages,
    pub(super) inbox: Inbox,
}

impl State {
    /// Jobs that have not ended, in the order of their ids.
    pub(super) fn running(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.running.iter().filter_map(|id| Some((*id, self.jobs.get(id)?)))
    }
}

/// A count as the databases hold it: beyond 63 bits it stops at their largest number.
pub(super) fn held(count: u64) -> u64 {
    count.min(u64::MAX >> 1)
}

/// A sum of counts, held likewise.
pub(super) fn sum(a: u64, b: u64) -> u64 {
    held(a.saturating_add(b))
}

/// A text as the databases hold it: without NUL.
pub(super) fn text(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// How many rows at most.
pub(super) fn rows(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
