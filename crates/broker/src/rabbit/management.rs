//! `RabbitMQ`'s management side over HTTP: what AMQP does not tell.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The longest list that is read: some hundred thousand queues by name.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;

/// Why the management side tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The URL cannot be used; its text is not repeated, since it holds a password.
    #[error("management URL is not valid; write http://user:password@host:15672, or https://…")]
    Url,
    /// It was not there or did not answer as it should.
    #[error("{address}: {reason}")]
    Unread {
        /// Where it was looked for, without user and password.
        address: String,
        /// What went wrong.
        reason: String,
    },
}

/// The management side of one broker, asked about one vhost.
pub(super) struct Management {
    agent: ureq::Agent,
    api: String,
    address: String,
    /// The vhost's name as it stands in a path.
    pub(super) vhost: String,
}

/// An answer, and what its `Date` header says: the time by the broker's clock.
pub(super) struct Answer<T> {
    pub(super) value: T,
    pub(super) date: Option<String>,
}

impl Management {
    /// Checks the URL; asks nothing yet. `patience` is for each answer.
    pub(super) fn new(url: &str, vhost: &str, patience: Duration) -> Result<Self, ManagementError> {
        let base: Uri = url.parse().ok().filter(is_web).ok_or(ManagementError::Url)?;
        // The certificates trusted are the same as for `amqps`.
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build();
        Ok(Self {
            agent: ureq::Agent::config_builder().timeout_global(Some(patience)).tls_config(tls).build().new_agent(),
            api: format!("{}/api", url.trim_end_matches('/')),
            address: format!("{}://{}", base.scheme_str().unwrap_or("http"), base.authority().map_or("", host)),
            vhost: vhost.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat(),
        })
    }

    /// Asks on a thread that may wait.
    pub(super) async fn blocking<T: Send + 'static>(
        self,
        ask: impl FnOnce(&Self) -> Result<T, ManagementError> + Send + 'static,
    ) -> Result<T, ManagementError> {
        let address = self.address.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&self)).await;
        asked.map_err(|error| ManagementError::Unread { address, reason: error.to_string() }).flatten()
    }

    /// Reads one object or list; blocks its thread until there is an answer.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ManagementError> {
        self.try_get(path).map_err(|reason| ManagementError::Unread { address: self.address.clone(), reason })
    }

    fn try_get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, String> {
        let answer = self.agent.get(format!("{}/{path}", self.api)).call().map_err(|error| reason(&error))?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
        let body = answer.into_body().into_with_config().limit(MAX_LIST_BYTES).read_to_vec().map_err(|error| reason(&error))?;
        let value = serde_json::from_slice(&body).map_err(|error| format!("its answer is not understood: {error}"))?;
        Ok(Answer { value, date })
    }
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn host(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// An error in words, with what can be done; never with the URL.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; what is left says what it is by itself")]
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status @ (401 | 403)) => {
            format!("status {status}: the user needs the tag monitoring (rabbitmqctl set_user_tags) and rights in the vhost")
        }
        ureq::Error::BadUri(_) => "the URL is not one".to_owned(),
        other => other.to_string(),
    }
}
