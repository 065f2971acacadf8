//! Uploads: which blobs are whose. What a customer sends is its own until it is whole and of its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use ports::store::{AppVerdict, BlobRelease, MAX_PART_MESSAGES, PartPut, Sender, StoreError, UploadRoom, UploadStore};
use protocol::blob::{BlobEntry, PutBlob};
use protocol::digest::DigestWriter;
use protocol::{CustomerName, Digest, JobId, Micros};

use super::MemoryStore;
use super::blobs::{PART, Parts, is_part};
use super::inbox::{Effect, Inbox, effect, put, refused};
use super::state::{State, rows};

/// How many gaps of an upload are listed at most.
const MAX_GAPS: usize = 1_000;

/// What a customer sent of a blob.
#[derive(Clone)]
pub(super) struct Upload {
    size: u64,
    whole: bool,
    begun_at: Micros,
    /// Its parts by where they begin, while it is not whole; nothing where the same bytes are in the blob.
    parts: BTreeMap<u64, Option<Arc<[u8]>>>,
    /// The first messages that sent each part, also when it is whole.
    messages: BTreeMap<u64, BTreeSet<String>>,
}

/// A part to be written.
#[derive(Clone, Copy)]
struct Sending<'a> {
    part: &'a PutBlob,
    /// The message that sends it.
    message: Option<&'a str>,
    /// When those are handled whose upload it replaces, by the store's own clock.
    handled_at: Micros,
}

#[async_trait]
impl UploadStore for MemoryStore {
    async fn put_own_part(
        &self,
        sender: Sender<'_>,
        part: &PutBlob,
        room: UploadRoom,
        now: Micros,
    ) -> Result<PartPut, StoreError> {
        let alone = part.data.len() == usize::try_from(part.size).unwrap_or(usize::MAX);
        if !is_part(part.size, part.offset, &part.data) || (alone && Digest::of(&part.data) != part.digest) {
            return Ok(PartPut::Mismatch);
        }
        let Sender { customer, message } = sender;
        let sending = Sending { part, message, handled_at: self.shared.clock.now() };
        self.run("put part of an upload", |state| Ok(state.put_own_part(customer, sending, room, now)))
    }

    async fn own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.run("read size of an own blob", |state| Ok(state.own_blob_size(customer, digest)))
    }

    async fn own_blobs(&self, customer: &CustomerName, after: Option<Digest>, limit: u32) -> Result<Vec<BlobEntry>, StoreError> {
        self.run("read own blobs", |state| {
            let from = after.map_or(Bound::Included(Digest([0; 32])), Bound::Excluded);
            let from = from.map(|digest| (customer.clone(), digest));
            let own = state.uploads.range((from, Bound::Unbounded)).take_while(|((owner, _), _)| owner == customer);
            Ok(own.take(rows(limit)).map(|((_, digest), upload)| upload.entry(*digest)).collect())
        })
    }

    async fn release_blob(
        &self,
        customer: &CustomerName,
        digest: Digest,
        message: Option<&str>,
    ) -> Result<BlobRelease, StoreError> {
        let now = self.shared.clock.now();
        let effect = effect(customer, message, format!("delete {digest}"));
        self.run("release blob", |state| Ok(state.release_blob(customer, digest, effect, now)))
    }

    async fn forget_uploads(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        self.run("forget uploads", |state| {
            let old = state.uploads.iter().filter(|(_, upload)| !upload.whole && upload.begun_at < before);
            let mut old: Vec<_> = old.map(|(key, upload)| (upload.begun_at, key.clone())).collect();
            old.sort();
            old.truncate(rows(limit));
            for (_, (customer, digest)) in &old {
                state.drop_upload(customer, *digest);
            }
            Ok(u32::try_from(old.len()).unwrap_or(u32::MAX))
        })
    }

    async fn forget_handled(&self, before: Micros, limit: u32) -> Result<u32, StoreError> {
        self.run("forget handled messages", |state| Ok(state.inbox.forget(before, limit)))
    }
}

