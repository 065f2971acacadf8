//! Lanes: which of a pool's work queues have room, and which ones a unit's replicas go to.

/// A lane has at most so many units ready, however short they are: the queue's depth stays bounded (invariant I8).
pub const MAX_WINDOW: u32 = 512;
/// While the length of units is unknown, so many per consumer are ready: they may be long.
const UNMEASURED_PER_CONSUMER: u64 = 1;
/// Otherwise so much work per consumer is ready at most: more than slow rounds of dispatch take.
const READY_MS: u64 = 500;
/// So many per consumer may always be ready, if the window allows it: for less, no use of a lane can be told from chance.
const LEAST_PER_CONSUMER: u32 = 8;
/// How slowly a lane's stock shrinks, as a part of it a round: one slow round among many quick ones is not forgotten at once.
const SHRINK_BY: u32 = 32;

/// How many units a lane may have ready at most, by its consumers and the mean length of the units it gets.
///
/// What is ready is what a newcomer waits behind, so it is bounded in time over the whole lane: of long units a single
/// one is ready for all its consumers, each of which holds its next unit already.
pub fn window(consumers: u32, mean_unit_ms: Option<u64>) -> u32 {
    let consumers = u64::from(consumers);
    let window = match mean_unit_ms {
        None => consumers.saturating_mul(UNMEASURED_PER_CONSUMER),
        Some(0) if consumers > 0 => u64::from(MAX_WINDOW),
        Some(ms) => consumers.saturating_mul(READY_MS).div_ceil(ms.max(1)),
    };
    u32::try_from(window.min(u64::from(MAX_WINDOW))).unwrap_or(MAX_WINDOW)
}

/// How many units a lane is stocked with: a few times what its consumers take between two rounds of dispatch.
///
/// What is ready is what a newcomer waits behind, so it is no more than keeps the consumers busy; how much that is, only
/// the lane's use tells: it depends on the length of units, on slots, and on how long a round takes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stock {
    level: u32,
    left_full: bool,
}

impl Stock {
    /// How many more units the lane gets: it has `ready` ones of those it was left with, and may have `window`.
    ///
    /// Half of a full lane or more taken in one round: the level doubles, up to the window. All of it: nobody knows how much
    /// would have been, and it grows faster. Less than a quarter: it shrinks.
    pub fn room(&mut self, consumers: u32, ready: u32, window: u32) -> u32 {
        if self.left_full {
            if ready == 0 {
                self.level = self.level.saturating_mul(4);
            } else if ready <= self.level / 2 {
                self.level = self.level.saturating_mul(2);
            } else if ready > self.level - self.level / 4 {
                self.level -= self.level.div_ceil(SHRINK_BY);
            }
        }
        let least = consumers.saturating_mul(LEAST_PER_CONSUMER);
        self.level = self.level.max(least).min(window);
        self.level.saturating_sub(ready)
    }

    /// The lane is left with so much of the room unused: nothing is learnt from a lane for which there is too little work.
    pub fn leave(&mut self, unused: u32) {
        self.left_full = unused == 0;
    }
}

/// A pool's lanes with consumers, and how many more units each may get in this round.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    rooms: Vec<(u16, u32)>,
    /// How many consumers each has, where that is known.
    workers: Vec<(u16, u32)>,
}

impl Lanes {
    /// Of each lane with consumers, its number and its room.
    pub fn new(rooms: Vec<(u16, u32)>) -> Self {
        Self { rooms, workers: Vec::new() }
    }

    /// The same lanes with how many consumers each has; one, where it is not told.
    #[must_use]
    pub fn served_by(self, workers: Vec<(u16, u32)>) -> Self {
        Self { workers, ..self }
    }

    /// How many lanes have consumers.
    pub fn live(&self) -> usize {
        self.rooms.len()
    }

    /// Whether a lane has consumers.
    pub fn is_live(&self, lane: u16) -> bool {
        self.rooms.iter().any(|(live, _)| *live == lane)
    }

