//! What people ask: jobs, their outputs, their usage.

use async_trait::async_trait;
use ports::store::{CustomerTotals, FailedItem, JobReport, OutputPage, ReportStore, StoreError, UnitCounts, UsageFilter};
use protocol::head::JobHead;
use protocol::job::{Certificate, ItemCounts, JobState};
use protocol::usage::Usage;
use protocol::{CustomerName, Format, JobId, codec};

use crate::attempt;
use crate::connect::SqlStore;
use crate::facts::{self, JOB, JOB_COLUMNS, OPEN_ITEMS, Tally};
use crate::fault::Fault;
use crate::sql::{Row, Tx, Value, values};

#[async_trait]
impl ReportStore for SqlStore {
    async fn job(&self, job: JobId) -> Result<Option<JobReport>, StoreError> {
        let found = attempt!("read job", self.try_reports("WHERE id = $1", values![job]))?;
        Ok(found.into_iter().next())
    }

    async fn job_of_submission(&self, customer: &CustomerName, submission: &str) -> Result<Option<JobId>, StoreError> {
        attempt!("find job of submission", self.try_job_of_submission(customer, submission))
    }

    async fn jobs(&self, customer: Option<&CustomerName>, limit: u32) -> Result<Vec<JobReport>, StoreError> {
        let (wanted, values) = match customer {
            Some(name) => ("WHERE customer = $1 ORDER BY id DESC LIMIT $2", values![name, limit]),
            None => ("ORDER BY id DESC LIMIT $1", values![limit]),
        };
        attempt!("read jobs", self.try_reports(wanted, values.clone()))
    }

    async fn failed_items(&self, job: JobId, from: u64, limit: u32) -> Result<Vec<FailedItem>, StoreError> {
        attempt!("read failed items", self.try_failed_items(job, from, limit))
    }

    async fn outputs(&self, job: JobId, from: u64) -> Result<OutputPage, StoreError> {
        attempt!("read outputs", self.try_outputs(job, from))
    }

    async fn usage(&self, filter: &UsageFilter, after: i64, limit: u32) -> Result<Vec<(i64, Usage)>, StoreError> {
        attempt!("read usage", self.try_usage(filter, after, limit))
    }

    async fn usage_totals(&self, filter: &UsageFilter) -> Result<Vec<CustomerTotals>, StoreError> {
        attempt!("sum usage", self.try_usage_totals(filter))
    }
}

impl SqlStore {
    async fn try_job_of_submission(&self, customer: &CustomerName, submission: &str) -> Result<Option<JobId>, Fault> {
        let mut tx = self.read().await?;
        let sql = "SELECT id FROM jobs WHERE customer = $1 AND submission = $2";
        tx.first(sql, values![customer, submission]).await?.map(|row| row.job(0)).transpose()
    }

    pub(crate) async fn try_reports(&self, wanted: &str, values: Vec<Value>) -> Result<Vec<JobReport>, Fault> {
        let mut tx = self.read().await?;
        let sql = format!(
            "{JOB}, submission, items, stage_items, last_stage, cursor_item, ended_at, certificate,
            paused, parts, results_gone_at FROM jobs {wanted}"
        );
        let rows = tx.composed(sql, values).await?;
        let jobs = rows.iter().map(|row| row.job(0)).collect::<Result<Vec<_>, Fault>>()?;
        let heads = self.specs.heads(&mut tx, &jobs).await?;
        let mut reports = Vec::with_capacity(rows.len());
        for (row, job) in rows.iter().zip(&jobs) {
            let Some(head) = heads.get(job) else { continue };
            let (facts, tally) = facts::read_job(row, JobHead::clone(head))?;
            let mut report = read_report(row, facts, tally)?;
            if report.state == JobState::Running {
                read_counts(&mut tx, &mut report).await?;
            }
            reports.push(report);
        }
        Ok(reports)
    }
}

/// A report of the columns after [`JOB`]; what must be counted is still zero.
fn read_report(row: &Row, facts: ports::store::JobFacts, tally: Tally) -> Result<JobReport, Fault> {
    let column = |n: usize| JOB_COLUMNS + n;
    let certificate = row.opt_bytes(column(6))?;
    let certificate: Option<Certificate> =
        certificate.map(|bytes| codec::decode("certificate", &bytes, Format::MessagePack)).transpose()?;
    let so_far = ItemCounts {
        submitted: row.number(column(1))?,
        succeeded: tally.sums.items_succeeded,
        failed: tally.sums.items_failed,
        cancelled: 0,
    };
    // Units are numbered without a gap, and those of an ended job are cancelled if nothing else.
    let decided = tally.sums.usage.units.saturating_add(tally.failed_units);
    let open = if facts.state == JobState::Running { u64::from(tally.next_unit).saturating_sub(decided) } else { 0 };
    let running = facts.state == JobState::Running;
    Ok(JobReport {
        id: facts.id,
        customer: facts.customer,
        submission: row.text(column(0))?,
        correlation_id: facts.correlation_id,
        paused: running && row.flag(column(7))?,
        parts: row.number(column(8))?,
        results_gone_at: row.opt_time(column(9))?,
        spec: facts.spec,
        state: facts.state,
        items: certificate.as_ref().map_or(so_far, |certificate| certificate.items),
        usage: tally.sums.usage,
        stage: (tally.stage, row.number(column(2))?),
        last_stage: row.flag(column(3))?,
        cut: row.number(column(4))?,
        units: UnitCounts { open, valid: tally.sums.usage.units, failed: tally.failed_units, ..UnitCounts::default() },
        next_due_at: None,
        last_reason: tally.last_reason,
        admitted_at: facts.admitted_at,
        ended_at: row.opt_time(column(5))?,
        deadline_at: facts.deadline_at,
        certificate,
    })
}

/// Counts what a running job has waiting and on its way.
async fn read_counts(tx: &mut Tx, report: &mut JobReport) -> Result<(), Fault> {
    // The conditions on times are always true; they lead the planners to the indices of the few that are due and sent.
    let sql = "SELECT (SELECT COUNT(*) FROM replicas WHERE job = $1 AND state = 'due' AND not_before >= 0),
        (SELECT COUNT(*) FROM replicas WHERE job = $1 AND state = 'sent' AND deadline > -1),
        (SELECT MIN(not_before) FROM replicas WHERE job = $1 AND state = 'due')";
    let sql = format!("{sql}, {OPEN_ITEMS} FROM jobs j WHERE j.id = $1");
    let rows = tx.composed(sql, values![report.id]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    report.units.replicas_due = row.number(0)?;
    report.units.replicas_sent = row.number(1)?;
    report.next_due_at = row.opt_time(2)?;
    report.units.open_items = row.number(3)?;
    Ok(())
}
