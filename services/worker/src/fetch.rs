//! Fetching: blobs by digest, from memory, disk, or in parts over the broker.

use std::sync::Arc;
use std::time::Duration;

use ports::Broker;
use ports::broker::{BrokerError, Outgoing, Properties};
use protocol::address::FETCH_EXCHANGE;
use protocol::blob::{BlobPart, GetBlob, MAX_BLOB_BYTES};
use protocol::{CodecError, Digest, Format, HostId, Message};
use tokio::sync::Mutex;

use crate::Worker;
use crate::cache::DiskCache;
use crate::inbox::Inbox;
use crate::metrics::WorkerMetrics;

/// An unanswered question is asked again after this long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// And so often: two minutes, in which a producer restarts.
const MAX_TRIES: u32 = 24;

/// Why a blob cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The grid does not have it.
    #[error("blob {0} is not in the grid's store")]
    Missing(Digest),
    /// No producer answers.
    #[error("no producer answers for blob {digest} in {waited:?}")]
    NoAnswer {
        /// Which.
        digest: Digest,
        /// How long it was tried.
        waited: Duration,
    },
    /// What came is not what was asked for.
    #[error("blob {0} arrived damaged")]
    Damaged(Digest),
    /// The question could not be sent.
    #[error("asking for blob {digest}")]
    Broker {
        /// Which.
        digest: Digest,
        /// Why.
        #[source]
        source: BrokerError,
    },
    /// The question could not be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl FetchError {
    /// Whether asking later may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Broker { .. } | Self::Damaged(_) => true,
            Self::Missing(_) | Self::Codec(_) => false,
        }
    }
}

/// Fetches blobs for one worker.
pub(crate) struct Fetcher {
    broker: Arc<dyn Broker>,
    host: HostId,
    cache: Option<Arc<DiskCache>>,
    inbox: Arc<Inbox>,
    metrics: WorkerMetrics,
    /// One blob at a time: a second asker for the same blob then finds it on disk.
    fetching: Mutex<()>,
}

impl Fetcher {
    pub(crate) fn new(worker: &Worker, inbox: Arc<Inbox>) -> Self {
        Self {
            broker: Arc::clone(&worker.broker),
            host: worker.host.clone(),
            cache: worker.cache.clone(),
            inbox,
            metrics: worker.metrics.clone(),
            fetching: Mutex::new(()),
        }
    }

    /// The blob's bytes.
    pub(crate) async fn get(&self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        // What is on disk does not wait for what is being fetched.
        if let Some(bytes) = self.cached(digest).await {
            return Ok(bytes);
        }
        let _turn = self.fetching.lock().await;
        if let Some(bytes) = self.cached(digest).await {
            return Ok(bytes);
        }
        let bytes = self.fetch(digest).await?;
        if Digest::of(&bytes) != digest {
            return Err(FetchError::Damaged(digest));
        }
        self.metrics.fetched_bytes.inc_by(u64::try_from(bytes.len()).unwrap_or(0));
        self.keep(digest, bytes).await
    }

    async fn fetch(&self, digest: Digest) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        loop {
            let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let part = self.part(digest, offset).await?;
            let size = part.size.ok_or(FetchError::Missing(digest))?;
            let whole = offset.saturating_add(u64::try_from(part.data.len()).unwrap_or(u64::MAX));
            if size > MAX_BLOB_BYTES || whole > size || (part.data.is_empty() && whole < size) {
                return Err(FetchError::Damaged(digest));
            }
            bytes.extend(part.data);
            if whole == size {
                return Ok(bytes);
            }
        }
    }

    async fn part(&self, digest: Digest, offset: u64) -> Result<BlobPart, FetchError> {
        let question = GetBlob { digest, offset, host: self.host.clone() };
        for _ in 0..MAX_TRIES {
            let answer = self.inbox.expect(digest, offset);
            let properties = Properties {
                message_id: format!("{}.{digest}.{offset}", self.host),
                kind: GetBlob::KIND.to_owned(),
                content_type: Some(Format::MessagePack.content_type().to_owned()),
                ..Properties::default()
            };
            let body = question.to_bytes(Format::MessagePack)?;
            let message = Outgoing { exchange: FETCH_EXCHANGE.to_owned(), routing_key: "get".to_owned(), properties, body };
            let sent = self.broker.publish(vec![message], ANSWER_TIMEOUT).await;
            sent.map_err(|source| FetchError::Broker { digest, source })?;
            if let Ok(Ok(part)) = tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                return Ok(part);
            }
        }
        Err(FetchError::NoAnswer { digest, waited: ANSWER_TIMEOUT * MAX_TRIES })
    }

    async fn cached(&self, digest: Digest) -> Option<Vec<u8>> {
        let cache = self.cache.clone()?;
        tokio::task::spawn_blocking(move || cache.get(digest)).await.ok().flatten()
    }

    /// Keeps the blob on disk; a disk that is full costs only time.
    async fn keep(&self, digest: Digest, bytes: Vec<u8>) -> Result<Vec<u8>, FetchError> {
        let Some(cache) = self.cache.clone() else { return Ok(bytes) };
        let kept = tokio::task::spawn_blocking(move || {
            if let Err(error) = cache.put(digest, &bytes) {
                tracing::warn!("blob {digest} is used, but not kept on disk: {error}");
            }
            bytes
        });
        kept.await.map_err(|_panicked| FetchError::Damaged(digest))
    }
}
