//! Dead letters: how a message is parked with its cause, what a parked one says of itself, and how it is sent again.
//!
//! A letter is parked by whoever cannot use it ([`park`]), or by the broker, whose own history ([`FIRST_DEATH_REASON`]
//! and its like) then tells what our headers would. Sent again, it keeps when it first died and how often; all else is
//! told anew if it dies again. Senders can forge any header of what they send: those of a letter that a service parked
//! were written by that service, but nothing that the broker parked is believed of who sent it. A sender can forge the
//! broker's history too, and what a service publishes has none: so a letter with any of it was parked by the broker.

use std::time::Duration;

use protocol::address::{DEAD_EXCHANGE, FETCH_EXCHANGE, OUTCOMES_EXCHANGE, Origin, SUBMIT_EXCHANGE, WORK_EXCHANGE};
use protocol::outcome::bounded_reason;
use protocol::unit::Work;
use protocol::{CustomerName, Digest, Format, Message, Micros, ReplicaKey};

use crate::broker::{Broker, BrokerError, Confirm, Delivery, Outgoing, Properties, Verdict};

/// What our headers of a dead letter begin with.
const PREFIX: &str = "offpeak-dead-";
/// Why it was parked, for people.
const CAUSE: &str = "offpeak-dead-cause";
/// The routing key it was published with.
const ROUTING_KEY: &str = "offpeak-dead-routing-key";
/// The queue it was read from.
const QUEUE: &str = "offpeak-dead-queue";
/// The user who published it. The property `user_id` cannot travel on: the broker takes it from that user only.
const USER: &str = "offpeak-dead-user-id";
/// Of one that another user sent in vain: who had published it before, as that user says.
const CLAIMED: &str = "offpeak-dead-claimed-user-id";
/// When it died first, in microseconds since 1970.
const FIRST_AT: &str = "offpeak-dead-first-at-us";
/// When it died last.
const LAST_AT: &str = "offpeak-dead-last-at-us";
/// How often it was delivered in vain.
const ATTEMPTS: &str = "offpeak-dead-attempts";
/// What outlives being sent again.
const KEPT: [&str; 3] = [FIRST_AT, ATTEMPTS, USER];

/// The broker's history of a message's deaths, which is no text: the adapters tell that there is one by an empty text.
pub const DEATHS: &str = "x-death";
/// The broker's word for why it gave a message up.
pub const FIRST_DEATH_REASON: &str = "x-first-death-reason";
/// The queue in which the broker gave it up.
pub const FIRST_DEATH_QUEUE: &str = "x-first-death-queue";
/// Its routing key there; the adapters take it out of the broker's history.
pub const FIRST_DEATH_KEY: &str = "x-first-death-routing-key";
/// How often the broker gave it up there; likewise.
pub const FIRST_DEATH_COUNT: &str = "x-first-death-count";
/// When, in seconds since 1970, where the broker knows the time; likewise.
pub const FIRST_DEATH_TIME_S: &str = "x-first-death-time-s";

/// A message's own headers are parked with it if they have no more bytes: ours must fit in with them.
const MAX_OWN_HEADERS: usize = 64 << 10;
/// No user of AMQP has a longer name; what is longer is none, and is not kept.
const MAX_USER: usize = 255;

/// The broker is given so long to take a dead letter; after that the message is given back instead.
const PARK_PATIENCE: Duration = Duration::from_secs(30);

/// A message's death: where, why and when.
#[derive(Debug, Clone, Copy)]
pub struct Death<'a> {
    /// Whose dead letter it is.
    pub origin: Origin,
    /// The queue it was read from.
    pub queue: &'a str,
    /// Why it can have no effect, for operators.
    pub cause: &'a str,
    /// When.
    pub at: Micros,
}

