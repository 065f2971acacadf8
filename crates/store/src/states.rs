//! States as the database spells them.

use ports::store::{ReplicaState, UnitState};
use protocol::job::{EntryKind, JobState};

use crate::fault::Fault;

/// A state with a spelling of its own.
pub(crate) trait Spelled: Sized + Copy + PartialEq + 'static {
    /// All states with their spellings.
    const ALL: &'static [(Self, &'static str)];

    /// How it is spelled; every state is in the table, which the tests check.
    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, text)| text)
    }

    /// The state of that spelling.
    fn of(text: &str) -> Result<Self, Fault> {
        let found = Self::ALL.iter().find(|(_, spelling)| *spelling == text);
        found.map(|(state, _)| *state).ok_or_else(|| Fault::data(format!("state {text:?} is unknown")))
    }
}

impl Spelled for JobState {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Running, Self::Running.word()),
        (Self::Completed, Self::Completed.word()),
        (Self::Cancelled, Self::Cancelled.word()),
        (Self::Expired, Self::Expired.word()),
        (Self::Exhausted, Self::Exhausted.word()),
    ];
}

impl Spelled for UnitState {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Open, "open"), (Self::Valid, "valid"), (Self::Failed, "failed"), (Self::Cancelled, "cancelled")];
}

impl Spelled for ReplicaState {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::Due, "due"),
        (Self::Sent, "sent"),
        (Self::Lost, "lost"),
        (Self::Computed, "computed"),
        (Self::Failed, "failed"),
        (Self::Interrupted, "interrupted"),
    ];
}

impl Spelled for EntryKind {
    const ALL: &'static [(Self, &'static str)] = &[(Self::Offpeak1, "offpeak1"), (Self::Command, "command")];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_read_back<T: Spelled + std::fmt::Debug>(count: usize) {
        assert_eq!(T::ALL.len(), count);
        for (state, text) in T::ALL {
            assert_eq!(T::of(text).unwrap(), *state);
            assert_eq!(state.text(), *text);
        }
        assert!(T::of("").is_err());
    }

    #[test]
    fn states_read_back() {
        all_read_back::<JobState>(5);
        all_read_back::<UnitState>(4);
        all_read_back::<ReplicaState>(6);
        all_read_back::<EntryKind>(2);
    }
}
