//! What a consumer holds: deliveries not yet taken, tags not yet settled, and which incarnation they belong to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::{Channel, Error};
use ports::broker::{Delivery, Tag, Verdict};
use tokio::sync::Notify;

use super::properties::from_amqp;

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Receiving, or about to again.
    Running,
    /// Receives no more; what it holds can be taken and settled.
    Cancelled,
    /// The broker connection was shut down.
    Closed,
}

/// A consumer's state, shared between its handle and its task.
pub(super) struct Session {
    inner: Mutex<Inner>,
    /// Something to take, or an end.
    pub(super) wake: Notify,
}

struct Inner {
    phase: Phase,
    generation: u64,
    channel: Option<Channel>,
    inbox: VecDeque<Delivery>,
    /// Every unsettled tag of this incarnation, taken or not.
    unsettled: BTreeSet<u64>,
}

/// One frame that settles deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) tag: u64,
    pub(super) verdict: Verdict,
    /// An ack of all up to the tag.
    pub(super) multiple: bool,
    /// How many deliveries it settles.
    pub(super) count: usize,
}

/// What a look into the inbox found.
pub(super) enum Look {
    Found(Vec<Delivery>),
    Nothing,
    End(Phase),
}

impl Session {
    pub(super) fn new() -> Self {
        let inner =
            Inner { phase: Phase::Running, generation: 0, channel: None, inbox: VecDeque::new(), unsettled: BTreeSet::new() };
        Self { inner: Mutex::new(inner), wake: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next incarnation on a channel.
    pub(super) fn begin(&self, channel: Channel) {
        self.lose();
        self.lock().channel = Some(channel);
    }

    /// Ends an incarnation: the broker delivers all it held again.
    pub(super) fn lose(&self) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.channel = None;
        inner.inbox.clear();
        inner.unsettled.clear();
    }

    /// Ends the consumer for good; the first end counts.
    pub(super) fn end(&self, phase: Phase) {
        let mut inner = self.lock();
        if inner.phase == Phase::Running {
            inner.phase = phase;
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Takes in what the broker delivered, unless its channel is gone already.
    pub(super) fn push(&self, received: lapin::message::Delivery) {
        if !received.acker.usable() {
            return;
        }
        let mut inner = self.lock();
        let tag = Tag { generation: inner.generation, tag: received.delivery_tag };
        inner.unsettled.insert(tag.tag);
        inner.inbox.push_back(from_amqp(received, tag));
        drop(inner);
        self.wake.notify_one();
    }

    pub(super) fn look(&self, max: usize) -> Look {
        let mut inner = self.lock();
        let count = inner.inbox.len().min(max.max(1));
        match inner.phase {
            Phase::Running | Phase::Cancelled if count > 0 => Look::Found(inner.inbox.drain(..count).collect()),
            Phase::Running => Look::Nothing,
            end @ (Phase::Cancelled | Phase::Closed) => Look::End(end),
        }
    }

    /// What to send for these verdicts, and how many deliveries they settle; takes the tags off the list.
    pub(super) fn plan(&self, verdicts: &[(Tag, Verdict)]) -> (Option<Channel>, Vec<Move>) {
        let mut inner = self.lock();
        let Some(channel) = inner.channel.clone() else { return (None, Vec::new()) };
        let generation = inner.generation;
        let ours = verdicts.iter().filter(|(tag, _)| tag.generation == generation);
        let verdicts: BTreeMap<u64, Verdict> = ours.map(|(tag, verdict)| (tag.tag, *verdict)).collect();
        (Some(channel), plan(&mut inner.unsettled, &verdicts))
    }
}

/// In the order of the tags, because frames arrive in the order sent: an ack covers all before it when none of those stays open.
fn plan(unsettled: &mut BTreeSet<u64>, verdicts: &BTreeMap<u64, Verdict>) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    let mut open_before = false;
    let Some((&last, _)) = verdicts.last_key_value() else { return moves };
    for &tag in unsettled.range(..=last) {
        match verdicts.get(&tag) {
            None => open_before = true,
            Some(Verdict::Ack) => match moves.last_mut() {
                Some(before) if before.verdict == Verdict::Ack && !open_before => {
                    *before = Move { tag, multiple: true, count: before.count + 1, ..*before };
                }
                _ => moves.push(Move { tag, verdict: Verdict::Ack, multiple: false, count: 1 }),
            },
            Some(verdict) => moves.push(Move { tag, verdict: *verdict, multiple: false, count: 1 }),
        }
    }
    for tag in verdicts.keys() {
        unsettled.remove(tag);
    }
    moves
}

impl Move {
    /// Sends it; the first poll puts the frame into the channel's queue.
    pub(super) async fn send(self, channel: &Channel) -> Result<(), Error> {
        match self.verdict {
            Verdict::Ack => channel.basic_ack(self.tag, BasicAckOptions { multiple: self.multiple }).await,
            Verdict::Requeue => channel.basic_nack(self.tag, BasicNackOptions { multiple: false, requeue: true }).await,
            Verdict::Reject => channel.basic_reject(self.tag, BasicRejectOptions { requeue: false }).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(held: &[u64], verdicts: &[(u64, Verdict)]) -> Vec<(u64, Verdict, bool, usize)> {
        let mut unsettled = held.iter().copied().collect();
        let moves = plan(&mut unsettled, &verdicts.iter().copied().collect());
        moves.iter().map(|a| (a.tag, a.verdict, a.multiple, a.count)).collect()
    }

    #[test]
    fn the_first_end_counts() {
        let session = Session::new();
        assert!(matches!(session.look(1), Look::Nothing));
        for phase in [Phase::Cancelled, Phase::Closed] {
            session.end(phase);
            assert!(matches!(session.look(1), Look::End(Phase::Cancelled)));
        }
    }

    #[test]
    fn adjacent_acks_become_one() {
        use Verdict::{Ack, Requeue};
        let all = planned(&[1, 2, 3], &[(3, Ack), (1, Ack), (2, Ack)]);
        assert_eq!(all, [(3, Ack, true, 3)]);
        let around = planned(&[1, 2, 3, 4], &[(1, Ack), (2, Requeue), (3, Ack), (4, Ack)]);
        assert_eq!(around, [(1, Ack, false, 1), (2, Requeue, false, 1), (4, Ack, true, 2)]);
    }

    #[test]
    fn an_ack_never_covers_what_stays_open() {
        use Verdict::Ack;
        let gap = planned(&[1, 2, 3, 4], &[(1, Ack), (3, Ack), (4, Ack)]);
        assert_eq!(gap, [(1, Ack, false, 1), (3, Ack, false, 1), (4, Ack, false, 1)]);
        assert_eq!(planned(&[5], &[(4, Ack), (5, Ack), (9, Ack)]), [(5, Ack, false, 1)]);
    }
}
