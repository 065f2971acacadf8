//! A grid whose broker is reached over TLS, by certificates that only those who are told of them trust.

use testkit::servers::{self, RabbitMq};

use crate::offpeak::{ONE_SLOT, Running, Services, monte_carlo};

/// Where OpenSSL's conventions look for the certificates to be trusted, instead of the system's.
const TRUSTED: &str = "SSL_CERT_FILE";

#[test]
fn a_job_is_done_over_tls_and_a_stranger_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let rabbit = RabbitMq::start_with_tls();
    let (amqps, authority) = rabbit.over_tls(&rabbit.vhost("tls")).expect("TLS");
    let services = Services::on(folder.path(), amqps, servers::postgres().fresh_database());
    let trusted = [(TRUSTED, authority.to_str().expect("a path"))];
    let settings = [ONE_SLOT.as_slice(), &trusted].concat();
    let running = ["producer", "aggregator", "worker"].map(|kind| services.start(kind, &settings));
    running.iter().for_each(Running::ready);
    let file = monte_carlo(folder.path(), 8, 2, "").display().to_string();
    let done = services.begin_with(&["submit", &file, "--wait", "--json"], &trusted).end();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.json()["items_succeeded"], 8, "{done:?}");

    let nobody = folder.path().join("nobody.pem");
    std::fs::write(&nobody, "").expect("write");
    let stranger = services.begin_with(&["submit", &file], &[(TRUSTED, nobody.to_str().expect("a path"))]).end();
    assert_eq!(stranger.code, Some(3), "{stranger:?}");
    assert!(stranger.stderr.contains("ertificate"), "{stranger:?}");
}
