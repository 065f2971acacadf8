//! Load: how much computing a job still needs, from which whoever scales a pool learns how many workers it wants.
//!
//! The wanted number of workers is the pool's sum over (seconds in which it is to be done * slots of a worker), rounded up.

use protocol::Fuel;

use crate::sizing::{self, Measured};

/// What is left of a job's current stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Items not yet cut into units.
    pub uncut: u64,
    /// The fuel that it may still be metered, if it has a budget.
    pub budget_left: Option<Fuel>,
    /// How many hosts compute each of them.
    pub quorum: u8,
    /// Replicas that are not answered, wherever they are.
    pub replicas: u64,
    /// Their items, each as often as a replica has it.
    pub replica_items: u64,
    /// What was measured.
    pub measured: Measured,
    /// How long a unit is to compute.
    pub target_ms: u32,
}

/// The computing that is left, in microseconds of one slot.
///
/// A replica counts whole until it is answered, so that what computes is never taken for done and its worker away. Of
/// a job nothing of which was measured only what is on its way counts, as units of their target, and at least one: a
/// pool without workers gets its first ones, which measure. Further stages count when they begin.
pub fn slot_us(left: &Left) -> u64 {
    let Left { quorum, replicas, replica_items, measured, target_ms, .. } = *left;
    let uncut = affordable(left);
    if measured.items > 0 {
        let items = uncut.saturating_mul(quorum.max(1).into()).saturating_add(replica_items);
        return if items == 0 { 0 } else { sizing::expected_us(items, &measured) };
    }
    let first = if uncut > 0 { u64::from(quorum.max(1)) } else { 0 };
    replicas.max(first).saturating_mul(u64::from(target_ms).saturating_mul(1_000))
}

/// Items that will be cut: by a budget no more than it suffices for beside those under way, by what they took so far.
fn affordable(left: &Left) -> u64 {
    let Measured { items, fuel, .. } = left.measured;
    let bound = left.budget_left.and_then(|budget| {
        let items = u128::from(budget.get()) * u128::from(items);
        let items = u64::try_from(items.checked_div(fuel.get().into())?).ok()?;
        Some(items.saturating_sub(left.replica_items / u64::from(left.quorum.max(1))))
    });
    left.uncut.min(bound.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
