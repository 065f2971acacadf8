//! URLs of broker and database as they are typed: checked before anything is done, never shown, as they may hold passwords.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

/// What a URL leads to; reads it, where clap's own errors would repeat it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Url {
    /// RabbitMQ.
    Broker,
    /// PostgreSQL or SQLite.
    Database,
}

impl TypedValueParser for Url {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        let problem = match value.to_str().map(|url| (url, self.problem(url))) {
            Some((url, None)) => return Ok(url.to_owned()),
            Some((_, Some(problem))) => problem,
            None => "it is not UTF-8".to_owned(),
        };
        let problem = format!("{} cannot be used: {problem}", named(arg));
        Err(Error::raw(ErrorKind::ValueValidation, problem).format(&mut command.clone()))
    }
}

impl Url {
    /// Why it cannot be used, if so. A variable that is set to nothing names nothing, and is no mistake.
    fn problem(self, url: &str) -> Option<String> {
        if url.is_empty() {
            return None;
        }
        match self {
            Self::Broker => broker::rabbit::check_url(url).err().map(|error| error.to_string()),
            Self::Database => store::check_url(url).err(),
        }
    }
}

/// The flag, and the variable that stands for it: either may have been meant.
fn named(arg: Option<&Arg>) -> String {
    let Some(arg) = arg else { return "the URL".to_owned() };
    match arg.get_env() {
        Some(variable) => format!("{arg} or {}", variable.display()),
        None => arg.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::Cli;

    #[test]
    fn what_leads_nowhere_is_refused_by_its_flag_and_not_shown() {
        let parsed = |flag: &str, url: &str| Cli::try_parse_from(["offpeak", "status", flag, url]);
        for (flag, url, part) in [
            ("--amqp", "s3cret", "it names no host"),
            ("--amqp", "ann:s3cret@rabbit", "write amqp://user:password@host:port/vhost"),
            ("--amqp", "http://ann:s3cret@rabbit", "write amqp://"),
            ("--database", "s3cret", "neither sqlite://PATH nor postgres://"),
            ("--database", "mysql://ann:s3cret@db/grid", "neither sqlite://PATH nor postgres://"),
            ("--database", "postgres://ann:s3/cret@db/grid", "cannot be read"),
        ] {
            let error = parsed(flag, url).unwrap_err();
            let told = error.to_string();
            assert_eq!(error.exit_code(), i32::from(crate::exit::REFUSED), "{told}");
            assert!(told.contains(&format!("{flag} <URL> or OFFPEAK__")) && told.contains(part), "{told}");
            assert!(!told.contains("s3"), "{told}");
        }
        for (flag, url) in [("--amqp", "amqp://rabbit"), ("--amqp", ""), ("--database", "sqlite://grid.db"), ("--database", "")] {
            assert!(parsed(flag, url).is_ok(), "{flag} {url}");
        }
    }
}
