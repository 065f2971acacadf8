//! A broker that is not there yet: told in words, waited for, then used.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::broker::{Broker, BrokerError, Confirm, Link};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::node::{NODE, PATIENCE, Vhost, ctl, node, plain, put, topology, until, work};

/// Forwards connections, as a broker that has come up.
async fn forward(listener: TcpListener, to: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let to = to.clone();
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(to).await {
                drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
            }
        });
    }
}

/// A port that is ours and refuses connections until it listens, and a URL of the vhost with it.
fn absent(vhost: &Vhost, host: &str) -> (TcpSocket, u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = vhost.url.replace(host, &format!("127.0.0.1:{port}"));
    (socket, port, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_up_later_is_used_then() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("late").await;
    let host = node().url().rsplit('@').next().unwrap().to_owned();
    let (socket, port, url) = absent(&vhost, &host);
    let broker = RabbitBroker::connect(&RabbitSettings::new(url)).unwrap();

    let unknown = broker.publish(vec![work(0, "early")], Duration::from_millis(300)).await.unwrap();
    assert_eq!(unknown, [Confirm::Unknown]);
    until("the link to be down", || matches!(broker.link(), Link::Down(reason) if reason.contains("refused"))).await;
    let depth = broker.depth(&plain(0)).await.unwrap_err();
    assert!(matches!(depth, BrokerError::Unreachable { .. }), "{depth:?}");
    let text = depth.to_string();
    assert!(text.contains(&format!("amqp://127.0.0.1:{port}")) && !text.contains("guest"), "{text}");

    let listener = socket.listen(16).unwrap();
    let forwarding = tokio::spawn(forward(listener, host));
    put(&broker, vec![work(0, "late")]).await;
    let consumer = broker.consume(&plain(0), 10).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, consumer.next(1)).await.unwrap().unwrap();
    assert_eq!(first[0].properties.message_id, "late", "a call that lost patience before it was sent is not sent");
    assert_eq!(broker.link(), Link::Up);
    forwarding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_missing_when_the_broker_comes_up_is_waited_for_as_well() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("late-queue").await;
    let host = node().url().rsplit('@').next().unwrap().to_owned();
    ctl(&["delete_queue", "-p", vhost.name(), &plain(0)]).await;
    let (socket, _, url) = absent(&vhost, &host);
    let settings = RabbitSettings { connection_timeout_ms: 1_000, ..RabbitSettings::new(url) };
    let broker = RabbitBroker::connect(&settings).unwrap();
    let consumer = broker.consume(&plain(0), 10).await.unwrap();
    assert!(matches!(broker.link(), Link::Down(_)), "the first subscription was waited for in vain");

    let forwarding = tokio::spawn(forward(socket.listen(16).unwrap(), host));
    until("the queue to be missed", || broker.unread().is_some_and(|told| told.contains("NOT_FOUND"))).await;
    let setup = vhost.connect("setup");
    setup.ensure_topology(&topology(), true).await.unwrap();
    put(&setup, vec![work(0, "late")]).await;
    let first = tokio::time::timeout(PATIENCE, consumer.next(1)).await.unwrap().unwrap();
    assert_eq!(first[0].properties.message_id, "late");
    assert_eq!(broker.unread(), None);
    forwarding.abort();
}

/// Takes connections and never says anything; how many came, and how many are still there.
async fn silent(listener: TcpListener, counts: Arc<[AtomicUsize; 2]>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let counts = Arc::clone(&counts);
        counts[0].fetch_add(1, Ordering::SeqCst);
        counts[1].fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            // Until the client ends it, whichever way.
            drop(client.read_to_end(&mut Vec::new()).await);
            counts[1].fetch_sub(1, Ordering::SeqCst);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_a_broker_that_says_nothing_leave_nothing_behind_but_the_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let listening = tokio::spawn(silent(listener, Arc::clone(&counts)));
    let settings = RabbitSettings { connection_timeout_ms: 200, ..RabbitSettings::new(url) };
    let broker = RabbitBroker::connect(&settings).unwrap();
    let count = |of: usize| counts[of].load(Ordering::SeqCst);
    until("some attempts", || count(0) >= 4).await;
    until("all but one to be gone", || count(1) <= 1).await;
    assert!(matches!(broker.link(), Link::Down(reason) if reason.contains("no answer")));
    listening.abort();
}

#[tokio::test]
async fn a_wrong_url_is_refused_without_its_password() {
    let error = RabbitBroker::connect(&RabbitSettings::new("amqp:/ann:s3cret")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("amqp://user:password@host:port/vhost"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
