//! Guards that a simulation takes away on purpose, to show that it would notice.

/// A guard that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Deliveries are acknowledged when they arrive, not when their effect is durable.
    AckBeforeEffect,
    /// The store does not know a submission that comes again.
    NoInbox,
    /// What is under way of a job does not count against its budget.
    NoReserve,
    /// An outcome of a replica that has ended counts as if it were a further replica's.
    NoFencing,
}
