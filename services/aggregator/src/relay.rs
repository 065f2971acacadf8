//! The relay: messages that were written with their effect go out, in each customer's order, until the broker has them. A queue that
//! is full may take a later message and not an earlier one, but never what concludes a job or a request before what it concludes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ports::broker::{BrokerError, Confirm, Outgoing, Properties};
use ports::store::{Outbox, OutboxKey, StoreError};
use protocol::address::CUSTOMER_EXCHANGE;
use protocol::query::ResultsFetched;
use protocol::reply::Completed;
use protocol::{CustomerName, Message as _};
use service::CancellationToken;
use service::patience::until_done;
use service::scope::TaskError;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::Aggregator;

/// Messages sent in one go.
const MAX_MESSAGES: u32 = 200;
/// What an aggregator has claimed and not sent is free again after this: should it die, customers wait so long.
const CLAIM: Duration = Duration::from_secs(20);
/// The broker is given so long for a batch; less than the claim, so that two relays do not send the same.
const PATIENCE: Duration = Duration::from_secs(15);
/// And so long for one round of it: a queue that does not answer keeps all others waiting.
const ROUND_PATIENCE: Duration = Duration::from_secs(8);
/// Once the aggregator stops, batches are begun for so long; what is left then is sent by other aggregators.
const LAST_BATCHES: Duration = Duration::from_secs(3);
/// And a batch that is under way so long after the stop is given up: its claim runs out, as that of an aggregator that died.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// A customer's queue that refuses is offered the message again after this.
const AGAIN: Duration = Duration::from_secs(5);
/// Customers of whose queues something is known.
const MAX_KNOWN: usize = 10_000;
/// Rounds of offers in a batch. Of a queue that refused each is twice as large, and together they are more than a batch.
const ROUNDS: usize = 8;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// What the relay knows of customers' queues.
#[derive(Default)]
struct Queues {
    /// Those that are known to be declared.
    declared: BTreeSet<CustomerName>,
    /// Those that refused lately, and have not taken all that a batch offered since.
    refusing: BTreeSet<CustomerName>,
}

/// What became of a batch.
#[derive(Default)]
struct Ends {
    sent: Vec<OutboxKey>,
    refused: Vec<OutboxKey>,
    /// Not offered.
    kept: Vec<OutboxKey>,
}

/// What waits for each customer, in the portions in which it is offered: one when all before it was taken.
type Waiting<'a> = BTreeMap<&'a CustomerName, VecDeque<Vec<&'a Outbox>>>;

/// Runs until stopped, and then sends what is there, as far as there is time.
pub(crate) async fn run(aggregator: Aggregator, told: Arc<Notify>, stopping: CancellationToken) -> Result<(), TaskError> {
    let over = async {
        stopping.cancelled().await;
        tokio::time::sleep(LAST_PATIENCE).await;
    };
    tokio::select! {
        biased;
        () = send_all(&aggregator, &told, &stopping) => {}
        () = over => tracing::warn!("stopping amid a batch of replies that the broker does not take: it is sent again later"),
    }
    Ok(())
}

/// Sends batch after batch: until stopped, and then until nothing is there or [`LAST_BATCHES`] have passed.
async fn send_all(aggregator: &Aggregator, told: &Notify, stopping: &CancellationToken) {
    let idle = Duration::from_millis(aggregator.settings.relay_ms);
    let queues = tokio::sync::Mutex::new(Queues::default());
    let mut last = None;
    loop {
        if stopping.is_cancelled() && Instant::now() >= *last.get_or_insert_with(|| Instant::now() + LAST_BATCHES) {
            return;
        }
        let send = || async { relay(aggregator, &mut *queues.lock().await).await };
        match until_done("sending replies", stopping, send).await {
            Some(0) if stopping.is_cancelled() => return,
            Some(0) => tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = told.notified() => {}
                () = tokio::time::sleep(idle) => {}
            },
            Some(_) => {}
            None => return,
        }
    }
}

