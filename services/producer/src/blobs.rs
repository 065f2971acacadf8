//! Blobs: written and read in parts, and handed to workers who ask for them.

use std::time::Duration;

use ports::broker::{Delivery, Outgoing, Properties, Tag, Verdict};
use ports::dead::DeadLetter;
use ports::store::StoreError;
use protocol::address::{FETCH_QUEUE, Origin, WORKER_EXCHANGE};
use protocol::blob::{BlobPart, GetBlob, PART_BYTES};
use protocol::{Digest, Format, Message};
use service::patience::until_done;
use service::scope::TaskError;
use service::{CancellationToken, Seen};

use crate::damage::{Damage, until_told};
use crate::{Producer, intake};

/// Requests under way at once; each answer holds a part.
const PREFETCH: u16 = 16;
/// A worker asks again after a while, so an answer that cannot be sent for this long is not worth keeping.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Blobs that are damaged are remembered to this number; one that is forgotten is parked again.
const MAX_DAMAGED: usize = 1_000;

/// Stores bytes under their digest.
pub(crate) async fn store(producer: &Producer, bytes: &[u8]) -> Result<Digest, StoreError> {
    let digest = Digest::of(bytes);
    if producer.store.blob_size(digest).await?.is_some() {
        return Ok(digest);
    }
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut offset = 0_u64;
    let parts: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(PART_BYTES).collect() };
    for part in parts {
        producer.store.put_part(digest, size, offset, part).await?;
        offset += u64::try_from(part.len()).unwrap_or(0);
    }
    Ok(digest)
}

/// A whole blob of that size.
pub(crate) async fn load(producer: &Producer, digest: Digest, size: u64) -> Result<Vec<u8>, StoreError> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let part = producer.store.read_blob(digest, offset, PART_BYTES).await?;
        if part.is_empty() {
            let detail = format!("blob {digest} ends after {} of {size} bytes", bytes.len());
            return Err(StoreError::Corrupt { operation: "read blob", detail });
        }
        bytes.extend(part);
    }
    Ok(bytes)
}

/// Answers workers' requests until stopped.
pub(crate) async fn serve(producer: Producer, stopping: CancellationToken) -> Result<(), TaskError> {
    let subscribe = || producer.broker.consume(FETCH_QUEUE, PREFETCH);
    let Some(consumer) = until_done("subscribing to requests for blobs", &stopping, subscribe).await else { return Ok(()) };
    let damaged = Seen::new(MAX_DAMAGED);
    loop {
        let batch = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            batch = consumer.next(usize::from(PREFETCH)) => batch?,
        };
        let mut verdicts: Vec<(Tag, Verdict)> = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for delivery in batch {
            let tag = delivery.tag;
            let verdict = match answer(&producer, &delivery, &damaged, &stopping).await {
                Ok(Some(Found { part, useless })) => {
                    answers.push(part);
                    if let Some(cause) = useless {
                        intake::park(&producer, delivery, &cause, Origin::Fetch).await;
                    }
                    // Its worker has an answer, wherever the letter is.
                    Verdict::Ack
                }
                Ok(None) => Verdict::Requeue,
                Err(cause) => intake::park(&producer, delivery, &cause, Origin::Fetch).await,
            };
            verdicts.push((tag, verdict));
        }
        // A worker that is gone needs no answer, and one that got none asks again: the confirms change nothing.
        if let Err(error) = producer.broker.publish(answers, ANSWER_PATIENCE).await {
            tracing::warn!("parts of blobs could not be sent: {error}");
        }
        consumer.settle(&verdicts).await?;
    }
    consumer.cancel().await?;
    Ok(())
}

/// What is answered to a request.
struct Found {
    /// The part, or that there is none.
    part: Outgoing,
    /// Why the request is parked all the same, for operators.
    useless: Option<String>,
}

/// The answer to one request; `None` if the store is away and the producer is stopping, an error if it is no request.
///
/// A blob that is damaged is one that is not here: its worker refuses the unit and goes on, instead of asking for ever.
async fn answer(
    producer: &Producer,
    delivery: &Delivery,
    damaged: &Seen<Digest>,
    stopping: &CancellationToken,
) -> Result<Option<Found>, String> {
    let Properties { kind, content_type, message_id, .. } = &delivery.properties;
    let format = Format::from_content_type(content_type.as_deref()).map_err(|e| e.to_string())?;
    let get = GetBlob::from_typed(kind, &delivery.body, format).map_err(|e| e.to_string())?;
    let read = || async {
        let size = producer.store.blob_size(get.digest).await?;
        let data = match size {
            Some(_) => producer.store.read_blob(get.digest, get.offset, PART_BYTES).await?,
            None => Vec::new(),
        };
        Ok::<_, StoreError>((size, data))
    };
    let Some(found) = until_told(producer, "reading a blob", stopping, read).await else { return Ok(None) };
    let ((size, data), useless) = match found {
        Ok(found) => (found, None),
        Err(Damage(error)) => {
            // It is parked once a blob, since every unit that needs it asks; and again if an operator sends it again.
            let told = damaged.is_new(get.digest) || DeadLetter::of(Origin::Fetch, delivery).attempts > 0;
            ((None, Vec::new()), told.then(|| format!("blob {} is damaged, and as good as missing: {error}", get.digest)))
        }
    };
    producer.metrics.blob_bytes.inc_by(u64::try_from(data.len()).unwrap_or(0));
    let part = BlobPart { digest: get.digest, offset: get.offset, size, data };
    let properties = Properties {
        message_id: format!("{}.{}.{}", get.host, get.digest, get.offset),
        kind: BlobPart::KIND.to_owned(),
        content_type: Some(Format::MessagePack.content_type().to_owned()),
        correlation_id: Some(message_id.clone()),
        ..Properties::default()
    };
    let body = part.to_bytes(Format::MessagePack).map_err(|e| e.to_string())?;
    let part = Outgoing { exchange: WORKER_EXCHANGE.to_owned(), routing_key: get.host.to_string(), properties, body };
    Ok(Some(Found { part, useless }))
}
