//! A submission's trace: it is in the log of every service that its job passes, and on the replies.

use std::collections::BTreeSet;
use std::time::Duration;

use broker::{RabbitBroker, RabbitSettings};
use ports::broker::{Broker as _, Confirm, Outgoing, Properties, Verdict};
use protocol::address::{SUBMIT_EXCHANGE, results_queue};
use protocol::blob::PutBlob;
use protocol::input::Input;
use protocol::job::{Delivery, JobSpec, Limits, UnitSizing};
use protocol::reply::{Accepted, Completed, Part};
use protocol::{CustomerName, Digest, Format, Message, PoolName, Value};
use serde_json::Value as Json;

use crate::offpeak::{LIMIT, Running, Services, tiny_app, wait_for};

const PATIENCE: Duration = Duration::from_secs(30);
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn message<M: Message>(customer: &CustomerName, id: &str, message: &M) -> Outgoing {
    let properties = Properties {
        message_id: id.to_owned(),
        kind: M::KIND.to_owned(),
        content_type: Some(Format::Json.content_type().to_owned()),
        traceparent: Some(TRACE.to_owned()),
        ..Properties::default()
    };
    let body = message.to_bytes(Format::Json).expect("a message");
    Outgoing { exchange: SUBMIT_EXCHANGE.to_owned(), routing_key: customer.to_string(), properties, body }
}

/// A job of four items whose outputs are sent as one part.
fn spec(app: &[u8]) -> JobSpec {
    JobSpec {
        app: Digest::of(app),
        input: Input::Range { start: 0, end: 4 },
        shared: None,
        params: Value::Map(Vec::new()),
        pool: PoolName::new("open").expect("a name"),
        quorum: 1,
        priority: 0,
        deadline_s: None,
        budget_fuel: None,
        max_failures: 3,
        limits: Limits::default(),
        unit: UnitSizing { target_ms: 1_000, max_items: 1 },
        reduce: false,
        delivery: Delivery::Whole,
    }
}

/// The trace of every reply until the job has ended, by its type.
async fn replies(broker: &RabbitBroker, customer: &CustomerName) -> Vec<(String, Option<String>)> {
    let consumer = broker.consume(&results_queue(customer), 10).await.expect("a consumer");
    let mut found = Vec::new();
    while !found.iter().any(|(kind, _)| kind == Completed::KIND) {
        let batch = tokio::time::timeout(LIMIT, consumer.next(10)).await.unwrap_or_else(|_late| panic!("only {found:?} came"));
        for delivery in batch.expect("a batch") {
            let properties = delivery.properties;
            found.push((properties.kind, properties.traceparent));
            assert_eq!(consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.expect("settle"), 0);
        }
    }
    found
}

/// The lines of a service's log that have the trace as a field; the last may be half written.
fn traced(service: &Running) -> Vec<Json> {
    let log = service.stderr();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    lines.filter(|line| line["traceparent"] == TRACE).collect()
}

#[test]
fn a_trace_is_in_the_log_of_every_service_and_on_every_reply() {
    let folder = tempfile::tempdir().expect("a folder");
    let services = Services::new(folder.path(), "trace");
    let json = [("OFFPEAK__LOG__FORMAT", "json")];
    let running = ["producer", "aggregator", "worker"].map(|kind| services.start(kind, &json));
    running.iter().for_each(Running::ready);
    let customer = CustomerName::new("radio").expect("a name");
    let app = wat::parse_str(tiny_app("")).expect("a module");
    let put = PutBlob { digest: Digest::of(&app), size: app.len().try_into().expect("small"), offset: 0, data: app.clone() };
    let messages = vec![message(&customer, "app", &put), message(&customer, "job", &spec(&app))];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let came = runtime.block_on(async {
        let broker = RabbitBroker::connect(&RabbitSettings::new(&services.amqp)).expect("a URL");
        broker.declare_customer(&customer).await.expect("a queue");
        let confirms = broker.publish(messages, PATIENCE).await.expect("published");
        assert_eq!(confirms, [Confirm::Stored, Confirm::Stored]);
        replies(&broker, &customer).await
    });
    let kinds: BTreeSet<&str> = came.iter().map(|(kind, _)| kind.as_str()).collect();
    for kind in [Accepted::KIND, Part::KIND, Completed::KIND] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    assert!(came.iter().all(|(_, trace)| trace.as_deref() == Some(TRACE)), "{came:?}");
    for (service, name) in running.iter().zip(["producer", "aggregator", "worker"]) {
        // A submission has a trace before it is a job.
        let of_job = |lines: &Vec<Json>| lines.iter().any(|line| line["job"].is_string());
        let lines = wait_for(|| Some(traced(service)).filter(of_job));
        let lines = lines.unwrap_or_else(|| panic!("the {name} says nothing of the trace: {}", service.stderr()));
        for line in &lines {
            assert!(line["customer"] == "radio" && line["level"] == "INFO", "{line}");
        }
    }
    assert_eq!(traced(&running[2]).len(), 1, "a worker says it once a job, not once a unit");
}
