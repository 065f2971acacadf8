//! What runs met of what customers do and suffer: seeds that are all in order say nothing of what none of them met.

use protocol::job::JobState;

use crate::customer::{Letters, Said};
use crate::grid::Grid;

/// How often each came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Messages that customers' queues refused.
    refused: u64,
    /// Jobs with parts that were withheld.
    withheld: u64,
    /// Parts that customers fetched.
    fetched: u64,
    /// Jobs whose results customers let go.
    released: u64,
    /// Requests for results that were no longer kept.
    gone: u64,
    /// Jobs that rested.
    rested: u64,
    /// Jobs that went on.
    woken: u64,
    /// Jobs that ended by their budget.
    exhausted: u64,
}

impl Seen {
    /// What came up in one run.
    pub(crate) fn of(grid: &Grid, letters: &Letters) -> Self {
        let mut seen = Self { refused: grid.aggregating.replies_refused.get(), ..Self::default() };
        for replies in letters.completed.values() {
            seen.withheld += u64::from(replies.iter().any(|(_, completed)| completed.withheld));
            seen.exhausted += u64::from(replies.iter().any(|(_, completed)| completed.state == JobState::Exhausted));
        }
        for said in letters.answers.values() {
            match said {
                Said::Fetched(fetched) => seen.fetched += u64::from(fetched.parts),
                Said::Released => seen.released += 1,
                Said::Status { rests: true } => seen.rested += 1,
                Said::Status { rests: false } => seen.woken += 1,
                Said::Refused(problem) => seen.gone += u64::from(problem.code == "results-gone"),
            }
        }
        seen
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            refused: self.refused + other.refused,
            withheld: self.withheld + other.withheld,
            fetched: self.fetched + other.fetched,
            released: self.released + other.released,
            gone: self.gone + other.gone,
            rested: self.rested + other.rested,
            woken: self.woken + other.woken,
            exhausted: self.exhausted + other.exhausted,
        }
    }

    /// Whether all of it came up.
    pub(crate) fn is_all(self) -> bool {
        let Self { refused, withheld, fetched, released, gone, rested, woken, exhausted } = self;
        [refused, withheld, fetched, released, gone, rested, woken, exhausted].iter().all(|times| *times > 0)
    }
}
