//! What must hold when a run has come to rest: the invariants I1 to I9, over the store and over what customers were told.

use std::collections::{BTreeMap, BTreeSet};

use ports::Broker as _;
use ports::store::{JobReport, ReplicaState, UnitFacts, UnitState, Vote};
use protocol::frame::{self, Entry};
use protocol::job::{Delivery, ItemCounts, JobState};
use protocol::reply::Completed;
use protocol::usage::Usage;
use protocol::{Digest, HostId, OutputChain, UnitKey};
use rules::invariants::Invariant;
use testkit::simulator::Expected;

use crate::customer::{Letters, Mailbox};
use crate::grid::Grid;
use crate::plan::{JobPlan, Plan};

/// Why the grid is not at rest yet.
pub(crate) async fn unrest(grid: &Grid, mailbox: &Mailbox, plan: &Plan) -> Option<String> {
    for job in &plan.jobs {
        let letters = mailbox.open();
        if letters.jobs(job).is_empty() {
            return Some(format!("{} of {} was never accepted: {:?}", job.submission, job.customer, letters.problems));
        }
        if !letters.has_ended(job) {
            return Some(format!("{} of {} has no terminal reply", job.submission, job.customer));
        }
        if !letters.done.contains(&job.submission) {
            return Some(format!("{} of {} is not yet done with", job.submission, job.customer));
        }
    }
    if let Some(job) = grid.store.all_jobs().iter().find(|job| !job.state.is_terminal()) {
        return Some(format!("job {} ({}) is still running: {:?}, {:?}", job.id, job.submission, job.units, job.last_reason));
    }
    if grid.store.outbox_len() > 0 {
        return Some(format!("{} messages wait in the outbox", grid.store.outbox_len()));
    }
    for queue in &grid.topology.queues {
        let depth = grid.broker.depth(&queue.name).await.ok().flatten().unwrap_or_default();
        if depth.ready > 0 && !queue.name.starts_with("offpeak.dead") {
            return Some(format!("{} messages are left in {}", depth.ready, queue.name));
        }
    }
    None
}

/// What is not in order at the end.
pub(crate) fn order(grid: &Grid, mailbox: &Mailbox, plan: &Plan) -> Result<(), String> {
    let letters = mailbox.open();
    let mut wrong = letters.wrong.clone();
    for invariant in Invariant::ALL {
        let counters = [&grid.aggregating.invariants_broken, &grid.producing.invariants_broken];
        let broken: u64 = counters.map(|counter| counter.with_label_values(&[invariant.key()]).get()).iter().sum();
        if broken > 0 {
            wrong.push(format!("services counted {broken} breaks of the invariant {}", invariant.key()));
        }
    }
    if !grid.store.open_units().is_empty() {
        wrong.push("units are open though all jobs have ended".to_owned());
    }
    let reports = grid.store.all_jobs();
    // A store that was restored may have forgotten a job whose customer had its answer.
    let forgotten = |job: &&JobPlan| plan.restores() && !reports.iter().any(|report| report.submission == job.submission);
    let missing = plan.jobs.iter().filter(forgotten).count();
    if reports.len() + missing != plan.jobs.len() {
        let found: Vec<_> = reports.iter().map(|job| (job.id, &job.submission)).collect();
        wrong.push(format!("I4: {} submissions became {} jobs: {found:?}", plan.jobs.len(), reports.len()));
    }
    let mut rows: BTreeMap<UnitKey, Usage> = BTreeMap::new();
    for usage in grid.store.ledger() {
        if let Some(twice) = rows.insert(usage.unit, usage) {
            wrong.push(format!("I3: unit {} has two rows in the ledger", twice.unit));
        }
    }
    for job in &plan.jobs {
        let mut reports = reports.iter().filter(|report| report.submission == job.submission);
        let Some(report) = reports.next() else { continue };
        let units = grid.store.units_of(report.id);
        let case = Case { plan, job, report, units: &units, letters: &letters };
        let own = |usage: &&Usage| usage.unit.job == report.id;
        let own: Vec<&Usage> = rows.values().filter(own).collect();
        wrong.extend(case.check(&own).into_iter().map(|what| format!("{} ({}): {what}", job.submission, report.id)));
    }
    let known: BTreeSet<_> = reports.iter().map(|report| report.id).collect();
    wrong.extend(rows.keys().filter(|unit| !known.contains(&unit.job)).map(|unit| format!("I3: unit {unit} is of no job")));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// A job with all that is known of it.
struct Case<'a> {
    plan: &'a Plan,
    job: &'a JobPlan,
    report: &'a JobReport,
    units: &'a [UnitFacts],
    letters: &'a Letters,
}

