//! Admission: a submission becomes a job once, and its reply is written with it.

use async_trait::async_trait;
use ports::store::{Admission, AdmissionStore, AppRecord, AppVerdict, NewJob, OutboxMessage, StoreError};
use protocol::head::JobHead;
use protocol::job::JobSpec;
use protocol::{CustomerName, Digest, Format, JobId, OutputChain, codec};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Lock, Row, Tx, values};
use crate::states::Spelled as _;
use crate::{attempt, job_blobs, outbox, specs, uploads};

#[async_trait]
impl AdmissionStore for SqlStore {
    async fn admit(&self, job: NewJob, reply: OutboxMessage) -> Result<Admission, StoreError> {
        attempt!("admit job", self.try_admit(&job, &reply))
    }

    async fn admitted(
        &self,
        customer: &CustomerName,
        submission: &str,
        submission_digest: Digest,
    ) -> Result<Option<Admission>, StoreError> {
        attempt!("find submission", self.try_admitted(customer, submission, submission_digest))
    }

    async fn submitted(&self, job: JobId) -> Result<Option<JobSpec>, StoreError> {
        attempt!("read submission", self.try_submitted(job))
    }

    async fn app(&self, app: Digest, generation: &str) -> Result<Option<AppRecord>, StoreError> {
        attempt!("read app", self.try_app(app, generation))
    }

    async fn record_app(&self, record: AppRecord, generation: &str) -> Result<(), StoreError> {
        attempt!("record app", self.try_record_app(&record, generation))
    }

    async fn request_cancel(&self, customer: &CustomerName, job: JobId) -> Result<bool, StoreError> {
        attempt!("request cancel", self.try_request_cancel(customer, job))
    }
}

impl SqlStore {
    async fn try_admit(&self, job: &NewJob, reply: &OutboxMessage) -> Result<Admission, Fault> {
        if i64::try_from(job.items).is_err() {
            return Err(Fault::data(format!("a job of {} items is beyond what the store counts: refuse it", job.items)));
        }
        let spec = specs::encode(&job.spec)?;
        let mut tx = self.write().await?;
        // Before anything else, so that a customer is not forgotten while a job of it comes.
        tx.lock(Lock::Customer(job.customer.as_str())).await?;
        let create = "INSERT INTO customers (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.run(create, values![&job.customer, job.admitted_at]).await?;
        if !insert_job(&mut tx, job).await? {
            let known = known(&mut tx, &job.customer, &job.submission, job.submission_digest).await?;
            return known.ok_or_else(|| Fault::data("a job that was there is gone"));
        }
        if let Some(digest) = missing_blob(&mut tx, job).await? {
            return Ok(Admission::NoBlob { digest });
        }
        tx.run("INSERT INTO job_specs (job, spec) VALUES ($1, $2)", values![job.id, spec]).await?;
        job_blobs::note(&mut tx, &[(job.id, &job.customer, &JobHead::from(&job.spec), job.brief)]).await?;
        outbox::write(&mut tx, std::slice::from_ref(reply)).await?;
        tx.commit().await?;
        Ok(Admission::New)
    }

    async fn try_admitted(
        &self,
        customer: &CustomerName,
        submission: &str,
        submission_digest: Digest,
    ) -> Result<Option<Admission>, Fault> {
        known(&mut self.read().await?, customer, submission, submission_digest).await
    }

    async fn try_submitted(&self, job: JobId) -> Result<Option<JobSpec>, Fault> {
        specs::submitted(&mut self.read().await?, job).await
    }

