//! One run: the plan's faults as time passes, then calm, then the grid must come to rest with everything in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ports::Broker as _;
use ports::broker::{Consumer, Verdict};
use protocol::CustomerName;
use protocol::address::{WORK_EXCHANGE, outcomes_queue, results_queue, work_queue};
use rules::lanes;
use testkit::memory_store::Snapshot;
use testkit::simulator::{Broken, Dice, Ether, Trace, Weather};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check;
use crate::customer::{Errand, Mailbox};
use crate::grid::Grid;
use crate::plan::{Fault, Plan, pool};
use crate::seen::Seen;

/// Time moves on in steps of this.
const TICK: Duration = Duration::from_millis(250);
/// The grid comes to rest within this time after the last fault: clocks that differ by minutes and waits of up to five add up.
const REST: Duration = Duration::from_mins(45);
/// What was under way when the grid came to rest has arrived by then, and must change nothing.
const SILENCE: Duration = Duration::from_secs(75);
/// A customer's message is with the grid within this time, when nothing goes wrong.
const SETTLED: Duration = Duration::from_secs(5);
/// Rounds of dispatch that may fill a lane at the same time: each producer's, and what the network doubles.
const MAX_WINDOWS: u32 = 8;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The digest of its trace, and how many events that has.
    pub(crate) trace: (u64, u64),
    /// How long it took, in simulated time.
    pub(crate) lasted: Duration,
    /// What it met.
    pub(crate) seen: Seen,
}

