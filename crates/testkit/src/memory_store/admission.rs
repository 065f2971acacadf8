//! Admission: a submission becomes a job once, and its reply is written with it.

use async_trait::async_trait;
use ports::store::{Admission, AdmissionStore, AppRecord, NewJob, OutboxMessage, StoreError};
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

    async fn reply(&self, reply: OutboxMessage) -> Result<(), StoreError> {
        self.run("write reply", |state| {
            state.outbox.write(reply);
            Ok(())
        })
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
        if let Some(known) = self.submissions.get(&submission).and_then(|id| self.jobs.get(id)) {
            let known = &known.admitted;
            return Ok(if known.submission_digest == job.submission_digest {
                Admission::Known { job: known.id, items: known.items }
            } else {
                Admission::Conflict { job: known.id }
            });
        }
        if self.jobs.contains_key(&job.id) {
            return Err(Refused(format!("job {} is there already, for another submission", job.id)));
        }
        self.submissions.insert(submission, job.id);
        self.running.insert(job.id);
        self.jobs.insert(job.id, Job::new(job));
        self.outbox.write(reply);
        Ok(Admission::New)
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
