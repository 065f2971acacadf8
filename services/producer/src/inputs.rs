//! Inputs: how many items a job has, and the bytes of a unit's items, read when they are needed and not before.

use ports::store::StoreError;
use protocol::blob::PART_BYTES;
use protocol::frame::{self, Entry, ItemFrame};
use protocol::input::{self, Input, MAX_LINE_BYTES};
use protocol::problem::{Code, Problem};
use protocol::unit::{Items, MAX_INLINE_ITEMS_BYTES};
use protocol::{Digest, JobId};
use rules::tree;

use crate::asked::{Refusal, mistake};
use crate::{Producer, blobs};

/// So many nodes of a reduction are read in one go.
const NODES_PER_READ: u64 = 4;

/// Why a unit's items cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The store is away or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An item cannot be written.
    #[error("item {item} of job {job} cannot be written: {reason}")]
    Item {
        /// The job.
        job: JobId,
        /// The item.
        item: u64,
        /// Why.
        reason: String,
    },
}

/// Items read for a unit: where it ends, in items and in bytes of the blob, and the items.
pub(crate) struct Read {
    /// The first item that is no longer the unit's.
    pub(crate) end: u64,
    /// Where that item begins in the input's blob.
    pub(crate) end_byte: u64,
    /// The items.
    pub(crate) items: Items,
}

/// Counts a job's items, reading its blob where that is needed.
pub(crate) async fn count(producer: &Producer, input: &Input) -> Result<u64, Refusal> {
    let refused = |detail: String| Refusal::from(Problem::with_errors(Code::InvalidJob, vec![mistake("/input", detail)]));
    match input {
        Input::Range { .. } | Input::Items(_) | Input::Grid(_) => {
            input.count().ok_or_else(|| refused("the input has more than 2^64 items".to_owned()))
        }
        Input::Records { blob, bytes } => {
            let size = producer.store.blob_size(*blob).await?.unwrap_or(0);
            if size % u64::from(*bytes) != 0 {
                let rest = size % u64::from(*bytes);
                return Err(refused(format!(
                    "{size} bytes are no whole number of records of {bytes} bytes: {rest} are left over"
                )));
            }
            Ok(size / u64::from(*bytes))
        }
        Input::Lines { blob } => count_lines(producer, *blob, &refused).await,
    }
}

async fn count_lines(producer: &Producer, blob: Digest, refused: &impl Fn(String) -> Refusal) -> Result<u64, Refusal> {
    let (mut offset, mut lines, mut length) = (0_u64, 0_u64, 0_u32);
    loop {
        let chunk = producer.store.read_blob(blob, offset, PART_BYTES).await?;
        if chunk.is_empty() {
            return Ok(lines + u64::from(length > 0));
        }
        offset += u64::try_from(chunk.len()).unwrap_or(0);
        for byte in chunk {
            length += 1;
            if byte == b'\n' {
                lines += 1;
                length = 0;
            } else if length > MAX_LINE_BYTES {
                return Err(refused(format!("line {} is over {MAX_LINE_BYTES} bytes", lines + 1)));
            }
        }
    }
}

/// A stretch of a job's stage whose items are to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) job: JobId,
    pub(crate) input: &'a Input,
    pub(crate) stage: u8,
    /// First item and the first no longer wanted.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Where the first item begins in the input's blob.
    pub(crate) first_byte: u64,
    /// How many items the stage below has; needed above stage 0.
    pub(crate) items_below: u64,
    /// Whether the stretch may end early when it is large (a unit being cut), or must be read whole (one sent again).
    pub(crate) may_shrink: bool,
}

/// Reads a stretch's items.
pub(crate) async fn read(producer: &Producer, stretch: Stretch<'_>) -> Result<Read, InputError> {
    let Stretch { job, input, stage, first, end, first_byte, .. } = stretch;
    if stage > 0 {
        return read_partials(producer, stretch).await;
    }
    match input {
        Input::Range { start, .. } => {
            let items = Items::Range { start: start.saturating_add(first), end: start.saturating_add(end) };
            Ok(Read { end, end_byte: 0, items })
        }
        Input::Items(_) | Input::Grid(_) => {
            let mut filling = Filling::new(stretch);
            for index in first..end {
                let missing = || InputError::Item { job, item: index, reason: "it is not in the input".to_owned() };
                let bytes = input.item(index).ok_or_else(missing)?;
                if !filling.take(&bytes.map_err(|e| filling.error(&e.to_string()))?, 0)? {
                    break;
                }
            }
            filling.finish(producer).await
        }
        Input::Records { blob, bytes } => {
            let mut filling = Filling::new(Stretch { first_byte: first.saturating_mul(u64::from(*bytes)), ..stretch });
            let size = usize::try_from(*bytes).unwrap_or(usize::MAX);
            let mut reader = BlobReader::new(producer, *blob, filling.byte);
            while filling.next < end {
                let record = reader.take(size).await?;
                let item = input::bin_item(&record).map_err(|e| filling.error(&e.to_string()))?;
                if record.len() != size || !filling.take(&item, u64::from(*bytes))? {
                    break;
                }
            }
            filling.finish(producer).await
        }
        Input::Lines { blob } => {
            let mut filling = Filling::new(stretch);
            let mut reader = BlobReader::new(producer, *blob, first_byte);
            while filling.next < end {
                let Some((line, taken)) = reader.line().await? else { break };
                let item = input::bin_item(&line).map_err(|e| filling.error(&e.to_string()))?;
                if !filling.take(&item, taken)? {
                    break;
                }
            }
            filling.finish(producer).await
        }
    }
}

