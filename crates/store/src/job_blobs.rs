//! Which blobs the jobs need that have not ended, so that nobody gives one up under them.

use protocol::head::JobHead;
use protocol::{CustomerName, Digest, JobId};

use crate::connect::SqlStore;
use crate::fault::Fault;
use crate::sql::{Row, Tx, values};

/// How many jobs that an older service admitted are noted in one transaction, and how many such transactions are made at most.
const OLD_PAGE: u32 = 256;
const OLD_PAGES: u32 = 64;

/// Notes what these jobs need: what their specifications name, and their briefs.
pub(crate) async fn note(tx: &mut Tx, jobs: &[(JobId, &CustomerName, &JobHead, Digest)]) -> Result<(), Fault> {
    let mut rows = Vec::new();
    for (job, customer, head, brief) in jobs {
        rows.extend(head.blobs().chain([*brief]).map(|digest| values![digest, *customer, *job]));
    }
    tx.run_many("INSERT INTO job_blobs (digest, customer, job) VALUES", rows, "ON CONFLICT DO NOTHING").await?;
    Ok(())
}

/// A job has ended.
pub(crate) async fn forget(tx: &mut Tx, job: JobId) -> Result<(), Fault> {
    tx.run("DELETE FROM job_blobs WHERE job = $1", values![job]).await?;
    Ok(())
}

/// A job of the customer that has not ended and needs the blob, or may need it because an older service admitted it.
pub(crate) async fn user(tx: &mut Tx, customer: &CustomerName, digest: Digest) -> Result<Option<JobId>, Fault> {
    let noted = "SELECT b.job FROM job_blobs b JOIN jobs j ON j.id = b.job
        WHERE b.digest = $1 AND b.customer = $2 AND j.state = 'running' LIMIT 1";
    if let Some(row) = tx.first(noted, values![digest, customer]).await? {
        return row.job(0).map(Some);
    }
    let unknown = "SELECT id FROM jobs WHERE state = 'running' AND blobs_noted = 0 AND customer = $1 LIMIT 1";
    tx.first(unknown, values![customer]).await?.map(|row| row.job(0)).transpose()
}

/// Whether a job of anyone that has not ended needs the blob, or may need it.
pub(crate) async fn is_needed(tx: &mut Tx, digest: Digest) -> Result<bool, Fault> {
    let noted = "SELECT b.job FROM job_blobs b JOIN jobs j ON j.id = b.job WHERE b.digest = $1 AND j.state = 'running' LIMIT 1";
    let unknown = "SELECT id FROM jobs WHERE state = 'running' AND blobs_noted = 0 LIMIT 1";
    Ok(tx.first(noted, values![digest]).await?.is_some() || tx.first(unknown, Vec::new()).await?.is_some())
}

impl SqlStore {
    /// Notes what running jobs need that an older service admitted; there are some only around an upgrade.
    pub(crate) async fn note_old_jobs(&self) -> Result<(), Fault> {
        for _page in 0..OLD_PAGES {
            if !self.has_old_jobs().await? || !self.note_page_of_old_jobs().await? {
                break;
            }
        }
        Ok(())
    }

    /// Asked without becoming a writer.
    async fn has_old_jobs(&self) -> Result<bool, Fault> {
        let sql = "SELECT id FROM jobs WHERE state = 'running' AND blobs_noted = 0 LIMIT 1";
        Ok(self.read().await?.first(sql, Vec::new()).await?.is_some())
    }

    async fn note_page_of_old_jobs(&self) -> Result<bool, Fault> {
        let mut tx = self.write().await?;
        let select = "SELECT id, customer, brief FROM jobs WHERE state = 'running' AND blobs_noted = 0 ORDER BY id LIMIT $1";
        let rows = tx.all_locked(select, values![OLD_PAGE]).await?;
        let read = |row: &Row| Ok((row.job(0)?, row.parsed(1)?, row.digest(2)?));
        let jobs = rows.iter().map(read).collect::<Result<Vec<(JobId, CustomerName, Digest)>, Fault>>()?;
        let ids: Vec<JobId> = jobs.iter().map(|(id, _, _)| *id).collect();
        let heads = self.specs.heads(&mut tx, &ids).await?;
        // What a job needs whose specification cannot be read is not known, so that it may need anything.
        let mut noted = Vec::new();
        for (id, customer, brief) in &jobs {
            let Some(head) = heads.get(id) else { continue };
            note(&mut tx, &[(*id, customer, head.as_ref(), *brief)]).await?;
            noted.push(values![*id]);
        }
        let any = !noted.is_empty();
        tx.run_many("UPDATE jobs SET blobs_noted = 1 WHERE id IN (VALUES", noted, ")").await?;
        tx.commit().await?;
        Ok(any)
    }
}