/// Parks a message; it is acknowledged when the broker has the letter, and given back otherwise.
pub async fn park(broker: &dyn Broker, delivery: Delivery, death: Death<'_>) -> Verdict {
    match broker.publish(vec![letter(delivery, death)], PARK_PATIENCE).await.as_deref() {
        Ok([Confirm::Stored]) => Verdict::Ack,
        Ok(_) | Err(_) => Verdict::Requeue,
    }
}

/// Parks a message as [`park`] does; if the broker refuses that, for want of a right, the message is rejected: the broker then
/// parks it by itself, without the cause. For those who may not write dead letters.
pub async fn park_or_reject(broker: &dyn Broker, delivery: Delivery, death: Death<'_>) -> Verdict {
    match broker.publish(vec![letter(delivery, death)], PARK_PATIENCE).await.as_deref() {
        Ok([Confirm::Stored]) => Verdict::Ack,
        Err(BrokerError::Refused { .. }) => Verdict::Reject,
        Ok(_) | Err(_) => Verdict::Requeue,
    }
}

/// The letter that a message becomes.
pub fn letter(delivery: Delivery, death: Death<'_>) -> Outgoing {
    let mut properties = delivery.properties;
    let earlier = Earlier::of(&properties);
    let attempts = earlier.attempts.saturating_add(delivery.delivery_count).saturating_add(1);
    let user = publisher(&properties).map(str::to_owned);
    let claimed = user_before(&properties).filter(|before| user.as_deref() != Some(*before)).map(str::to_owned);
    properties.user_id = None;
    properties.headers.retain(|(name, _)| is_own(name));
    let own = properties.headers.iter().map(|(name, value)| name.len() + value.len());
    if own.chain(properties.traceparent.iter().map(String::len)).sum::<usize>() > MAX_OWN_HEADERS {
        (properties.headers, properties.traceparent) = (Vec::new(), None);
    }
    let about = [
        (CAUSE, Some(bounded_reason(death.cause.to_owned()))),
        (ROUTING_KEY, Some(delivery.routing_key)),
        (QUEUE, Some(death.queue.to_owned())),
        (USER, user),
        (CLAIMED, claimed),
        (FIRST_AT, Some(earlier.first_at.unwrap_or(death.at).0.to_string())),
        (LAST_AT, Some(death.at.0.to_string())),
        (ATTEMPTS, Some(attempts.to_string())),
    ];
    properties.headers.extend(about.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Outgoing { exchange: DEAD_EXCHANGE.to_owned(), routing_key: death.origin.key().to_owned(), properties, body: delivery.body }
}

/// Who published a message: the user the broker checked, or of one that was dead before, the user it was checked for then.
pub fn publisher(properties: &Properties) -> Option<&str> {
    properties.user_id.as_deref().or_else(|| user_before(properties))
}

/// Of a message that was dead before, the user who had published it; as whoever sent it again says.
pub fn user_before(properties: &Properties) -> Option<&str> {
    header(properties, USER).filter(|user| user.len() <= MAX_USER)
}

/// Drops what a message says of who had published it.
pub fn forget_user_before(properties: &mut Properties) {
    properties.headers.retain(|(name, _)| name != USER);
}

/// Why a message died, if it says so.
pub fn cause(properties: &Properties) -> Option<String> {
    if !is_brokers(properties) {
        return header(properties, CAUSE).map(str::to_owned);
    }
    let unsaid = || "the broker gave it up, and its sender had written a history of its own".to_owned();
    Some(header(properties, FIRST_DEATH_REASON).map_or_else(unsaid, brokers_cause))
}

fn brokers_cause(reason: &str) -> String {
    match reason {
        "delivery_limit" => {
            "the broker gave it up: those who took it died under it or gave it back, more often than its queue allows".to_owned()
        }
        "rejected" => "rejected by whoever read it".to_owned(),
        other => format!("the broker gave it up: {}", bounded_reason(other.to_owned())),
    }
}

/// What a message brought from earlier deaths.
struct Earlier {
    first_at: Option<Micros>,
    attempts: u32,
}

impl Earlier {
    fn of(properties: &Properties) -> Self {
        let number = |name| header(properties, name).and_then(|text| text.parse().ok());
        let attempts = header(properties, ATTEMPTS).and_then(|text| text.parse().ok());
        Self { first_at: number(FIRST_AT).map(Micros), attempts: attempts.unwrap_or(0) }
    }
}

/// A parked message, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its `message_id` where that is plain text, or a name made from what it is.
    pub id: String,
    /// Which dead letters it is of.
    pub origin: Origin,
    /// Why it died.
    pub cause: String,
    /// The routing key it was published with; unknown if it was parked by hand without saying so.
    pub routing_key: Option<String>,
    /// The queue it was read from.
    pub queue: Option<String>,
    /// When it died first, where anyone knows.
    pub first_at: Option<Micros>,
    /// When it died last.
    pub last_at: Option<Micros>,
    /// Deliveries in vain, over all its lives; a death of the broker's making counts as one.
    pub attempts: u32,
    /// The type of message it was to be.
    pub kind: String,
    /// Who published it, where the broker checked.
    pub user: Option<String>,
    /// Where that one sent it as another's: who had published it before, as that one says.
    pub claimed_user: Option<String>,
    /// Whether the broker parked it, not a service.
    pub by_broker: bool,
    /// The customer, where the message tells.
    pub customer: Option<CustomerName>,
    /// The replica, of a unit or an outcome that tells.
    pub replica: Option<ReplicaKey>,
    /// The size of its body.
    pub body_bytes: usize,
}

