//! Certificates for a server on loopback, by an authority that nobody knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::supervisor::output;

/// A new key of a kind that is made at once.
const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// For whom the server's certificate is.
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

/// The files of a server with TLS, and the port that it listens on.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) port: u16,
    /// The certificate of the authority, which clients must be told of.
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Tls {
    /// Makes the files in a folder.
    pub(super) fn make(folder: &Path, port: u16) -> Result<Self, String> {
        fs::write(folder.join("names"), NAMES).map_err(|error| format!("cannot write the names of a certificate: {error}"))?;
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            output("openssl (is it installed? `make setup`)", command.args(arguments.split(' ')).current_dir(folder))
        };
        openssl(&format!("req -x509 {NEW_KEY} -keyout authority.key -out authority.pem -subj /CN=offpeak-test -days 2"))?;
        openssl(&format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=localhost"))?;
        let authority = "-CA authority.pem -CAkey authority.key -CAcreateserial";
        openssl(&format!("x509 -req -in server.csr {authority} -out server.pem -days 2 -extfile names"))?;
        let [authority, certificate, key] = ["authority.pem", "server.pem", "server.key"].map(|name| folder.join(name));
        Ok(Self { port, authority, certificate, key })
    }
}
