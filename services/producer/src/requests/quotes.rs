//! Quotes: what a job would take, before it is submitted; it is examined as a submission is, and nothing of it is kept.

use std::collections::BTreeSet;

use protocol::PoolName;
use protocol::money::Money;
use protocol::quote::{Estimate, QuoteJob, Quoted};
use rules::quote::{self, Experience, Pool};

use super::submissions;
use crate::asked::{Answer, Asked, Refusal};
use crate::{Producer, pool};

/// So many of the oldest running jobs tell who else has work: beyond that many, who comes later waits longer than is said.
const MAX_RUNNING: u32 = 200;

/// Says what a job would take.
pub(super) async fn quote(producer: &Producer, asked: &Asked, request: &QuoteJob) -> Result<Answer, Refusal> {
    let spec = &request.job;
    let items = submissions::examine(producer, asked, spec, Vec::new()).await?.items;
    let known = producer.store.app_experience(&asked.customer, spec.app).await?;
    let experience = Experience {
        items: known.items,
        fuel: known.fuel,
        least_per_item: known.least_per_item,
        most_per_item: known.most_per_item,
        compute_us: known.compute_us,
    };
    let (fuel, basis) = quote::fuel(items, spec, &experience);
    let seconds = match quote_pool(producer, asked, &spec.pool).await? {
        Some(pool) => quote::seconds(items, spec, &experience, pool),
        None => None,
    };
    let quoted =
        Quoted { app: spec.app, items, fuel, cost: cost(producer, &spec.pool, fuel), seconds, basis, basis_items: known.items };
    Ok(vec![asked.answer(&quoted)?])
}

/// What the fuel costs; the bytes that a job moves are not known before it ran, and are left out.
fn cost(producer: &Producer, pool: &PoolName, fuel: Estimate<protocol::Fuel>) -> Option<Estimate<Money>> {
    let rates = producer.settings.rates.as_ref()?;
    let cost = |fuel: protocol::Fuel| rates.cost(pool, fuel.get().into(), 0);
    Some(Estimate { low: cost(fuel.low)?, likely: cost(fuel.likely)?, high: cost(fuel.high)? })
}

/// The pool's workers, and who else has work for them; `None` if the broker cannot tell.
async fn quote_pool(producer: &Producer, asked: &Asked, name: &PoolName) -> Result<Option<Pool>, Refusal> {
    let Some(lanes) = pool::lanes_if_known(producer, name).await else { return Ok(None) };
    let workers = lanes.iter().fold(0_u32, |workers, lane| workers.saturating_add(lane.workers));
    let running = producer.store.running(MAX_RUNNING).await?;
    let busy = running.into_iter().filter(|report| report.spec.pool == *name && !report.paused);
    let others: BTreeSet<_> = busy.map(|report| report.customer).filter(|customer| *customer != asked.customer).collect();
    Ok(Some(Pool { workers, others: u32::try_from(others.len()).unwrap_or(u32::MAX) }))
}
