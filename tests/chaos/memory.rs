//! The memory of the services over a long run, which must stay flat.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::world::World;

/// A process may take this much, whatever it did before.
const MOST: u64 = 300 << 20;
/// And may grow by so much from the second third of its life to the last; in the first it grows to its size.
const GROWTH: u64 = 24 << 20;
/// Fewer rounds say nothing of growth.
const ENOUGH: usize = 6;

/// What one process took, round by round, and the most that it ever took.
#[derive(Debug)]
struct Life {
    kind: &'static str,
    looks: Vec<u64>,
    most: u64,
}

/// What every process took, by its pid.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    lives: BTreeMap<u32, Life>,
}

impl Life {
    /// The means of the second and the last third of a life that was long enough.
    fn thirds(&self) -> Option<(u64, u64)> {
        let mean = |part: &[u64]| part.iter().sum::<u64>() / u64::try_from(part.len().max(1)).expect("fits");
        let third = self.looks.len() / 3;
        let (_, rest) = self.looks.split_at(third);
        let (second, last) = rest.split_at(third);
        (self.looks.len() >= ENOUGH).then(|| (mean(second), mean(last)))
    }
}

impl Memory {
    /// Looks at every service.
    pub(crate) fn look(&mut self, world: &World) {
        for member in &world.members {
            let new = Life { kind: member.kind, looks: Vec::new(), most: 0 };
            let life = self.lives.entry(member.running.pid()).or_insert(new);
            life.looks.push(member.running.memory("VmRSS:").unwrap_or(0));
            life.most = member.running.memory("VmHWM:").unwrap_or(0);
        }
    }

    /// Whether a process of each kind lived long enough to tell.
    pub(crate) fn tells(&self) -> bool {
        let told = |kind: &str| self.lives.values().any(|life| life.kind == kind && life.thirds().is_some());
        self.lives.values().all(|life| told(life.kind))
    }

    /// Whether no process took too much, or more and more.
    pub(crate) fn is_flat(&self) -> bool {
        self.lives.values().all(|life| life.most <= MOST && life.thirds().is_none_or(|(second, last)| last <= second + GROWTH))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for life in self.lives.values() {
            write!(text, "{}: {} rounds, {} MiB at most", life.kind, life.looks.len(), life.most >> 20).expect("a text");
            if let Some((second, last)) = life.thirds() {
                write!(text, ", {} MiB in the second third of them, {} MiB in the last", second >> 20, last >> 20)
                    .expect("a text");
            }
            text.push('\n');
        }
        text
    }
}
