//! A broker that says nothing. lapin waits for its first word for ever, with a socket and a thread, also of an attempt that is
//! given up: so after one without an answer it is asked first whether it says anything. (Of a broker behind something that ends TLS
//! this tells nothing: that answers by itself.)

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::settings::Target;

/// What a client says first (AMQP 0-9-1, section 4.2.2). Where TLS is spoken, the answer is an alert or the end.
const GREETING: &[u8] = b"AMQP\0\0\x09\x01";

/// Whether the last attempt to connect had no answer.
#[derive(Default)]
pub(super) struct Silence(AtomicBool);

impl Silence {
    /// Notes an attempt, and whether it had no answer.
    pub(super) fn note(&self, is_silent: bool) {
        self.0.store(is_silent, Ordering::Relaxed);
    }

    /// Whether another attempt would have no answer either; asks nobody unless the last one had none.
    pub(super) async fn goes_on(&self, target: &Target) -> bool {
        self.0.load(Ordering::Relaxed) && timeout(target.timeout, greet(target)).await.is_err()
    }
}

/// Waits for the first byte of an answer, or the end.
async fn greet(target: &Target) -> io::Result<usize> {
    let authority = &target.uri.authority;
    let mut stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
    stream.write_all(GREETING).await?;
    let mut first = [0];
    stream.read(&mut first).await
}