impl State {
    /// What a customer's blobs take, those begun counted whole.
    pub(super) fn taken(&self, customer: &CustomerName) -> UploadRoom {
        let own = self.uploads.iter().filter(|((owner, _), _)| owner == customer);
        own.fold(UploadRoom::default(), |taken, (_, upload)| taken.with(upload.size, None))
    }

    fn put_own_part(&mut self, customer: &CustomerName, sending: Sending<'_>, room: UploadRoom, now: Micros) -> PartPut {
        let Sending { part, message, handled_at } = sending;
        let (digest, size) = (part.digest, part.size);
        let key = (customer.clone(), digest);
        if let Some(whole) = self.uploads.get_mut(&key).filter(|upload| upload.whole) {
            if whole.size != size {
                return PartPut::Mismatch;
            }
            if !whole.keep(part.offset, message) {
                self.inbox.note(effect(customer, message, put(digest, size, part.offset)), 0, handled_at);
            }
            return whole.received();
        }
        let before = self.uploads.get(&key);
        let under_way = before.filter(|upload| upload.size == size);
        let effect = effect(customer, message, put(digest, size, part.offset));
        let sent = under_way.is_some_and(|upload| upload.parts.contains_key(&part.offset));
        if !sent && self.inbox.freed(effect.as_ref()).is_some() {
            return PartPut::Handled;
        }
        // None, or one of another size: as only one of the two sizes can be right, the last that was said counts, and not one
        // that was said before and is delivered again.
        if under_way.is_none() {
            let taken = self.taken(customer);
            if !room.holds(taken.with(size, before.map(|before| before.size))) {
                return PartPut::Full(taken);
            }
            self.give_up(customer, digest, handled_at);
        }
        // Other bytes than a whole blob's are kept as the customer's own, and refused once all of the upload is there.
        let stored = self.blobs.part(digest, size, part.offset).filter(|_| self.blobs.size(digest) == Some(size));
        let is_there = stored.is_some_and(|stored| **stored == *part.data);
        let begun = Upload { size, whole: false, begun_at: now, parts: BTreeMap::new(), messages: BTreeMap::new() };
        let upload = self.uploads.entry(key).or_insert(begun);
        let data = (!is_there).then(|| part.data.clone().into());
        upload.parts.entry(part.offset).or_insert(data);
        upload.keep(part.offset, message);
        let answer = upload.received();
        if upload.sent() < size { answer } else { self.finish(customer, digest) }
    }

    /// Makes a complete upload whole, or drops it if its bytes are others.
    fn finish(&mut self, customer: &CustomerName, digest: Digest) -> PartPut {
        let Some(upload) = self.uploads.get_mut(&(customer.clone(), digest)) else { return PartPut::Mismatch };
        let mut parts = Parts::new();
        let mut writer = DigestWriter::default();
        for (start, data) in &upload.parts {
            let Some(data) = data.as_ref().or_else(|| self.blobs.part(digest, upload.size, *start)) else { continue };
            writer.update(data);
            parts.insert(*start, Arc::clone(data));
        }
        if writer.finish() == digest {
            self.blobs.adopt(digest, upload.size, parts);
            upload.whole = true;
            upload.parts.clear();
            return upload.received();
        }
        self.drop_upload(customer, digest);
        PartPut::Mismatch
    }

    pub(super) fn own_blob_size(&self, customer: &CustomerName, digest: Digest) -> Option<u64> {
        let size = self.blobs.size(digest)?;
        let own = self.uploads.get(&(customer.clone(), digest)).is_some_and(|upload| upload.whole);
        let owned = self.uploads.iter().any(|((_, of), upload)| *of == digest && upload.whole);
        (own || (self.blobs.is_kept(digest, size) && !owned)).then_some(size)
    }

    fn release_blob(&mut self, customer: &CustomerName, digest: Digest, effect: Option<Effect>, now: Micros) -> BlobRelease {
        if let Some(bytes) = self.inbox.freed(effect.as_ref()) {
            return BlobRelease::Released { bytes };
        }
        let refused = refused(effect.as_ref());
        if self.inbox.freed(refused.as_ref()).is_some() {
            return BlobRelease::Unknown;
        }
        let Some(upload) = self.uploads.get(&(customer.clone(), digest)) else {
            self.inbox.note(refused, 0, now);
            return BlobRelease::Unknown;
        };
        let (bytes, whole) = (upload.size, upload.whole);
        if let Some(job) = self.user(digest, Some(customer)).filter(|_| whole) {
            return BlobRelease::InUse { job };
        }
        self.give_up(customer, digest, now);
        self.inbox.note(effect, bytes, now);
        BlobRelease::Released { bytes }
    }

