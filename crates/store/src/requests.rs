//! What customers ask about their jobs, and do to them.

use async_trait::async_trait;
use ports::store::{
    AppExperience, JobReport, NumberedOutput, OutboxMessage, RequestStore, ResultsRelease, StoreError, WaitFacts,
};
use protocol::job::JobState;
use protocol::{CustomerName, Digest, JobId, Micros};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::inbox::{self, Effect};
use crate::retention::own_state;
use crate::sql::{Value, values};
use crate::states::Spelled as _;
use crate::{attempt, outbox};

#[async_trait]
impl RequestStore for SqlStore {
    async fn pause_job(
        &self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        message: Option<&str>,
    ) -> Result<Option<JobState>, StoreError> {
        attempt!("pause job", self.try_pause_job(customer, job, paused, message))
    }

    async fn own_jobs(
        &self,
        customer: &CustomerName,
        state: Option<JobState>,
        before: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<JobReport>, StoreError> {
        attempt!("read own jobs", self.try_own_jobs(customer, (state, before), limit))
    }

    async fn wait_facts(&self, job: JobId) -> Result<WaitFacts, StoreError> {
        attempt!("read wait facts", self.try_wait_facts(job))
    }

    async fn app_experience(&self, customer: &CustomerName, app: Digest) -> Result<AppExperience, StoreError> {
        attempt!("read app experience", self.try_app_experience(customer, app))
    }

    async fn numbered_outputs(&self, job: JobId, part: u32) -> Result<Vec<NumberedOutput>, StoreError> {
        attempt!("read numbered outputs", self.try_numbered_outputs(job, part))
    }

    async fn release_results(
        &self,
        customer: &CustomerName,
        job: JobId,
        message: Option<&str>,
        now: Micros,
    ) -> Result<ResultsRelease, StoreError> {
        attempt!("release results", self.try_release_results(customer, job, message, now))
    }

    async fn reply_all(&self, replies: Vec<OutboxMessage>) -> Result<(), StoreError> {
        attempt!("write replies", self.try_reply_all(&replies))
    }
}

impl SqlStore {
    async fn try_pause_job(
        &self,
        customer: &CustomerName,
        job: JobId,
        paused: bool,
        message: Option<&str>,
    ) -> Result<Option<JobState>, Fault> {
        let mut tx = self.write().await?;
        let state = own_state(&mut tx, customer, job).await?;
        let act = format!("{} {job}", if paused { "pause" } else { "resume" });
        let effect = Effect { customer, message, act };
        if state == Some(JobState::Running) && inbox::note(&mut tx, &effect, 0, self.clock.now()).await? {
            tx.run("UPDATE jobs SET paused = $2 WHERE id = $1", values![job, paused]).await?;
            tx.commit().await?;
        }
        Ok(state)
    }

    async fn try_own_jobs(
        &self,
        customer: &CustomerName,
        (state, before): (Option<JobState>, Option<JobId>),
        limit: u32,
    ) -> Result<Vec<JobReport>, Fault> {
        let mut values: Vec<Value> = values![customer, limit];
        let mut wanted = "WHERE customer = $1".to_owned();
        if let Some(state) = state {
            values.push(state.text().into());
            // An ended job has a time of its end; saying so leads the planners to the index of those.
            let ended = if state.is_terminal() { " AND ended_at IS NOT NULL" } else { "" };
            wanted = format!("{wanted} AND state = ${}{ended}", values.len());
        }
        if let Some(before) = before {
            values.push(before.into());
            wanted = format!("{wanted} AND id < ${}", values.len());
        }
        self.try_reports(&format!("{wanted} ORDER BY id DESC LIMIT $2"), values).await
    }

    async fn try_reply_all(&self, replies: &[OutboxMessage]) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        outbox::write(&mut tx, replies).await?;
        tx.commit().await
    }
}