/// Sends a batch; how many the broker has taken.
async fn relay(aggregator: &Aggregator, queues: &mut Queues) -> Result<usize, RelayError> {
    let now = aggregator.clock.now();
    let batch = aggregator.store.claim_outbox(now, now.plus(CLAIM), MAX_MESSAGES).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    let ends = match send(aggregator, &batch, queues).await {
        Ok(ends) => ends,
        Err(error) => {
            // Given back at once, not when the claim ends: what comes after it must not overtake it.
            let all: Vec<OutboxKey> = batch.iter().map(Outbox::key).collect();
            aggregator.store.settle_outbox(&[], &all, aggregator.clock.now()).await?;
            return Err(error.into());
        }
    };
    let now = aggregator.clock.now();
    aggregator.store.settle_outbox(&ends.sent, &ends.refused, now.plus(AGAIN)).await?;
    if !ends.kept.is_empty() {
        aggregator.store.settle_outbox(&[], &ends.kept, now).await?;
    }
    aggregator.metrics.replies_sent.inc_by(u64::try_from(ends.sent.len()).unwrap_or(0));
    aggregator.metrics.replies_refused.inc_by(u64::try_from(ends.refused.len()).unwrap_or(0));
    Ok(ends.sent.len())
}

/// Offers messages to the broker, round by round; an error is that of the first, after which nothing was offered.
async fn send(aggregator: &Aggregator, batch: &[Outbox], queues: &mut Queues) -> Result<Ends, BrokerError> {
    let deadline = Instant::now() + PATIENCE;
    let mut ends = Ends::default();
    let mut waiting = portions(batch, &queues.refusing);
    declare(aggregator, &mut waiting, queues, &mut ends, deadline).await?;
    let mut heard = true;
    for round in 0..ROUNDS {
        let offered: Vec<&Outbox> = waiting.values_mut().filter_map(VecDeque::pop_front).flatten().collect();
        if offered.is_empty() {
            break;
        }
        let messages = offered.iter().map(|outbox| outgoing(outbox)).collect();
        let patience = deadline.saturating_duration_since(Instant::now()).min(ROUND_PATIENCE);
        let confirms = match aggregator.broker.publish(messages, patience).await {
            Ok(confirms) => confirms,
            Err(error) if round == 0 => return Err(error),
            Err(_again) => {
                // The next batch meets it, too, and tells it.
                ends.keep(offered);
                heard = false;
                break;
            }
        };
        heard = !confirms.contains(&Confirm::Unknown);
        for (outbox, confirm) in offered.into_iter().zip(confirms) {
            if !queues.count(outbox, confirm, &mut ends) {
                ends.keep(waiting.remove(&outbox.message.customer).into_iter().flatten().flatten());
            }
        }
        if !heard {
            break;
        }
    }
    for (customer, rest) in waiting {
        if heard {
            queues.refusing.remove(customer);
        }
        ends.keep(rest.into_iter().flatten());
    }
    if queues.refusing.len() > MAX_KNOWN {
        queues.refusing.clear();
    }
    Ok(ends)
}

/// Declares queues of customers that are not known to have theirs. One that is of another kind takes nothing, and keeps nobody
/// else waiting.
async fn declare(
    aggregator: &Aggregator,
    waiting: &mut Waiting<'_>,
    queues: &mut Queues,
    ends: &mut Ends,
    deadline: Instant,
) -> Result<(), BrokerError> {
    if queues.declared.len() > MAX_KNOWN {
        queues.declared.clear();
    }
    let unknown: Vec<&CustomerName> = waiting.keys().copied().filter(|customer| !queues.declared.contains(*customer)).collect();
    for customer in unknown {
        let declaration = timeout_at(deadline, aggregator.broker.declare_customer(customer)).await;
        match declaration.unwrap_or_else(|_elapsed| Err(unreachable_for(customer))) {
            Ok(()) => drop(queues.declared.insert(customer.clone())),
            Err(error @ BrokerError::Refused { .. }) => {
                tracing::warn!(customer = %customer, "replies wait for {customer}: {error}");
                let unfit = waiting.remove(customer).into_iter().flatten().flatten();
                ends.refused.extend(unfit.map(Outbox::key));
            }
            Err(error @ (BrokerError::Unreachable { .. } | BrokerError::Closed)) => return Err(error),
        }
    }
    Ok(())
}