    /// Gives up all blobs of a customer of which no job runs.
    pub(super) fn release_all(&mut self, customer: &CustomerName, now: Micros) {
        let own: Vec<Digest> = self.uploads.keys().filter(|(owner, _)| owner == customer).map(|(_, digest)| *digest).collect();
        for digest in own {
            self.release_blob(customer, digest, None, now);
        }
    }

    /// A job that has not ended and needs the blob, of that customer or of anyone.
    fn user(&self, digest: Digest, customer: Option<&CustomerName>) -> Option<JobId> {
        let mut of = self.running().filter(|(_, job)| customer.is_none_or(|customer| job.admitted.customer == *customer));
        let needs = |job: &ports::store::NewJob| job.brief == digest || job.spec.blobs().any(|blob| blob == digest);
        of.find(|(_, job)| needs(&job.admitted)).map(|(id, _)| id)
    }

    /// Forgets an upload that its customer gives up: the messages that sent it are handled.
    fn give_up(&mut self, customer: &CustomerName, digest: Digest, now: Micros) {
        if let Some(upload) = self.uploads.get(&(customer.clone(), digest)) {
            upload.note_messages(&mut self.inbox, customer, digest, now);
        }
        self.drop_upload(customer, digest);
    }

    /// Forgets an upload and which messages sent it, and drops the blob's bytes if nobody needs them any more.
    fn drop_upload(&mut self, customer: &CustomerName, digest: Digest) {
        let Some(upload) = self.uploads.remove(&(customer.clone(), digest)) else { return };
        let others = self.uploads.iter().any(|((_, of), other)| *of == digest && other.size == upload.size);
        let artefact = self.apps.values().any(|record| match &record.verdict {
            AppVerdict::Accepted { artefact, .. } => *artefact == digest,
            AppVerdict::Rejected { .. } => false,
        });
        let needed = self.blobs.is_kept(digest, upload.size) || others || artefact || self.user(digest, None).is_some();
        if !needed && self.blobs.size(digest) == Some(upload.size) {
            self.blobs.drop(digest, upload.size);
        }
    }
}

impl Upload {
    /// Bytes that were sent.
    fn sent(&self) -> u64 {
        if self.whole { self.size } else { self.parts.keys().map(|start| (self.size - start).min(PART)).sum() }
    }

    fn received(&self) -> PartPut {
        PartPut::Stored { received: self.sent(), whole: self.whole }
    }

    /// Keeps which message sent a part, of the first. Whether it is among them.
    fn keep(&mut self, start: u64, message: Option<&str>) -> bool {
        let Some(message) = message else { return true };
        let messages = self.messages.entry(start).or_default();
        if messages.len() < MAX_PART_MESSAGES {
            messages.insert(message.to_owned());
        }
        messages.contains(message)
    }

    /// Notes the messages that sent its parts, once it is given up.
    fn note_messages(&self, inbox: &mut Inbox, customer: &CustomerName, digest: Digest, now: Micros) {
        for (start, messages) in &self.messages {
            for message in messages {
                inbox.note(effect(customer, Some(message), put(digest, self.size, *start)), 0, now);
            }
        }
    }

    fn entry(&self, digest: Digest) -> BlobEntry {
        let (size, whole, begun_at_us) = (self.size, self.whole, self.begun_at);
        let missing = if whole { Vec::new() } else { self.gaps() };
        BlobEntry { digest, size, received: self.sent(), whole, missing, begun_at_us }
    }

    /// Where parts are missing: offset and length of each gap.
    fn gaps(&self) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for start in self.parts.keys().copied().chain([self.size]) {
            if start > next && gaps.len() < MAX_GAPS {
                gaps.push((next, start - next));
            }
            next = start.saturating_add(PART);
        }
        gaps
    }
}
