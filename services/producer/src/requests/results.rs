//! Results: sent again from any part on, until their customer releases them or their time is over.

use ports::store::{JobReport, OutboxMessage, OutputPage, ResultsRelease, StoreError};
use protocol::JobId;
use protocol::frame::FrameError;
use protocol::job::Delivery;
use protocol::problem::Code;
use protocol::query::{FetchResults, ReleaseResults, ResultsFetched, ResultsReleased};
use protocol::reply::Part;
use rules::{assemble, delivery};

use super::{jobs, no_such_job, own_job, page};
use crate::Producer;
use crate::asked::{Answer, Asked, Refusal};

/// Parts of one answer.
const MAX_PARTS: u32 = 1_000;
/// And their bytes as they are written; one part comes in any case.
const MAX_BYTES: usize = 16 << 20;

/// Sends parts again, and then what there is more: all of it, where too much waits unsent already, so that a customer that does
/// not read cannot fill the store by asking.
pub(super) async fn fetch(producer: &Producer, asked: &Asked, request: &FetchResults) -> Result<Answer, Refusal> {
    let limit = usize::try_from(page(request.limit, MAX_PARTS)?).unwrap_or(usize::MAX);
    let gone = |report: &JobReport| {
        let gone = report.results_gone_at.is_some();
        gone.then(|| Refusal::of(Code::ResultsGone, format!("the results of job {} are no longer kept", report.id)))
    };
    let report = own_job(producer, asked, request.job).await?;
    if let Some(refusal) = gone(&report) {
        return Err(refusal);
    }
    // Should the job end while this is answered, its parts are still to come, from the first one on.
    let unnumbered = jobs::is_unnumbered(&report);
    let next = if unnumbered { 0 } else { request.part };
    let mut parts = Parts { next, answer: Vec::new(), bytes: 0, limit };
    let used = producer.standings.used_now(producer, &asked.customer).await?;
    let sends = !unnumbered && delivery::has_room(used.unsent_messages, used.unsent_bytes);
    if is_one_part(&report) {
        if sends && request.part == 0 {
            parts.take_whole(producer, asked, &report).await?;
        }
    } else {
        while sends && !parts.is_full() && parts.take_unit(producer, asked, request).await? {}
    }
    // Read after the parts, so that it knows of all of them.
    let report = own_job(producer, asked, request.job).await?;
    if let Some(refusal) = gone(&report).filter(|_| parts.answer.is_empty()) {
        return Err(refusal);
    }
    let fetched = ResultsFetched {
        job: report.id,
        parts: u32::try_from(parts.answer.len()).unwrap_or(u32::MAX),
        next_part: Some(parts.next).filter(|next| *next < jobs::parts(&report)),
        ended: report.state.is_terminal(),
    };
    let mut answer = parts.answer;
    answer.push(asked.answer(&fetched)?);
    Ok(answer)
}

/// Whether a job's outputs are one part, as its customer was sent it or would have been: a whole job that ended and fits.
fn is_one_part(report: &JobReport) -> bool {
    report.spec.delivery == Delivery::Whole && report.state.is_terminal() && report.parts == 1
}

fn invalid(job: JobId, first: u64, error: &FrameError) -> StoreError {
    let detail = format!("output of job {job} from item {first} is not valid: {error}");
    StoreError::Corrupt { operation: "fetch results", detail }
}

/// Parts being gathered.
struct Parts {
    /// The part to come next.
    next: u32,
    answer: Vec<OutboxMessage>,
    bytes: usize,
    limit: usize,
}

impl Parts {
    fn is_full(&self) -> bool {
        self.answer.len() >= self.limit || self.bytes >= MAX_BYTES
    }

    /// Takes all outputs of a job, which fit one part.
    async fn take_whole(&mut self, producer: &Producer, asked: &Asked, report: &JobReport) -> Result<(), Refusal> {
        let (mut units, mut next) = (OutputPage::new(), 0);
        // A page has a unit at least; after the last unit there is none.
        loop {
            let page = producer.store.outputs(report.id, next).await?;
            let Some((_, end, _)) = page.last() else { break };
            next = *end;
            units.extend(page);
        }
        let frames = units.iter().map(|(first, _, frame)| (*first, frame.as_slice()));
        let whole = assemble::whole(frames).map_err(|error| invalid(report.id, 0, &error))?;
        if let Some((first, output)) = whole {
            self.answer.push(asked.answer(&Part { job: report.id, part: 0, first, output })?);
            self.next = 1;
        }
        Ok(())
    }

    /// Takes the parts of the next units; `false` if there are none.
    async fn take_unit(&mut self, producer: &Producer, asked: &Asked, request: &FetchResults) -> Result<bool, Refusal> {
        let before = self.next;
        for unit in producer.store.numbered_outputs(request.job, self.next).await? {
            let cut = assemble::parts(unit.first, &unit.frame).map_err(|error| invalid(request.job, unit.first, &error))?;
            for (part, (first, output)) in (unit.part..).zip(cut).filter(|(part, _)| *part >= before) {
                let message = asked.answer(&Part { job: request.job, part, first, output })?;
                let full = self.bytes.saturating_add(message.body.len()) > MAX_BYTES;
                if self.is_full() || (full && !self.answer.is_empty()) {
                    self.bytes = MAX_BYTES;
                    return Ok(true);
                }
                self.bytes = self.bytes.saturating_add(message.body.len());
                self.answer.push(message);
                self.next = part.saturating_add(1);
            }
        }
        Ok(self.next > before)
    }
}

/// Drops the outputs of a job that has ended.
pub(super) async fn release(producer: &Producer, asked: &Asked, request: &ReleaseResults) -> Result<Answer, Refusal> {
    let job = request.job;
    match producer.store.release_results(&asked.customer, job, Some(&asked.message_id), producer.clock.now()).await? {
        ResultsRelease::Done => Ok(vec![asked.answer(&ResultsReleased { job })?]),
        ResultsRelease::Running => {
            let detail = format!(
                "job {job} has not ended, or had not when message {:?} came first: send it under a new message_id when it has",
                asked.message_id
            );
            Err(Refusal::invalid("/job", detail))
        }
        ResultsRelease::Unknown => Err(no_such_job(asked, job)),
    }
}
