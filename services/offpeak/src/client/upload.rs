//! Uploads files as blobs, in parts, a bounded number at a time; what the grid has already is not sent again.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use ports::broker::{Outgoing, Properties};
use protocol::address::SUBMIT_EXCHANGE;
use protocol::blob::{PART_BYTES, PutBlob};
use protocol::codec::Format;
use protocol::digest::DigestWriter;
use protocol::{Digest, Message};
use uuid::Uuid;

use super::{Client, ClientError, Mailbox, POLL_EVERY, Reply, ask};
use crate::jobfile::Upload;

/// Parts in flight: bounds the memory of an upload, and what the broker must hold.
const BATCH_PARTS: usize = 8;
/// How long the grid may take to store a blob after its last part, beside a second for each of its parts.
const STORE_PATIENCE: Duration = Duration::from_mins(2);

/// How long the grid may take to answer the first part of a file before the others are sent all the same.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Told of bytes uploaded so far, of so many.
pub type UploadProgress<'p> = &'p mut (dyn FnMut(&Upload, u64) + Send);

impl Client {
    /// Brings the files to the grid and waits until it has them all.
    pub async fn upload(&self, uploads: &[Upload], progress: UploadProgress<'_>) -> Result<(), ClientError> {
        let mut sent = Vec::new();
        for upload in uploads {
            if !self.has_blob(upload.digest).await? {
                self.send(upload, progress).await?;
                sent.push(upload);
            }
        }
        for upload in sent {
            self.wait_for_blob(upload).await?;
        }
        Ok(())
    }

    async fn has_blob(&self, digest: Digest) -> Result<bool, ClientError> {
        Ok(ask("look for a blob", || self.store.own_blob_size(&self.customer, digest)).await?.is_some())
    }

    /// Sends a file's parts, and more than the first of them only if the grid takes those.
    async fn send(&self, upload: &Upload, progress: UploadProgress<'_>) -> Result<(), ClientError> {
        let unreadable = |source| ClientError::File { path: upload.path.clone(), source };
        let mut file = File::open(&upload.path).map_err(unreadable)?;
        let mut digest = DigestWriter::default();
        let mut offset = 0;
        let what = upload.path.display().to_string();
        // Only a part with a correlation id is answered: the first one stands for all. An answer of an earlier attempt is not it.
        let mut first = Some(Uuid::now_v7().to_string());
        while offset < upload.bytes {
            let mut batch = Vec::with_capacity(BATCH_PARTS);
            while batch.len() < BATCH_PARTS && offset < upload.bytes {
                let data = read_part(&mut file).map_err(unreadable)?;
                digest.update(&data);
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                if length == 0 || offset.saturating_add(length) > upload.bytes {
                    return Err(ClientError::Changed { path: upload.path.clone() });
                }
                let correlation = first.clone().filter(|_| offset == 0);
                batch.push(self.part(&PutBlob { digest: upload.digest, size: upload.bytes, offset, data }, correlation)?);
                offset += length;
            }
            if offset == upload.bytes && std::mem::take(&mut digest).finish() != upload.digest {
                return Err(ClientError::Changed { path: upload.path.clone() });
            }
            if let Some(correlation) = first.take() {
                let mailbox = self.mailbox(&correlation).await?;
                self.publish(&what, batch).await?;
                taken(mailbox).await?;
            } else {
                self.publish(&what, batch).await?;
            }
            progress(upload, offset);
        }
        Ok(())
    }

    /// A part in a message of its own: under the id of an earlier one a blob that was deleted since would not come back.
    fn part(&self, part: &PutBlob, correlation_id: Option<String>) -> Result<Outgoing, ClientError> {
        let body =
            part.to_bytes(Format::MessagePack).map_err(|source| ClientError::Codec { what: "a part of a blob", source })?;
        let properties = Properties {
            message_id: Uuid::now_v7().to_string(),
            correlation_id,
            kind: PutBlob::KIND.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            user_id: self.user_id.clone(),
            ..Properties::default()
        };
        let routing_key = self.customer.to_string();
        Ok(Outgoing { exchange: SUBMIT_EXCHANGE.to_owned(), routing_key, properties, body })
    }

    async fn wait_for_blob(&self, upload: &Upload) -> Result<(), ClientError> {
        let parts = upload.bytes / u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
        let patience = STORE_PATIENCE.saturating_add(Duration::from_secs(parts));
        let there = async {
            while !self.has_blob(upload.digest).await? {
                tokio::time::sleep(POLL_EVERY).await;
            }
            Ok(())
        };
        let not_stored = |_elapsed| ClientError::NotStored {
            what: upload.path.display().to_string(),
            digest: upload.digest,
            waited_s: patience.as_secs(),
        };
        tokio::time::timeout(patience, there).await.map_err(not_stored)?
    }
}

/// Waits for the answer to a part: whether the grid refuses it. One that does not come, or that is behind more replies than can be
/// looked through, is done without.
async fn taken(mut mailbox: Mailbox) -> Result<(), ClientError> {
    let answer = async {
        let mut poll = tokio::time::interval(POLL_EVERY);
        loop {
            let replies = tokio::select! {
                replies = mailbox.next() => replies?,
                _ = poll.tick(), if mailbox.is_full() => return Ok(()),
            };
            for reply in replies {
                match reply {
                    Reply::Stored => return Ok(()),
                    Reply::Rejected(problem) => return Err(ClientError::Rejected(problem)),
                    Reply::Accepted(_) | Reply::Progress(_) | Reply::Completed(_) | Reply::Part => {}
                }
            }
        }
    };
    let answer = tokio::time::timeout(ANSWER_PATIENCE, answer).await.unwrap_or(Ok(()));
    mailbox.close().await?;
    answer
}

/// The next part: whole, but for the file's end.
fn read_part(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut data = vec![0; PART_BYTES];
    let mut filled = 0;
    while filled < data.len() {
        match file.read(&mut data[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data)
}