impl DeadLetter {
    /// Reads what a letter of that origin says.
    pub fn of(origin: Origin, delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let text = |name: &str| header(properties, name).map(str::to_owned);
        let earlier = Earlier::of(properties);
        let brokers = Brokers::of(properties);
        let (by_broker, count, last_at) = match &brokers {
            Some(brokers) => (true, brokers.count, brokers.at),
            None => (false, 0, header(properties, LAST_AT).and_then(|at| at.parse().ok()).map(Micros)),
        };
        let routing_key = text(if by_broker { FIRST_DEATH_KEY } else { ROUTING_KEY });
        let work = (origin == Origin::Work).then(|| work(delivery)).flatten();
        let customer = match origin {
            Origin::Submit => routing_key.as_ref().and_then(|key| CustomerName::new(key.clone()).ok()),
            Origin::Work => work.as_ref().map(|work| work.customer.clone()),
            Origin::Outcomes | Origin::Fetch => None,
        };
        Self {
            id: id(delivery),
            origin,
            cause: cause(properties).unwrap_or_else(|| "it does not say: parked by hand".to_owned()),
            routing_key,
            queue: text(if by_broker { FIRST_DEATH_QUEUE } else { QUEUE }),
            first_at: earlier.first_at.or(last_at),
            last_at,
            attempts: earlier.attempts.saturating_add(count),
            kind: properties.kind.clone(),
            user: if by_broker { properties.user_id.clone() } else { publisher(properties).map(str::to_owned) },
            claimed_user: text(CLAIMED).filter(|_| !by_broker),
            by_broker,
            customer,
            replica: work.map(|work| work.replica).or_else(|| replica(origin, &properties.message_id)),
            body_bytes: delivery.body.len(),
        }
    }

    /// The letter as it is if that user, who sent it as another's, is believed.
    #[must_use]
    pub fn believing(mut self, user: &str) -> Self {
        if self.user.as_deref() == Some(user) && self.claimed_user.is_some() {
            self.user = self.claimed_user.take();
        }
        self
    }

