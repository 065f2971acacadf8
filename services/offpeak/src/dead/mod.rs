//! Dead letters at the broker: read page by page without taking any away, then sent again, removed or given back.

mod filter;
mod render;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ports::broker::{Broker, Consumer, Delivery, Tag, Verdict};
use protocol::address::Origin;
use tokio::time::timeout;

pub use filter::Filter;
pub use render::{HEADINGS, as_json, as_row, as_text, body_json, body_text, plain, whole_json};

/// Letters in memory at once; the largest bodies of ours make that 512 MiB. It is more where the broker takes larger ones, since
/// it bounds what it delivers by their number only. Each page is a channel of its own.
pub const PAGE: u16 = 64;
/// Pages held at once: brokers allow 2,047 channels to a connection. More letters than that exceed the queues' own limit.
const MAX_PAGES: usize = 1_900;
/// A letter that is ready comes within so long, or someone else has taken it.
const ARRIVING: Duration = Duration::from_secs(2);
/// And a broker that says it is ready, but does not deliver it so often, is not well.
const MAX_WAITS: usize = 15;
/// And so often with nothing ready, until what was counted is taken for another reader's.
const MAX_GONE: usize = 4;
/// A page is back in its queue within so many looks; the next page then follows it in order.
const MAX_LOOKS: usize = 500;
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// One queue of dead letters being read; what is not settled is the broker's again when this ends, however it ends.
///
/// Each page stays with a consumer of its own until all is read, so that no letter is read twice, and memory holds one
/// page of bodies however long the queue is.
pub struct Reading<'b> {
    broker: &'b dyn Broker,
    queue: String,
    /// Letters that were there at the beginning and are not read yet: what comes later is not read.
    left: u32,
    pages: Vec<Page>,
}

struct Page {
    consumer: Box<dyn Consumer>,
    open: Vec<Tag>,
}

impl<'b> Reading<'b> {
    /// Begins to read the letters of an origin.
    pub async fn begin(broker: &'b dyn Broker, origin: Origin) -> Result<Self> {
        let queue = origin.queue();
        let left = ready(broker, &queue).await?;
        Ok(Self { broker, queue, left, pages: Vec::new() })
    }

    /// The next letters, in their order, at least one; nothing when all were read.
    pub async fn page(&mut self) -> Result<Option<Vec<Delivery>>> {
        let size = u16::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        if size == 0 {
            return Ok(None);
        }
        if self.pages.len() >= MAX_PAGES {
            bail!("{} holds more letters than can be read in one go: replay or drop some of those listed first", self.queue);
        }
        let consumer = self.broker.consume(&self.queue, size).await.with_context(|| format!("cannot read {}", self.queue))?;
        let mut letters = Vec::new();
        let (mut waits, mut gone) = (0, 0);
        while letters.len() < usize::from(size) {
            match timeout(ARRIVING, consumer.next(usize::from(size) - letters.len())).await {
                Ok(more) => letters.extend(more?),
                // Another reader holds what was counted here, unless it is on its way to this one.
                Err(_) if gone == MAX_GONE => break,
                Err(_) if ready(self.broker, &self.queue).await? == 0 => gone += 1,
                Err(_) if waits == MAX_WAITS => bail!(
                    "the broker does not deliver what is ready in {}: try again, and if it stays so, see \"A letter that cannot be read\" \
                     in docs/dead-letters.md",
                    self.queue
                ),
                Err(_) => waits += 1,
            }
        }
        // It receives no more, whatever of the page is settled.
        consumer.cancel().await?;
        self.left = if letters.len() < usize::from(size) { 0 } else { self.left - u32::from(size) };
        self.pages.push(Page { consumer, open: letters.iter().map(|letter| letter.tag).collect() });
        Ok(Some(letters).filter(|letters| !letters.is_empty()))
    }

    /// Removes letters of the page read last.
    pub async fn remove(&mut self, tags: &[Tag]) -> Result<()> {
        let Some(page) = self.pages.last_mut() else { return Ok(()) };
        let verdicts: Vec<(Tag, Verdict)> = tags.iter().map(|tag| (*tag, Verdict::Ack)).collect();
        let lost = page.consumer.settle(&verdicts).await?;
        if lost > 0 {
            bail!("the connection was lost before {lost} letters were removed from {}: they are still there", self.queue);
        }
        page.open.retain(|tag| !tags.contains(tag));
        if page.open.is_empty() {
            self.pages.pop();
        }
        Ok(())
    }

    /// Gives back what was not removed, in its order.
    pub async fn end(self) -> Result<()> {
        let mut lost = 0;
        let mut in_order = true;
        for page in &self.pages {
            let verdicts: Vec<(Tag, Verdict)> = page.open.iter().map(|tag| (*tag, Verdict::Requeue)).collect();
            let before = if in_order { ready(self.broker, &self.queue).await? } else { 0 };
            lost += page.consumer.settle(&verdicts).await?;
            let back = before.saturating_add(u32::try_from(verdicts.len()).unwrap_or(u32::MAX));
            in_order = in_order && self.holds(back).await?;
        }
        if lost > 0 {
            bail!(
                "the connection was lost while {} was read: nothing is gone, but letters may have been told twice or not; try again",
                self.queue
            );
        }
        Ok(())
    }

    async fn holds(&self, letters: u32) -> Result<bool> {
        for _ in 0..MAX_LOOKS {
            if ready(self.broker, &self.queue).await? >= letters {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }
}

/// Letters ready in a queue.
pub async fn ready(broker: &dyn Broker, queue: &str) -> Result<u32> {
    match broker.depth(queue).await.with_context(|| format!("cannot look at {queue}"))? {
        Some(depth) => Ok(depth.ready),
        None => bail!("there is no queue {queue}: start a producer, which declares it"),
    }
}

#[cfg(test)]
mod tests;