fn unreachable_for(customer: &CustomerName) -> BrokerError {
    BrokerError::Unreachable {
        operation: format!("declaring the results queue of {customer}"),
        waited: PATIENCE,
        last: "no answer".to_owned(),
    }
}

/// A batch by customer. Who takes messages is offered all but conclusions, and then these; who refused lately one message,
/// and then twice as many each time, conclusions first among theirs: a customer who does not read costs the broker, and those who
/// wait behind it, one message every [`AGAIN`].
fn portions<'a>(batch: &'a [Outbox], refusing: &BTreeSet<CustomerName>) -> Waiting<'a> {
    let mut by_customer: BTreeMap<&CustomerName, Vec<&Outbox>> = BTreeMap::new();
    for outbox in batch {
        by_customer.entry(&outbox.message.customer).or_default().push(outbox);
    }
    let cut = |(customer, messages)| {
        let portions = if refusing.contains(customer) { growing(messages) } else { conclusions_last(messages) };
        (customer, portions)
    };
    by_customer.into_iter().map(cut).collect()
}

fn growing(messages: Vec<&Outbox>) -> VecDeque<Vec<&Outbox>> {
    let (mut portions, mut most) = (VecDeque::from([Vec::new()]), 1);
    for outbox in messages {
        let full = portions.back().is_some_and(|last| last.len() >= most || (concludes(outbox) && !last.is_empty()));
        if full {
            portions.push_back(Vec::new());
            most *= 2;
        }
        if let Some(last) = portions.back_mut() {
            last.push(outbox);
        }
    }
    portions
}

fn conclusions_last(messages: Vec<&Outbox>) -> VecDeque<Vec<&Outbox>> {
    let mut begun = BTreeSet::new();
    let (first, last): (Vec<&Outbox>, Vec<&Outbox>) = messages.into_iter().partition(|outbox| {
        let is_new = begun.insert(&outbox.message.correlation_id);
        is_new || !concludes(outbox)
    });
    VecDeque::from([first, last])
}

/// Whether it says that all was sent before it.
fn concludes(outbox: &Outbox) -> bool {
    [Completed::KIND, ResultsFetched::KIND].contains(&outbox.message.kind.as_str())
}

impl Ends {
    fn keep<'a>(&mut self, messages: impl IntoIterator<Item = &'a Outbox>) {
        self.kept.extend(messages.into_iter().map(Outbox::key));
    }
}

impl Queues {
    /// Notes what the broker said of a message; whether it has it.
    fn count(&mut self, outbox: &Outbox, confirm: Confirm, ends: &mut Ends) -> bool {
        match confirm {
            Confirm::Stored => ends.sent.push(outbox.key()),
            Confirm::Refused | Confirm::Unknown => {
                self.refusing.insert(outbox.message.customer.clone());
                ends.refused.push(outbox.key());
            }
            Confirm::Unroutable => {
                self.declared.remove(&outbox.message.customer);
                ends.refused.push(outbox.key());
            }
        }
        confirm == Confirm::Stored
    }
}

fn outgoing(outbox: &Outbox) -> Outgoing {
    let message = &outbox.message;
    let properties = Properties {
        message_id: message.id.clone(),
        kind: message.kind.clone(),
        content_type: Some(message.content_type.clone()),
        correlation_id: message.correlation_id.clone(),
        traceparent: message.traceparent.clone(),
        ..Properties::default()
    };
    let routing_key = message.customer.to_string();
    Outgoing { exchange: CUSTOMER_EXCHANGE.to_owned(), routing_key, properties, body: message.body.clone() }
}
