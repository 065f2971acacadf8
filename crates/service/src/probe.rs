//! Asks a process's admin side one question: the client of [`admin`](crate::admin), for health checks and examinations.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest answer that is read: metrics are the longest, some hundred kilobytes.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// What an admin side answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status: 200, or 503 if it is not alive or not ready.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody listens there, or the connection broke.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Who was asked.
        address: String,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("{address} did not answer within {patience:?}")]
    Late {
        /// Who was asked.
        address: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Something else listens there.
    #[error("{address} does not answer as an admin side of offpeak does")]
    Foreign {
        /// Who was asked.
        address: String,
    },
}

/// Asks for a path such as `/livez` at `HOST:PORT`.
pub async fn ask(address: &str, path: &str, patience: Duration) -> Result<Answer, ProbeError> {
    let answer = tokio::time::timeout(patience, exchange(address, path)).await;
    let Ok(answer) = answer else { return Err(ProbeError::Late { address: address.to_owned(), patience }) };
    let bytes = answer.map_err(|source| ProbeError::Unreachable { address: address.to_owned(), source })?;
    parse(&bytes).ok_or_else(|| ProbeError::Foreign { address: address.to_owned() })
}

/// HTTP/1.0, whose answers end with the connection and never come in chunks.
async fn exchange(address: &str, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut words = head.lines().next()?.split(' ');
    let status = words.next().filter(|version| version.starts_with("HTTP/1.")).and_then(|_| words.next()?.parse().ok())?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let address = listener.local_addr().expect("address").to_string();
        (listener, address)
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(answer, Some(Answer { status: 503, body: "{}".to_owned() }));
        for foreign in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 x\r\n\r\n", b"AMQP 200\r\n\r\n", b"\xff\r\n\r\n"] {
            assert_eq!(parse(foreign), None, "{foreign:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_and_something_else_there_are_told_apart() {
        let (closed, address) = listener().await;
        drop(closed);
        let error = ask(&address, "/livez", PATIENCE).await.expect_err("nobody");
        assert!(matches!(error, ProbeError::Unreachable { .. }), "{error:?}");
        let (other, address) = listener().await;
        let (asked, greeted) = tokio::join!(ask(&address, "/livez", PATIENCE), async {
            let (mut stream, _) = other.accept().await?;
            stream.read_exact(&mut [0; 16]).await?;
            stream.write_all(b"220 mail\r\n").await
        });
        greeted.expect("greeted");
        assert!(matches!(asked.expect_err("mail"), ProbeError::Foreign { .. } | ProbeError::Unreachable { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let (_silent, address) = listener().await;
        let error = ask(&address, "/livez", Duration::from_secs(3)).await.expect_err("silence");
        assert_eq!(error.to_string(), format!("{address} did not answer within 3s"));
    }
}
