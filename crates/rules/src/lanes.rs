//! Lanes: which of a pool's work queues have room, and which ones a unit's replicas go to.

/// A lane has at most so many units ready, however short they are: the queue's depth stays bounded (invariant I8).
pub const MAX_WINDOW: u32 = 512;
/// While the length of units is unknown, so many per consumer are ready.
const UNMEASURED_PER_CONSUMER: u64 = 4;
/// Otherwise so much work per consumer is ready: more than the time between two rounds of dispatch, little to wait behind.
const READY_MS: u64 = 500;

/// How many units a lane should have ready, by its consumers and the mean length of the units it gets.
pub fn window(consumers: u32, mean_unit_ms: Option<u64>) -> u32 {
    let per_consumer = match mean_unit_ms {
        None => UNMEASURED_PER_CONSUMER,
        Some(0) => u64::from(MAX_WINDOW),
        Some(ms) => READY_MS.div_ceil(ms),
    };
    let window = u64::from(consumers).saturating_mul(per_consumer).min(u64::from(MAX_WINDOW));
    u32::try_from(window).unwrap_or(MAX_WINDOW)
}

/// A pool's lanes with consumers, and how many more units each may get in this round.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    rooms: Vec<(u16, u32)>,
}

impl Lanes {
    /// Of each lane with consumers, its number and its room.
    pub fn new(rooms: Vec<(u16, u32)>) -> Self {
        Self { rooms }
    }

    /// How many lanes have consumers.
    pub fn live(&self) -> usize {
        self.rooms.len()
    }

    /// Whether `replicas` of one unit can be placed now, each on a lane of its own and none on one of `taken`.
    pub fn has_room(&self, replicas: usize, taken: &[u16]) -> bool {
        self.open(taken).count() >= replicas
    }

    /// Takes the lanes with the most room, one for each replica; `None`, and nothing taken, if there are not enough.
    pub fn place(&mut self, replicas: usize, taken: &[u16]) -> Option<Vec<u16>> {
        let mut open: Vec<_> = self.open(taken).map(|(lane, room)| (std::cmp::Reverse(room), lane)).collect();
        if open.len() < replicas {
            return None;
        }
        open.sort_unstable();
        let chosen: Vec<u16> = open.into_iter().take(replicas).map(|(_, lane)| lane).collect();
        for (lane, room) in &mut self.rooms {
            if chosen.contains(lane) {
                *room -= 1;
            }
        }
        Some(chosen)
    }

    /// Takes room on that lane; whether there was any.
    pub fn take(&mut self, lane: u16) -> bool {
        match self.rooms.iter_mut().find(|(number, room)| *number == lane && *room > 0) {
            Some((_, room)) => {
                *room -= 1;
                true
            }
            None => false,
        }
    }

    /// The room over all lanes.
    pub fn room(&self) -> u32 {
        self.rooms.iter().fold(0, |sum, (_, room)| sum.saturating_add(*room))
    }

    fn open<'a>(&'a self, taken: &'a [u16]) -> impl Iterator<Item = (u16, u32)> + 'a {
        self.rooms.iter().copied().filter(|(lane, room)| *room > 0 && !taken.contains(lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_window_follows_the_length_of_units() {
        assert_eq!(window(0, None), 0);
        assert_eq!(window(2, None), 8);
        assert_eq!(window(2, Some(60_000)), 2);
        assert_eq!(window(2, Some(10)), 100);
        assert_eq!(window(4, Some(0)), MAX_WINDOW);
    }

    proptest! {
        #[test]
        fn replicas_never_share_a_lane(rooms in proptest::collection::vec(0_u32..5, 0..6), units in proptest::collection::vec((1_usize..4, 0_u16..6), 0..20)) {
            let total: u32 = rooms.iter().sum();
            let mut lanes = Lanes::new(rooms.iter().enumerate().map(|(lane, room)| (u16::try_from(lane).unwrap(), *room)).collect());
            let mut placed = 0;
            for (replicas, taken) in units {
                let could = lanes.has_room(replicas, &[taken]);
                match lanes.place(replicas, &[taken]) {
                    Some(chosen) => {
                        prop_assert!(could && chosen.len() == replicas && !chosen.contains(&taken));
                        let mut distinct = chosen.clone();
                        distinct.sort_unstable();
                        distinct.dedup();
                        prop_assert_eq!(distinct.len(), chosen.len());
                        placed += u32::try_from(chosen.len()).unwrap();
                    }
                    None => prop_assert!(!could),
                }
            }
            prop_assert_eq!(lanes.room() + placed, total);
        }
    }
}
