//! The producer as its customers meet it: requests in, answers out, on the broker and the store in memory, with time at rest.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod apps;
mod damage;
mod expiry;
mod fairness;
mod jobs;
mod limits;
mod messages;
mod quotes;
mod results;
mod uploads;
mod usage;
mod workers;
mod world;
