//! The app of simulated jobs: a function of parameters and item, which some items make fail and some kill.

use std::collections::BTreeMap;

use protocol::frame::{self, ResultFrame};
use protocol::unit::Call;
use protocol::{Digest, Format, Fuel, Value, codec};

/// How the app's fuel is counted.
pub const METER: &str = "simulated-1";

/// What an item comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// An output, and the fuel it took.
    Output(Vec<u8>, u64),
    /// It fails by itself.
    Fails,
    /// It kills its executor.
    Kills,
}

/// An app with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    params: Vec<u8>,
    fails: u64,
    kills: u64,
}

impl App {
    /// The app with parameters as a job's brief has them.
    pub fn new(params: &[u8]) -> Self {
        let read: BTreeMap<String, u64> = codec::decode("params", params, Format::MessagePack).unwrap_or_default();
        let of = |name: &str| read.get(name).copied().unwrap_or(0);
        Self { params: params.to_vec(), fails: of("fails"), kills: of("kills") }
    }

    /// Parameters by which so many of a hundred items fail, and so many kill their executor.
    pub fn params(fails: u64, kills: u64, salt: u64) -> Value {
        let entry = |name: &str, value: u64| (Value::from(name), Value::from(value));
        Value::Map(vec![entry("fails", fails), entry("kills", kills), entry("salt", salt)])
    }

    /// What one item comes to.
    pub fn fate(&self, call: Call, item: &[u8]) -> Fate {
        let name: &[u8] = match call {
            Call::Map => b"map",
            Call::Reduce => b"reduce",
            Call::ReduceAndFinish => b"finish",
        };
        let output = Digest::of(&[name, &self.params, item].concat()).0;
        let fortune = u64::from(output[0]) * 100 / 256;
        if call == Call::Map && fortune < self.kills {
            return Fate::Kills;
        }
        if call == Call::Map && fortune < self.kills + self.fails {
            return Fate::Fails;
        }
        Fate::Output(output[..8 + usize::from(output[1] % 16)].to_vec(), 1_000 + u64::from(output[2]))
    }

    /// What a frame of items comes to, and its fuel; `None` if one of them kills the executor.
    pub fn run(&self, call: Call, items: &[u8]) -> Option<(Vec<u8>, Fuel)> {
        let (mut results, mut sum) = (ResultFrame::default(), 0_u64);
        for item in frame::items(items).ok()? {
            match self.fate(call, item) {
                Fate::Output(output, fuel) => {
                    results.ok(&output).ok()?;
                    sum += fuel;
                }
                Fate::Fails => results.failed("the app does not like this item").ok()?,
                Fate::Kills => return None,
            }
        }
        Some((results.finish(), Fuel::new(sum).ok()?))
    }
}
