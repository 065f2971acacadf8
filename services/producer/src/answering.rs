//! Answering: what becomes of one request, from its sender's limits to its durable answer.
//!
//! A customer that does not read its answers is not given more of them: once more than 10,000 messages or 512 MiB wait unsent
//! for it, its requests are dropped, counted and logged once a minute, and only `job.cancel` and `job.pause` still have their effect,
//! without an answer. What it asked before is not lost, and its results stay in the store.

use ports::broker::{Delivery, Properties};
use protocol::job::CancelJob;
use protocol::problem::{Code, Problem};
use protocol::query::PauseJob;
use protocol::{CustomerName, Digest, Message};
use service::{CancellationToken, Seen};

use crate::Producer;
use crate::asked::{Answer, Arrival, Asked};
use crate::damage::{Damage, until_told};
use crate::identity::{Identity, drop_unvouched, identify};
use crate::metrics::{ANSWERED, DROPPED, REFUSED};
use crate::performing::{End, begin, perform};
use crate::room::Room;

/// What is refused so is kept as a dead letter as well: a later version of the grid may read it.
const DEAD: [Code; 2] = [Code::Undecodable, Code::UnknownType];

/// What became of a message.
pub(crate) enum Handled {
    /// Its effect and its answer are durable.
    Done,
    /// The producer is stopping: it goes back.
    Again,
    /// It can have no effect.
    Dead {
        /// Why.
        cause: String,
        /// Whether its customer was told that.
        told: bool,
    },
}

impl Handled {
    /// It can have no effect, and nobody is told.
    fn dead(cause: impl Into<String>) -> Self {
        Self::Dead { cause: cause.into(), told: false }
    }

    /// It meets damage. Its customer is told nothing: once the rows are mended and it is sent again, it is answered as any other.
    fn damaged(Damage(error): &Damage) -> Self {
        Self::dead(format!("it cannot be done until the database is mended: {error}"))
    }
}

/// Does what a message asks, and answers. A dead one that could not be parked comes again, and is not told again where it is
/// among `told_dead`.
pub(crate) async fn handle(
    producer: &Producer,
    delivery: &mut Delivery,
    room: &Room,
    told_dead: &Seen<Digest>,
    stopping: &CancellationToken,
) -> Handled {
    drop_unvouched(&producer.settings, &mut delivery.properties);
    if has_nul(&delivery.properties) {
        return Handled::dead("a property holds a NUL byte, which no database keeps in a text");
    }
    let Ok(customer) = CustomerName::new(delivery.routing_key.clone()) else {
        return Handled::dead(format!("routing key {:?} is no customer's name", delivery.routing_key));
    };
    let identity = identify(&producer.settings, &customer, &mut delivery.properties);
    if let Identity::Other(user) = identity {
        return Handled::dead(format!("user {user} published as customer {customer}"));
    }
    let properties = &delivery.properties;
    let look = || producer.standings.of(producer, &customer);
    let standing = match until_told(producer, "reading a customer's limits", stopping, look).await {
        Some(Ok(standing)) => standing,
        Some(Err(damage)) => return Handled::damaged(&damage),
        None => return Handled::Again,
    };
    let arrival = Arrival { at: producer.clock.now(), tag: delivery.tag };
    let asked = Asked::new(customer, properties, standing, arrival);
    let kind = properties.kind.as_str();
    let deaf = standing.is_deaf();
    if deaf {
        say_deaf(producer, &asked);
    }
    if deaf && kind != CancelJob::KIND && kind != PauseJob::KIND {
        producer.metrics.request(kind, DROPPED);
        return Handled::Done;
    }
    let begun = match identity {
        Identity::Unnamed => Err(Box::new(unnamed(&asked))),
        Identity::Customer | Identity::Other(_) => begin(producer, &asked, delivery, room).await,
    };
    let told = match begun {
        Ok(begun) => match perform(producer, &asked, begun, (delivery, room), stopping).await {
            Ok(answer) => {
                producer.metrics.request(kind, ANSWERED);
                Told { answer, dead: None }
            }
            Err(End::Refused(problem)) => Told::refused(producer, &asked, kind, *problem),
            Err(End::Damaged(damage)) => return Handled::damaged(&damage),
            Err(End::Stopping) => return Handled::Again,
        },
        Err(problem) => Told::refused(producer, &asked, kind, *problem),
    };
    let tells = !deaf && !told.answer.is_empty();
    let known = told.dead.is_some() && !told_dead.is_new(sameness(delivery)) && delivery.redelivered;
    if tells && !known {
        let write = || producer.store.reply_all(told.answer.clone());
        match until_told(producer, "answering a customer", stopping, write).await {
            Some(Ok(())) => {}
            Some(Err(damage)) => return Handled::damaged(&damage),
            None => return Handled::Again,
        }
    }
    told.dead.map_or(Handled::Done, |cause| Handled::Dead { cause, told: tells })
}

/// By which a message is known when it is delivered again.
fn sameness(delivery: &Delivery) -> Digest {
    let Properties { message_id, correlation_id, kind, .. } = &delivery.properties;
    let whole = (&delivery.routing_key, message_id, correlation_id, kind, Digest::of(&delivery.body));
    Digest::of(format!("{whole:?}").as_bytes())
}

/// Whether any property that is kept, with a job or with an answer, has a NUL byte.
fn has_nul(properties: &Properties) -> bool {
    let Properties { message_id, kind, content_type, correlation_id, traceparent, .. } = properties;
    let optional = [content_type, correlation_id, traceparent].into_iter().flatten();
    [message_id, kind].into_iter().chain(optional).any(|text| text.contains('\0'))
}

/// What is written for the customer, and why the message is kept as a dead letter, if it is.
struct Told {
    answer: Answer,
    dead: Option<String>,
}

impl Told {
    fn refused(producer: &Producer, asked: &Asked, kind: &str, problem: Problem) -> Self {
        let (customer, id, traceparent) = (&asked.customer, &asked.message_id, asked.traceparent.as_deref());
        tracing::info!(customer = %customer, traceparent, "message {id:?} of {customer} is refused: {problem}");
        producer.metrics.request(kind, REFUSED);
        producer.metrics.submissions_refused.with_label_values(&[problem.code.as_str()]).inc();
        let dead = DEAD.iter().any(|code| problem.code == code.about().code).then(|| problem.detail.clone());
        match asked.refused(kind, problem) {
            Ok(answer) => Self { answer: vec![answer], dead },
            Err(error) => {
                tracing::error!("a problem cannot be written: {error}");
                Self { answer: Answer::new(), dead }
            }
        }
    }
}

fn say_deaf(producer: &Producer, asked: &Asked) {
    let customer = &asked.customer;
    if producer.standings.may_say(customer, producer.clock.now()) {
        let (messages, mib) = (asked.standing.used.unsent_messages, asked.standing.used.unsent_bytes >> 20);
        tracing::warn!(
            customer = %customer,
            "{customer} does not read: {messages} messages of {mib} MiB wait for it, and its requests are dropped"
        );
    }
}

fn unnamed(asked: &Asked) -> Problem {
    let detail = format!("message {:?} has no user_id: set it to {}", asked.message_id, asked.customer);
    Problem::new(Code::UserIdRequired, detail)
}
