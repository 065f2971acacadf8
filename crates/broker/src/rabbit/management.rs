//! `RabbitMQ`'s management side over HTTP: what AMQP does not tell, and what it cannot change.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::uri::Authority;
use ureq::http::{Method, Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The longest list that is read: some hundred thousand queues by name.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;
/// Of a refusal's reason so much is told: it is a sentence or two.
const REASON_SIGNS: usize = 400;

/// Why the management side tells nothing, or does nothing.
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
    /// It refused what it was asked to do; a retry does not help.
    #[error("{address}: {what} is refused (status {status}): {reason}")]
    Refused {
        /// Where, without user and password.
        address: String,
        /// What was to be done, and to what.
        what: String,
        /// HTTP's status.
        status: u16,
        /// The broker's words, and the way out where it is known.
        reason: String,
    },
}

/// The management side of one broker, asked about one vhost.
#[derive(Clone)]
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
            agent: ureq::Agent::config_builder()
                .timeout_global(Some(patience))
                .tls_config(tls)
                .http_status_as_error(false)
                .build()
                .new_agent(),
            api: format!("{}/api", url.trim_end_matches('/')),
            address: format!("{}://{}", base.scheme_str().unwrap_or("http"), base.authority().map_or("", host)),
            vhost: Self::in_path(vhost),
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

    /// Reads one object or list; blocks its thread until there is an answer, as all that follow do.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ManagementError> {
        let heard = self.ask(Method::GET, path, None, None)?;
        match heard.status {
            200..=299 => Ok(Answer { value: self.read(&heard.body)?, date: heard.date }),
            status => Err(self.unread(told(status))),
        }
    }

    /// Reads one object; `None` if there is none.
    pub(super) fn find<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<Option<T>, ManagementError> {
        let heard = self.ask(Method::GET, path, None, None)?;
        match heard.status {
            404 => Ok(None),
            200..=299 => self.read(&heard.body).map(Some),
            _ => Err(self.refused(what, &heard)),
        }
    }

    /// Makes an object so, or leaves it so.
    pub(super) fn put(&self, what: &str, path: &str, body: &Value) -> Result<(), ManagementError> {
        self.done(what, self.ask(Method::PUT, path, Some(body), None)?).map(drop)
    }

    /// Has something done; what it answers, if anything.
    pub(super) fn post(&self, what: &str, path: &str, body: &Value) -> Result<Value, ManagementError> {
        let heard = self.done(what, self.ask(Method::POST, path, Some(body), None)?)?;
        if heard.body.is_empty() { Ok(Value::Null) } else { self.read(&heard.body) }
    }

    /// Removes an object, for a reason that its owner is told; whether it was there.
    pub(super) fn delete(&self, what: &str, path: &str, reason: &str) -> Result<bool, ManagementError> {
        let heard = self.ask(Method::DELETE, path, None, Some(reason))?;
        if heard.status == 404 { Ok(false) } else { self.done(what, heard).map(|_| true) }
    }

    /// What the API's paths need of a name: nothing of it means anything there.
    pub(super) fn in_path(name: &str) -> String {
        name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>, reason: Option<&str>) -> Result<Heard, ManagementError> {
        let asked = || -> Result<Heard, ureq::Error> {
            let mut request = Request::builder().method(method).uri(format!("{}/{path}", self.api));
            if let Some(reason) = reason {
                request = request.header("x-reason", reason);
            }
            let mut answer = match body {
                Some(body) => self.agent.run(request.header("content-type", "application/json").body(body.to_string())?)?,
                None => self.agent.run(request.body(())?)?,
            };
            let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
            let body = answer.body_mut().with_config().limit(MAX_LIST_BYTES).read_to_vec()?;
            Ok(Heard { status: answer.status().as_u16(), date, body })
        };
        asked().map_err(|error| self.unread(reason_of(&error)))
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ManagementError> {
        serde_json::from_slice(body).map_err(|error| self.unread(format!("its answer is not understood: {error}")))
    }

    fn done(&self, what: &str, heard: Heard) -> Result<Heard, ManagementError> {
        if (200..=299).contains(&heard.status) { Ok(heard) } else { Err(self.refused(what, &heard)) }
    }

    /// The error for what is not there and must be.
    pub(super) fn none(&self, what: &str, way_out: &str) -> ManagementError {
        let (address, reason) = (self.address.clone(), way_out.to_owned());
        ManagementError::Refused { address, what: what.to_owned(), status: 404, reason }
    }

    fn unread(&self, reason: String) -> ManagementError {
        ManagementError::Unread { address: self.address.clone(), reason }
    }

    fn refused(&self, what: &str, heard: &Heard) -> ManagementError {
        let said = serde_json::from_slice::<Refusal>(&heard.body).map(Refusal::words).unwrap_or_default();
        let said: String = said.chars().take(REASON_SIGNS).collect();
        let reason = match heard.status {
            401 | 403 => format!(
                "{said}; see that user and password are right: the user needs the tag administrator (rabbitmqctl set_user_tags USER administrator) and all rights in the \
                 vhost (rabbitmqctl set_permissions)"
            ),
            _ => said,
        };
        ManagementError::Refused { address: self.address.clone(), what: what.to_owned(), status: heard.status, reason }
    }
}

/// An answer before it is understood.
struct Heard {
    status: u16,
    date: Option<String>,
    body: Vec<u8>,
}

/// How the management side says no.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Value,
    reason: Value,
}

impl Refusal {
    fn words(self) -> String {
        match (self.reason, self.error) {
            (Value::String(reason), _) => reason,
            (Value::Null, Value::String(error)) => error,
            (Value::Null, other) | (other, _) => other.to_string(),
        }
    }
}

/// A status in words.
fn told(status: u16) -> String {
    match status {
        401 | 403 => {
            format!("status {status}: the user needs the tag monitoring (rabbitmqctl set_user_tags) and rights in the vhost")
        }
        _ => format!("status {status}"),
    }
}

fn is_web(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
}

fn host(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// An error in words; never with the URL.
#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is not ours; what is left says what it is by itself")]
fn reason_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "the URL is not one".to_owned(),
        other => other.to_string(),
    }
}