impl Case<'_> {
    fn check(&self, rows: &[&Usage]) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.terminal() {
            Ok(completed) => {
                self.certificate(completed, &mut wrong);
                self.bill(completed, rows, &mut wrong);
                self.parts(completed, &mut wrong);
            }
            Err(what) => wrong.push(what),
        }
        self.votes(rows, &mut wrong);
        wrong
    }

    /// The job's one terminal reply (invariant I1).
    fn terminal(&self) -> Result<&Completed, String> {
        let jobs = self.letters.jobs(self.job);
        if jobs.len() != 1 && !self.plan.restores() {
            return Err(format!("I4: its submission was accepted as {jobs:?}"));
        }
        let replies = self.letters.completed.get(&self.report.id).map(Vec::as_slice).unwrap_or_default();
        let ids: BTreeSet<&str> = replies.iter().map(|(id, _)| id.as_str()).collect();
        if ids.len() != 1 {
            return Err(format!("I1: it had {} terminal replies: {ids:?}", ids.len()));
        }
        // After a restore, one from before may arrive last: what the store says now is what counts.
        let current = |(_, c): &&(String, Completed)| {
            Some(&c.certificate) == self.report.certificate.as_ref() && c.usage == self.report.usage
        };
        let counts = replies.iter().rfind(current).or(replies.last());
        let Some((_, last)) = counts else { return Err("I1: it had no terminal reply".to_owned()) };
        // A store that was restored may say it again, and may have forgotten that the job was to be cut short; a result and its
        // bill stay what they were.
        let told = |c: &Completed| (c.state, c.certificate.clone(), c.usage.fuel);
        let binding =
            |c: &Completed| !self.plan.restores() || (c.state, last.state) == (JobState::Completed, JobState::Completed);
        match replies.iter().find(|(_, reply)| binding(reply) && told(reply) != told(last)) {
            Some((_, first)) => Err(format!("I1: its customer was told {:?}, then {:?}", told(first), told(last))),
            None => Ok(last),
        }
    }

    /// Each item once, and each output as it is when nothing goes wrong (invariants I2 and I9).
    fn certificate(&self, completed: &Completed, wrong: &mut Vec<String>) {
        let expected = Expected::of(&self.job.spec, &self.job.items);
        let (told, right) = (&completed.certificate, &expected.certificate);
        if self.report.certificate.as_ref() != Some(told) || self.report.state != completed.state {
            wrong.push(format!("I2: the reply says {told:?}, the store {:?}", self.report.certificate));
        }
        if !told.items.is_complete() || told.items.submitted != right.items.submitted {
            wrong.push(format!("I2: items are not accounted for: {:?}", told.items));
        }
        let may_end_early = self.job.spec.deadline_s.is_some() || self.job.cancel_at.is_some();
        match completed.state {
            JobState::Completed if told != right || completed.usage.fuel.get() != expected.fuel => {
                let fuel = completed.usage.fuel;
                wrong.push(format!(
                    "I9: it came to {told:?} with {fuel} fuel, undisturbed to {right:?} with {} ({:?})",
                    expected.fuel, self.report.last_reason
                ));
            }
            JobState::Completed => {}
            JobState::Exhausted if !self.is_exhausted(completed) => {
                wrong.push(format!(
                    "I7: it ended by its budget after {} of {:?}",
                    completed.usage.fuel, self.job.spec.budget_fuel
                ));
            }
            JobState::Exhausted => self.certificate_cut_short(completed, &expected, wrong),
            JobState::Cancelled | JobState::Expired if may_end_early => {
                self.certificate_cut_short(completed, &expected, wrong);
            }
            JobState::Cancelled | JobState::Expired | JobState::Running => {
                wrong.push(format!("it ended as {:?}", completed.state));
            }
        }
        if self.job.spec.budget_fuel.is_some_and(|budget| completed.usage.fuel > budget) {
            wrong.push(format!("I7: {} fuel was metered of {:?}", completed.usage.fuel, self.job.spec.budget_fuel));
        }
    }

    /// Whether the job's budget suffices for no further item.
    fn is_exhausted(&self, completed: &Completed) -> bool {
        let left = self.job.spec.budget_fuel.map(|budget| budget.get().saturating_sub(completed.usage.fuel.get()));
        left.is_some_and(|left| left < self.job.spec.limits.fuel_per_item.get())
    }

    /// Of a job that was cut short its units tell what became of each item.
    fn certificate_cut_short(&self, completed: &Completed, expected: &Expected, wrong: &mut Vec<String>) {
        let told = &completed.certificate;
        let (items, digest) = self.cut_short(expected);
        if told.items != items || told.items_digest != digest {
            wrong.push(format!("I2: it was cut short with {told:?}, its units are {items:?} with {digest}"));
        }
    }

    /// What a job that was cut short comes to by its units.
    fn cut_short(&self, expected: &Expected) -> (ItemCounts, Digest) {
        let mut items = ItemCounts { submitted: expected.certificate.items.submitted, ..ItemCounts::default() };
        let mut chain = OutputChain::default();
        for (output, item) in expected.outputs.iter().zip(0_u64..) {
            let unit = self.units.iter().find(|unit| unit.stage == 0 && (unit.first..unit.end).contains(&item));
            match (unit.map(|unit| unit.state), output) {
                (Some(UnitState::Valid), Some(output)) => {
                    chain.succeeded(output);
                    items.succeeded += 1;
                }
                (Some(UnitState::Valid), None) | (Some(UnitState::Failed), _) => {
                    chain.failed();
                    items.failed += 1;
                }
                (Some(UnitState::Cancelled | UnitState::Open) | None, _) => {
                    chain.cancelled(1);
                    items.cancelled += 1;
                }
            }
        }
        (items, chain.digest())
    }

    /// One row for each valid unit, and the customer is told their sums (invariant I3).
    fn bill(&self, completed: &Completed, rows: &[&Usage], wrong: &mut Vec<String>) {
        let valid: BTreeSet<_> = self.units.iter().filter(|unit| unit.state == UnitState::Valid).map(|unit| unit.key).collect();
        let billed: BTreeSet<_> = rows.iter().map(|row| row.unit).collect();
        if valid != billed {
            let (missing, extra) = (valid.difference(&billed).count(), billed.difference(&valid).count());
            wrong.push(format!("I3: {missing} valid units have no row, {extra} rows no valid unit"));
        }
        let sums = rows.iter().fold((0, 0, 0), |(units, fuel, bytes), row| (units + 1, fuel + row.fuel.get(), bytes + row.bytes));
        let told = (completed.usage.units, completed.usage.fuel.get(), completed.usage.bytes);
        if sums != told {
            wrong.push(format!("I3: units, fuel and bytes are {sums:?} in the ledger, the customer was told {told:?}"));
        }
    }

    /// Parts that were sent and fetched, without a gap and in item order, are what the certificate says.
    fn parts(&self, completed: &Completed, wrong: &mut Vec<String>) {
        let delivery = self.job.spec.delivery;
        let has_all = delivery != Delivery::Stored || self.job.habits.fetches;
        if !has_all || completed.state != JobState::Completed || self.plan.restores() {
            return;
        }
        let mut chain = OutputChain::default();
        let (mut next, mut number) = (0, 0);
        while let Some(part) = self.letters.parts.get(&(self.report.id, number)) {
            let Ok(entries) = frame::results(&part.output) else { return wrong.push(format!("part {number} is no frame")) };
            if part.first != next {
                wrong.push(format!("part {number} begins at item {}, not {next}", part.first));
            }
            next += u64::try_from(entries.len()).expect("few");
            for entry in entries {
                match entry {
                    Entry::Ok(output) => chain.succeeded(output),
                    Entry::Failed(_) => chain.failed(),
                }
            }
            number += 1;
        }
        if number < completed.parts {
            wrong.push(format!("part {number} of {} never came", completed.parts));
        }
        if delivery == Delivery::Whole && number > 1 {
            wrong.push(format!("a whole job came as {number} parts"));
        }
        if chain.digest() != completed.certificate.output_digest {
            wrong.push(format!("its {number} parts are not what its certificate says ({delivery:?}, {completed:?})"));
        }
    }

    /// Behind each row stand as many hosts as the quorum asks, each once (invariant I6).
    fn votes(&self, rows: &[&Usage], wrong: &mut Vec<String>) {
        for row in rows {
            let Some(unit) = self.units.iter().find(|unit| unit.key == row.unit) else { continue };
            let same = |vote: &Vote| (&vote.meter, vote.fuel, vote.output) == (&row.meter, row.fuel, row.output);
            let counted = unit.replicas.iter().filter(|replica| replica.state == ReplicaState::Computed);
            let agreeing: Vec<&HostId> = counted
                .filter(|replica| replica.vote.as_ref().is_some_and(same))
                .filter_map(|replica| replica.host.as_ref())
                .collect();
            let distinct: BTreeSet<_> = agreeing.iter().collect();
            if distinct.len() != agreeing.len() || distinct.len() < usize::from(self.job.spec.quorum) {
                wrong.push(format!("I6: unit {} is valid by {agreeing:?}, its quorum is {}", unit.key, self.job.spec.quorum));
            }
        }
    }
}
