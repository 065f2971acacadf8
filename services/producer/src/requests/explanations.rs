//! Explanations: why a job is not done, in words and as data.

use protocol::query::{ExplainJob, Explanation, JobExplained};
use rules::budget::Budget;
use rules::explain::{self, Situation};

use super::{jobs, own_job};
use crate::asked::{Answer, Asked, Refusal};
use crate::{Producer, pool};

/// Explains why a job is not done.
pub(super) async fn explain(producer: &Producer, asked: &Asked, request: &ExplainJob) -> Result<Answer, Refusal> {
    let report = own_job(producer, asked, request.job).await?;
    let facts = producer.store.wait_facts(request.job).await?;
    let lanes = if report.state.is_terminal() { None } else { pool::lanes_if_known(producer, &report.spec.pool).await };
    let live_lanes = lanes.as_ref().map(|lanes| lanes.iter().filter(|lane| lane.workers > 0).count());
    let lanes = lanes.unwrap_or_default();
    let now = producer.clock.now();
    let due_s = report.next_due_at.map(|at| at.since(now).as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX));
    let spec = &report.spec;
    let budget = Budget::of(spec.budget_fuel, &spec.limits, report.usage.fuel, report.units.open_items);
    let situation = Situation {
        state: report.state,
        paused: report.paused,
        budget_spent_s: asked.standing.budget_spent_s(now),
        budget_full: budget.is_some_and(|budget| budget.room() == 0),
        ahead: Some(facts.ahead),
        uncut: report.stage.1.saturating_sub(report.cut),
        open_units: report.units.open,
        due: report.units.replicas_due,
        sent: report.units.replicas_sent,
        next_due_s: due_s,
        live_lanes,
        quorum: report.spec.quorum,
        last_reason: report.last_reason.clone(),
    };
    let reasons = explain::explain(&situation)
        .into_iter()
        .map(|reason| Explanation { code: reason.code().to_owned(), detail: reason.to_string() });
    let explained = JobExplained {
        job: report.id,
        reasons: reasons.collect(),
        position: situation.waits().then(|| facts.ahead.saturating_add(1)),
        live_hosts: lanes.iter().fold(0, |hosts, lane| hosts.saturating_add(lane.workers)),
        lanes,
        failures: facts.failures,
        next_attempt_s: due_s.filter(|_| !report.state.is_terminal()),
        eta_s: jobs::eta_s(producer, &report),
    };
    Ok(vec![asked.answer(&explained)?])
}
