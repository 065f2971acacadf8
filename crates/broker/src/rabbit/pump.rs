//! The publisher's window: what waits, what is in flight, and how confirms and returns find their message.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, Error};
use ports::broker::{BrokerError, Confirm, Link, Outgoing};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::board::Board;
use super::errors::{refusal, way_out};
use super::line::Line;
use super::properties::{short, to_amqp};

/// Bodies in flight at most, so that a window of the largest ones stays in memory.
const FLYING_BYTES: usize = 64 * 1024 * 1024;

/// How often the channel's own state is looked at, should no event tell of its end.
const WATCH: Duration = Duration::from_secs(1);

/// A channel that is older than this and has a message refused by a full queue is replaced: RabbitMQ forgets to tell a
/// publisher that a queue takes messages again when its limit is lifted by policy, and refuses them for ever.
const STALE: Duration = Duration::from_secs(5);

/// A message that is not confirmed for so long, on a connection that is not blocked, never will be: when a quorum queue loses
/// its leader, RabbitMQ can forget what a channel had sent it. Well below the patience of those who publish.
const OVERDUE: Duration = Duration::from_secs(15);

/// Why one channel's run ended.
pub(super) enum End {
    /// Nobody publishes any more.
    Closed,
    /// A message was refused with that code, which closed the channel; its caller knows.
    Refused(u16),
    /// The channel or connection was lost.
    Lost(Error),
    /// A full queue refused a message, and the channel may not learn when it has room again.
    Stale,
    /// A message was not confirmed for too long.
    Overdue,
    /// The channel ended without a word.
    Silent,
}

/// One message of a call, which keeps it until it is sent.
struct Place {
    board: Arc<Board>,
    index: usize,
}

/// One message in flight.
struct Slot {
    place: Place,
    message: Arc<Outgoing>,
    returned: bool,
    /// When it was published on this channel, or the connection was last seen blocked.
    since: Instant,
}

type Outcome = (u64, Result<Confirmation, Error>);

/// All messages on their way.
pub(super) struct Pump {
    window: usize,
    waiting: VecDeque<Place>,
    /// In the order published; that is also the order of republishing.
    flying: BTreeMap<u64, Slot>,
    flying_bytes: usize,
    confirms: FuturesUnordered<BoxFuture<'static, Outcome>>,
    next: u64,
    /// How many messages are to be published one at a time, to find the one the broker refuses.
    careful: usize,
    /// Confirmed (true) or refused (false) by the broker, but returns may still mark them.
    settled: Vec<(u64, bool)>,
    /// Whether a full queue refused something on this channel.
    refused: bool,
    error: Option<Error>,
}

impl Pump {
    pub(super) fn new(window: usize) -> Self {
        Self {
            window: window.max(1),
            waiting: VecDeque::new(),
            flying: BTreeMap::new(),
            flying_bytes: 0,
            confirms: FuturesUnordered::new(),
            next: 0,
            careful: 0,
            settled: Vec::new(),
            refused: false,
            error: None,
        }
    }

    /// Publishes on a channel until it ends.
    pub(super) async fn run(&mut self, channel: &Channel, line: &Line, calls: &mut mpsc::Receiver<Arc<Board>>) -> End {
        let (mut watch, begun, mut changes) = (interval(WATCH), Instant::now(), line.watch());
        loop {
            // What is in flight is heard out before the channel is changed, so that none of it is published twice.
            let is_stale = self.refused && begun.elapsed() >= STALE;
            if is_stale && self.flying.is_empty() {
                return End::Stale;
            }
            // Over a blocked connection nothing is sent: lapin would keep a copy, of calls that are given up meanwhile as well.
            let is_blocked = matches!(*changes.borrow_and_update(), Link::Blocked(_));
            if !is_stale && !is_blocked {
                self.fill(channel).await;
            }
            if self.settled.is_empty() && self.error.is_none() {
                tokio::select! {
                    Some(outcome) = self.confirms.next(), if !self.confirms.is_empty() => self.note(outcome),
                    call = calls.recv(), if self.waiting.is_empty() => match call {
                        Some(board) => self.accept(&board),
                        None => return End::Closed,
                    },
                    _ = changes.changed() => {}
                    _ = watch.tick() => {
                        if !channel.status().connected() {
                            self.collect(channel).await;
                            return self.error.take().map_or(End::Silent, |error| self.end(error));
                        }
                        if self.is_overdue(is_blocked) {
                            return End::Overdue;
                        }
                    },
                }
            }
            self.collect(channel).await;
            if self.error.is_some() {
                self.hear_out(channel).await;
                return self.error.take().map_or(End::Silent, |error| self.end(error));
            }
        }
    }

    /// Whether the oldest message in flight waits for its confirm for too long; the time that the connection is blocked does
    /// not count.
    fn is_overdue(&mut self, blocked: bool) -> bool {
        if blocked {
            let now = Instant::now();
            self.flying.values_mut().for_each(|slot| slot.since = now);
        }
        self.flying.values().next().is_some_and(|oldest| oldest.since.elapsed() >= OVERDUE)
    }

    /// Takes back what was in flight, to be published again, in order.
    pub(super) fn retry(&mut self) {
        self.confirms.clear();
        self.settled.clear();
        self.error = None;
        self.refused = false;
        self.flying_bytes = 0;
        for (_, slot) in std::mem::take(&mut self.flying).into_iter().rev() {
            self.waiting.push_front(slot.place);
        }
    }

