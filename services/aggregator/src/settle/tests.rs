//! Outcomes that meet damage, among others that do not, with a store and a broker in memory.

use std::time::Duration;

use broker::{MemoryBroker, Topology};
use ports::Broker as _;
use ports::broker::{Confirm, Outgoing, Properties};
use ports::clock::SystemClock;
use ports::dead::DeadLetter;
use protocol::address::{DEAD_EXCHANGE, OUTCOMES_EXCHANGE, outcomes_queue};
use protocol::input::Input;
use protocol::outcome::{Computed, OutcomeResult};
use protocol::unit::Slice;
use protocol::{Digest, Fuel, PoolName, UnitKey};
use service::{Metrics, Readiness};
use testkit::MemoryStore;
use testkit::memory_store::StoreFault;
use testkit::store_contract::World;
use testkit::store_contract::world::{frame, meter};

use super::*;
use crate::{AggregatorMetrics, AggregatorSettings};

/// Nothing here takes long, and no time passes but in waits.
const LIMIT: Duration = Duration::from_hours(1);
/// Of each unit here.
const ITEMS: u64 = 5;

/// A grid of one shard, of which only the settling is at work.
struct Grid {
    store: MemoryStore,
    world: World,
    broker: MemoryBroker,
    aggregator: Aggregator,
}

impl Grid {
    fn new() -> Self {
        let store = MemoryStore::new(Arc::new(SystemClock));
        let pool = PoolName::new("open").expect("a name");
        let mut topology = Topology::grid(&[(pool, 1)], 1);
        // Anything that may write to the default exchange reaches a queue by its name alone.
        let mut straight = topology.queue_mut(DEAD_WORK_QUEUE).expect("a queue").clone();
        straight.key = DEAD_WORK_QUEUE.to_owned();
        topology.queues.push(straight);
        let broker = MemoryBroker::with_topology(&topology);
        let settings =
            AggregatorSettings { batch: 50, sweep_ms: 1_000, relay_ms: 20, mirror_ms: 60_000, rates: None, results_days: 0 };
        let aggregator = Aggregator {
            broker: Arc::new(broker.clone()),
            store: Arc::new(store.clone()),
            clock: Arc::new(SystemClock),
            shards: 1,
            settings: Arc::new(settings),
            metrics: AggregatorMetrics::new(&Metrics::new("test", "0").expect("metrics")).expect("metrics"),
            ready: Readiness::new().check("settling"),
        };
        Self { world: World::new(Arc::new(store.clone())), store, broker, aggregator }
    }

    /// A job's units, all sent.
    async fn units(&self, count: u64) -> Vec<UnitKey> {
        let job = self.world.admit(count * ITEMS).await;
        self.world.sent(job, &borders(count)).await
    }

    /// What a host reports of a unit.
    async fn report(&self, unit: UnitKey, result: OutcomeResult) {
        self.report_under(Outcome::KIND, unit, result).await;
    }

    async fn report_under(&self, kind: &str, unit: UnitKey, result: OutcomeResult) {
        let facts = self.store.units_of(unit.job).into_iter().find(|facts| facts.key == unit).expect("a unit");
        self.report_of(facts.slice(), kind, unit, result).await;
    }

    async fn report_of(&self, slice: Slice, kind: &str, unit: UnitKey, result: OutcomeResult) {
        let host = HostId::new("host-1").expect("a name");
        let outcome = Outcome { replica: unit.replica(0), slice, host, result, compute_us: 50 };
        let properties = Properties {
            message_id: format!("{}.{}", outcome.replica, outcome.host),
            kind: kind.to_owned(),
            content_type: Some(Format::MessagePack.content_type().to_owned()),
            ..Properties::default()
        };
        let body = outcome.to_bytes(Format::MessagePack).expect("bytes");
        self.publish(Outgoing { exchange: OUTCOMES_EXCHANGE.to_owned(), routing_key: "0".to_owned(), properties, body }).await;
    }

    async fn publish(&self, message: Outgoing) {
        assert_eq!(self.broker.publish(vec![message], LIMIT).await.expect("a broker"), [Confirm::Stored]);
    }

    /// Settles what comes from there until that has happened.
    async fn settle<T>(&self, source: Source, happens: impl Future<Output = T>) -> T {
        let (stopping, touched) = (CancellationToken::new(), Arc::new(Touched::default()));
        let serving = run(self.aggregator.clone(), source, touched, Arc::new(AtomicU16::new(1)), stopping.clone());
        let happening = async {
            let happened = tokio::time::timeout(LIMIT, happens).await.expect("it happens");
            stopping.cancel();
            happened
        };
        let (served, happened) = tokio::join!(serving, happening);
        served.expect("it ends when it is told to");
        happened
    }

    /// Takes the next outcome that is parked.
    async fn letter(&self) -> (Delivery, DeadLetter) {
        let consumer = self.broker.consume(&Origin::Outcomes.queue(), 1).await.expect("a queue");
        let delivery = consumer.next(1).await.expect("a broker").remove(0);
        consumer.settle(&[(delivery.tag, Verdict::Ack)]).await.expect("a broker");
        let letter = DeadLetter::of(Origin::Outcomes, &delivery);
        (delivery, letter)
    }

