//! `offpeak health`: asks a service's admin side whether it is alive or ready, as a container's health check does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use service::probe;

use crate::args::HealthArgs;
use crate::exit::{self, Refused};
use crate::grid::Settings;
use crate::terminal;

/// A health check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// HTTP's status of an admin side that is not alive or not ready.
const UNAVAILABLE: u16 = 503;

/// Asks once.
pub(super) async fn health(args: HealthArgs) -> Result<u8> {
    let address = match args.address {
        Some(address) => address,
        None => own_address(Settings::load(args.config.as_deref())?.admin.address)?.to_string(),
    };
    let (path, word) = if args.ready { ("/readyz", "ready") } else { ("/livez", "alive") };
    let answer = match probe::ask(&address, path, PATIENCE).await {
        Ok(answer) => answer,
        Err(error) => {
            let error = anyhow::Error::from(error);
            if args.json {
                let reason = exit::told(&error);
                terminal::print_json(&json!({ "address": address, "check": word, "well": false, "reason": reason }))?;
                return Ok(exit::UNAVAILABLE);
            }
            return Err(error);
        }
    };
    let well = answer.status == 200;
    let report: Value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    let reason = if well { None } else { Some(why_not(answer.status, &report)) };
    if args.json {
        let object = json!({ "address": address, "check": word, "well": well, "reason": reason, "report": report });
        terminal::print_json(&object)?;
    } else {
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        terminal::print(&format!("{}{word}{reason}\n", if well { "" } else { "not " }))?;
    }
    Ok(if well { exit::SUCCESS } else { exit::SOME_FAILED })
}

/// Where a service that listens on this address is asked from the same machine.
fn own_address(address: SocketAddr) -> Result<SocketAddr, Refused> {
    if address.port() == 0 {
        let problem = "admin.address has the port 0, so any port was taken: name the one it logged with --address HOST:PORT";
        return Err(Refused::Usage(problem.to_owned()));
    }
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Ok(SocketAddr::new(ip, address.port()))
}

/// The reasons in an answer of `/livez` or `/readyz`.
fn why_not(status: u16, report: &Value) -> String {
    let mut reasons = Vec::new();
    if report["draining"] == true {
        reasons.push("draining".to_owned());
    }
    let checks = report["checks"].as_object().into_iter().flatten();
    for (name, check) in checks.filter(|(_, check)| check["ready"] == false) {
        reasons.push(format!("{name}: {}", check["reason"].as_str().unwrap_or("no reason is told")));
    }
    for silent in report["silent"].as_array().into_iter().flatten() {
        let (name, ms) = (silent["name"].as_str().unwrap_or("a loop"), &silent["silent_ms"]);
        reasons.push(format!("{name} has been silent for {ms} ms of {} allowed", silent["max_silence_ms"]));
    }
    if reasons.is_empty() && status != UNAVAILABLE {
        reasons.push(format!("it answers with status {status}: is this an admin side of offpeak?"));
    }
    crate::dead::plain(&reasons.join("; "))
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

    #[test]
    fn every_reason_is_told() {
        let ready = json!({ "ready": false, "draining": true, "checks": {
            "broker": { "ready": true }, "database": { "ready": false, "reason": "connecting" } } });
        assert_eq!(why_not(503, &ready), "draining; database: connecting");
        let alive = json!({ "alive": false, "silent": [{ "name": "dispatch", "silent_ms": 31000, "max_silence_ms": 30000 }] });
        assert_eq!(why_not(503, &alive), "dispatch has been silent for 31000 ms of 30000 allowed");
        assert!(why_not(404, &Value::Null).contains("status 404"));
    }
}
