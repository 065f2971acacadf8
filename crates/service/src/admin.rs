//! The admin HTTP side: `/startupz`, `/livez`, `/readyz`, `/metrics`, and `/about`, what the process is and how it is set.
//!
//! It is meant for loopback (it says so in the log when it is not), speaks HTTP/1, and knows nothing about jobs. Spawn it with
//! [`Scope::spawn_background`](crate::Scope::spawn_background) and the scope's closing token, so that a drain can be
//! watched to its end.

mod bounded;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use bounded::Bounded;

use crate::health::{Readiness, Startup};
use crate::liveness::{Liveness, Stuck};
use crate::metrics::{self, Metrics};

/// Probes and a few scrapers need a handful; the rest waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;

/// How long one connection may live: longer than any scrape interval, so that scrapers keep theirs, yet an idle or
/// slow client gives its place back.
const CONNECTION_LIFE: Duration = Duration::from_mins(3);

/// How long requests under way may take once the process closes; scrapes take milliseconds.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The admin side could not listen or serve.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} for admin http")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The listener broke.
    #[error("cannot serve admin http")]
    Serve(#[source] io::Error),
}

/// What the admin side shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// For `/startupz`.
    pub startup: Startup,
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/livez`.
    pub liveness: Liveness,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/about`: what must agree between processes, never a secret.
    pub about: BTreeMap<&'static str, String>,
}

/// Binds the admin address; port 0 takes a free one.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    if !address.ip().is_loopback() {
        tracing::info!("admin http listens on {address}, beyond this machine; it has no login");
    }
    TcpListener::bind(address).await.map_err(|source| AdminError::Bind { address, source })
}

/// Serves until `shutdown`, then lets requests under way finish for a moment.
pub async fn run(listener: TcpListener, admin: Admin, shutdown: CancellationToken) -> Result<(), AdminError> {
    let bounded = Bounded::new(listener, MAX_CONNECTIONS, CONNECTION_LIFE);
    serve(bounded, admin, shutdown).await
}

async fn serve(listener: Bounded, admin: Admin, shutdown: CancellationToken) -> Result<(), AdminError> {
    let router = Router::new()
        .route("/startupz", get(startupz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .route("/about", get(about))
        .with_state(admin);
    let graceful = shutdown.clone().cancelled_owned();
    let serving = axum::serve(listener, router).with_graceful_shutdown(graceful);
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CLOSE_PATIENCE).await;
    };
    tokio::select! {
        biased;
        served = serving.into_future() => served.map_err(AdminError::Serve),
        () = patience => Ok(()),
    }
}

async fn startupz(State(admin): State<Admin>) -> Response {
    let report = admin.startup.report();
    json(report.started, &report)
}

#[derive(Serialize)]
struct LivezReport {
    alive: bool,
    stuck: Vec<Stuck>,
}

async fn livez(State(admin): State<Admin>) -> Response {
    let stuck = admin.liveness.stuck();
    let alive = stuck.is_empty();
    json(alive, &LivezReport { alive, stuck })
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let report = admin.readiness.report();
    json(report.ready, &report)
}

async fn about(State(admin): State<Admin>) -> Response {
    json(true, &admin.about)
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => failed(&error),
    }
}