    async fn replay(&self, (delivery, letter): (Delivery, DeadLetter)) {
        self.publish(letter.replay(delivery).expect("it says where it came from")).await;
    }

    /// Valid units, in the order in which they were settled.
    fn settled(&self) -> Vec<UnitKey> {
        self.store.ledger().iter().map(|usage| usage.unit).collect()
    }

    async fn ready(&self, queue: &str) -> u32 {
        self.broker.depth(queue).await.expect("a broker").expect("a queue").ready
    }

    /// Outcomes that wait, and letters of outcomes.
    async fn left(&self) -> (u32, u32) {
        (self.ready(&outcomes_queue(0)).await, self.ready(&Origin::Outcomes.queue()).await)
    }

    /// How often damage was said, and how many letters were counted.
    fn told(&self) -> (u64, u64) {
        let metrics = &self.aggregator.metrics;
        let broken = metrics.invariants_broken.with_label_values(&[Invariant::Assembly.key()]).get();
        (broken, metrics.dead_letters.with_label_values(&[Origin::Outcomes.key()]).get())
    }
}

fn shard() -> Source {
    Source::Outcomes(outcomes_queue(0))
}

fn borders(count: u64) -> Vec<u64> {
    (0..=count).map(|unit| unit * ITEMS).collect()
}

fn computed() -> OutcomeResult {
    let (output, fuel) = (frame(ITEMS), Fuel::new(1_000).expect("fuel"));
    OutcomeResult::Computed(Computed { meter: meter(), fuel, digest: Digest::of(&output), output, input_bytes: 40 })
}

async fn until(holds: impl AsyncFn() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_unit_stays_behind_alone_until_it_is_mended() {
    let grid = Grid::new();
    let units = [grid.units(2).await, grid.units(1).await].concat();
    for unit in &units {
        grid.report(*unit, computed()).await;
    }
    grid.store.damage([units[1]]);
    let happens = async {
        let (delivery, letter) = grid.letter().await;
        assert_eq!(grid.settled(), [units[0], units[2]], "all others, and in their order");
        assert_eq!((letter.replica, letter.attempts), (Some(units[1].replica(0)), 1));
        let damage = format!("the outcome of {} cannot be settled: settle: database is not as expected", units[1].replica(0));
        assert!(letter.cause.starts_with(&damage), "{letter:?}");
        grid.replay((delivery, letter)).await;
        let (delivery, letter) = grid.letter().await;
        assert_eq!(letter.attempts, 2, "it is damaged still");
        grid.store.damage([]);
        grid.replay((delivery, letter)).await;
        until(async || grid.settled().len() == 3).await;
    };
    grid.settle(shard(), happens).await;
    assert_eq!(grid.settled(), [units[0], units[2], units[1]]);
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (1, 2)), "of a job it is said once");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_damaged_all_others_are_settled_in_their_order() {
    for pattern in 0..32_u32 {
        let grid = Grid::new();
        let units = [grid.units(3).await, grid.units(2).await].concat();
        for unit in &units {
            grid.report(*unit, computed()).await;
        }
        let is_damaged = |place: &usize| (pattern >> place) & 1 == 1;
        let (damaged, sound): (Vec<usize>, Vec<usize>) = (0..units.len()).partition(is_damaged);
        grid.store.damage(damaged.iter().map(|place| units[*place]));
        let all = async || grid.settled().len() == sound.len() && grid.left().await.1 == pattern.count_ones();
        grid.settle(shard(), until(all)).await;
        let expected: Vec<UnitKey> = sound.iter().map(|place| units[*place]).collect();
        assert_eq!((grid.settled(), grid.left().await), (expected, (0, pattern.count_ones())), "{pattern:b}");
        let jobs = u64::from(pattern & 0b111 > 0) + u64::from(pattern >> 3 > 0);
        assert_eq!(grid.told(), (jobs, u64::from(pattern.count_ones())), "{pattern:b}");
    }
}

