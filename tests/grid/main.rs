//! The whole grid, as a user meets it: the command, its services as processes, real RabbitMQ and PostgreSQL.

mod bad_input;
mod bench;
mod combinations;
mod dead;
mod doctor;
mod examples;
mod health;
#[path = "../support/offpeak.rs"]
mod offpeak;
#[path = "../chaos/proxy.rs"]
mod proxy;
mod resume;
mod scale;
mod scaling;
mod services;
mod tls;
mod top;
mod trace;
mod upgrade;