    /// The lanes that a further replica of a unit is not placed on: those `taken` by its others. Where no other lane has
    /// consumers, it may go to one with more consumers than have answered there and none still `computing`. Where there is none of that
    /// kind either and the answers differ, it goes where the fewest of these `disputed` ones came from: a host may have been wrong once.
    pub fn avoided(&self, taken: &[u16], computing: &[u16], disputed: &[u16]) -> Vec<u16> {
        if self.rooms.iter().any(|(lane, _)| !taken.contains(lane)) {
            return taken.to_vec();
        }
        let among = |lanes: &[u16], lane: u16| lanes.iter().filter(|other| **other == lane).count();
        let all_answered = |lane: u16| usize::try_from(self.consumers(lane)).unwrap_or(usize::MAX) <= among(taken, lane);
        let lanes = self.rooms.iter().map(|(lane, _)| *lane);
        let avoided: Vec<u16> = lanes.clone().filter(|lane| computing.contains(lane) || all_answered(*lane)).collect();
        if avoided.len() < self.rooms.len() || disputed.is_empty() {
            return avoided;
        }
        let fewest = lanes.clone().filter(|lane| !computing.contains(lane)).map(|lane| among(disputed, lane)).min();
        lanes.filter(|lane| computing.contains(lane) || Some(among(disputed, *lane)) > fewest).collect()
    }

    fn consumers(&self, lane: u16) -> u32 {
        self.workers.iter().find(|(known, _)| *known == lane).map_or(1, |(_, workers)| *workers)
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

    /// Each lane and the room it has.
    pub fn rooms(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.rooms.iter().copied()
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
        assert_eq!((window(0, None), window(0, Some(0)), window(0, Some(9))), (0, 0, 0));
        assert_eq!(window(2, None), 2);
        assert_eq!(window(2, Some(60_000)), 1);
        assert_eq!(window(50, Some(10_000)), 3);
        assert_eq!(window(2, Some(10)), 100);
        assert_eq!(window(4, Some(0)), MAX_WINDOW);
    }

    #[test]
    fn a_further_replica_goes_to_a_used_lane_with_further_workers_if_there_is_no_other_lane() {
        let lanes = Lanes::new(vec![(0, 1), (1, 0), (2, 3)]).served_by(vec![(0, 2), (1, 1), (2, 9)]);
        assert_eq!(lanes.avoided(&[0, 2], &[2], &[]), [0, 2], "lane 1 will have room");
        assert_eq!(lanes.avoided(&[0, 1, 2], &[2], &[0, 1]), [1, 2], "the one worker of lane 1 has answered");
        assert_eq!(lanes.avoided(&[0, 0, 1, 2], &[], &[]), [0, 1]);
        assert!(lanes.is_live(1) && !lanes.is_live(3));
        assert_eq!(Lanes::new(vec![(0, 1)]).avoided(&[0], &[], &[]), [0], "a worker alone answers once");
    }

    #[test]
    fn where_all_have_answered_and_differ_those_answer_again_that_answered_least() {
        let lanes = Lanes::new(vec![(0, 1), (1, 1), (2, 1)]);
        assert_eq!(lanes.avoided(&[0, 1, 2], &[], &[]), [0, 1, 2], "they agree, and others are waited for");
        assert_eq!(lanes.avoided(&[0, 1, 2], &[], &[0, 0, 1, 2]), [0]);
        assert_eq!(lanes.avoided(&[0, 1, 2], &[2], &[0, 0, 1]), [0, 2], "lane 2 is computing");
        assert_eq!(lanes.avoided(&[0, 1], &[], &[0, 1]), [0, 1], "lane 2 was not asked");
    }

    /// A lane from which `taken` units are taken in each round; the level it comes to, and in how many rounds it ran dry.
    fn stocked(rounds: u32, window: u32, taken: impl Fn(u32) -> u32) -> (u32, u32) {
        let (mut stock, mut ready, mut dry) = (Stock::default(), 0_u32, 0);
        for round in 0..rounds {
            ready += stock.room(1, ready, window);
            stock.leave(0);
            dry += u32::from(taken(round) > ready);
            ready = ready.saturating_sub(taken(round));
        }
        (stock.level, dry)
    }

    #[test]
    fn a_lane_is_stocked_with_little_more_than_is_taken() {
        let (level, dry) = stocked(1_000, 500, |_| 20);
        assert!((40..=80).contains(&level), "{level}");
        assert!(dry <= 4, "{dry} rounds until the level was known");
        assert!(stocked(1_000, 500, |_| 1).0 <= 8);
        assert_eq!(stocked(1_000, 30, |_| 400).0, 30);
    }

    #[test]
    fn slow_rounds_among_quick_ones_are_provided_for() {
        let (_, dry) = stocked(1_000, 500, |round| if round % 10 == 0 { 60 } else { 5 });
        assert!(dry <= 8, "{dry} of the first rounds, until the level was known");
    }

    #[test]
    fn too_little_work_teaches_nothing() {
        let mut stock = Stock::default();
        for _ in 0..100 {
            assert_eq!(stock.room(2, 0, 500), 16);
            stock.leave(3);
        }
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
