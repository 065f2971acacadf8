//! Real RabbitMQ and PostgreSQL servers for tests: private, on free loopback ports, gone with the test process.
//!
//! [`rabbitmq`] and [`postgres`] give the servers shared by a test run. `make test` starts them once and names them
//! in [`AMQP_URL`], [`MANAGEMENT_URL`] and [`DATABASE_URL`]; a developer may name their own there; otherwise each
//! test process starts its own when first asked. Tests stay apart by a fresh vhost or database each. A test that
//! kills, blocks or reconfigures a server starts one for itself with [`RabbitMq::start`] or [`Postgres::start`].

mod address;
mod http;
mod postgres;
mod rabbitmq;
mod supervisor;
mod tls;

use std::sync::OnceLock;

pub use address::RabbitAddress;
pub use postgres::{Durability, Postgres, PostgresAddress, psql};
pub use rabbitmq::RabbitMq;

/// Names the shared RabbitMQ: `amqp://user:password@host:port`.
pub const AMQP_URL: &str = "OFFPEAK_TEST_AMQP_URL";

/// Names its management HTTP address, through which vhosts are made; by default port 15672 of the same host.
pub const MANAGEMENT_URL: &str = "OFFPEAK_TEST_MANAGEMENT_URL";

/// Names the shared PostgreSQL: `postgres://user:password@host:port/database`, a user who may create databases.
pub const DATABASE_URL: &str = "OFFPEAK_TEST_DATABASE_URL";

/// The RabbitMQ that the tests of this run share.
///
/// # Panics
/// When it cannot be started; the message says what to install.
pub fn rabbitmq() -> &'static RabbitAddress {
    static SHARED: OnceLock<(RabbitAddress, Option<RabbitMq>)> = OnceLock::new();
    let (address, _server) = SHARED.get_or_init(|| {
        if let Some(url) = supervisor::variable(AMQP_URL) {
            let management = supervisor::variable(MANAGEMENT_URL);
            return (RabbitAddress::new(&url, management.as_deref()), None);
        }
        let server = RabbitMq::start();
        (server.address().clone(), Some(server))
    });
    address
}

/// The PostgreSQL that the tests of this run share; it does not sync to disk.
///
/// # Panics
/// When it cannot be started; the message says what to install.
pub fn postgres() -> &'static PostgresAddress {
    static SHARED: OnceLock<(PostgresAddress, Option<Postgres>)> = OnceLock::new();
    let (address, _server) = SHARED.get_or_init(|| {
        if let Some(url) = supervisor::variable(DATABASE_URL) {
            return (PostgresAddress::new(&url), None);
        }
        let server = Postgres::start(Durability::Fast);
        (server.address().clone(), Some(server))
    });
    address
}

#[cfg(test)]
mod tests;