/// Runs a seed on this thread.
pub(crate) fn run(seed: u64, broken: Option<Broken>, print: bool) -> Result<Outcome, String> {
    service::patience::seed_jitter(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let plan = Plan::new(seed);
    runtime.block_on(async {
        let mut run = Run::new(&plan, broken, print).await;
        run.storm(&plan).await.and(run.rest(&plan).await)?;
        let met = Seen::of(&run.grid, &run.mailbox.open());
        Ok(Outcome { trace: run.grid.ether.trace.digest(), lasted: run.begun.elapsed(), seen: met })
    })
}

struct Run {
    grid: Grid,
    mailbox: Mailbox,
    readers: Vec<(CustomerName, Box<dyn Consumer>)>,
    begun: Instant,
    backup: Option<Snapshot>,
    broker_back_at: Option<Instant>,
    /// Customers who do not read now.
    asleep: BTreeSet<CustomerName>,
    sleeps: Vec<(CustomerName, Duration, Duration)>,
    /// The customers' tasks, which end with the run.
    _errands: JoinSet<()>,
}

impl Run {
    async fn new(plan: &Plan, broken: Option<Broken>, print: bool) -> Self {
        let ether = Ether::new(Dice::new(!plan.seed), Trace::new(print));
        ether.trace.note(format_args!(
            "seed {}: {} producers, {} aggregators, {} hosts, {} lanes, {} shards, clocks within {} ms",
            plan.seed,
            plan.producers,
            plan.aggregators,
            plan.hosts.len(),
            plan.lanes,
            plan.shards,
            plan.skew_ms
        ));
        ether.set(plan.weather);
        let grid = Grid::new(plan, &ether, broken);
        let (mailbox, begun) = (Mailbox::default(), Instant::now());
        let (mut readers, mut errands) = (Vec::new(), JoinSet::new());
        for job in &plan.jobs {
            if !readers.iter().any(|(name, _)| *name == job.customer) {
                grid.broker.declare_customer(&job.customer).await.expect("a queue");
                let consumer = grid.broker.consume(&results_queue(&job.customer), 1_000).await.expect("a consumer");
                readers.push((job.customer.clone(), consumer));
            }
            let network = grid.connection(job.customer.as_str());
            let (mailbox, ether) = (mailbox.clone(), Arc::clone(&ether));
            let forgetful = plan.restores();
            errands.spawn(Errand { job: job.clone(), network, mailbox, ether, begun, forgetful }.run());
        }
        Self {
            grid,
            mailbox,
            readers,
            begun,
            backup: None,
            broker_back_at: None,
            asleep: BTreeSet::new(),
            sleeps: plan.sleeps.clone(),
            _errands: errands,
        }
    }

    /// Everything goes wrong that the plan says.
    async fn storm(&mut self, plan: &Plan) -> Result<(), String> {
        let mut faults = plan.faults.iter().peekable();
        while self.begun.elapsed() < plan.calm_at {
            while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= self.begun.elapsed()) {
                self.suffer(*fault, plan).await;
            }
            self.tick().await?;
        }
        Ok(())
    }

    /// Nothing goes wrong any more; the grid comes to rest, and stays so.
    async fn rest(&mut self, plan: &Plan) -> Result<(), String> {
        self.grid.ether.trace.note("calm");
        self.grid.ether.set(Weather::default());
        self.grid.broker.restore();
        self.broker_back_at = None;
        let calm_at = Instant::now();
        loop {
            for _ in 0..4 {
                self.tick().await?;
            }
            let unrest = check::unrest(&self.grid, &self.mailbox, plan).await;
            let Some(unrest) = unrest.or_else(|| self.errands_left(plan)) else { break };
            if calm_at.elapsed() > REST {
                return Err(format!("no rest {REST:?} after the last fault: {unrest}"));
            }
        }
        self.grid.ether.trace.note("rest");
        let rest_at = Instant::now();
        while rest_at.elapsed() < SILENCE {
            self.tick().await?;
        }
        if let Some(unrest) = check::unrest(&self.grid, &self.mailbox, plan).await {
            return Err(format!("unrest after rest: {unrest}"));
        }
        check::order(&self.grid, &self.mailbox, plan)
    }

    /// Whether customers have yet to do what they will do.
    fn errands_left(&self, plan: &Plan) -> Option<String> {
        let last = plan.jobs.iter().filter_map(|job| job.again_at.max(job.cancel_at)).max().unwrap_or_default();
        (self.begun.elapsed() < last + SETTLED).then(|| "customers are not done".to_owned())
    }

    async fn tick(&mut self) -> Result<(), String> {
        self.grid.tick()?;
        if self.broker_back_at.is_some_and(|at| at <= Instant::now()) {
            self.grid.ether.trace.note("the broker is back");
            self.grid.broker.restore();
            self.broker_back_at = None;
        }
        self.fall_asleep();
        sleep(TICK).await;
        self.read_letters(false).await;
        self.look_at_lanes().await
    }

    /// Queues of customers who do not read take nothing, as if they were full.
    fn fall_asleep(&mut self) {
        let now = self.begun.elapsed();
        let sleeping = self.sleeps.iter().filter(|(_, from, until)| *from <= now && now < *until);
        let asleep: BTreeSet<_> = sleeping.map(|(customer, _, _)| customer.clone()).collect();
        for customer in asleep.symmetric_difference(&self.asleep) {
            let full = asleep.contains(customer);
            self.grid.ether.trace.note(format_args!("{customer} {}", if full { "falls asleep" } else { "wakes" }));
            self.grid.broker.fill(&results_queue(customer), full);
        }
        self.asleep = asleep;
    }

    /// Customers read all that is there, those who sleep only if they must.
    async fn read_letters(&mut self, all: bool) {
        for (customer, reader) in self.readers.iter().filter(|(customer, _)| all || !self.asleep.contains(customer)) {
            while let Ok(Ok(batch)) = tokio::time::timeout(Duration::ZERO, reader.next(1_000)).await {
                for delivery in &batch {
                    self.mailbox.open().read(customer, delivery);
                }
                let acks: Vec<_> = batch.iter().map(|delivery| (delivery.tag, Verdict::Ack)).collect();
                let _of_lost_connections = reader.settle(&acks).await;
            }
        }
    }

    /// A lane's depth is bounded by its window (invariant I8).
    async fn look_at_lanes(&self) -> Result<(), String> {
        let lanes = self.grid.topology.queues.iter().filter(|queue| queue.exchange == WORK_EXCHANGE);
        for queue in lanes.map(|queue| &queue.name) {
            let Ok(Some(depth)) = self.grid.broker.depth(queue).await else { continue };
            let bound = lanes::window(depth.consumers.max(8), Some(10)).saturating_mul(MAX_WINDOWS);
            if depth.ready > bound {
                return Err(format!("I8: {queue} holds {} units, at most {bound} fit its windows", depth.ready));
            }
        }
        Ok(())
    }

    async fn suffer(&mut self, fault: Fault, plan: &Plan) {
        self.grid.ether.trace.note(format_args!("fault: {fault:?}"));
        match fault {
            Fault::Crash(number, away) => self.grid.crash(number, away),
            Fault::Drain(number) => self.grid.drain(number),
            Fault::Cut(number) => self.grid.cut(number),
            Fault::Pause(number, duration) => self.grid.pause(number, duration),
            Fault::Purge(number) if number < plan.lanes => drop(self.grid.broker.purge(&work_queue(&pool(), number))),
            Fault::Purge(number) => drop(self.grid.broker.purge(&outcomes_queue(number % plan.shards))),
            Fault::Wipe => self.wipe().await,
            Fault::BrokerDown(duration) => {
                self.grid.broker.take_down("its node restarts");
                self.broker_back_at = Some(Instant::now() + duration);
            }
            Fault::BrokerBlocked(duration) => {
                self.grid.broker.block("memory alarm");
                self.broker_back_at = Some(Instant::now() + duration);
            }
            Fault::Backup => self.backup = Some(self.grid.store.snapshot()),
            Fault::Restore(and_wipe) => self.restore(and_wipe, plan.restores_at_work).await,
        }
    }

    /// All messages are gone; customers have read theirs, and know that what they sent may be lost.
    async fn wipe(&mut self) {
        self.read_letters(true).await;
        self.grid.broker.wipe();
        self.mailbox.doubt();
    }

    /// The store is what it was, with the services stopped meanwhile or not.
    async fn restore(&mut self, and_wipe: bool, at_work: bool) {
        let Some(backup) = self.backup.take() else { return };
        if !at_work {
            self.grid.crash_services(Duration::from_secs(3));
            sleep(TICK).await;
        }
        self.read_letters(true).await;
        self.mailbox.open().forgetful = true;
        self.grid.store.restore(&backup);
        if and_wipe {
            self.wipe().await;
        }
        self.mailbox.doubt();
    }
}
