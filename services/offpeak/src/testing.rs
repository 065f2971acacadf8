//! A job report for tests to change.

use ports::store::{JobReport, UnitCounts};
use protocol::head::{JobHead, Source};
use protocol::job::{Delivery, ItemCounts, JobState, Limits, UnitSizing};
use protocol::reply::UsageSummary;
use protocol::{CustomerName, Digest, JobId, Micros, PoolName};

/// A running job of one item.
pub(crate) fn report() -> JobReport {
    let spec = JobHead {
        app: Digest([1; 32]),
        input: Source::Job,
        shared: None,
        pool: PoolName::new("open").unwrap(),
        quorum: 1,
        priority: 0,
        budget_fuel: None,
        max_failures: 3,
        limits: Limits::default(),
        unit: UnitSizing::default(),
        reduce: false,
        delivery: Delivery::Stored,
    };
    JobReport {
        id: JobId(uuid::Uuid::nil()),
        customer: CustomerName::new("local").unwrap(),
        submission: "s".to_owned(),
        correlation_id: None,
        paused: false,
        parts: 0,
        results_gone_at: None,
        spec,
        state: JobState::Running,
        items: ItemCounts { submitted: 1, ..ItemCounts::default() },
        usage: UsageSummary::default(),
        stage: (0, 1),
        last_stage: true,
        cut: 0,
        units: UnitCounts::default(),
        next_due_at: None,
        last_reason: None,
        admitted_at: Micros(0),
        ended_at: None,
        deadline_at: None,
        certificate: None,
    }
}
