//! Where a RabbitMQ is, and what is asked of its management side.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::http::Endpoint;

/// How often a vhost is looked for on the nodes that do not run it.
const VHOST_LOOKS: usize = 300;

/// The pause between two such looks.
const VHOST_LOOK: Duration = Duration::from_millis(100);

/// Makes the vhosts of one process differ.
static NEXT_VHOST: AtomicU32 = AtomicU32::new(0);

/// Where a RabbitMQ is: enough to connect and to make vhosts.
#[derive(Debug, Clone)]
pub struct RabbitAddress {
    /// `amqp://user:password@host:port`, without a vhost.
    base: String,
    /// What the URL had after the host: the encoded name of the default vhost, or nothing.
    default_vhost: String,
    management: Endpoint,
}

impl RabbitAddress {
    /// Takes a URL apart; without a `management` URL it is port 15672 of the same host and login.
    pub fn new(url: &str, management: Option<&str>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("amqp", url));
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let host_only = host.rsplit_once(':').map_or(host, |(host, _port)| host);
        let by_default = format!("http://{login}@{host_only}:15672");
        Self {
            base: format!("{scheme}://{login}@{host}"),
            default_vhost: vhost.to_owned(),
            management: Endpoint::parse(management.unwrap_or(&by_default)),
        }
    }

    /// The URL of the default vhost.
    pub fn url(&self) -> String {
        if self.default_vhost.is_empty() {
            return self.base.clone();
        }
        format!("{}/{}", self.base, self.default_vhost)
    }

    /// The port of AMQP.
    pub fn port(&self) -> u16 {
        self.base.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(5672)
    }

    /// The URL of the management HTTP side.
    pub fn management_url(&self) -> String {
        self.management.url()
    }

    /// Makes a fresh vhost, in whose name `name` stands, and returns its URL.
    ///
    /// # Panics
    /// When the management side refuses or is not there.
    pub fn vhost(&self, name: &str) -> String {
        self.try_vhost(name)
            .unwrap_or_else(|problem| panic!("cannot make a vhost, is {} right? {problem}", super::MANAGEMENT_URL))
    }

    fn try_vhost(&self, name: &str) -> Result<String, String> {
        let number = NEXT_VHOST.fetch_add(1, Ordering::Relaxed);
        let vhost = format!("{}-{}-{number}", plain(name), unique());
        // A cluster that has just formed may take longer than one question waits; asking again is harmless.
        let mut made = self.make_vhost(&vhost);
        for _again in 0..4 {
            if made.is_ok() {
                break;
            }
            made = self.make_vhost(&vhost);
        }
        made?;
        Ok(format!("{}/{vhost}", self.base))
    }

    /// Sets a policy, as JSON, in the vhost of that name or of a URL.
    ///
    /// # Panics
    /// When the management side refuses or is not there.
    pub fn set_policy(&self, url: &str, name: &str, policy: &str) {
        let vhost = url.rsplit('/').next().unwrap_or_default();
        self.api("PUT", &format!("/api/policies/{vhost}/{name}"), policy).unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Makes a vhost of exactly that name, empty, with every right for the login of this address, which runs on every node.
    pub fn make_vhost(&self, vhost: &str) -> Result<(), String> {
        self.api("PUT", &format!("/api/vhosts/{vhost}"), "{}")?;
        let login = self.base.split_once("://").map_or("", |(_, rest)| rest);
        let user = login.split(':').next().unwrap_or("guest");
        let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.api("PUT", &format!("/api/permissions/{vhost}/{user}"), everything)?;
        self.run_everywhere(vhost)
    }

    /// Starts a vhost where it does not run. RabbitMQ leaves out nodes that are about to have booted, and 3.10 never comes back
    /// to them: they then refuse all its connections, "vhost is down".
    fn run_everywhere(&self, vhost: &str) -> Result<(), String> {
        let mut down = Vec::new();
        for _ in 0..VHOST_LOOKS {
            down = nodes_without(&self.api("GET", &format!("/api/vhosts/{vhost}"), "")?);
            if down.is_empty() {
                return Ok(());
            }
            for node in &down {
                self.api("POST", &format!("/api/vhosts/{vhost}/start/{node}"), "")?;
            }
            std::thread::sleep(VHOST_LOOK);
        }
        Err(format!("vhost {vhost} does not run on {}", down.join(", ")))
    }

    /// Asks the management side, and returns the text of its answer.
    pub fn api(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        match self.management.request(method, path, body)? {
            (200..=299, text) => Ok(text),
            (status, text) => Err(format!("{method} {path} answered {status}: {text}")),
        }
    }

    /// Whether the node serves, with all its vhosts.
    pub(super) fn is_up(&self) -> bool {
        let api = self.management.request("GET", "/api/health/checks/virtual-hosts", "");
        matches!(api, Ok((200, _))) && self.speaks_amqp()
    }

    /// Whether the broker answers a protocol header with its `connection.start`.
    fn speaks_amqp(&self) -> bool {
        use std::io::{Read, Write};
        let host = self.base.rsplit_once('@').map_or("", |(_, host)| host);
        let Ok(mut stream) = TcpStream::connect(host) else {
            return false;
        };
        let mut first = [0; 1];
        stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
            && stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok()
            && stream.read_exact(&mut first).is_ok()
            && first == [1]
    }
}

/// The nodes on which a vhost does not run, of what the management side says of it.
fn nodes_without(vhost: &str) -> Vec<String> {
    let states = vhost.split_once("\"cluster_state\":{").and_then(|(_, rest)| rest.split('}').next()).unwrap_or_default();
    let states = states.split(',').filter_map(|state| state.split_once(':'));
    states.filter(|(_, state)| state.trim_matches('"') != "running").map(|(node, _)| node.trim_matches('"').to_owned()).collect()
}

/// The letters, digits and hyphens of a name, which need no encoding in a URL.
fn plain(name: &str) -> String {
    let fits = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '-' };
    name.chars().take(60).map(fits).collect()
}

/// Tells runs apart on a server that outlives them: process id and start of the epoch in microseconds.
#[expect(clippy::disallowed_methods, reason = "a name for a throw-away vhost or database, no decision")]
pub(super) fn unique() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), since.as_micros())
}
