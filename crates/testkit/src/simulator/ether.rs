//! The ether: what all connections of a run share. Its weather decides what goes wrong on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Dice, Trace};

/// How often things go wrong, in a thousand times, and how long they take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// A message or a query takes up to so long.
    pub latency_ms: u64,
    /// A publish is lost on its way.
    pub lost: u64,
    /// A message is stored, but its confirm is lost.
    pub unconfirmed: u64,
    /// A message arrives twice.
    pub twice: u64,
    /// A message arrives up to a minute after its publisher was told that it is unknown.
    pub late: u64,
    /// A queue refuses a message.
    pub refused: u64,
    /// A connection ends under a publish or a settlement.
    pub cut: u64,
    /// Messages overtake each other.
    pub reorder: u64,
    /// A transaction fails and nothing is changed.
    pub store_fails: u64,
    /// A transaction is committed, but its caller is told that it failed.
    pub store_unknown: u64,
    /// So many other messages wait for a customer that no further part is sent to it.
    pub unread: u64,
    /// A host gives a unit back, cannot run it, or loses its executor.
    pub host_trouble: u64,
}

/// What all connections of a run share.
#[derive(Debug)]
pub struct Ether {
    /// Every event.
    pub trace: Trace,
    weather: Mutex<Weather>,
    dice: Mutex<Dice>,
    strays: Mutex<JoinSet<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ether {
    /// A calm ether.
    pub fn new(dice: Dice, trace: Trace) -> Arc<Self> {
        let (weather, strays) = (Mutex::default(), Mutex::default());
        Arc::new(Self { trace, weather, dice: Mutex::new(dice), strays })
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        *lock(&self.weather) = weather;
    }

    /// Whether what happens so often happens now.
    pub fn happens(&self, how_often: impl Fn(&Weather) -> u64) -> bool {
        let per_mille = how_often(&lock(&self.weather));
        per_mille > 0 && lock(&self.dice).happens(per_mille)
    }

    /// A number from `from` to before `end`.
    pub fn between(&self, from: u64, end: u64) -> u64 {
        lock(&self.dice).between(from, end)
    }

    /// Puts the things in any order, if messages overtake each other now.
    pub fn reorder<T>(&self, things: &mut [T]) {
        if things.len() > 1 && self.happens(|weather| weather.reorder) {
            lock(&self.dice).shuffle(things);
        }
    }

    /// The time that something takes on its way.
    pub async fn travel(&self) {
        let longest = lock(&self.weather).latency_ms;
        let wait = if longest == 0 { 0 } else { self.between(0, longest + 1) };
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Lets something go on by itself, whatever becomes of who sent it.
    pub fn stray(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut strays = lock(&self.strays);
        while strays.try_join_next().is_some() {}
        strays.spawn(task);
    }
}
