//! One process's connection to the store: slow, and failing before or after a commit.

use std::sync::Arc;

use async_trait::async_trait;
use ports::Store;
use ports::store::{
    Admission, AdmissionStore, AppExperience, AppRecord, Assemble, AssemblyView, BlobStore, ClaimedJob, CustomerTotals, Dispatch,
    DispatchStore, DueReplica, FailedItem, JobReport, NewJob, NumberedOutput, Outbox, OutboxKey, OutboxMessage, OutputPage,
    ReportStore, RequestStore, ResultsRelease, Settle, SettlementStore, SettlementView, StoreError, Unsent, UsageFilter,
    WaitFacts,
};
use protocol::job::{JobSpec, JobState};
use protocol::state::{ReplicaState, UnitState};
use protocol::usage::Usage;
use protocol::{CustomerName, Digest, HostId, JobId, Micros, ReplicaKey};

use super::{Broken, Ether, Pulse};

/// A connection; clones share it.
#[derive(Clone)]
pub struct Database {
    pub(super) inner: Arc<dyn Store>,
    ether: Arc<Ether>,
    pulse: Pulse,
    broken: Option<Broken>,
}

impl Database {
    /// A process's connection to that store.
    pub fn new(inner: Arc<dyn Store>, ether: Arc<Ether>, pulse: Pulse, broken: Option<Broken>) -> Self {
        Self { inner, ether, pulse, broken }
    }

    /// Performs a transaction, unless it fails before, and tells its result, unless that is lost.
    pub(super) async fn perform<T>(
        &self,
        operation: &'static str,
        transaction: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let away = |why: &str| StoreError::Unavailable { operation, source: why.into() };
        self.ether.travel().await;
        self.pulse.beat().await;
        if self.ether.happens(|weather| weather.store_fails) {
            self.ether.trace.note(format_args!("store fails before {operation}"));
            return Err(away("connection refused"));
        }
        let done = transaction.await;
        self.ether.travel().await;
        self.pulse.beat().await;
        if self.ether.happens(|weather| weather.store_unknown) {
            self.ether.trace.note(format_args!("store fails after {operation}"));
            return Err(away("connection lost after the commit was sent"));
        }
        done
    }
}

#[async_trait]
impl AdmissionStore for Database {
    async fn admit(&self, mut job: NewJob, reply: OutboxMessage) -> Result<Admission, StoreError> {
        if self.broken == Some(Broken::NoInbox) {
            job.submission = format!("{}, as {}", job.submission, job.id);
        }
        self.perform("admit", self.inner.admit(job, reply)).await
    }

    async fn admitted(
        &self,
        customer: &CustomerName,
        submission: &str,
        submission_digest: Digest,
    ) -> Result<Option<Admission>, StoreError> {
        self.perform("find submission", self.inner.admitted(customer, submission, submission_digest)).await
    }

    async fn submitted(&self, job: JobId) -> Result<Option<JobSpec>, StoreError> {
        self.perform("read submission", self.inner.submitted(job)).await
    }

    async fn app(&self, app: Digest, generation: &str) -> Result<Option<AppRecord>, StoreError> {
        self.perform("app", self.inner.app(app, generation)).await
    }

    async fn record_app(&self, record: AppRecord, generation: &str) -> Result<(), StoreError> {
        self.perform("record app", self.inner.record_app(record, generation)).await
    }

    async fn request_cancel(&self, customer: &CustomerName, job: JobId) -> Result<bool, StoreError> {
        self.perform("request cancel", self.inner.request_cancel(customer, job)).await
    }
}

#[async_trait]
impl BlobStore for Database {
    async fn put_part(&self, digest: Digest, size: u64, offset: u64, data: &[u8]) -> Result<bool, StoreError> {
        self.perform("put part", self.inner.put_part(digest, size, offset, data)).await
    }

    async fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.perform("blob size", self.inner.blob_size(digest)).await
    }

    async fn read_blob(&self, digest: Digest, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        self.perform("read blob", self.inner.read_blob(digest, offset, length)).await
    }
}

#[async_trait]
impl DispatchStore for Database {
    async fn claim_jobs(&self, owner: &str, now: Micros, until: Micros, limit: u32) -> Result<Vec<ClaimedJob>, StoreError> {
        let mut claimed = self.perform("claim jobs", self.inner.claim_jobs(owner, now, until, limit)).await?;
        if self.broken == Some(Broken::NoReserve) {
            for job in &mut claimed {
                job.open_items = 0;
            }
        }
        Ok(claimed)
    }

    async fn release_jobs(&self, owner: &str) -> Result<(), StoreError> {
        self.perform("release jobs", self.inner.release_jobs(owner)).await
    }

    async fn due_replicas(&self, job: JobId, now: Micros, limit: u32) -> Result<Vec<DueReplica>, StoreError> {
        self.perform("due replicas", self.inner.due_replicas(job, now, limit)).await
    }

    async fn dispatch(&self, step: Dispatch) -> Result<bool, StoreError> {
        self.perform("dispatch", self.inner.dispatch(step)).await
    }

    async fn mark_sent(&self, keys: &[ReplicaKey], deadline: Micros) -> Result<(), StoreError> {
        self.perform("mark sent", self.inner.mark_sent(keys, deadline)).await
    }

    async fn expire_replicas(&self, now: Micros, limit: u32, everything: bool) -> Result<u32, StoreError> {
        self.perform("expire replicas", self.inner.expire_replicas(now, limit, everything)).await
    }

    async fn stage_outputs(&self, job: JobId, stage: u8, first: u64, end: u64) -> Result<Vec<(u64, u64, Vec<u8>)>, StoreError> {
        self.perform("stage outputs", self.inner.stage_outputs(job, stage, first, end)).await
    }
}

