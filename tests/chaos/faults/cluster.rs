//! Faults of a cluster: nodes that die while the others go on.

use crate::world::World;

fn kill_and_restart(world: &mut World, node: usize) {
    world.brokers[node].kill9();
    let settled = |world: &World| world.number("select count(*) from ledger").expect("a number");
    let before = settled(world);
    world.until("a unit settled without the node", |world| settled(world) > before);
    world.brokers[node].restart();
}

pub(super) fn kill_a_node(world: &mut World) {
    let node = world.dice.below(world.brokers.len());
    kill_and_restart(world, node);
}

pub(super) fn kill_each_node(world: &mut World) {
    (0..world.brokers.len()).for_each(|node| kill_and_restart(world, node));
}
