//! Which letters are meant.

use ports::dead::DeadLetter;
use protocol::Micros;

use crate::args::FilterArgs;

/// The filters of a command at the time it began.
#[derive(Debug, Clone)]
pub struct Filter {
    args: FilterArgs,
    now: Micros,
}

impl Filter {
    /// The filters as given.
    pub fn new(args: &FilterArgs, now: Micros) -> Self {
        let args = FilterArgs { cause: args.cause.as_ref().map(|cause| cause.to_lowercase()), ..args.clone() };
        Self { args, now }
    }

    /// Whether a letter passes; one that does not tell what is asked for does not.
    pub fn passes(&self, letter: &DeadLetter) -> bool {
        let FilterArgs { origin, cause, customer, job, older_than, newer_than } = &self.args;
        let age = letter.last_at.map(|at| self.now.since(at));
        origin.is_none_or(|origin| letter.origin == origin.into())
            && cause.as_ref().is_none_or(|cause| letter.cause.to_lowercase().contains(cause))
            && customer.as_ref().is_none_or(|customer| letter.customer.as_ref() == Some(customer))
            && job.is_none_or(|job| letter.replica.is_some_and(|replica| replica.job == job))
            && older_than.is_none_or(|bound| age.is_some_and(|age| age > bound))
            && newer_than.is_none_or(|bound| age.is_some_and(|age| age <= bound))
    }
}
