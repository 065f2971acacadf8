//! Apps: each is published once per compiler generation; the verdict is kept, good or bad.

use ports::sandbox::{PublishError, Published};
use ports::store::{AppRecord, AppVerdict};
use protocol::Digest;
use protocol::reply::Problem;

use crate::admit::Refusal;
use crate::{Producer, blobs};

/// A module is read whole, and no larger one is.
const MAX_MODULE_BYTES: u64 = 32 << 20;

/// What the publisher says of an app, now or at an earlier time.
pub(crate) async fn verdict(producer: &Producer, app: Digest) -> Result<AppVerdict, Refusal> {
    if let Some(known) = producer.store.app(app, &producer.generation).await? {
        return Ok(known.verdict);
    }
    let verdict = publish(producer, app).await?;
    producer.store.record_app(AppRecord { app, verdict: verdict.clone() }, &producer.generation).await?;
    Ok(verdict)
}

/// The problem to tell of an app that was rejected.
pub(crate) async fn rejection(producer: &Producer, app: Digest) -> Result<Problem, Refusal> {
    let reasons = match verdict(producer, app).await? {
        AppVerdict::Rejected { reasons } => reasons.join("; "),
        AppVerdict::Accepted { .. } => String::new(),
    };
    Ok(Problem::new(422, "app-rejected", "App is not accepted", reasons))
}

async fn publish(producer: &Producer, app: Digest) -> Result<AppVerdict, Refusal> {
    let size = producer.store.blob_size(app).await?.unwrap_or(0);
    if size > MAX_MODULE_BYTES {
        return Ok(AppVerdict::Rejected {
            reasons: vec![format!("module has {size} bytes, at most {MAX_MODULE_BYTES} are accepted")],
        });
    }
    let module = blobs::load(producer, app, size).await?;
    match producer.publish.publish(&module).await {
        Ok(Published { artefact, digest, entry, meter, reduces, manifest, .. }) => {
            blobs::store(producer, &artefact).await?;
            tracing::info!("app {app} is published as artefact {digest}");
            Ok(AppVerdict::Accepted { artefact: digest, entry, meter, reduces, manifest })
        }
        Err(PublishError::Rejected { reasons }) => Ok(AppVerdict::Rejected { reasons }),
        Err(error @ PublishError::Unavailable { .. }) => {
            let problem = Problem::new(503, "publisher-unavailable", "App could not be compiled now", error.to_string());
            Err(Refusal::Problem(problem))
        }
    }
}
