//! Faults for tests and simulation: what a real broker does at the worst moment, on demand.

use ports::broker::Link;

use super::MemoryBroker;

impl MemoryBroker {
    /// Forgets all that is ready in a queue; returns how many messages that were.
    pub fn purge(&self, queue: &str) -> usize {
        self.lock().queues.get_mut(queue).map_or(0, super::queue::Queue::purge)
    }

    /// Takes a queue for full, or no longer: it refuses what is published to it.
    pub fn fill(&self, queue: &str, full: bool) {
        if let Some(queue) = self.lock().queues.get_mut(queue) {
            queue.filled = full;
        }
    }

    /// Forgets every message, also those delivered but not settled: as if all queues were deleted and declared anew.
    pub fn wipe(&self) {
        let mut state = self.lock();
        for consumer in state.consumers.values_mut() {
            consumer.unsettled.clear();
        }
        for queue in state.queues.values_mut() {
            queue.purge();
        }
        Self::cut(&mut state);
    }

    /// Ends every consumer's connection: what is unsettled is delivered again and old tags settle nothing.
    pub fn cut_consumers(&self) {
        let mut state = self.lock();
        Self::cut(&mut state);
        Self::deliver_all(&mut state);
    }

    /// Takes no messages until [`Self::restore`]; consumers go on.
    pub fn block(&self, reason: &str) {
        self.shared.link.send_replace(Link::Blocked(reason.to_owned()));
    }

    /// Is away until [`Self::restore`]: publishes wait, consumers are cut and receive nothing.
    pub fn take_down(&self, reason: &str) {
        let mut state = self.lock();
        state.down = true;
        Self::cut(&mut state);
        self.shared.link.send_replace(Link::Down(reason.to_owned()));
    }

    /// Ends [`Self::block`] and [`Self::take_down`].
    pub fn restore(&self) {
        let mut state = self.lock();
        state.down = false;
        self.shared.link.send_replace(Link::Up);
        Self::deliver_all(&mut state);
    }

    fn cut(state: &mut super::state::State) {
        let ids: Vec<u64> = state.consumers.keys().copied().collect();
        for id in ids {
            state.lose_deliveries(id);
        }
    }

    fn deliver_all(state: &mut super::state::State) {
        let names: Vec<_> = state.queues.keys().cloned().collect();
        for name in names {
            state.deliver(&name);
        }
    }
}