/// The unit was cut in halves, or cut anew after a restore: what was computed of its former items is none of its result.
#[tokio::test(start_paused = true)]
async fn a_result_of_items_that_the_unit_has_no_more_has_no_effect() {
    let grid = Grid::new();
    let units = grid.units(2).await;
    let before = Slice { stage: 0, first: 1, end: 1 + ITEMS };
    grid.report_of(before, Outcome::KIND, units[0], computed()).await;
    grid.report(units[1], computed()).await;
    grid.settle(shard(), until(async || grid.settled().len() == 1)).await;
    assert_eq!((grid.settled(), grid.left().await), (vec![units[1]], (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_beside_damage_is_acknowledged_though_settling_is_stopped() {
    let grid = Grid::new();
    let units = grid.units(3).await;
    for unit in &units {
        grid.report(*unit, computed()).await;
    }
    grid.store.damage([units[1]]);
    // All of them, none, the first; then the store is away.
    let mut left = 3;
    let plan = move |operation: &'static str| {
        left -= i32::from(operation == "settle");
        if left < 0 { StoreFault::FailBefore } else { StoreFault::None }
    };
    grid.store.set_fault(Some(Box::new(plan)));
    grid.settle(shard(), until(async || grid.settled().len() == 1)).await;
    assert_eq!(grid.settled(), [units[0]]);
    assert_eq!((grid.left().await, grid.told()), ((2, 0), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_not_as_expected_whatever_it_is_asked_is_waited_for() {
    let grid = Grid::new();
    let units = grid.units(2).await;
    for unit in &units {
        grid.report(*unit, computed()).await;
    }
    // Three attempts, each with a look at whether it is all of the database.
    let mut left = 6;
    let plan = move |operation: &'static str| {
        left -= i32::from(operation == "settle");
        if operation == "settle" && left >= 0 { StoreFault::Corrupt } else { StoreFault::None }
    };
    grid.store.set_fault(Some(Box::new(plan)));
    grid.settle(shard(), until(async || grid.settled().len() == 2)).await;
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_text_is_damaged_is_cut_when_that_is_mended() {
    let grid = Grid::new();
    let text = "0\n".repeat(10);
    let blob = Digest::of(text.as_bytes());
    assert!(grid.world.store.put_part(blob, 20, 0, text.as_bytes()).await.expect("a store"));
    let mut job = grid.world.job(2 * ITEMS);
    job.spec.input = Input::Lines { blob };
    let job = grid.world.admit_job(job).await;
    let units = grid.world.sent(job, &borders(2)).await;
    grid.report(units[0], OutcomeResult::TooLarge { reason: "it takes too long".to_owned() }).await;
    grid.report(units[1], computed()).await;
    let plan = |operation: &'static str| if operation == "read blob" { StoreFault::Corrupt } else { StoreFault::None };
    grid.store.set_fault(Some(Box::new(plan)));
    let happens = async {
        let (delivery, letter) = grid.letter().await;
        assert_eq!((letter.replica, grid.settled()), (Some(units[0].replica(0)), vec![units[1]]));
        assert!(letter.cause.contains("read blob"), "{letter:?}");
        grid.store.set_fault(None);
        grid.replay((delivery, letter)).await;
        until(async || grid.store.units_of(job).len() == 3).await;
    };
    grid.settle(shard(), happens).await;
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn dead_work_that_meets_damage_stays_parked_where_it_is() {
    let grid = Grid::new();
    let units = grid.units(1).await;
    grid.store.damage([units[0]]);
    let properties = Properties { message_id: units[0].replica(0).to_string(), ..Properties::default() };
    let (exchange, routing_key) = (DEAD_EXCHANGE.to_owned(), Origin::Work.key().to_owned());
    grid.publish(Outgoing { exchange, routing_key, properties, body: b"\xc1".to_vec() }).await;
    grid.settle(Source::DeadWork, until(async || grid.told().0 == 1)).await;
    assert_eq!((grid.ready(DEAD_WORK_QUEUE).await, grid.ready(&Origin::Work.queue()).await), (0, 1));
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn rubbish_that_came_straight_to_the_queue_of_dead_work_is_parked_and_a_copy_of_a_letter_is_not_again() {
    let grid = Grid::new();
    for (key, id) in [(Origin::Work.key(), "copy"), (DEAD_WORK_QUEUE, "straight")] {
        let properties = Properties { message_id: id.to_owned(), ..Properties::default() };
        let (exchange, routing_key) = (DEAD_EXCHANGE.to_owned(), key.to_owned());
        grid.publish(Outgoing { exchange, routing_key, properties, body: b"\xc1".to_vec() }).await;
    }
    let (_, letter) = grid.settle(Source::DeadWork, grid.letter()).await;
    assert_eq!((letter.id.as_str(), letter.queue.as_deref()), ("straight", Some(DEAD_WORK_QUEUE)), "{letter:?}");
    assert_eq!((grid.ready(DEAD_WORK_QUEUE).await, grid.ready(&Origin::Work.queue()).await), (0, 1));
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (0, 1)));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_under_another_type_is_parked_and_one_without_a_type_is_settled() {
    let grid = Grid::new();
    let units = grid.units(2).await;
    grid.report_under("offpeak.unit.outcome.v2", units[0], computed()).await;
    grid.report_under("", units[1], computed()).await;
    let happens = async {
        until(async || grid.settled().len() == 1).await;
        grid.letter().await
    };
    let (_, letter) = grid.settle(shard(), happens).await;
    assert_eq!((letter.replica, grid.settled()), (Some(units[0].replica(0)), vec![units[1]]));
    assert!(letter.cause.contains("it came under type \"offpeak.unit.outcome.v2\""), "{letter:?}");
    assert_eq!((grid.left().await, grid.told()), ((0, 0), (0, 1)));
}