    /// The message to be sent where this letter came from, or why that cannot be.
    pub fn replay(&self, delivery: Delivery) -> Result<Outgoing, &'static str> {
        let routing_key = self.routing_key.clone().ok_or("it does not say where it came from")?;
        if self.origin == Origin::Submit && self.by_broker && self.user.as_ref() != Some(&routing_key) {
            return Err("the broker parked it and did not check who sent it: ask the customer to submit it again");
        }
        // It would die again, and no longer say whose it is.
        if self.origin == Origin::Submit && self.claimed_user.as_ref() == Some(&routing_key) {
            return Err("a user who is not its customer sent it as the customer's: if that was one of you, say --believe USER");
        }
        let mut properties = delivery.properties;
        let first_at = self.first_at.map(|at| at.0.to_string());
        properties.user_id = None;
        properties.headers.retain(|(name, _)| is_own(name));
        let kept = KEPT.into_iter().zip([first_at, Some(self.attempts.to_string()), self.user.clone()]);
        properties.headers.extend(kept.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Ok(Outgoing { exchange: exchange(self.origin).to_owned(), routing_key, properties, body: delivery.body })
    }
}

/// What the broker's own history says.
struct Brokers {
    at: Option<Micros>,
    count: u32,
}

impl Brokers {
    /// `None` if a service parked the message.
    fn of(properties: &Properties) -> Option<Self> {
        if !is_brokers(properties) {
            return None;
        }
        let count = header(properties, FIRST_DEATH_COUNT).and_then(|count| count.parse().ok()).unwrap_or(1);
        let seconds = header(properties, FIRST_DEATH_TIME_S).and_then(|at| at.parse().ok());
        Some(Self { at: seconds.map(|seconds| Micros(0).plus(Duration::from_secs(seconds))), count })
    }
}

/// Whether the broker parked a message: what a service publishes has no history of the broker's.
fn is_brokers(properties: &Properties) -> bool {
    properties.headers.iter().any(|(name, _)| is_brokers_history(name))
}

/// Whether a header is the broker's own about a message's deaths, in any form.
pub fn is_brokers_history(name: &str) -> bool {
    name == DEATHS || name.starts_with("x-first-death-") || name.starts_with("x-last-death-")
}

/// Whether a header is its sender's, and not about its deaths.
fn is_own(name: &str) -> bool {
    !name.starts_with(PREFIX) && !is_brokers_history(name)
}

/// The headers of a message that its sender gave it.
pub fn own_headers(properties: &Properties) -> impl Iterator<Item = &(String, String)> {
    properties.headers.iter().filter(|(name, _)| is_own(name))
}

fn header<'a>(properties: &'a Properties, name: &str) -> Option<&'a str> {
    properties.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
}

/// The exchange that messages of an origin are published to; never one that a header names.
pub fn exchange(origin: Origin) -> &'static str {
    match origin {
        Origin::Submit => SUBMIT_EXCHANGE,
        Origin::Work => WORK_EXCHANGE,
        Origin::Outcomes => OUTCOMES_EXCHANGE,
        Origin::Fetch => FETCH_EXCHANGE,
    }
}

/// By which operators name a letter: typed into a shell, so nothing but plain signs.
fn id(delivery: &Delivery) -> String {
    let own = &delivery.properties.message_id;
    if !own.is_empty() && !own.starts_with('-') && own.bytes().all(|sign| sign.is_ascii_graphic()) {
        return own.clone();
    }
    let what = format!("{own}\n{:?}\n{}", delivery.properties.headers, Digest::of(&delivery.body));
    let digest: String = Digest::of(what.as_bytes()).to_string().chars().take(16).collect();
    format!("letter-{digest}")
}

fn work(delivery: &Delivery) -> Option<Work> {
    let format = Format::from_content_type(delivery.properties.content_type.as_deref()).ok()?;
    Work::from_bytes(&delivery.body, format).ok()
}

/// The replica that a message's id begins with: a unit's id is the replica, an outcome's has the host after it.
pub fn replica(origin: Origin, message_id: &str) -> Option<ReplicaKey> {
    match origin {
        Origin::Work => message_id.parse().ok(),
        Origin::Outcomes => message_id.rsplit_once('.')?.0.parse().ok(),
        Origin::Submit | Origin::Fetch => None,
    }
}

#[cfg(test)]
mod tests;
