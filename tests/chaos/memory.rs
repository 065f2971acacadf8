//! The memory of the services over a long run, which must stay flat.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::world::World;

/// A service may take this much, whatever it did before.
const MOST: u64 = 300 << 20;
/// And may grow by so much from the first half of a run to the second, where the allocator has settled.
const GROWTH: u64 = 24 << 20;
/// Fewer looks, which are less than two rounds of every fault, say nothing of growth: in the first round services are replaced,
/// and those in their stead have yet to grow to their size.
const ENOUGH: usize = 40;

/// What each kind of service took, look by look: the largest of its processes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    looks: BTreeMap<&'static str, Vec<u64>>,
}

impl Memory {
    /// Looks at every service.
    pub(crate) fn look(&mut self, world: &World) {
        let mut largest: BTreeMap<&'static str, u64> = BTreeMap::new();
        for member in &world.members {
            let bytes = member.running.memory("VmRSS:").unwrap_or(0);
            largest.entry(member.kind).and_modify(|most| *most = bytes.max(*most)).or_insert(bytes);
        }
        for (kind, bytes) in largest {
            self.looks.entry(kind).or_default().push(bytes);
        }
    }

    /// Whether no kind of service takes too much, or more and more.
    pub(crate) fn is_flat(&self) -> bool {
        self.looks.values().all(|looks| {
            let (first, second) = halves(looks);
            looks.iter().all(|bytes| *bytes <= MOST) && (looks.len() < ENOUGH || second <= first + GROWTH)
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (kind, looks) in &self.looks {
            let ((first, second), most) = (halves(looks), looks.iter().max().copied().unwrap_or(0));
            let (first, second, most) = (first >> 20, second >> 20, most >> 20);
            writeln!(text, "{kind}: {first} MiB in the first half, {second} MiB in the second, {most} MiB at most")
                .expect("a text");
        }
        text
    }
}

/// The means of the first and the second half.
fn halves(looks: &[u64]) -> (u64, u64) {
    let mean = |part: &[u64]| part.iter().sum::<u64>() / u64::try_from(part.len().max(1)).expect("fits");
    let (first, second) = looks.split_at(looks.len() / 2);
    (mean(first), mean(second))
}