#[async_trait]
impl SettlementStore for Database {
    async fn settle(&self, keys: &[ReplicaKey], decide: Settle) -> Result<(), StoreError> {
        let decide: Settle = if self.broken == Some(Broken::NoFencing) {
            let keys = keys.to_vec();
            Box::new(move |view| decide(&unfenced(view, &keys)))
        } else {
            decide
        };
        self.perform("settle", self.inner.settle(keys, decide)).await
    }

    async fn assemble(&self, job: JobId, max_units: u32, decide: Assemble) -> Result<Option<bool>, StoreError> {
        let decide: Assemble =
            if self.ether.happens(|weather| weather.unread) { Box::new(move |view| decide(&unread(view))) } else { decide };
        self.perform("assemble", self.inner.assemble(job, max_units, decide)).await
    }

    async fn jobs_to_assemble(&self, now: Micros, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.perform("jobs to assemble", self.inner.jobs_to_assemble(now, limit)).await
    }

    async fn claim_outbox(&self, now: Micros, until: Micros, limit: u32) -> Result<Vec<Outbox>, StoreError> {
        self.perform("claim outbox", self.inner.claim_outbox(now, until, limit)).await
    }

    async fn expire_results(&self, ended_before: Micros, now: Micros, limit: u32) -> Result<u32, StoreError> {
        self.perform("expire results", self.inner.expire_results(ended_before, now, limit)).await
    }

    async fn settle_outbox(&self, sent: &[OutboxKey], refused: &[OutboxKey], again: Micros) -> Result<(), StoreError> {
        self.perform("settle outbox", self.inner.settle_outbox(sent, refused, again)).await
    }
}

#[async_trait]
impl ReportStore for Database {
    async fn job(&self, job: JobId) -> Result<Option<JobReport>, StoreError> {
        self.perform("read job", self.inner.job(job)).await
    }

    async fn job_of_submission(&self, customer: &CustomerName, submission: &str) -> Result<Option<JobId>, StoreError> {
        self.perform("find job", self.inner.job_of_submission(customer, submission)).await
    }

    async fn jobs(&self, customer: Option<&CustomerName>, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        self.perform("list jobs", self.inner.jobs(customer, limit)).await
    }

    async fn failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, StoreError> {
        self.perform("read failed items", self.inner.failed_items(job, from, limit)).await
    }

    async fn outputs(&self, job: JobId, from: u64) -> Result<OutputPage, StoreError> {
        self.perform("read outputs", self.inner.outputs(job, from)).await
    }

    async fn usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Result<Vec<(i64, Usage)>, StoreError> {
        self.perform("read usage", self.inner.usage(filter, after, limit)).await
    }

    async fn usage_totals(&self, filter: &UsageFilter) -> Result<Vec<CustomerTotals>, StoreError> {
        self.perform("sum ledger", self.inner.usage_totals(filter)).await
    }
}

#[async_trait]
impl RequestStore for Database {
    async fn pause_job(
        &self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        message: Option<&str>,
    ) -> Result<Option<JobState>, StoreError> {
        self.perform("pause job", self.inner.pause_job(customer, job, paused, message)).await
    }

    async fn own_jobs(
        &self,
        customer: &CustomerName,
        state: Option<JobState>,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<JobReport>, StoreError> {
        self.perform("list own jobs", self.inner.own_jobs(customer, state, before, limit)).await
    }

    async fn wait_facts(&self, job: JobId) -> Result<WaitFacts, StoreError> {
        self.perform("read wait facts", self.inner.wait_facts(job)).await
    }

    async fn app_experience(&self, customer: &CustomerName, app: Digest) -> Result<AppExperience, StoreError> {
        self.perform("read app experience", self.inner.app_experience(customer, app)).await
    }

    async fn numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, StoreError> {
        self.perform("read numbered outputs", self.inner.numbered_outputs(job, part)).await
    }

    async fn release_results(
        &self,
        customer: &CustomerName,
        job: JobId,
        message: Option<&str>,
        now: Micros,
    ) -> Result<ResultsRelease, StoreError> {
        self.perform("release results", self.inner.release_results(customer, job, message, now)).await
    }

    async fn reply_all(&self, replies: Vec<OutboxMessage>) -> Result<(), StoreError> {
        self.perform("write replies", self.inner.reply_all(replies)).await
    }
}

/// The view with more messages waiting for the customer than any bound allows.
fn unread(view: &AssemblyView) -> AssemblyView {
    AssemblyView { unsent: Unsent { messages: 1_000_000, ..view.unsent }, ..view.clone() }
}

/// What settling sees without fencing: an outcome of a replica that was counted is awaited once more, and what it
/// was counted as stands beside it as a replica of some other host.
fn unfenced(view: &SettlementView, keys: &[ReplicaKey]) -> SettlementView {
    let mut view = view.clone();
    for unit in view.units.iter_mut().filter(|unit| unit.state == UnitState::Open) {
        let key = unit.key;
        let counted = |replica: &protocol::state::ReplicaFacts| {
            replica.state == ReplicaState::Computed && keys.contains(&key.replica(replica.replica))
        };
        let mut shadows: Vec<_> = unit.replicas.iter().filter(|replica| counted(replica)).cloned().collect();
        for replica in unit.replicas.iter_mut().filter(|replica| counted(replica)) {
            (replica.state, replica.host, replica.vote) = (ReplicaState::Sent, None, None);
        }
        for shadow in &mut shadows {
            shadow.replica += 10_000;
            shadow.host = HostId::new("some-other-host").ok();
        }
        unit.replicas.extend(shadows);
    }
    view
}
