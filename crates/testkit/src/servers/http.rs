//! As much of an HTTP client as RabbitMQ's management side asks for.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long one answer may take: longer than RabbitMQ waits by itself for a vhost to run on every node, which is 45 s.
const PATIENCE: Duration = Duration::from_mins(1);

/// The most of an answer that is kept; only its status and an error text matter.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// An `http://user:password@host:port` address, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    authority: String,
    credentials: String,
}

impl Endpoint {
    pub(super) fn parse(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split('/').next().unwrap_or(rest);
        let (credentials, authority) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        Self { authority: authority.to_owned(), credentials: credentials.to_owned() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}@{}", self.credentials, self.authority)
    }

    /// Sends one request with a JSON body and returns the status and the text of the answer.
    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
        let failed = |error| format!("{method} http://{}{path}: {error}", self.authority);
        let mut answer = String::new();
        self.exchange(method, path, body, &mut answer).map_err(failed)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("{method} {path}: not http: {answer:?}"))?;
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text);
        Ok((status, text.to_owned()))
    }

    fn exchange(&self, method: &str, path: &str, body: &str, answer: &mut String) -> std::io::Result<()> {
        let address = self.authority.to_socket_addrs()?.next();
        let address = address.ok_or_else(|| std::io::Error::other("the host has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.authority,
            STANDARD.encode(&self.credentials),
            body.len(),
        );
        stream.write_all(request.as_bytes())?;
        stream.take(MAX_ANSWER_BYTES).read_to_string(answer).map(drop)
    }
}
