//! A host: computes units of the simulated app, faster or slower, honestly or not.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::Execute;
use ports::sandbox::{ExecuteError, Executed, Task};
use protocol::Fuel;
use protocol::frame::{self, Entry, ResultFrame};

use super::{App, Ether};

/// An item takes so long on a fast host.
const ITEM_MS: u64 = 15;

/// What a host is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It answers what it computed.
    Honest,
    /// It computes something else, with more fuel.
    Liar,
    /// Its outputs are right, its fuel is not.
    Greedy,
}

/// A host's executors.
#[derive(Debug)]
pub struct Host {
    ether: Arc<Ether>,
    nature: Nature,
    slowness: u64,
    slots: usize,
}

impl Host {
    /// A host that is so many times slower than a fast one.
    pub fn new(ether: Arc<Ether>, nature: Nature, slowness: u64, slots: usize) -> Self {
        Self { ether, nature, slowness, slots }
    }

    fn trouble(&self, items: usize) -> Option<ExecuteError> {
        if !self.ether.happens(|weather| weather.host_trouble) {
            return None;
        }
        match self.ether.between(0, 3) {
            0 => Some(ExecuteError::Interrupted),
            1 => Some(ExecuteError::Unsupported { reason: "no memory left".to_owned() }),
            // A single item whose executor dies again and again is given up: that would be the host's doing, not the item's.
            _ => (items > 1).then(|| ExecuteError::Died { reason: "killed by the system".to_owned() }),
        }
    }

    fn told(&self, output: Vec<u8>, fuel: Fuel) -> (Vec<u8>, Fuel) {
        match self.nature {
            Nature::Honest => (output, fuel),
            Nature::Greedy => (output, Fuel::new(fuel.get() * 2 + 1).unwrap_or(fuel)),
            Nature::Liar => (twisted(&output), Fuel::new(fuel.get() + 1).unwrap_or(fuel)),
        }
    }
}

/// The same results, each with one byte more.
fn twisted(output: &[u8]) -> Vec<u8> {
    let mut frame = ResultFrame::default();
    for entry in frame::results(output).expect("a frame") {
        match entry {
            Entry::Ok(output) => frame.ok(&[output, b"!"].concat()).expect("small"),
            Entry::Failed(_) => frame.ok(b"?").expect("small"),
        }
    }
    frame.finish()
}

#[async_trait]
impl Execute for Host {
    async fn execute(&self, task: Task) -> Result<Executed, ExecuteError> {
        let count = frame::items(&task.items).map_err(|error| ExecuteError::App { reason: error.to_string() })?.len();
        let many = u64::try_from(count).unwrap_or(u64::MAX);
        let jitter = self.ether.between(0, ITEM_MS);
        let compute = Duration::from_millis(jitter + many.saturating_mul(ITEM_MS).saturating_mul(self.slowness));
        if compute > task.time_limit && count > 1 {
            tokio::time::sleep(task.time_limit).await;
            return Err(ExecuteError::TimeLimit { limit: task.time_limit });
        }
        tokio::time::sleep(compute).await;
        if let Some(trouble) = self.trouble(count) {
            return Err(trouble);
        }
        let Some((output, fuel)) = App::new(&task.program.params).run(task.call, &task.items) else {
            return Err(ExecuteError::Died { reason: "killed by an item".to_owned() });
        };
        let (output, fuel) = self.told(output, fuel);
        Ok(Executed { output, fuel, compute })
    }

    fn pause(&self) {}

    fn resume(&self) {}

    fn slots(&self) -> usize {
        self.slots
    }
}
