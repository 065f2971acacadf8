//! A load balancer before nodes of the broker: each connection goes to the first node that takes it, from the next one on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What a connection carries in one go.
const CHUNK: usize = 64 * 1024;

/// It runs until the process ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
}

impl Proxy {
    /// Listens on a free port of loopback; the first connections, so many, are closed as by nodes that are about to start.
    pub(crate) fn start(ports: Vec<u16>, refused: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let turn = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming().flatten().skip(refused) {
                let first = turn.fetch_add(1, Ordering::Relaxed);
                let order = (0..ports.len()).map(|offset| ports[(first + offset) % ports.len()]);
                // Without a node that takes it, the client is dropped, which closes its connection.
                if let Some(node) = order.into_iter().find_map(|port| TcpStream::connect(("127.0.0.1", port)).ok()) {
                    join(client, node);
                }
            }
        });
        Self { port }
    }
}

/// Carries both ways until either side ends.
fn join(client: TcpStream, node: TcpStream) {
    let (client, node) = (Arc::new(client), Arc::new(node));
    for (from, to) in [(Arc::clone(&client), Arc::clone(&node)), (node, client)] {
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK];
            while let Ok(read @ 1..) = (&*from).read(&mut chunk) {
                if (&*to).write_all(&chunk[..read]).is_err() {
                    break;
                }
            }
            // Either side may be closed already.
            drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
        });
    }
}
