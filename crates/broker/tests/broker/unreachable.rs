//! A broker that is not there yet: told in words, waited for, then used.

use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::broker::{Broker, BrokerError, Confirm, Link};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::node::{NODE, PATIENCE, Vhost, node, plain, put, until, work};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_up_later_is_used_then() {
    let _node = NODE.read().await;
    let vhost = Vhost::new("late").await;
    let host = node().url().rsplit('@').next().unwrap().to_owned();
    // Bound, so that it stays ours, and refused until it listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let url = vhost.url.replace(&host, &format!("127.0.0.1:{port}"));
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

#[tokio::test]
async fn a_wrong_url_is_refused_without_its_password() {
    let error = RabbitBroker::connect(&RabbitSettings::new("amqp:/ann:s3cret")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("amqp://user:password@host:port/vhost"), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
