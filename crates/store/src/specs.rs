//! Specifications that were read, kept because they never change: whole ones for who dispatches, heads for everyone else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::codec::MAX_VALUES;
use protocol::head::JobHead;
use protocol::job::JobSpec;
use protocol::{Format, JobId, codec};

use crate::fault::Fault;
use crate::sql::{Tx, values};

/// What a specification is called in errors.
const KIND: &str = "job specification";
/// The memory of a value: one of a byte is an item of its own.
const VALUE_BYTES: usize = 40;
/// A specification up to this weight (about 6 KiB as it is stored) is ordinary, and claimed whatever others there are.
const ORDINARY: usize = 256 << 10;
/// The weight of those beyond it that are claimed at one time: at least two of the heaviest, and many of some hundred items.
const MAX_CLAIMED: usize = 128 << 20;
/// The weight of whole ones that are kept: what one claim takes, with some hundred ordinary ones.
const MAX_WHOLE: usize = MAX_CLAIMED + (64 << 20);
/// Heads that are kept: some hundred bytes each.
const MAX_HEADS: usize = 16_384;
/// Stored bytes that are read at one time for their heads, a specification at least.
const MAX_READ: usize = 16 << 20;
/// Jobs of which something cannot be read that are remembered, so that each is told of once.
const MAX_TOLD: usize = 1_000;

/// What is kept.
#[derive(Default)]
pub(crate) struct Specs(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    whole: BTreeMap<JobId, (Arc<JobSpec>, usize)>,
    /// Of all that are whole.
    weight: usize,
    heads: BTreeMap<JobId, Arc<JobHead>>,
    told: BTreeSet<JobId>,
}

impl Specs {
    /// The heads of these jobs' specifications, from memory or the database. One that cannot be read is missing, so that it
    /// keeps nothing from being told of the other jobs.
    pub(crate) async fn heads(&self, tx: &mut Tx, jobs: &[JobId]) -> Result<BTreeMap<JobId, Arc<JobHead>>, Fault> {
        let mut found: BTreeMap<JobId, Arc<JobHead>> = {
            let kept = self.kept();
            jobs.iter().filter_map(|job| Some((*job, Arc::clone(kept.heads.get(job)?)))).collect()
        };
        let wanted: Vec<JobId> = jobs.iter().filter(|job| !found.contains_key(job)).copied().collect();
        for page in pages(tx, &wanted).await? {
            for (job, bytes) in stored(tx, &page).await? {
                match codec::decode_head::<JobHead>(KIND, &bytes, Format::MessagePack) {
                    Ok(head) => {
                        let head = Arc::new(head);
                        self.keep_head(job, &head);
                        found.insert(job, head);
                    }
                    Err(error) => self.tell(job, &error),
                }
            }
        }
        wanted.iter().filter(|job| !found.contains_key(job)).for_each(|job| self.tell(*job, &"there is none"));
        Ok(found)
    }

    /// The whole specifications of these jobs, likewise; no more of them than [`Self::that_fit`] lets pass.
    pub(crate) async fn whole(&self, tx: &mut Tx, jobs: &[JobId]) -> Result<BTreeMap<JobId, Arc<JobSpec>>, Fault> {
        let mut found: BTreeMap<JobId, Arc<JobSpec>> = {
            let kept = self.kept();
            jobs.iter().filter_map(|job| Some((*job, Arc::clone(&kept.whole.get(job)?.0)))).collect()
        };
        let wanted: Vec<JobId> = jobs.iter().filter(|job| !found.contains_key(job)).copied().collect();
        for (job, bytes) in stored(tx, &wanted).await? {
            match codec::decode::<JobSpec>(KIND, &bytes, Format::MessagePack) {
                Ok(spec) => {
                    let spec = Arc::new(spec);
                    self.keep_whole(job, &spec, weight(bytes.len()));
                    found.insert(job, spec);
                }
                Err(error) => self.tell(job, &error),
            }
        }
        wanted.iter().filter(|job| !found.contains_key(job)).for_each(|job| self.tell(*job, &"there is none"));
        Ok(found)
    }

