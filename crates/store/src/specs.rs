//! Specifications that were read, kept because they never change and are asked for with every batch of outcomes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::job::JobSpec;
use protocol::{Format, JobId, codec};

use crate::fault::Fault;
use crate::sql::{Tx, values};

/// Encoded bytes of the specifications kept at most: some thousand ordinary ones, or a few with their items inside.
const MAX_BYTES: usize = 32 << 20;

/// What is kept.
#[derive(Default)]
pub(crate) struct Specs(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    specs: BTreeMap<JobId, Arc<JobSpec>>,
    bytes: usize,
}

impl Specs {
    /// The specifications of these jobs, from memory or the database.
    pub(crate) async fn load(&self, tx: &mut Tx, jobs: &[JobId]) -> Result<BTreeMap<JobId, Arc<JobSpec>>, Fault> {
        let mut found = self.kept(jobs);
        let wanted: Vec<_> = jobs.iter().filter(|job| !found.contains_key(job)).map(|job| values![*job]).collect();
        if wanted.is_empty() {
            return Ok(found);
        }
        for row in tx.all_many("SELECT job, spec FROM job_specs WHERE job IN (VALUES", wanted, ")").await? {
            let (job, bytes) = (row.job(0)?, row.bytes(1)?);
            let spec = Arc::new(decode(&bytes)?);
            self.keep(job, &spec, bytes.len());
            found.insert(job, spec);
        }
        Ok(found)
    }

    fn kept(&self, jobs: &[JobId]) -> BTreeMap<JobId, Arc<JobSpec>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().filter_map(|job| kept.specs.get(job).map(|spec| (*job, Arc::clone(spec)))).collect()
    }

    fn keep(&self, job: JobId, spec: &Arc<JobSpec>, bytes: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes.saturating_add(bytes) > MAX_BYTES {
            *kept = Kept::default();
        }
        if kept.specs.insert(job, Arc::clone(spec)).is_none() {
            kept.bytes += bytes;
        }
    }
}

/// A specification as the database holds it.
pub(crate) fn encode(spec: &JobSpec) -> Result<Vec<u8>, Fault> {
    Ok(codec::encode("job specification", spec, Format::MessagePack)?)
}

fn decode(bytes: &[u8]) -> Result<JobSpec, Fault> {
    Ok(codec::decode("job specification", bytes, Format::MessagePack)?)
}

/// The specification of that job among those loaded.
pub(crate) fn of(specs: &BTreeMap<JobId, Arc<JobSpec>>, job: JobId) -> Result<JobSpec, Fault> {
    let spec = specs.get(&job).ok_or_else(|| Fault::data(format!("job {job} has no specification")))?;
    Ok(JobSpec::clone(spec))
}