    async fn try_app(&self, app: Digest, generation: &str) -> Result<Option<AppRecord>, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT artefact, entry, meter, reduces, manifest, rejected FROM apps WHERE app = $1 AND generation = $2";
        let row = tx.first(sql, values![app, generation]).await?;
        row.map(|row| Ok(AppRecord { app, verdict: read_verdict(&row)? })).transpose()
    }

    async fn try_record_app(&self, record: &AppRecord, generation: &str) -> Result<(), Fault> {
        let mut tx = self.write().await?;
        let key = values![record.app, generation];
        let verdict = match &record.verdict {
            AppVerdict::Accepted { artefact, entry, meter, reduces, manifest } => {
                values![Some(*artefact), entry.text(), meter, i64::from(*reduces), manifest.clone(), None::<String>]
            }
            AppVerdict::Rejected { reasons } => {
                let reasons = codec::encode("reasons", reasons, Format::Json)?;
                let reasons = String::from_utf8(reasons).map_err(|e| Fault::data(e.to_string()))?;
                values![None::<Digest>, None::<String>, None::<String>, 0_i64, None::<String>, reasons]
            }
        };
        let sql = "INSERT INTO apps (app, generation, artefact, entry, meter, reduces, manifest, rejected)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
        tx.run(sql, key.into_iter().chain(verdict).collect()).await?;
        tx.commit().await
    }

    async fn try_request_cancel(&self, customer: &CustomerName, job: JobId) -> Result<bool, Fault> {
        let mut tx = self.write().await?;
        let sql = "UPDATE jobs SET cancel_requested = 1, to_assemble = 1
            WHERE id = $1 AND customer = $2 AND state = 'running'";
        let changed = tx.run(sql, values![job, customer]).await?;
        tx.commit().await?;
        Ok(changed > 0)
    }
}

/// Writes the job's row; `false` if its submission is known.
async fn insert_job(tx: &mut Tx, job: &NewJob) -> Result<bool, Fault> {
    let sql = "INSERT INTO jobs (id, customer, submission, submission_digest, correlation_id, content_type, traceparent,
            items, brief, meter, admitted_at, deadline_at, stage_items, last_stage, chain, to_assemble, app, priority,
            budget, budget_item, blobs_noted)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, 1)
        ON CONFLICT (customer, submission) DO NOTHING";
    let values = values![
        job.id,
        &job.customer,
        job.submission.as_str(),
        job.submission_digest,
        job.correlation_id.clone(),
        job.content_type.as_str(),
        job.traceparent.clone(),
        job.items,
        job.brief,
        &job.meter,
        job.admitted_at,
        job.deadline_at,
        job.items,
        !job.spec.reduce,
        OutputChain::default().to_bytes(),
        job.items == 0,
        job.spec.app,
        i64::from(job.spec.priority),
        job.spec.budget_fuel,
        job.spec.budget_fuel.map(|_| job.spec.limits.fuel_per_item),
    ];
    Ok(tx.run(sql, values).await? > 0)
}

/// What the submission was admitted as before.
async fn known(
    tx: &mut Tx,
    customer: &CustomerName,
    submission: &str,
    submission_digest: Digest,
) -> Result<Option<Admission>, Fault> {
    let sql = "SELECT id, items, submission_digest FROM jobs WHERE customer = $1 AND submission = $2";
    let Some(row) = tx.first(sql, values![customer, submission]).await? else { return Ok(None) };
    let job = row.job(0)?;
    let same = row.digest(2)? == submission_digest;
    Ok(Some(if same { Admission::Known { job, items: row.number(1)? } } else { Admission::Conflict { job } }))
}

/// The first blob that the job names and its customer may not use. The customer gives up none of its blobs before this
/// transaction has ended, and what it may use otherwise (written by the grid, owned by nobody) never goes.
async fn missing_blob(tx: &mut Tx, job: &NewJob) -> Result<Option<Digest>, Fault> {
    tx.lock(Lock::Uploads(job.customer.as_str())).await?;
    for digest in job.spec.blobs() {
        if uploads::own_size(tx, &job.customer, digest).await?.is_none() {
            return Ok(Some(digest));
        }
    }
    Ok(None)
}

fn read_verdict(row: &Row) -> Result<AppVerdict, Fault> {
    if let Some(reasons) = row.opt_text(5)? {
        return Ok(AppVerdict::Rejected { reasons: codec::decode("reasons", reasons.as_bytes(), Format::Json)? });
    }
    Ok(AppVerdict::Accepted {
        artefact: row.digest(0)?,
        entry: protocol::job::EntryKind::of(&row.text(1)?)?,
        meter: row.parsed(2)?,
        reduces: row.flag(3)?,
        manifest: row.opt_text(4)?,
    })
}
