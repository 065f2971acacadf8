//! Both brokers against one contract, and what only a real `RabbitMQ` can do to us.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![expect(clippy::disallowed_methods, reason = "tests spawn and join their own tasks")]

mod blocked;
mod contract;
mod faults;
mod letters;
mod node;
mod poison;
mod policies;
mod rate;
mod topology;
mod unconfirmed;
mod unreachable;
