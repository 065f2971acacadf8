//! Puts jobs on the grid and times them: submitting, dispatching, settling, reading back.

use std::time::Duration;

use anyhow::Result;
use ports::store::JobReport;
use protocol::job::{JobSpec, JobState};
use protocol::{JobId, Micros};
use uuid::Uuid;

use super::report::{Latency, LoadRates, Rate};
use crate::client::{Client, ClientError, Reply, Submission};

/// How often the store is asked: the resolution of the times.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Runs these jobs together.
pub(super) async fn load(client: &Client, specs: &[JobSpec]) -> Result<LoadRates> {
    let began = client.clock.now();
    let submissions: Vec<Submission> =
        specs.iter().map(|spec| Submission::with_id(spec, Uuid::now_v7().to_string())).collect::<Result<_, _>>()?;
    let jobs = client.submit_all(&submissions).await?;
    let submitted = client.clock.now();
    let times = until_settled(client, &jobs).await?;
    let reports = reports(client, &jobs).await?;
    let units = reports.iter().map(|report| report.units.valid).sum();
    let items = reports.iter().map(|report| report.items.succeeded).sum();
    if let Some(bad) = reports.iter().find(|report| report.items.succeeded != report.items.submitted) {
        anyhow::bail!("job {} of the benchmark did not succeed: {:?}", bad.id, bad.last_reason);
    }
    let rate = |count, since: Micros, until: Micros| Rate { count, elapsed: until.since(since) };
    let read_began = client.clock.now();
    let read = read_back(client, &jobs).await?;
    Ok(LoadRates {
        submit_jobs: rate(u64::try_from(jobs.len())?, began, submitted),
        dispatch_units: rate(units, began, times.dispatched),
        settle_units: rate(units, began, times.settled),
        settle_items: rate(items, began, times.settled),
        read_items: rate(read, read_began, client.clock.now()),
    })
}

struct Times {
    /// The last unit was cut.
    dispatched: Micros,
    /// The last job ended.
    settled: Micros,
}

async fn until_settled(client: &Client, jobs: &[JobId]) -> Result<Times> {
    let mut poll = tokio::time::interval(ASK_EVERY);
    let mut dispatched = None;
    loop {
        poll.tick().await;
        let reports = reports(client, jobs).await?;
        let now = client.clock.now();
        if reports.iter().all(|report| report.cut >= report.stage.1) {
            dispatched.get_or_insert(now);
        }
        if reports.iter().all(|report| report.state.is_terminal()) {
            return Ok(Times { dispatched: dispatched.unwrap_or(now), settled: now });
        }
    }
}

async fn reports(client: &Client, jobs: &[JobId]) -> Result<Vec<JobReport>, ClientError> {
    let mut reports = Vec::with_capacity(jobs.len());
    for job in jobs {
        reports.push(client.report(*job).await?);
    }
    Ok(reports)
}

async fn read_back(client: &Client, jobs: &[JobId]) -> Result<u64> {
    let mut items = 0;
    for job in jobs {
        let mut from = 0;
        loop {
            let page = client.store.outputs(*job, from).await?;
            let Some((_, end, _)) = page.last() else { break };
            from = *end;
        }
        items += from;
    }
    Ok(items)
}

/// Submits one-item jobs one after the other, each until the reply that it is completed.
pub(super) async fn latency(client: &Client, spec: &JobSpec, samples: u32) -> Result<Latency> {
    let mut times = Vec::new();
    for _ in 0..samples {
        let submission = Submission::with_id(spec, Uuid::now_v7().to_string())?;
        let began = client.clock.now();
        let mut admitted = client.submit(&submission).await?;
        let state = completed(client, &mut admitted).await?;
        times.push(client.clock.now().since(began));
        admitted.mailbox.close().await?;
        anyhow::ensure!(state == JobState::Completed, "a one-item job of the benchmark did not complete");
    }
    Ok(Latency::of(times))
}

async fn completed(client: &Client, admitted: &mut crate::client::Admitted) -> Result<JobState> {
    let mut poll = tokio::time::interval(ASK_EVERY);
    loop {
        tokio::select! {
            replies = admitted.mailbox.next() => {
                if let Some(state) = replies?.into_iter().find_map(end_in) {
                    return Ok(state);
                }
            }
            // The completed reply may have come in one batch with the accepted one.
            _ = poll.tick() => {
                let state = client.report(admitted.job).await?.state;
                if state.is_terminal() {
                    return Ok(state);
                }
            }
        }
    }
}

fn end_in(reply: Reply) -> Option<JobState> {
    match reply {
        Reply::Completed(completed) => Some(completed.state),
        Reply::Accepted(_) | Reply::Rejected(_) | Reply::Progress(_) | Reply::Part | Reply::Stored => None,
    }
}
