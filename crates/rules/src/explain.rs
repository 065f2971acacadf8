//! Why is this job not done yet? Typed answers, in the order in which a person should read them.

use std::fmt;

use protocol::job::JobState;

/// What is known of a job when someone asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// Its state.
    pub state: JobState,
    /// Whether its customer lets it rest.
    pub paused: bool,
    /// Seconds until its customer's budget begins anew, if it is spent.
    pub budget_spent_s: Option<u64>,
    /// Whether its own budget is spent or reserved, so that nothing more is cut until some of what is under way is settled.
    pub budget_full: bool,
    /// Jobs of the same customer and pool that come before it; `None` if they were not counted.
    pub ahead: Option<u64>,
    /// Items of the current stage not yet cut into units.
    pub uncut: u64,
    /// Units under way or waiting.
    pub open_units: u64,
    /// Replicas waiting to be sent.
    pub due: u64,
    /// Replicas with the broker or a worker.
    pub sent: u64,
    /// Seconds until the first waiting replica is due; zero if one is due now, `None` if none waits.
    pub next_due_s: Option<u64>,
    /// Lanes of its pool that have a consumer; `None` if the broker was not asked.
    pub live_lanes: Option<usize>,
    /// How many hosts must agree.
    pub quorum: u8,
    /// Why the last replica failed or was given back.
    pub last_reason: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It has ended.
    Ended(JobState),
    /// Its customer lets it rest.
    Paused,
    /// Its customer's budget of this month is spent: nothing more is sent.
    BudgetSpent {
        /// Seconds until the next month.
        seconds: u64,
    },
    /// Its own budget suffices for nothing beyond what is under way.
    BudgetReserved,
    /// No worker listens on the pool.
    NoWorkers,
    /// Fewer lanes have workers than hosts must agree.
    TooFewLanes {
        /// Lanes with workers.
        live: usize,
        /// Lanes needed.
        needed: u8,
    },
    /// Everything that waits is backing off after failures.
    BackingOff {
        /// How many replicas wait.
        replicas: u64,
        /// Seconds until the first is due.
        seconds: u64,
    },
    /// Work is under way.
    Computing {
        /// Replicas with the broker or a worker.
        replicas: u64,
    },
    /// Work waits for room in the pool's lanes, or for the customer's turn.
    Queued {
        /// Items not yet cut.
        items: u64,
        /// Replicas waiting.
        replicas: u64,
    },
    /// Jobs of the same customer come before it.
    Behind {
        /// How many.
        jobs: u64,
    },
    /// All units are decided; their outputs are being put together.
    Assembling,
    /// Why the last replica failed or was given back.
    LastFailure(String),
}

impl Situation {
    /// Whether it has work that may be sent when its turn comes.
    pub fn waits(&self) -> bool {
        let cuts = self.uncut > 0 && !self.budget_full;
        !self.state.is_terminal() && !self.rests() && (cuts || self.due > 0)
    }

    /// Whether nothing of it is sent, however much room there is.
    fn rests(&self) -> bool {
        self.paused || self.budget_spent_s.is_some()
    }
}

/// Explains; never empty.
pub fn explain(situation: &Situation) -> Vec<Reason> {
    if situation.state.is_terminal() {
        return vec![Reason::Ended(situation.state)];
    }
    let mut reasons = Vec::new();
    if situation.paused {
        reasons.push(Reason::Paused);
    }
    reasons.extend(situation.budget_spent_s.map(|seconds| Reason::BudgetSpent { seconds }));
    if situation.budget_full && situation.uncut > 0 && situation.open_units > 0 {
        reasons.push(Reason::BudgetReserved);
    }
    match situation.live_lanes {
        Some(0) => reasons.push(Reason::NoWorkers),
        Some(live) if live < usize::from(situation.quorum) => {
            reasons.push(Reason::TooFewLanes { live, needed: situation.quorum });
        }
        Some(_) | None => {}
    }
    if situation.sent > 0 {
        reasons.push(Reason::Computing { replicas: situation.sent });
    }
    if situation.waits() {
        reasons.extend(waiting(situation));
    }
    if situation.uncut == 0 && situation.open_units == 0 {
        reasons.push(Reason::Assembling);
    }
    if let Some(reason) = &situation.last_reason {
        reasons.push(Reason::LastFailure(reason.clone()));
    }
    if reasons.is_empty() {
        reasons.push(queued(situation));
    }
    reasons
}

/// What the work waits for.
fn waiting(situation: &Situation) -> Vec<Reason> {
    let first = match situation.next_due_s {
        Some(seconds) if seconds > 0 => vec![Reason::BackingOff { replicas: situation.due, seconds }],
        Some(_) | None => vec![queued(situation)],
    };
    let behind = situation.ahead.filter(|jobs| *jobs > 0).map(|jobs| Reason::Behind { jobs });
    first.into_iter().chain(behind).collect()
}

