//! How `RabbitMQ` is reached, with defaults, and its address without the password.

use std::fmt;
use std::time::Duration;

use lapin::ConnectionProperties;
use lapin::uri::{AMQPScheme, AMQPUri};

/// How `RabbitMQ` is reached.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://` for TLS with the system's roots; `heartbeat` and
    /// `connection_timeout` in its query win over the fields here. Without a virtual host, or with an empty one, it is `/`.
    pub url: String,
    /// The connections' name in the broker's management pages, such as `producer`.
    pub name: String,
    /// Seconds between heartbeats; a silent connection is lost after two.
    pub heartbeat_s: u16,
    /// How long one attempt to connect may take, and one operation on a control connection.
    pub connection_timeout_ms: u64,
    /// Publishes in flight at most; confirms are found by scanning them, so 1,000 is the useful limit.
    pub publish_window: u16,
    /// Connections at most for declarations and depths, off the hot path.
    pub control_connections: u16,
    /// How long declarations are retried while the broker is away; `None` is as long as it takes.
    pub setup_patience_ms: Option<u64>,
}

impl RabbitSettings {
    /// Settings with defaults for everything but the URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: "offpeak".into(),
            heartbeat_s: 20,
            connection_timeout_ms: 5_000,
            publish_window: 512,
            control_connections: 2,
            setup_patience_ms: None,
        }
    }
}

impl fmt::Debug for RabbitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettings")
            .field("url", &parsed(&self.url).map_or_else(|_| "(not a URL)".into(), |uri| address(&uri)))
            .field("name", &self.name)
            .field("publish_window", &self.publish_window)
            .finish_non_exhaustive()
    }
}

/// The user that a URL names; `None` if it cannot be read.
pub fn user_of(url: &str) -> Option<String> {
    parsed(url).ok().map(|uri| uri.authority.userinfo.username)
}

/// The virtual host that a URL names; `None` if it cannot be read.
pub fn vhost_of(url: &str) -> Option<String> {
    parsed(url).ok().map(|uri| uri.vhost)
}

/// Why a URL cannot be used; its text is not repeated, since it holds a password.
#[derive(Debug, thiserror::Error)]
#[error("broker URL is not valid: {0}; write amqp://user:password@host:port/vhost or amqps://…")]
pub struct UrlError(String);

impl From<String> for UrlError {
    fn from(problem: String) -> Self {
        Self(problem)
    }
}

/// Whether a URL can be used, without connecting.
pub fn check_url(url: &str) -> Result<(), UrlError> {
    Target::new(&RabbitSettings::new(url)).map(drop)
}

/// Where and how to connect, checked.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) uri: AMQPUri,
    /// The address without user and password, for messages.
    pub(super) address: String,
    pub(super) name: String,
    pub(super) timeout: Duration,
}

impl Target {
    pub(super) fn new(settings: &RabbitSettings) -> Result<Self, UrlError> {
        let mut uri = parsed(&settings.url)?;
        uri.query.heartbeat.get_or_insert(settings.heartbeat_s);
        let timeout_ms = *uri.query.connection_timeout.get_or_insert(settings.connection_timeout_ms);
        let timeout = Duration::from_millis(timeout_ms.max(1));
        Ok(Self { address: address(&uri), uri, name: settings.name.clone(), timeout })
    }

    /// The properties of a connection for one role; without lapin's recovery, which can leave a consumer silent for ever.
    pub(super) fn properties(&self, role: &str) -> ConnectionProperties {
        ConnectionProperties::default().with_connection_name(format!("{} {role}", self.name).into())
    }
}

/// A URL as it is meant: an address that ends in a slash, as `RabbitMQ`'s cluster operator writes it, names the virtual host `/`.
fn parsed(url: &str) -> Result<AMQPUri, UrlError> {
    if !url.contains("://") {
        return Err(UrlError("it names no host".into())); // would be read as a path, and shown as one
    }
    let mut uri: AMQPUri = url.parse().map_err(UrlError)?;
    if uri.vhost.is_empty() {
        uri.vhost.push('/');
    }
    Ok(uri)
}

fn address(uri: &AMQPUri) -> String {
    let scheme = match uri.scheme {
        AMQPScheme::AMQP => "amqp",
        AMQPScheme::AMQPS => "amqps",
    };
    let vhost = if uri.vhost == "/" { String::new() } else { format!("/{}", uri.vhost) };
    format!("{scheme}://{}:{}{vhost}", uri.authority.host, uri.authority.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_that_of_the_url_or_the_broker_s_own() {
        assert_eq!(user_of("amqp://ann:s3cret@host/grid").as_deref(), Some("ann"));
        assert_eq!(user_of("amqp://host").as_deref(), Some("guest"));
        assert_eq!([user_of("host"), user_of("http://ann@host")], [None, None]);
    }

    #[test]
    fn a_url_without_a_virtual_host_or_with_an_empty_one_means_the_one_that_is_called_slash() {
        for url in ["amqp://h", "amqp://h/", "amqp://h/?heartbeat=7", "amqps://u:p@h:5671/", "amqp://h/%2f"] {
            assert_eq!(vhost_of(url).as_deref(), Some("/"), "{url}");
            let target = Target::new(&RabbitSettings::new(url)).unwrap();
            assert_eq!(target.uri.vhost, "/", "{url}");
            assert!(target.uri.to_string().contains("/%2F?"), "the control connections are given it as text: {}", target.uri);
        }
        assert_eq!(vhost_of("amqp://h/grid").as_deref(), Some("grid"));
        assert_eq!(Target::new(&RabbitSettings::new("amqp://h/")).unwrap().address, "amqp://h:5672");
    }

    #[test]
    fn neither_the_address_nor_debug_shows_the_password() {
        let settings = RabbitSettings::new("amqp://ann:s3cret@broker.example:5673/grid?heartbeat=7");
        let target = Target::new(&settings).unwrap();
        assert_eq!(target.address, "amqp://broker.example:5673/grid");
        assert_eq!(target.uri.query.heartbeat, Some(7));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let refused = Target::new(&RabbitSettings::new("http://ann:s3cret@x")).map(|_| ()).unwrap_err();
        assert!(!refused.to_string().contains("s3cret"), "{refused}");
    }
}
