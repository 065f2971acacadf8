//! Workers and an aggregator in few words: what they compute takes time, and is valid.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ports::broker::Verdict;
use ports::store::{
    Assembly, AssemblyView, ReplicaEnd, ReplicaState, Settlement, SettlementStore, SettlementView, StageStep, UnitEnd,
    UnitSettled, UnitState, Vote,
};
use ports::{Broker, Clock};
use protocol::frame::ResultFrame;
use protocol::job::{Certificate, Delivery, ItemCounts, JobState};
use protocol::unit::Work;
use protocol::usage::Usage;
use protocol::{CustomerName, Digest, Format, Fuel, HostId, JobId, Message, MeterId, Micros, PoolName, ReplicaKey, address};
use testkit::MemoryStore;
use tokio::time::sleep;

use crate::world::{World, pool};

/// What began to be computed: when, whose, and how long it takes.
pub(crate) type Begun = (Micros, CustomerName, Duration);

/// What workers began, in order.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<Begun>>>);

impl Diary {
    /// The computing time that began for a customer in that time.
    pub(crate) fn computed(&self, customer: &CustomerName, from: Micros, until: Micros) -> Duration {
        self.begun(from, until).iter().filter(|(_, whose, _)| whose == customer).map(|(_, _, took)| *took).sum()
    }

    /// What began in that time.
    pub(crate) fn begun(&self, from: Micros, until: Micros) -> Vec<Begun> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(at, _, _)| *at >= from && *at < until).cloned().collect()
    }
}

/// Starts so many workers on each lane, of one slot each; an item of a customer takes so long.
pub(crate) fn start(world: &World, per_lane: u16, item: fn(&CustomerName) -> Duration) -> Diary {
    let diary = Diary::default();
    for lane in 0..world.settings.pools[&pool()].lanes {
        for number in 0..per_lane {
            let worker = Worker {
                store: world.store.clone(),
                clock: world.clock.clone(),
                host: HostId::new(format!("host-{lane}-{number}")).unwrap(),
                diary: diary.clone(),
                item,
            };
            let broker = world.broker.clone();
            #[expect(clippy::disallowed_methods, reason = "a worker is a process of its own, and no task of the producer")]
            tokio::spawn(async move { worker.serve(&broker, &address::work_queue(&pool(), lane)).await });
        }
    }
    diary
}

struct Worker {
    store: MemoryStore,
    clock: Arc<dyn Clock>,
    host: HostId,
    diary: Diary,
    item: fn(&CustomerName) -> Duration,
}

impl Worker {
    async fn serve(&self, broker: &impl Broker, queue: &str) {
        // As real workers do, one more than computes.
        let consumer = broker.consume(queue, 2).await.unwrap();
        loop {
            for delivery in consumer.next(1).await.unwrap() {
                let work = Work::from_bytes(&delivery.body, Format::MessagePack).unwrap();
                let items = u32::try_from(work.slice.end - work.slice.first).unwrap();
                let took = (self.item)(&work.customer) * items;
                self.diary.0.lock().unwrap().push((self.clock.now(), work.customer.clone(), took));
                sleep(took).await;
                settle(&self.store, &[(work.replica, self.host.clone())], took, self.clock.now()).await;
                consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.unwrap();
            }
        }
    }
}

/// Assembles what is settled of a job, and ends it if that is said.
pub(crate) async fn assemble(world: &World, job: JobId, step: StageStep) {
    let decide = move |view: &AssemblyView| {
        let (mut parts, mut numbered, mut items) = (view.parts, Vec::new(), view.items);
        for (first, end, _, frame) in &view.units {
            numbered.push((*first, parts));
            parts += u32::try_from(rules::assemble::parts(*first, frame).unwrap().len()).unwrap();
            items.succeeded += end - first;
        }
        // As the aggregator does it: at its end a whole job's outputs, if they are small, are one part.
        match step {
            StageStep::End { .. } if view.job.spec.delivery == Delivery::Whole => parts = parts.min(1),
            StageStep::End { .. } | StageStep::Stay | StageStep::Next { .. } | StageStep::Cancel { .. } => {}
        }
        Assembly {
            assembled: view.units.last().map_or(view.assembled, |(_, end, _, _)| *end),
            chain: view.chain,
            items_chain: None,
            items,
            parts,
            parts_sent: view.parts_sent,
            numbered,
            step,
            replies: Vec::new(),
            progress_at: None,
        }
    };
    world.store.assemble(job, 1_000, Box::new(decide)).await.unwrap();
}

/// Ends a job as completed.
pub(crate) async fn end(world: &World, job: JobId) {
    let digest = Digest::of(b"");
    let certificate = Certificate { items: ItemCounts::default(), items_digest: digest, output_digest: digest };
    assemble(world, job, StageStep::End { state: JobState::Completed, certificate }).await;
}

/// Makes the units of these replicas valid, each item with an output of its own.
pub(crate) async fn settle(store: &MemoryStore, replicas: &[(ReplicaKey, HostId)], took: Duration, now: Micros) {
    let keys: Vec<ReplicaKey> = replicas.iter().map(|(key, _)| *key).collect();
    let hosts = replicas.to_vec();
    let decide = move |view: &SettlementView| decided(view, &hosts, took, now);
    store.settle(&keys, Box::new(decide)).await.unwrap();
}

fn decided(view: &SettlementView, hosts: &[(ReplicaKey, HostId)], took: Duration, now: Micros) -> Settlement {
    let (meter, compute_us) = (MeterId::new("test-1").unwrap(), u64::try_from(took.as_micros()).unwrap());
    let mut settlement = Settlement::default();
    for unit in view.units.iter().filter(|unit| unit.state == UnitState::Open) {
        let job = view.jobs.iter().find(|job| job.id == unit.key.job).unwrap();
        let (key, host) = hosts.iter().find(|(key, _)| key.job == unit.key.job && key.unit == unit.key.unit).unwrap();
        let mut frame = ResultFrame::default();
        (unit.first..unit.end).for_each(|item| frame.ok(&item.to_be_bytes()).unwrap());
        let (output, fuel) = (frame.finish(), Fuel::new(compute_us).unwrap());
        let vote = Vote { meter: meter.clone(), fuel, input_bytes: 8, output: Digest::of(&output) };
        settlement.replicas.push(ReplicaEnd {
            key: *key,
            state: ReplicaState::Computed,
            host: Some(host.clone()),
            vote: Some(vote),
            reason: None,
            compute_us,
        });
        let usage = Usage {
            unit: unit.key,
            customer: job.customer.clone(),
            pool: PoolName::new("open").unwrap(),
            meter: meter.clone(),
            fuel,
            bytes: 8,
            output: Digest::of(&output),
            recorded_at: now,
        };
        settlement.units.push(UnitSettled { key: unit.key, end: UnitEnd::Valid { usage, output, failed_items: 0, compute_us } });
    }
    settlement
}
