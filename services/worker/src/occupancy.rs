//! How many of a host's slots compute, as metrics; a slot is given back however its computing ends.

use std::sync::{Arc, Mutex, PoisonError};

use protocol::PoolName;

use crate::WorkerMetrics;

/// A host's slots that compute.
pub(crate) struct Occupancy {
    metrics: WorkerMetrics,
    pool: PoolName,
    busy: Mutex<u32>,
}

/// A slot that computes, for as long as it lives.
pub(crate) struct Busy(Arc<Occupancy>);

impl Occupancy {
    /// Of a host that is idle.
    pub(crate) fn new(metrics: WorkerMetrics, pool: PoolName) -> Arc<Self> {
        let occupancy = Self { metrics, pool, busy: Mutex::new(0) };
        occupancy.host("idle", 1);
        occupancy.host("busy", 0);
        Arc::new(occupancy)
    }

    /// One more slot computes.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.metrics.busy_slots.inc();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        *busy += 1;
        if *busy == 1 {
            self.host("idle", -1);
            self.host("busy", 1);
        }
        Busy(Arc::clone(self))
    }

    fn host(&self, state: &str, change: i64) {
        self.metrics.hosts.with_label_values(&[self.pool.as_str(), state]).add(change);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(occupancy) = self;
        occupancy.metrics.busy_slots.dec();
        let mut busy = occupancy.busy.lock().unwrap_or_else(PoisonError::into_inner);
        *busy -= 1;
        if *busy == 0 {
            occupancy.host("busy", -1);
            occupancy.host("idle", 1);
        }
    }
}

impl Drop for Occupancy {
    fn drop(&mut self) {
        self.host("idle", -1);
    }
}

#[cfg(test)]
mod tests {
    use service::Metrics;

    use super::*;

    #[test]
    fn a_host_is_busy_while_any_slot_is_and_gone_with_its_worker() {
        let metrics = WorkerMetrics::new(&Metrics::new("worker", "0").expect("registry")).expect("metrics");
        let pool = || PoolName::new("open").expect("a name");
        let hosts = || ["idle", "busy"].map(|state| metrics.hosts.with_label_values(&["open", state]).get());
        let (one, other) = (Occupancy::new(metrics.clone(), pool()), Occupancy::new(metrics.clone(), pool()));
        assert_eq!(hosts(), [2, 0]);
        let slots = [one.begin(), one.begin(), other.begin()];
        assert_eq!((hosts(), metrics.busy_slots.get()), ([0, 2], 3));
        let [first, second, third] = slots;
        drop((first, third));
        assert_eq!((hosts(), metrics.busy_slots.get()), ([1, 1], 1));
        drop((second, one));
        assert_eq!((hosts(), metrics.busy_slots.get()), ([1, 0], 0));
    }
}
