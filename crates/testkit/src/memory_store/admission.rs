//! Admission: a submission becomes a job once, and its reply is written with it.

use async_trait::async_trait;
use ports::store::{Admission, AdmissionStore, AppRecord, NewJob, OutboxMessage, StoreError};
use protocol::job::JobSpec;
use protocol::{CustomerName, Digest, JobId};

use super::MemoryStore;
use super::fault::Refused;
use super::rows::Job;
use super::state::{State, held};

#[async_trait]
impl AdmissionStore for MemoryStore {
    async fn admit(&self, job: NewJob, reply: OutboxMessage) -> Result<Admission, StoreError> {
        self.run("admit job", |state| state.admit(job, reply))
    }

    async fn admitted(
        &self,
        customer: &CustomerName,
        submission: &str,
        submission_digest: Digest,
    ) -> Result<Option<Admission>, StoreError> {
        let submission = (customer.clone(), submission.to_owned());
        self.run("find submission", |state| Ok(state.admitted(&submission, submission_digest)))
    }

    async fn submitted(&self, job: JobId) -> Result<Option<JobSpec>, StoreError> {
        self.run("read submission", |state| Ok(state.jobs.get(&job).map(|job| job.admitted.spec.clone())))
    }

    async fn app(&self, app: Digest, generation: &str) -> Result<Option<AppRecord>, StoreError> {
        self.run("read app", |state| Ok(state.apps.get(&(app, generation.to_owned())).cloned()))
    }

    async fn record_app(&self, record: AppRecord, generation: &str) -> Result<(), StoreError> {
        self.run("record app", |state| {
            state.apps.entry((record.app, generation.to_owned())).or_insert(record);
            Ok(())
        })
    }

    async fn request_cancel(&self, customer: &CustomerName, job: JobId) -> Result<bool, StoreError> {
        self.run("request cancel", |state| Ok(state.request_cancel(customer, job)))
    }
}

impl State {
    fn admit(&mut self, job: NewJob, reply: OutboxMessage) -> Result<Admission, Refused> {
        if held(job.items) != job.items {
            return Err(Refused(format!("a job of {} items is beyond what the store counts: refuse it", job.items)));
        }
        let submission = (job.customer.clone(), job.submission.clone());
        if let Some(known) = self.admitted(&submission, job.submission_digest) {
            return Ok(known);
        }
        if self.jobs.contains_key(&job.id) {
            return Err(Refused(format!("job {} is there already, for another submission", job.id)));
        }
        if let Some(digest) = job.spec.blobs().find(|digest| self.own_blob_size(&job.customer, *digest).is_none()) {
            return Ok(Admission::NoBlob { digest });
        }
        self.see_customer(&job.customer, job.admitted_at);
        self.submissions.insert(submission, job.id);
        self.running.insert(job.id);
        self.jobs.insert(job.id, Job::new(job));
        self.outbox.write(reply);
        Ok(Admission::New)
    }

    /// What a submission was admitted as before.
    fn admitted(&self, submission: &(CustomerName, String), submission_digest: Digest) -> Option<Admission> {
        let known = &self.submissions.get(submission).and_then(|id| self.jobs.get(id))?.admitted;
        let same = known.submission_digest == submission_digest;
        let (job, items) = (known.id, known.items);
        Some(if same { Admission::Known { job, items } } else { Admission::Conflict { job } })
    }

    fn request_cancel(&mut self, customer: &CustomerName, job: JobId) -> bool {
        let running = self.running.contains(&job);
        let job = self.jobs.get_mut(&job).filter(|job| running && job.admitted.customer == *customer);
        let Some(job) = job else { return false };
        job.cancel_requested = true;
        job.to_assemble = true;
        true
    }
}