    /// Of these jobs, in turn, those whose specifications may be held together, and those that are put off for another turn.
    pub(crate) async fn that_fit(
        &self,
        tx: &mut Tx,
        jobs: Vec<JobId>,
        turn: usize,
    ) -> Result<(Vec<JobId>, BTreeSet<JobId>), Fault> {
        let mut weights: BTreeMap<JobId, usize> = {
            let kept = self.kept();
            jobs.iter().filter_map(|job| Some((*job, kept.whole.get(job)?.1))).collect()
        };
        let unknown: Vec<JobId> = jobs.iter().filter(|job| !weights.contains_key(job)).copied().collect();
        weights.extend(lengths(tx, &unknown).await?.into_iter().map(|(job, bytes)| (job, weight(bytes))));
        Ok(fitting(jobs, &weights, turn))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_head(&self, job: JobId, head: &Arc<JobHead>) {
        let mut kept = self.kept();
        if kept.heads.len() >= MAX_HEADS {
            kept.heads.clear();
        }
        kept.heads.insert(job, Arc::clone(head));
    }

    fn keep_whole(&self, job: JobId, spec: &Arc<JobSpec>, weight: usize) {
        let mut kept = self.kept();
        if kept.weight.saturating_add(weight) > MAX_WHOLE {
            kept.whole.clear();
            kept.weight = 0;
        }
        if kept.whole.insert(job, (Arc::clone(spec), weight)).is_none() {
            kept.weight += weight;
        }
    }

    /// Says once of a job that its specification, or another row of it, cannot be read.
    pub(crate) fn tell(&self, job: JobId, why: &dyn Display) {
        let mut kept = self.kept();
        if kept.told.len() >= MAX_TOLD {
            kept.told.clear();
        }
        if kept.told.insert(job) {
            tracing::error!(job = %job, "job {job} waits until it is mended, for what is stored of it cannot be read: {why}");
        }
    }
}

/// A specification as the database holds it.
pub(crate) fn encode(spec: &JobSpec) -> Result<Vec<u8>, Fault> {
    Ok(codec::encode(KIND, spec, Format::MessagePack)?)
}

/// The whole specification of a job, read for once; `None` if there is no such job.
pub(crate) async fn submitted(tx: &mut Tx, job: JobId) -> Result<Option<JobSpec>, Fault> {
    let stored = stored(tx, &[job]).await?.into_iter().next();
    stored.map(|(_, bytes)| Ok(codec::decode(KIND, &bytes, Format::MessagePack)?)).transpose()
}

/// About how much memory a specification takes at most that is stored in so many bytes: its texts, and each value, of which
/// it has no more than bytes and than a message may have.
fn weight(bytes: usize) -> usize {
    bytes.saturating_add(VALUE_BYTES.saturating_mul(bytes.min(MAX_VALUES)))
}

/// Ordinary jobs, and of the others a group that may be held together: the first ones, but in every other turn a next one, so
/// that those which wait for workers keep no other waiting for ever. One job at least.
fn fitting(jobs: Vec<JobId>, weights: &BTreeMap<JobId, usize>, turn: usize) -> (Vec<JobId>, BTreeSet<JobId>) {
    let heavy = jobs.iter().filter_map(|job| Some((*job, weights.get(job).copied().filter(|weight| *weight > ORDINARY)?)));
    let groups = groups(heavy, MAX_CLAIMED);
    // Every other turn is of the first, which are the most urgent; the turns between go round the rest.
    let rest = groups.len().saturating_sub(1);
    let taken = if turn.is_multiple_of(2) { 0 } else { (turn / 2).checked_rem(rest).map_or(0, |group| 1 + group) };
    let others = groups.into_iter().enumerate().filter(|(group, _)| *group != taken);
    let put_off: BTreeSet<JobId> = others.flat_map(|(_, group)| group).collect();
    (jobs.into_iter().filter(|job| !put_off.contains(job)).collect(), put_off)
}

/// Cuts jobs into groups in their order, each of that weight at most, or of one job.
fn groups(jobs: impl IntoIterator<Item = (JobId, usize)>, most: usize) -> Vec<Vec<JobId>> {
    let (mut groups, mut room): (Vec<Vec<JobId>>, usize) = (Vec::new(), 0);
    for (job, weight) in jobs {
        if let Some(group) = groups.last_mut().filter(|_| weight <= room) {
            group.push(job);
            room -= weight;
        } else {
            groups.push(vec![job]);
            room = most.saturating_sub(weight);
        }
    }
    groups
}

/// These jobs in groups whose stored specifications may be read together.
async fn pages(tx: &mut Tx, jobs: &[JobId]) -> Result<Vec<Vec<JobId>>, Fault> {
    // Two are never more: a specification has the size of a message at most.
    if jobs.len() <= 2 {
        return Ok(vec![jobs.to_vec()]);
    }
    let lengths = lengths(tx, jobs).await?;
    Ok(groups(jobs.iter().map(|job| (*job, lengths.get(job).copied().unwrap_or(0))), MAX_READ))
}

/// How long these jobs' specifications are as they are stored.
async fn lengths(tx: &mut Tx, jobs: &[JobId]) -> Result<BTreeMap<JobId, usize>, Fault> {
    let wanted = jobs.iter().map(|job| values![*job]).collect();
    let select = "SELECT job, CAST(LENGTH(spec) AS BIGINT) FROM job_specs WHERE job IN (VALUES";
    tx.all_many(select, wanted, ")").await?.iter().map(|row| Ok((row.job(0)?, row.number(1)?))).collect()
}

/// These jobs' specifications as they are stored.
async fn stored(tx: &mut Tx, jobs: &[JobId]) -> Result<Vec<(JobId, Vec<u8>)>, Fault> {
    let wanted = jobs.iter().map(|job| values![*job]).collect();
    let rows = tx.all_many("SELECT job, spec FROM job_specs WHERE job IN (VALUES", wanted, ")").await?;
    rows.iter().map(|row| Ok((row.job(0)?, row.bytes(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(ids: std::ops::Range<u128>) -> Vec<JobId> {
        ids.map(|id| JobId(uuid::Uuid::from_u128(id))).collect()
    }

    #[test]
    fn groups_are_in_order_and_never_empty() {
        let [a, b, c, d] = jobs(0..4).try_into().unwrap();
        let cut = |weights: [usize; 4]| groups([a, b, c, d].into_iter().zip(weights), 10);
        assert_eq!(cut([4, 6, 1, 9]), [vec![a, b], vec![c, d]]);
        assert_eq!(cut([11, 0, 99, 1]), [vec![a, b], vec![c], vec![d]]);
        assert!(groups([], 10).is_empty());
    }

    #[test]
    fn ordinary_jobs_are_always_claimed_and_heavy_ones_take_turns() {
        let ordinary = jobs(0..100);
        let heavy = jobs(100..160);
        let heaviest = weight(codec::MAX_BODY_BYTES);
        let weights: BTreeMap<JobId, usize> = heavy.iter().map(|job| (*job, heaviest)).collect();
        let weights = ordinary.iter().map(|job| (*job, weight(6_000))).chain(weights).collect();
        let all: Vec<JobId> = heavy.iter().chain(&ordinary).copied().collect();
        let mut claimed = BTreeSet::new();
        for turn in 0..60 {
            let (taken, put_off) = fitting(all.clone(), &weights, turn);
            assert!(ordinary.iter().all(|job| taken.contains(job)), "turn {turn}");
            assert_eq!((taken.len(), put_off.len()), (102, 58), "turn {turn}");
            claimed.extend(taken);
        }
        assert_eq!(claimed.len(), 160, "everyone had a turn");
        let (first, _) = fitting(all.clone(), &weights, 0);
        assert_eq!(first[..2], heavy[..2], "the first in turn come first");
        assert_eq!(fitting(ordinary.clone(), &weights, 7), (ordinary, BTreeSet::new()));
        assert_eq!(fitting(heavy[..1].to_vec(), &weights, 7).0, heavy[..1]);
    }

    #[test]
    fn what_is_kept_is_bounded_by_what_it_weighs() {
        let specs = Specs::default();
        let spec = Arc::new(testkit::store_contract::world::spec(1));
        for job in jobs(0..9) {
            specs.keep_whole(job, &spec, MAX_WHOLE / 4);
        }
        let kept = specs.kept();
        assert_eq!((kept.whole.len(), kept.weight), (1, MAX_WHOLE / 4));
    }
}
