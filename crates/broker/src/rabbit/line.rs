//! A supervised connection for one role: built again whenever it is lost, told about once per change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use lapin::{Channel, Connection, Error, Event};
use ports::broker::{BrokerError, Link};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::settings::Target;
use super::silence::Silence;

/// How long a polite end of a connection may take.
const CLOSING: Duration = Duration::from_secs(2);

/// One role's connection; whoever needs a channel first builds it, the others wait for that.
pub(super) struct Line {
    target: Target,
    role: &'static str,
    state: watch::Sender<Link>,
    closed: watch::Sender<bool>,
    current: Mutex<Option<Live>>,
    used: AtomicBool,
    silence: Silence,
}

/// A connection with the task that listens to its events.
struct Live {
    connection: Connection,
    listener: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Line {
    pub(super) fn new(target: Target, role: &'static str) -> Self {
        Self {
            target,
            role,
            state: watch::Sender::new(Link::Down("not connected yet".into())),
            closed: watch::Sender::new(false),
            current: Mutex::new(None),
            used: AtomicBool::new(false),
            silence: Silence::default(),
        }
    }

    pub(super) fn state(&self) -> Link {
        self.state.borrow().clone()
    }

    /// Told of changes of the state.
    pub(super) fn watch(&self) -> watch::Receiver<Link> {
        self.state.subscribe()
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// A new channel, as soon as the broker can be reached; an error only when the line was closed.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.used.store(true, Ordering::Relaxed);
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(BrokerError::Closed),
            channel = self.connected_channel() => Ok(channel),
        }
    }

    async fn connected_channel(&self) -> Channel {
        let mut backoff = Backoff::new();
        loop {
            match self.try_channel().await {
                Ok(channel) => return channel,
                Err(reason) => self.announce(Link::Down(reason)),
            }
            backoff.wait().await;
        }
    }

    /// One attempt. Holds the lock over the attempt, so that only one connection is built at a time.
    async fn try_channel(&self) -> Result<Channel, String> {
        let mut current = self.current.lock().await;
        if !current.as_ref().is_some_and(|live| live.connection.status().connected()) {
            *current = None;
            *current = Some(self.connect().await?);
            self.announce(Link::Up);
        }
        let Some(live) = current.as_ref() else { return Err("connection was lost".into()) };
        match timeout(self.target.timeout, live.connection.create_channel()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => {
                *current = None;
                Err(error.to_string())
            }
            Err(_) => {
                *current = None;
                Err(format!("no channel within {:?}", self.target.timeout))
            }
        }
    }

    async fn connect(&self) -> Result<Live, String> {
        if self.silence.goes_on(&self.target).await {
            return Err(format!("no answer within {:?}", self.target.timeout));
        }
        let attempt = Connection::connect_uri(self.target.uri.clone(), self.target.properties(self.role));
        let connected = timeout(self.target.timeout, attempt).await;
        self.silence.note(connected.is_err());
        let connection = match connected {
            Ok(connected) => connected.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no connection within {:?}", self.target.timeout)),
        };
        let events = connection.events_listener();
        let (state, address, role) = (self.state.clone(), self.target.address.clone(), self.role);
        let listen = async move {
            futures::pin_mut!(events);
            while let Some(event) = events.next().await {
                if let Some(link) = link_of(&event) {
                    announce(&state, link, &address, role);
                }
            }
        };
        #[expect(clippy::disallowed_methods, reason = "an adapter knows no scope; the task ends with its connection")]
        let listener = tokio::spawn(listen);
        Ok(Live { connection, listener })
    }

    /// Tells how the line is: logged when it changes, and only then.
    pub(super) fn announce(&self, link: Link) {
        announce(&self.state, link, &self.target.address, self.role);
    }

    /// Notes that a channel was lost, so that readiness shows it before the connection is asked for again.
    pub(super) fn lost(&self, error: &Error) {
        let connected = |live: &Live| live.connection.status().connected();
        if self.current.try_lock().is_ok_and(|current| !current.as_ref().is_some_and(connected)) {
            self.announce(Link::Down(error.to_string()));
        }
    }

    /// Whether anyone ever asked for a channel.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Resolves when the line is closed for good.
    pub(super) async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        if closed.wait_for(|closed| *closed).await.is_err() {
            std::future::pending::<()>().await; // unreachable: self holds the sender
        }
    }

    /// Ends the connection; nothing is built after this.
    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        // Said first, so that the connection's end is not told as a loss.
        self.state.send_replace(Link::Down("closed".into()));
        let live = self.current.lock().await.take();
        if let Some(live) = live.filter(|live| live.connection.status().connected()) {
            let end = live.connection.close(200, "closed by offpeak".into());
            if let Ok(Err(error)) = timeout(CLOSING, end).await {
                tracing::debug!(%error, role = self.role, "broker connection ended impolitely");
            }
        }
    }
}

/// What an event says about the line; the enum is lapin's and open, so only what is known is looked for.
fn link_of(event: &Event) -> Option<Link> {
    if let Event::ConnectionBlocked(reason) = event {
        return Some(Link::Blocked(reason.clone()));
    }
    if let Event::Error(error) = event {
        return (!error.is_amqp_soft_error()).then(|| Link::Down(error.to_string()));
    }
    matches!(event, Event::ConnectionUnblocked).then_some(Link::Up)
}

fn announce(state: &watch::Sender<Link>, link: Link, address: &str, role: &str) {
    let changed = state.send_if_modified(|known| {
        let changed = std::mem::discriminant(known) != std::mem::discriminant(&link) || first_down(known);
        *known = link.clone();
        changed
    });
    if !changed {
        return;
    }
    match link {
        Link::Up => info!(role, "connected to broker {address}"),
        Link::Blocked(reason) => warn!(role, "broker {address} takes no messages: {reason}; waiting"),
        Link::Down(reason) => warn!(role, "broker {address} is not reachable: {reason}; retrying"),
    }
}

/// The state before the first attempt is down too, but was not told yet.
fn first_down(link: &Link) -> bool {
    matches!(link, Link::Down(reason) if reason == "not connected yet")
}
