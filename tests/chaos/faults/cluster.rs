//! Faults of a cluster: nodes that die while the others go on. What is dead is started again after the round.

use crate::world::World;

/// The node that leads the queue of a job's outcomes dies: nothing is settled before the others have elected another.
pub(super) fn kill_the_leader(world: &mut World) {
    let node = world.leader();
    world.brokers[node].kill9();
}

/// No queue has a majority until one of the two is back.
pub(super) fn kill_two_nodes(world: &mut World) {
    let (first, nodes) = (world.leader(), world.brokers.len());
    for offset in 0..2 {
        world.brokers[(first + offset) % nodes].kill9();
    }
    world.brokers[first].restart();
}