fn json(good: bool, body: &impl Serialize) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    match serde_json::to_vec(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!("admin http cannot answer: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::scope::{Ended, Reason, Scope};

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let answer = exchange(address, path).await.expect("exchange");
        let status = answer.split(' ').nth(1).expect("status").parse().expect("number");
        let body = answer.split_once("\r\n\r\n").expect("body").1.to_owned();
        (status, body)
    }

    async fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn admin() -> Admin {
        Admin {
            startup: Startup::new(),
            readiness: Readiness::new(),
            liveness: Liveness::new(Duration::ZERO),
            metrics: Metrics::new("test", "0").expect("metrics"),
            about: BTreeMap::from([("service", "test".to_owned())]),
        }
    }

    #[tokio::test]
    async fn it_tells_health_and_metrics_until_the_drain_is_over() {
        let admin = admin();
        let scope = Scope::new();
        let listener = bind("127.0.0.1:0".parse().expect("address")).await.expect("listener");
        let address = listener.local_addr().expect("address");
        scope.spawn_background("admin", {
            let (admin, closing) = (admin.clone(), scope.closing());
            async move { Ok(run(listener, admin, closing).await?) }
        });
        let (inner, stopping) = (scope.clone(), scope.stopping());
        scope.spawn_loop("test", async move {
            let (status, body) = get(address, "/startupz").await;
            assert_eq!((status, body.as_str()), (503, r#"{"started":false,"reason":"starting"}"#));
            admin.startup.started();
            let started = (200, r#"{"started":true}"#.to_owned());
            assert_eq!(get(address, "/startupz").await, started);
            let broker = admin.readiness.check("broker");
            let (status, body) = get(address, "/readyz").await;
            assert_eq!(status, 503);
            assert!(body.contains(r#""broker":{"ready":false,"reason":"starting"}"#), "{body}");
            broker.ready();
            let ready = r#"{"ready":true,"draining":false,"checks":{"broker":{"ready":true}}}"#;
            assert_eq!(get(address, "/readyz").await, (200, ready.to_owned()));
            let alive = (200, r#"{"alive":true,"stuck":[]}"#.to_owned());
            assert_eq!(get(address, "/livez").await, alive);
            let (go_on, blocked) = std::sync::mpsc::channel::<()>();
            let stuck = admin.liveness.watch("dispatch".to_owned(), async move { blocked.recv() });
            let stuck = tokio::task::spawn_blocking(|| tokio::runtime::Handle::current().block_on(stuck));
            while admin.liveness.stuck().is_empty() {
                tokio::task::yield_now().await;
            }
            let (status, body) = get(address, "/livez").await;
            assert!(status == 503 && body.contains(r#""task":"dispatch""#), "{status} {body}");
            go_on.send(())?;
            stuck.await??;
            assert_eq!(get(address, "/livez").await, alive);
            let (status, body) = get(address, "/metrics").await;
            assert!(status == 200 && body.contains("offpeak_build_info"), "{status} {body}");
            assert_eq!(get(address, "/about").await, (200, r#"{"service":"test"}"#.to_owned()));
            assert_eq!(get(address, "/").await.0, 404);
            let asked = crate::probe::ask(&address.to_string(), "/readyz", Duration::from_secs(30)).await?;
            assert_eq!((asked.status, asked.body), (200, ready.to_owned()));

            inner.drain(Reason::Request("test".to_owned()));
            admin.readiness.drain();
            stopping.cancelled().await;
            let (status, body) = get(address, "/readyz").await;
            assert!(status == 503 && body.contains(r#""draining":true"#), "{status} {body}");
            assert_eq!(get(address, "/startupz").await, started, "a drain is no new start");
            Ok(())
        });
        let ended = scope.join(Duration::from_secs(30)).await.expect("drained");
        assert_eq!(ended, Ended::Drained(Reason::Request("test".to_owned())));
        assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
    }

    #[tokio::test]
    async fn an_idle_client_keeps_nobody_out_for_ever() {
        let admin = admin();
        let listener = bind("127.0.0.1:0".parse().expect("address")).await.expect("listener");
        let address = listener.local_addr().expect("address");
        let one_place = Bounded::new(listener, 1, Duration::from_millis(500));
        let scope = Scope::new();
        let shutdown = scope.closing();
        scope.spawn_background("admin", async move { Ok(serve(one_place, admin, shutdown).await?) });
        scope.spawn("clients", async move {
            let _idle = TcpStream::connect(address).await?;
            // On a crowded machine one's own short life may end first: try again, it is the idle client that matters.
            let answered = async { while !exchange(address, "/livez").await.is_ok_and(|answer| answer.contains("200 OK")) {} };
            tokio::time::timeout(Duration::from_secs(30), answered).await?;
            Ok(())
        });
        scope.join(Duration::from_secs(30)).await.expect("both ended");
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let taken = bind("127.0.0.1:0".parse().expect("address")).await.expect("listener");
        let address = taken.local_addr().expect("address");
        let error = bind(address).await.expect_err("taken");
        assert_eq!(error.to_string(), format!("cannot listen on {address} for admin http"));
    }
}
