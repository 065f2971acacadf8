//! Runs a command with RabbitMQ and PostgreSQL at hand: `with-servers cargo test`. What is already given is used.
//!
//! The servers stop when the command has ended, and also when this process is killed. Its exit status is the
//! command's.

use std::process::{Command, ExitCode};

use testkit::servers::{self, AMQP_URL, DATABASE_URL, MANAGEMENT_URL};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-servers COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let (rabbitmq, postgres) = (servers::rabbitmq(), servers::postgres());
    let status = Command::new(&program)
        .args(arguments)
        .env(AMQP_URL, rabbitmq.url())
        .env(MANAGEMENT_URL, rabbitmq.management_url())
        .env(DATABASE_URL, postgres.url())
        .status();
    match status {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Err(error) => {
            eprintln!("with-servers: cannot run {}: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
