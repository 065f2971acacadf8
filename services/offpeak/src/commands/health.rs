//! `offpeak health`: asks a service's admin side whether it has started, is alive or ready, as a container's health check does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use serde_json::json;

use crate::admin::{self, Question};
use crate::args::HealthArgs;
use crate::exit::{self, Refused};
use crate::grid::Settings;
use crate::terminal;

/// Asks once.
pub(super) async fn health(args: HealthArgs) -> Result<u8> {
    let address = match args.address {
        Some(address) => address,
        None => own_address(Settings::load(args.config.as_deref())?.admin.address)?.to_string(),
    };
    let question = match (args.started, args.ready) {
        (true, _) => Question::Started,
        (false, true) => Question::Ready,
        (false, false) => Question::Alive,
    };
    let word = question.word();
    let object = |reason: Option<&str>, report| json!({ "address": address, "check": word, "well": reason.is_none(), "reason": reason, "report": report });
    match admin::ask(&address, question).await {
        Ok(health) => {
            let well = health.reason.is_none();
            if args.json {
                terminal::print_json(&object(health.reason.as_deref(), health.report))?;
            } else {
                let reason = health.reason.map_or_else(|| word.to_owned(), |reason| format!("not {word}: {reason}"));
                terminal::print(&format!("{reason}\n"))?;
            }
            Ok(if well { exit::SUCCESS } else { exit::SOME_FAILED })
        }
        Err(error) if args.json => {
            let reason = exit::told(&error.into());
            terminal::print_json(&object(Some(&reason), serde_json::Value::Null))?;
            Ok(exit::UNAVAILABLE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a service that listens on this address is asked from the same machine.
fn own_address(address: SocketAddr) -> Result<SocketAddr> {
    if address.port() == 0 {
        let problem = "admin.address has the port 0, so any port was taken: name the one it logged with --address HOST:PORT";
        return Err(Refused::Usage(problem.to_owned()).into());
    }
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Ok(SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        let own = |address: &str| own_address(address.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(own("0.0.0.0:9460").unwrap(), "127.0.0.1:9460");
        assert_eq!(own("[::]:9460").unwrap(), "[::1]:9460");
        assert_eq!(own("10.0.0.7:1").unwrap(), "10.0.0.7:1");
        assert!(own("127.0.0.1:0").unwrap_err().to_string().contains("--address"));
    }
}