fn queued(situation: &Situation) -> Reason {
    Reason::Queued { items: situation.uncut, replicas: situation.due }
}

impl Reason {
    /// The kind as a word for programs; the words stay.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ended(state) => state.word(),
            Self::Paused => "paused",
            Self::BudgetSpent { .. } => "budget-spent",
            Self::BudgetReserved => "budget-reserved",
            Self::NoWorkers => "no-workers",
            Self::TooFewLanes { .. } => "too-few-lanes",
            Self::BackingOff { .. } => "backing-off",
            Self::Computing { .. } => "computing",
            Self::Queued { .. } => "queued",
            Self::Behind { .. } => "behind",
            Self::Assembling => "assembling",
            Self::LastFailure(_) => "last-failure",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(JobState::Completed) => write!(f, "it has completed"),
            Self::Ended(JobState::Cancelled) => write!(f, "it was cancelled"),
            Self::Ended(JobState::Expired) => write!(f, "its deadline passed"),
            Self::Ended(JobState::Exhausted) => write!(f, "its budget is spent"),
            Self::Ended(JobState::Running) => write!(f, "it is running"),
            Self::Paused => write!(f, "its customer lets it rest: resume it (offpeak.job.resume.v1)"),
            Self::BudgetSpent { seconds } => {
                write!(f, "its customer's budget of this month is spent: it goes on in {seconds} s, or when the budget is raised")
            }
            Self::BudgetReserved => {
                write!(
                    f,
                    "its own budget is spent or reserved for what is under way: it goes on as that takes less than its limit"
                )
            }
            Self::NoWorkers => write!(f, "no worker listens on its pool: start one (offpeak worker)"),
            Self::TooFewLanes { live, needed } => {
                write!(f, "its quorum of {needed} needs workers on {needed} lanes, {live} have one: start more workers")
            }
            Self::BackingOff { replicas, seconds } => {
                write!(f, "{replicas} replicas wait after failures, the first for {seconds} s")
            }
            Self::Computing { replicas } => write!(f, "{replicas} replicas are queued at workers or computing"),
            Self::Queued { items, replicas } => write!(f, "{items} items and {replicas} replicas wait for room or their turn"),
            Self::Behind { jobs } => write!(f, "{jobs} jobs of the same customer come before it, by priority or age"),
            Self::Assembling => write!(f, "all units are decided, outputs are being assembled"),
            Self::LastFailure(reason) => write!(f, "the last replica that did not count: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> Situation {
        Situation {
            state: JobState::Running,
            paused: false,
            budget_spent_s: None,
            budget_full: false,
            ahead: None,
            uncut: 5,
            open_units: 2,
            due: 1,
            sent: 0,
            next_due_s: Some(0),
            live_lanes: Some(2),
            quorum: 1,
            last_reason: None,
        }
    }

    #[test]
    fn each_situation_has_its_answer() {
        let first = |situation: Situation| explain(&situation).remove(0);
        assert_eq!(first(waiting()), Reason::Queued { items: 5, replicas: 1 });
        assert_eq!(first(Situation { live_lanes: Some(0), ..waiting() }), Reason::NoWorkers);
        assert_eq!(first(Situation { quorum: 3, ..waiting() }), Reason::TooFewLanes { live: 2, needed: 3 });
        assert_eq!(first(Situation { sent: 4, ..waiting() }), Reason::Computing { replicas: 4 });
        assert_eq!(first(Situation { next_due_s: Some(9), ..waiting() }), Reason::BackingOff { replicas: 1, seconds: 9 });
        assert_eq!(first(Situation { uncut: 0, due: 0, open_units: 0, next_due_s: None, ..waiting() }), Reason::Assembling);
        assert_eq!(first(Situation { state: JobState::Expired, ..waiting() }), Reason::Ended(JobState::Expired));
        let failing = explain(&Situation { last_reason: Some("boom".into()), ..waiting() });
        assert!(failing.contains(&Reason::LastFailure("boom".into())));
    }

    #[test]
    fn what_rests_does_not_wait_for_a_turn() {
        let codes = |situation: Situation| explain(&situation).iter().map(Reason::code).collect::<Vec<_>>();
        assert_eq!(codes(Situation { ahead: Some(3), ..waiting() }), ["queued", "behind"]);
        assert_eq!(codes(Situation { paused: true, ahead: Some(3), sent: 1, ..waiting() }), ["paused", "computing"]);
        assert_eq!(codes(Situation { budget_spent_s: Some(60), ..waiting() }), ["budget-spent"]);
        let full = Situation { budget_full: true, due: 0, next_due_s: None, sent: 1, ..waiting() };
        assert!(!full.waits());
        assert_eq!(codes(full.clone()), ["budget-reserved", "computing"]);
        assert_eq!(codes(Situation { uncut: 0, ..full }), ["computing"]);
        assert!(!Situation { paused: true, ..waiting() }.waits() && waiting().waits());
    }
}