/// The nodes of a reduction: each item is a frame of the partial results below it.
async fn read_partials(producer: &Producer, stretch: Stretch<'_>) -> Result<Read, InputError> {
    let Stretch { job, stage, first, end, items_below, .. } = stretch;
    let mut filling = Filling::new(stretch);
    let mut at = first;
    while at < end {
        let nodes = at..end.min(at + NODES_PER_READ);
        let below = tree::children(&nodes, items_below);
        let outputs = producer.store.stage_outputs(job, stage - 1, below.start, below.end).await?;
        let partials = flatten(&outputs, job)?;
        for node in nodes.clone() {
            let children = tree::children(&(node..node + 1), items_below);
            let mut partial = ItemFrame::default();
            for (_, output) in partials.iter().filter(|(item, _)| children.contains(item)) {
                partial.push(output).map_err(|e| filling.error(&e.to_string()))?;
            }
            if !filling.take(&partial.finish(), 0)? {
                return filling.finish(producer).await;
            }
        }
        at = nodes.end;
    }
    filling.finish(producer).await
}

/// The outputs of the items that succeeded, each with its item.
fn flatten(outputs: &[(u64, u64, Vec<u8>)], job: JobId) -> Result<Vec<(u64, &[u8])>, InputError> {
    let mut flat = Vec::new();
    for (first, _, output) in outputs {
        let invalid = |e: frame::FrameError| InputError::Item { job, item: *first, reason: e.to_string() };
        for (item, entry) in (*first..).zip(frame::results(output).map_err(invalid)?) {
            match entry {
                Entry::Ok(output) => flat.push((item, output)),
                Entry::Failed(_) => {}
            }
        }
    }
    Ok(flat)
}

/// A unit's frame being filled.
struct Filling<'a> {
    stretch: Stretch<'a>,
    frame: ItemFrame,
    next: u64,
    byte: u64,
}

impl<'a> Filling<'a> {
    fn new(stretch: Stretch<'a>) -> Self {
        Self { stretch, frame: ItemFrame::default(), next: stretch.first, byte: stretch.first_byte }
    }

    /// Takes an item that took so many bytes of the blob; `false`, and not taken, if the unit is full.
    fn take(&mut self, item: &[u8], blob_bytes: u64) -> Result<bool, InputError> {
        let full = self.frame.len().saturating_add(item.len()) > MAX_INLINE_ITEMS_BYTES;
        if self.stretch.may_shrink && full && !self.frame.is_empty() {
            return Ok(false);
        }
        self.frame.push(item).map_err(|e| self.error(&e.to_string()))?;
        self.next += 1;
        self.byte += blob_bytes;
        Ok(true)
    }

    async fn finish(self, producer: &Producer) -> Result<Read, InputError> {
        let whole = self.next == self.stretch.end || (self.stretch.may_shrink && !self.frame.is_empty());
        if !whole {
            return Err(self.error("the input ends before it"));
        }
        let (end, end_byte) = (self.next, self.byte);
        let frame = self.frame.finish();
        let items = if frame.len() <= MAX_INLINE_ITEMS_BYTES {
            Items::Frame(frame)
        } else {
            let bytes = u64::try_from(frame.len()).unwrap_or(u64::MAX);
            Items::Blob { digest: blobs::store(producer, &frame).await?, bytes }
        };
        Ok(Read { end, end_byte, items })
    }

    fn error(&self, reason: &str) -> InputError {
        InputError::Item { job: self.stretch.job, item: self.next, reason: reason.to_owned() }
    }
}

/// Reads a blob forward in parts.
struct BlobReader<'a> {
    producer: &'a Producer,
    blob: Digest,
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<'a> BlobReader<'a> {
    fn new(producer: &'a Producer, blob: Digest, offset: u64) -> Self {
        Self { producer, blob, offset, buffer: Vec::new(), used: 0, ended: false }
    }

    async fn fill(&mut self) -> Result<(), StoreError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let part = self.producer.store.read_blob(self.blob, self.offset, PART_BYTES).await?;
        self.offset += u64::try_from(part.len()).unwrap_or(0);
        self.ended = part.is_empty();
        self.buffer.extend(part);
        Ok(())
    }

    /// That many bytes, fewer at the end.
    async fn take(&mut self, size: usize) -> Result<Vec<u8>, StoreError> {
        while self.buffer.len() - self.used < size && !self.ended {
            self.fill().await?;
        }
        let end = self.buffer.len().min(self.used + size);
        let bytes = self.buffer[self.used..end].to_vec();
        self.used = end;
        Ok(bytes)
    }

    /// The next line without its end (`\n` or `\r\n`), and how many bytes it took with it.
    async fn line(&mut self) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
        loop {
            let rest = &self.buffer[self.used..];
            let newline = rest.iter().position(|byte| *byte == b'\n');
            let taken = match newline {
                Some(at) => at + 1,
                None if self.ended && rest.is_empty() => return Ok(None),
                None if self.ended => rest.len(),
                None => {
                    self.fill().await?;
                    continue;
                }
            };
            let line = &rest[..taken];
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            self.used += taken;
            return Ok(Some((line, u64::try_from(taken).unwrap_or(0))));
        }
    }
}
