//! `offpeak status`: the youngest jobs, or one job and why it is not done yet.

use anyhow::Result;
use ports::Broker;
use ports::store::JobReport;
use protocol::{Micros, PoolName, address};
use rules::budget::Budget;
use rules::explain::{Situation, explain};
use serde_json::{Value, json};
use service::Scope;

use super::connect;
use super::finish::exit_code_of;
use crate::args::StatusArgs;
use crate::exit::{self, Refused};
use crate::grid::MAX_LANES;
use crate::terminal::{self, grouped};
use crate::times::{instant, now};

/// Shows how jobs stand.
pub(super) async fn status(args: StatusArgs) -> Result<u8> {
    let store = connect::store(&args.store).await?;
    let Some(job) = args.job else {
        let reports = store.jobs(args.customer.as_ref(), args.limit).await?;
        let values: Vec<Value> = reports.iter().map(|report| as_json(report, &[])).collect();
        if args.json {
            terminal::print_json(&values)?;
        } else {
            terminal::print(&listing(&reports))?;
        }
        return Ok(exit::SUCCESS);
    };
    let report = store.job(job).await?.ok_or(Refused::UnknownJob(job))?;
    let live_lanes = match args.broker.url() {
        Some(_) => {
            let scope = Scope::new();
            let broker = connect::broker(&args.broker, &scope).await?;
            let live = live_lanes(broker.as_ref(), &report.spec.pool).await;
            connect::close(&scope).await;
            Some(live?)
        }
        None => None,
    };
    let reasons = reasons(&report, live_lanes, now());
    if args.json {
        terminal::print_json(&as_json(&report, &reasons))?;
    } else {
        terminal::print(&as_text(&report, &reasons))?;
    }
    Ok(exit_code_of(&report))
}

/// Lanes of a pool that a worker listens on.
async fn live_lanes(broker: &dyn Broker, pool: &PoolName) -> Result<usize> {
    let mut live = 0;
    for lane in 0..MAX_LANES {
        match broker.depth(&address::work_queue(pool, lane)).await? {
            Some(depth) => live += usize::from(depth.consumers > 0),
            None => break,
        }
    }
    Ok(live)
}

fn reasons(report: &JobReport, live_lanes: Option<usize>, now: Micros) -> Vec<String> {
    let spec = &report.spec;
    let budget = Budget::of(spec.budget_fuel, &spec.limits, report.usage.fuel, report.units.open_items);
    let situation = Situation {
        state: report.state,
        paused: report.paused,
        budget_spent_s: None,
        budget_full: budget.is_some_and(|budget| budget.room() == 0),
        ahead: None,
        uncut: report.stage.1.saturating_sub(report.cut),
        open_units: report.units.open,
        due: report.units.replicas_due,
        sent: report.units.replicas_sent,
        next_due_s: report.next_due_at.map(|at| at.since(now).as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX)),
        live_lanes,
        quorum: report.spec.quorum,
        last_reason: report.last_reason.clone(),
    };
    explain(&situation).iter().map(ToString::to_string).collect()
}

fn listing(reports: &[JobReport]) -> String {
    let row = |report: &JobReport| {
        let items = &report.items;
        vec![
            report.id.to_string(),
            report.customer.to_string(),
            report.state.word().to_owned(),
            grouped(&items.submitted),
            grouped(&items.succeeded),
            grouped(&items.failed),
            grouped(&items.cancelled),
            instant(report.admitted_at),
        ]
    };
    let rows: Vec<Vec<String>> = reports.iter().map(row).collect();
    terminal::table(&["job", "customer", "state", "items", "succeeded", "failed", "cancelled", "admitted"], &rows)
}