    fn accept(&mut self, board: &Arc<Board>) {
        self.waiting.extend((0..board.count()).map(|index| Place { board: Arc::clone(board), index }));
    }

    /// Publishes what waits, as far as the window goes.
    async fn fill(&mut self, channel: &Channel) {
        let window = if self.careful > 0 { 1 } else { self.window };
        while self.error.is_none() && self.flying.len() < window && (self.flying_bytes < FLYING_BYTES || self.flying.is_empty()) {
            let Some(place) = self.waiting.pop_front() else { return };
            let Some(message) = place.board.message(place.index) else {
                self.careful = self.careful.saturating_sub(1);
                continue;
            };
            self.next += 1;
            let id = self.next;
            self.flying_bytes += message.body.len();
            let slot = Slot { place, message: Arc::clone(&message), returned: false, since: Instant::now() };
            self.flying.insert(id, slot);
            let mut outcome = publish(channel.clone(), id, message).boxed();
            // The first poll hands the frames over, here and now: so the order is the order of the calls.
            match futures::poll!(outcome.as_mut()) {
                Poll::Ready(outcome) => self.note(outcome),
                Poll::Pending => self.confirms.push(outcome),
            }
        }
    }

    fn note(&mut self, (id, outcome): Outcome) {
        match outcome {
            Ok(Confirmation::Ack(returned)) => {
                self.settled.push((id, true));
                self.mark(returned);
            }
            Ok(Confirmation::Nack(returned)) => {
                self.settled.push((id, false));
                self.mark(returned);
            }
            Ok(Confirmation::NotRequested) => self.settled.push((id, false)), // not in confirm mode: nothing is known
            // What follows a refusal says only that the channel is gone; the refusal itself is what counts.
            Err(error) if self.error.is_none() || refusal(&error).is_some() => self.error = Some(error),
            Err(_) => {}
        }
    }

    /// Marks the message that was returned. lapin hands a return to whichever confirm comes next, so the message is
    /// found by what it says itself; its namesakes have the same route, and are returned as well.
    fn mark(&mut self, returned: Option<BasicReturnMessage>) {
        let Some(returned) = returned else { return };
        let id = returned.properties.message_id().as_ref().map_or("", |id| id.as_str());
        for slot in self.flying.values_mut() {
            let message = &slot.message;
            slot.returned |= message.properties.message_id == id
                && message.exchange == returned.exchange.as_str()
                && message.routing_key == returned.routing_key.as_str();
        }
    }

    /// Tells callers what is settled.
    ///
    /// The broker returns a message before it confirms it, but with a confirm of many, lapin may hand the return to
    /// another of them. All of one confirm is handed out under one lock, which `wait_for_confirms` takes when first
    /// polled: so after that, the returns of all that is settled by now can be drained too.
    async fn collect(&mut self, channel: &Channel) {
        self.drain();
        if self.settled.is_empty() {
            return;
        }
        let settled = std::mem::take(&mut self.settled);
        drop(futures::poll!(pin!(channel.wait_for_confirms())));
        self.drain();
        for (id, stored) in settled {
            let Some(slot) = self.flying.remove(&id) else { continue };
            self.flying_bytes -= slot.message.body.len();
            self.careful = self.careful.saturating_sub(1);
            let confirm = match (slot.returned, stored) {
                (true, _) => Confirm::Unroutable,
                (false, true) => Confirm::Stored,
                (false, false) => Confirm::Refused,
            };
            self.refused |= confirm == Confirm::Refused;
            slot.place.board.confirm(slot.place.index, confirm);
        }
    }

    /// After an error the channel is dead, so that all confirms come at once: they may hold the reason, and late successes.
    async fn hear_out(&mut self, channel: &Channel) {
        let all = async {
            while let Some(outcome) = self.confirms.next().await {
                self.note(outcome);
            }
        };
        if timeout(WATCH, all).await.is_err() {
            tracing::debug!("a lost channel left confirms open; their messages are published again");
        }
        self.collect(channel).await;
    }

    fn drain(&mut self) {
        while let Some(Some(outcome)) = self.confirms.next().now_or_never() {
            self.note(outcome);
        }
    }

    /// A refusal closes the channel without naming the message: if one alone was in flight it is that one, otherwise
    /// all that were in flight are published again one at a time.
    fn end(&mut self, error: Error) -> End {
        let Some((code, text)) = refusal(&error) else { return End::Lost(error) };
        if self.flying.len() == 1
            && let Some((_, slot)) = self.flying.pop_first()
        {
            self.careful = self.careful.saturating_sub(1);
            slot.place.board.refuse(BrokerError::Refused {
                operation: "publish",
                object: slot.message.exchange.clone(),
                reason: format!("{text}; {}", way_out(code)),
            });
        } else {
            self.careful = self.flying.len();
        }
        End::Refused(code)
    }
}

async fn publish(channel: Channel, id: u64, message: Arc<Outgoing>) -> Outcome {
    let (exchange, key) = (short(&message.exchange), short(&message.routing_key));
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    match channel.basic_publish(exchange, key, options, &message.body, to_amqp(&message)).await {
        Ok(confirm) => (id, confirm.await),
        Err(error) => (id, Err(error)),
    }
}
