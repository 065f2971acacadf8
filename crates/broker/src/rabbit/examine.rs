//! Examines a grid's broker from outside, over AMQP: what is there, of which kind, and what the user may do. Changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use ports::broker::Depth;

use super::control::{Control, Failure, Step};
use super::errors::{ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED};
use super::settings::{RabbitSettings, Target, UrlError};
use crate::topology::Topology;

/// What a user may do, by RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Declare it.
    Configure,
    /// Publish to it.
    Write,
    /// Consume it.
    Read,
}

/// A right that the user lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Which.
    pub right: Right,
    /// The exchange or queue.
    pub name: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examination {
    /// Exchanges and queues of the topology that are not there.
    pub missing: Vec<String>,
    /// Those that are of another kind, and what differs in the broker's words.
    pub differs: Vec<(String, String)>,
    /// What the user may not do.
    pub denied: Vec<Denied>,
    /// The queues that are there.
    pub depths: BTreeMap<String, Depth>,
    /// Why the examination ended early, if it did: the broker no longer answered.
    pub stalled: Option<String>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The broker was not reached, or let the user not in; its last words.
    #[error("{0}")]
    Broker(String),
}

/// What was asked for when the broker did not answer, and why it did not.
type Unanswered = (String, String);

/// Looks at every exchange and queue of the topology as the URL's user.
///
/// Rights are asked for by what the broker refuses for another reason once the right is there: a declaration of what
/// is declared, a consumer with a priority that is none, a message with an expiry that is none.
pub async fn examine(settings: &RabbitSettings, topology: &Topology) -> Result<Examination, ExamineError> {
    let target = Target::new(settings)?;
    let control = Control::new(target, 1, Some(Duration::ZERO)).map_err(UrlError::from)?;
    let mut found = Examination::default();
    let done = control.examine(topology, &mut found).await;
    control.close();
    match done {
        Err((_, reason)) if found == Examination::default() => return Err(ExamineError::Broker(reason)),
        Err((object, reason)) => found.stalled = Some(format!("{object}: {reason}")),
        Ok(()) => {}
    }
    Ok(found)
}

impl Control {
    async fn examine(&self, topology: &Topology, found: &mut Examination) -> Result<(), Unanswered> {
        let mut exchanges = Vec::new();
        for exchange in &topology.exchanges {
            let object = format!("exchange {}", exchange.name);
            match self.attempt(Step::FindExchange(&exchange.name)).await {
                Ok(_) => {
                    let declared = self.attempt(Step::Exchange(exchange)).await;
                    found.note(Right::Configure, &exchange.name, object, declared)?;
                    exchanges.push(exchange);
                }
                Err(Failure::Refused(NOT_FOUND, _)) => found.missing.push(object),
                Err(failure) => return Err((object, words(failure))),
            }
        }
        for queue in &topology.queues {
            let object = format!("queue {}", queue.name);
            match self.attempt(Step::Inspect(&queue.name)).await {
                Ok(depth) => {
                    found.depths.insert(queue.name.clone(), depth.unwrap_or_default());
                    for (step, right) in [(Step::Queue(queue), Right::Configure), (Step::NoConsumer(&queue.name), Right::Read)] {
                        let done = self.attempt(step).await;
                        found.note(right, &queue.name, object.clone(), done)?;
                    }
                }
                Err(Failure::Refused(NOT_FOUND, _)) => found.missing.push(object),
                Err(failure) => return Err((object, words(failure))),
            }
        }
        // Last, since a broker with an alarm answers no connection that publishes.
        for exchange in exchanges {
            let object = format!("publishing to exchange {}", exchange.name);
            let published = self.attempt(Step::NoMessage(&exchange.name)).await;
            found.note(Right::Write, &exchange.name, object, published)?;
        }
        Ok(())
    }
}

impl Examination {
    /// Takes down what a refusal means; an error if the broker did not answer.
    fn note(&mut self, right: Right, name: &str, object: String, done: Result<Option<Depth>, Failure>) -> Result<(), Unanswered> {
        match done {
            Err(Failure::Refused(ACCESS_REFUSED, _)) => self.denied.push(Denied { right, name: name.to_owned() }),
            Err(Failure::Refused(PRECONDITION_FAILED, difference)) if right == Right::Configure => {
                self.differs.push((object, difference));
            }
            // The refusal that shows that the right is there; or it has just gone.
            Ok(_) | Err(Failure::Refused(..)) => {}
            Err(failure @ (Failure::Unreachable(_) | Failure::Closed)) => return Err((object, words(failure))),
        }
        Ok(())
    }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Refused(_, text) | Failure::Unreachable(text) => text,
        Failure::Closed => "the connections are closed".to_owned(),
    }
}