fn as_text(report: &JobReport, reasons: &[String]) -> String {
    let (items, units, usage) = (&report.items, &report.units, &report.usage);
    let counts = [grouped(&items.submitted), grouped(&items.succeeded), grouped(&items.failed), grouped(&items.cancelled)];
    let [submitted, succeeded, failed, cancelled] = counts;
    let budget = report.spec.budget_fuel.map(|budget| format!(", of a budget of {}", grouped(&budget))).unwrap_or_default();
    let rows = [
        ("job", report.id.to_string()),
        ("customer", report.customer.to_string()),
        ("state", format!("{}, admitted {}", report.state.word(), instant(report.admitted_at))),
        ("paused", if report.paused { "yes: nothing of it is sent until `offpeak resume`" } else { "no" }.to_owned()),
        ("items", format!("{submitted} submitted, {succeeded} succeeded, {failed} failed, {cancelled} cancelled")),
        ("units", format!("{} open, {} valid, {} given up", grouped(&units.open), grouped(&units.valid), grouped(&units.failed))),
        ("replicas", format!("{} waiting, {} sent", grouped(&units.replicas_due), grouped(&units.replicas_sent))),
        ("metered", format!("{} instructions (fuel){budget}, {} bytes", grouped(&usage.fuel), grouped(&usage.bytes))),
        ("why", reasons.join("\n          ")),
    ];
    rows.map(|(name, value)| format!("{name:<10}{value}\n")).concat()
}

fn as_json(report: &JobReport, reasons: &[String]) -> Value {
    let (items, units) = (&report.items, &report.units);
    json!({
        "job": report.id, "customer": report.customer, "submission": report.submission, "state": report.state,
        "paused": report.paused, "results_gone_at": report.results_gone_at.map(instant),
        "items_submitted": items.submitted, "items_succeeded": items.succeeded, "items_failed": items.failed,
        "items_cancelled": items.cancelled, "stage": report.stage.0, "stage_items": report.stage.1, "cut": report.cut,
        "units_open": units.open, "units_valid": units.valid, "units_failed": units.failed,
        "replicas_due": units.replicas_due, "replicas_sent": units.replicas_sent, "units": report.usage.units,
        "replicas": report.usage.replicas, "fuel": report.usage.fuel, "bytes": report.usage.bytes,
        "budget_fuel": report.spec.budget_fuel,
        "admitted_at": instant(report.admitted_at), "ended_at": report.ended_at.map(instant),
        "deadline_at": report.deadline_at.map(instant),
        "output_digest": report.certificate.as_ref().map(|certificate| certificate.output_digest),
        "why": reasons,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::report;

    #[test]
    fn a_job_says_why_it_is_not_done() {
        let mut report = report();
        report.next_due_at = Some(Micros(7_000_000));
        report.units.replicas_due = 1;
        report.last_reason = Some("trap".to_owned());
        let text = as_text(&report, &reasons(&report, Some(0), Micros(0)));
        assert!(text.contains("state     running, admitted 1970-01-01T00:00:00Z\n"), "{text}");
        assert!(text.contains("why       no worker listens on its pool") && text.contains("the first for 7 s"), "{text}");
        assert!(text.contains("trap"), "{text}");
        // As the grid itself tells it: what is not over yet takes a second.
        let soon = as_text(&report, &reasons(&report, None, Micros(6_600_000)));
        assert!(soon.contains("the first for 1 s"), "{soon}");
        assert!(text.contains("paused    no\n") && as_json(&report, &[])["paused"] == false, "{text}");
        report.paused = true;
        let text = as_text(&report, &reasons(&report, Some(1), Micros(0)));
        assert!(text.contains("paused    yes: nothing of it is sent") && as_json(&report, &[])["paused"] == true, "{text}");
        assert!(!text.contains("budget"), "{text}");
        report.spec.budget_fuel = protocol::Fuel::new(9_000).ok();
        let text = as_text(&report, &[]);
        assert!(text.contains("metered   0 instructions (fuel), of a budget of 9,000, 0 bytes\n"), "{text}");
        assert!(listing(&[report]).lines().nth(1).unwrap().contains("local     running"));
    }
}
