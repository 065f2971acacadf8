//! `offpeak bench` measures what it says it does; how fast is no test's business.

use serde_json::Value;
use testkit::servers;

use crate::offpeak::offpeak;

#[test]
fn every_rate_is_there_and_beside_rabbitmq_the_raw_relay() {
    let folder = tempfile::tempdir().expect("a folder");
    let measured = |servers: &[&str]| {
        let small = ["bench", "--json", "--jobs=2", "--units=20", "--items=500", "--samples=3", "--workers=2"];
        let done = offpeak(folder.path(), [&small, servers].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        let report = done.json();
        for load in ["noop_units", "tiny_items"] {
            for rate in ["submit_jobs", "dispatch_units", "settle_units", "settle_items", "read_items"] {
                assert!(number(&report, &format!("/{load}/{rate}_per_second")) > 0.0, "{load} {rate}: {report}");
            }
        }
        assert_eq!(report["latency"]["samples"], 3, "{report}");
        report
    };
    assert!(measured(&[])["relay"].is_null());
    let (amqp, database) = (servers::rabbitmq().vhost("bench"), servers::postgres().fresh_database());
    let report = measured(&["--amqp", &amqp, "--database", &database]);
    assert_eq!((&report["broker"], &report["database"]), (&"RabbitMQ".into(), &"PostgreSQL".into()));
    assert!(number(&report, "/relay/messages_per_second") > 0.0 && number(&report, "/relay/grid_permille") > 0.0, "{report}");
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}: {report}"))
}
