//! Apps: each is published once per compiler generation; the verdict is kept, good or bad.

use ports::sandbox::{PublishError, Published, module_too_large};
use ports::store::{AppRecord, AppVerdict};
use protocol::Digest;
use protocol::problem::Code;

use crate::asked::Refusal;
use crate::{Producer, blobs};

/// What the publisher said of an app.
pub(crate) async fn verdict(producer: &Producer, app: Digest) -> Result<AppVerdict, Refusal> {
    let known = producer.store.app(app, &producer.generation).await?;
    known.map(|known| known.verdict).ok_or(Refusal::Unpublished { app })
}

/// Publishes an app, and keeps what the publisher says of it.
pub(crate) async fn publish(producer: &Producer, app: Digest) -> Result<(), Refusal> {
    let verdict = examine(producer, app).await?;
    producer.store.record_app(AppRecord { app, verdict }, &producer.generation).await?;
    Ok(())
}

/// What is told of an app that was rejected for these reasons.
pub(crate) fn rejection(reasons: &[String]) -> Refusal {
    Refusal::of(Code::AppRejected, reasons.join("; "))
}

async fn examine(producer: &Producer, app: Digest) -> Result<AppVerdict, Refusal> {
    let gone = || Refusal::of(Code::NoSuchBlob, format!("blob {app} is not here any more: upload it again"));
    let size = producer.store.blob_size(app).await?.ok_or_else(gone)?;
    // A module is read whole, and none that is too large.
    if let Some(reason) = module_too_large(size) {
        return Ok(AppVerdict::Rejected { reasons: vec![reason] });
    }
    let module = blobs::load(producer, app, size).await?;
    // A verdict is kept for all customers, so it must be of the app's own bytes.
    if Digest::of(&module) != app {
        return Err(gone());
    }
    match producer.publish.publish(&module).await {
        Ok(Published { artefact, digest, entry, meter, reduces, manifest, .. }) => {
            blobs::store(producer, &artefact).await?;
            tracing::info!("app {app} is published as artefact {digest}");
            Ok(AppVerdict::Accepted { artefact: digest, entry, meter, reduces, manifest })
        }
        Err(PublishError::Rejected { reasons }) => Ok(AppVerdict::Rejected { reasons }),
        Err(error @ PublishError::Unavailable { .. }) => Err(Refusal::of(Code::PublisherUnavailable, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use ports::Publish;
    use ports::sandbox::Inspection;
    use ports::store::AdmissionStore;
    use service::{Metrics, Readiness};
    use testkit::MemoryStore;
    use testkit::simulator::SkewedClock;

    use super::*;
    use crate::{ProducerMetrics, ProducerSettings, Standings};

    /// Rejects whatever it is given.
    struct Strict;

    #[async_trait]
    impl Publish for Strict {
        async fn publish(&self, _module: &[u8]) -> Result<Published, PublishError> {
            Err(PublishError::Rejected { reasons: vec!["it is bad".to_owned()] })
        }

        fn inspect(&self, _module: &[u8]) -> Inspection {
            Inspection { imports: Vec::new(), exports: Vec::new(), entry: None, manifest: None, reasons: Vec::new() }
        }
    }

    #[tokio::test]
    async fn no_verdict_is_kept_of_an_app_whose_bytes_are_gone() {
        let clock = Arc::new(SkewedClock::new(tokio::time::Instant::now(), std::time::Duration::ZERO));
        let store = MemoryStore::new(clock.clone());
        let producer = Producer {
            name: "producer-1".to_owned(),
            broker: Arc::new(broker::MemoryBroker::new()),
            store: Arc::new(store.clone()),
            publish: Arc::new(Strict),
            generation: "1".to_owned(),
            clock,
            settings: Arc::new(ProducerSettings {
                lease_ms: 1,
                max_unit_ms: 1,
                replica_deadline_ms: 1,
                idle_ms: 1,
                require_user_id: false,
                operator: String::new(),
                pools: std::collections::BTreeMap::new(),
                shards: 1,
                rates: None,
                results_days: 1,
            }),
            metrics: ProducerMetrics::new(&Metrics::new("test", "0").unwrap()).unwrap(),
            standings: Standings::default(),
            ready: Readiness::new().check("admission"),
        };
        let app = Digest::of(b"module");
        let Err(Refusal::Problem(problem)) = publish(&producer, app).await else { panic!("it has a verdict") };
        assert_eq!(problem.code, "no-such-blob");
        assert_eq!(store.app(app, "1").await.unwrap(), None);
        blobs::store(&producer, b"module").await.unwrap();
        publish(&producer, app).await.unwrap();
        assert!(matches!(verdict(&producer, app).await.unwrap(), AppVerdict::Rejected { .. }));
    }
}
