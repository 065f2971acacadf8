//! What a seed stands for: the grid, its customers' jobs, and what goes wrong when.

use std::time::Duration;

use protocol::input::{self, Axis, Input};
use protocol::job::{Delivery, JobSpec, Limits, UnitSizing};
use protocol::{CustomerName, Digest, Fuel, PoolName, Value};
use testkit::simulator::{App, Dice, Nature, Weather};

/// Jobs come in during the first part of a run.
const SUBMISSIONS_MS: u64 = 20_000;
/// The largest quorum of a job.
const MAX_QUORUM: u64 = 3;
/// Customers' habits come from dice of their own, so that seeds that failed once are still what they were.
const HABITS: u64 = 0x6861_6269_7473;
/// And so do budgets.
const BUDGETS: u64 = 0x0062_7564_6765_7473;
/// And whether services are at work while the store is set back.
const RESTORES: u64 = 0x7265_7374_6f72_6573;
/// What an item of a job with a budget may take; a greedy host claims less than that for one.
const FUEL_PER_ITEM: u64 = 2_600;
/// So many lanes have honest hosts at least.
const LANES: u16 = 3;

/// Everything that a seed decides before its run begins; what happens by chance within it comes from `dice`.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(crate) producers: usize,
    pub(crate) aggregators: usize,
    pub(crate) lanes: u16,
    pub(crate) shards: u16,
    pub(crate) hosts: Vec<HostPlan>,
    /// By how much clocks may differ.
    pub(crate) skew_ms: u64,
    pub(crate) jobs: Vec<JobPlan>,
    pub(crate) weather: Weather,
    /// Customers who do not read from then until then, so that their queues fill.
    pub(crate) sleeps: Vec<(CustomerName, Duration, Duration)>,
    /// What happens when, in order.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// Whether a backup is restored under services that are at work, which operators may do, too.
    pub(crate) restores_at_work: bool,
    /// From then on nothing goes wrong any more.
    pub(crate) calm_at: Duration,
}

/// A host.
pub(crate) struct HostPlan {
    pub(crate) nature: Nature,
    pub(crate) slowness: u64,
    pub(crate) slots: usize,
    pub(crate) lane: u16,
}

/// A job and what its customer does with it.
#[derive(Clone)]
pub(crate) struct JobPlan {
    pub(crate) customer: CustomerName,
    /// The submission's `message_id`.
    pub(crate) submission: String,
    pub(crate) spec: JobSpec,
    /// The app's module, and the input where it is a blob.
    pub(crate) blobs: Vec<Vec<u8>>,
    /// The items as the app sees them.
    pub(crate) items: Vec<Vec<u8>>,
    pub(crate) submit_at: Duration,
    /// Submitted once more, as a customer does who is not sure.
    pub(crate) again_at: Option<Duration>,
    pub(crate) cancel_at: Option<Duration>,
    pub(crate) habits: Habits,
}

/// What a customer does with a job beyond submitting it and asking for its end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Habits {
    /// Lets it rest from then until then.
    pub(crate) rests: Option<(Duration, Duration)>,
    /// Fetches all its parts when it has ended, whatever came before.
    pub(crate) fetches: bool,
    /// Parts asked for at once.
    pub(crate) page: u32,
    /// Then lets its results go.
    pub(crate) releases: bool,
}

/// Something that goes wrong at a certain time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process is killed; it is started again after so long.
    Crash(usize, Duration),
    /// A process is told to end, and started again.
    Drain(usize),
    /// A process loses its connection.
    Cut(usize),
    /// A process stands still.
    Pause(usize, Duration),
    /// All messages of a lane or of a shard are gone.
    Purge(u16),
    /// All messages are gone.
    Wipe,
    /// The broker is away.
    BrokerDown(Duration),
    /// The broker takes no messages.
    BrokerBlocked(Duration),
    /// The store is backed up.
    Backup,
    /// The store is what it was at its backup; with `true`, the broker begins empty too.
    Restore(bool),
}

impl Plan {
    /// The plan of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let liars = if dice.happens(400) { 1 + usize::from(dice.happens(300)) } else { 0 };
        let (producers, aggregators) = (size(&mut dice, 1, 4), size(&mut dice, 1, 4));
        let lanes = LANES + u16::try_from(liars).expect("few") + u16::from(dice.happens(500));
        let hosts = hosts(&mut dice, lanes, liars);
        let customers = dice.between(1, 4);
        let jobs = (0..dice.between(1, 5)).map(|number| {
            let customer = dice.between(0, customers);
            // Liars agree with each other: the quorum must be beyond them.
            let min_quorum = 1 + u64::try_from(liars).expect("few");
            let quorum = u8::try_from(dice.between(min_quorum, MAX_QUORUM + 1)).expect("small");
            let mut job = job(&mut dice, number, customer, quorum);
            // A host that disagrees is a failure of the unit: so many must be tolerated.
            job.spec.max_failures += u16::try_from(liars).expect("few");
            job
        });
        let mut jobs: Vec<JobPlan> = jobs.collect();
        let calm_at = millis(dice.between(20_000, 60_000));
        let processes = producers + aggregators + hosts.len();
        let faults = faults(&mut dice, processes, calm_at);
        let skew_ms = if dice.happens(500) { 100 } else { dice.between(1_000, 180_000) };
        let mut weather = weather(&mut dice);
        let shards = u16::try_from(dice.between(1, 4)).expect("small");
        let mut habits = Dice::new(seed ^ HABITS);
        weather.unread = if habits.happens(300) { habits.between(1, 500) } else { 0 };
        for job in &mut jobs {
            job.take_habits(&mut habits);
        }
        let mut budgets = Dice::new(seed ^ BUDGETS);
        for job in &mut jobs {
            job.take_budget(&mut budgets);
        }
        let sleeps = sleeps(&mut habits, &jobs);
        let restores_at_work = Dice::new(seed ^ RESTORES).happens(500);
        Self {
            seed,
            dice,
            producers,
            aggregators,
            lanes,
            shards,
            hosts,
            skew_ms,
            jobs,
            weather,
            sleeps,
            faults,
            restores_at_work,
            calm_at,
        }
    }

    /// Whether the store forgets something in this run.
    pub(crate) fn restores(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Restore(_)))
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn size(dice: &mut Dice, from: u64, end: u64) -> usize {
    usize::try_from(dice.between(from, end)).expect("small")
}

/// One host a lane, those that lie on lanes of their own, and some more.
fn hosts(dice: &mut Dice, lanes: u16, liars: usize) -> Vec<HostPlan> {
    let more = u16::try_from(dice.between(0, 3)).expect("small");
    let host = |number: u16| {
        let nature = match (usize::from(number) < liars, dice.happens(300)) {
            (true, true) => Nature::Greedy,
            (true, false) => Nature::Liar,
            (false, _) => Nature::Honest,
        };
        let honest = lanes - u16::try_from(liars).expect("few");
        let lane = if number < lanes { number } else { u16::try_from(liars).expect("few") + number % honest };
        let slowness = if dice.happens(250) { dice.between(5, 30) } else { dice.between(1, 4) };
        HostPlan { nature, slowness, slots: size(dice, 1, 3), lane }
    };
    (0..lanes + more).map(host).collect()
}

fn weather(dice: &mut Dice) -> Weather {
    let mut sometimes = |most: u64| if dice.happens(600) { dice.between(0, most + 1) } else { 0 };
    Weather {
        latency_ms: sometimes(300),
        lost: sometimes(60),
        unconfirmed: sometimes(60),
        twice: sometimes(100),
        late: sometimes(60),
        refused: sometimes(60),
        cut: sometimes(15),
        reorder: sometimes(500),
        store_fails: sometimes(60),
        store_unknown: sometimes(60),
        unread: 0,
        host_trouble: sometimes(100),
    }
}

fn faults(dice: &mut Dice, processes: usize, calm_at: Duration) -> Vec<(Duration, Fault)> {
    let end = u64::try_from(calm_at.as_millis()).expect("short");
    let mut faults = Vec::new();
    for _ in 0..dice.between(0, 12) {
        let (at, process) = (millis(dice.between(500, end)), size(dice, 0, u64::try_from(processes).expect("few")));
        let fault = match dice.between(0, 20) {
            0..=7 => Fault::Crash(process, millis(dice.between(100, 15_000))),
            8..=9 => Fault::Drain(process),
            10..=12 => Fault::Cut(process),
            13..=14 => Fault::Pause(process, millis(dice.between(1_000, 40_000))),
            15..=16 => Fault::Purge(u16::try_from(dice.between(0, 8)).expect("small")),
            17 => Fault::Wipe,
            18 => Fault::BrokerDown(millis(dice.between(500, 10_000))),
            _ => Fault::BrokerBlocked(millis(dice.between(500, 10_000))),
        };
        faults.push((at, fault));
    }
    if dice.happens(150) {
        let backup = dice.between(2_000, end / 2);
        faults.push((millis(backup), Fault::Backup));
        faults.push((millis(dice.between(backup, end)), Fault::Restore(dice.happens(500))));
    }
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn job(dice: &mut Dice, number: u64, customer: u64, quorum: u8) -> JobPlan {
    let module = format!("module {}", dice.between(0, 2)).into_bytes();
    let reduce = dice.happens(400);
    let count = if reduce && dice.happens(200) { dice.between(64, 200) } else { dice.between(0, 60) };
    let (input, blob) = input(dice, count);
    let kills = if dice.happens(150) { dice.between(1, 5) } else { 0 };
    let fails = if dice.happens(400) { dice.between(1, 20) } else { 0 };
    let items = items(&input, blob.as_deref().unwrap_or_default());
    let ends_early = dice.between(0, 10);
    let submit_at = millis(dice.between(0, SUBMISSIONS_MS));
    let later = submit_at + millis(dice.between(500, 30_000));
    let spec = JobSpec {
        app: Digest::of(&module),
        input,
        shared: None,
        params: App::params(fails, kills, dice.between(0, 1_000)),
        pool: pool(),
        quorum,
        priority: i8::try_from(dice.between(0, 3)).expect("small"),
        deadline_s: (ends_early == 0).then(|| u32::try_from(dice.between(2, 200)).expect("small")),
        budget_fuel: None,
        max_failures: u16::try_from(dice.between(0, 4)).expect("small"),
        limits: Limits::default(),
        unit: UnitSizing {
            target_ms: u32::try_from(dice.between(20, 1_000)).expect("small"),
            max_items: u32::try_from(dice.between(1, 17)).expect("small"),
        },
        reduce,
        delivery: if dice.happens(400) { Delivery::Parts } else { Delivery::Stored },
    };
    JobPlan {
        customer: CustomerName::new(format!("customer-{customer}")).expect("a name"),
        submission: format!("submission-{number}"),
        spec,
        blobs: std::iter::once(module).chain(blob).collect(),
        items,
        submit_at,
        again_at: dice.happens(300).then_some(later),
        cancel_at: (ends_early == 1).then_some(later),
        habits: Habits::default(),
    }
}

impl JobPlan {
    fn take_habits(&mut self, dice: &mut Dice) {
        if self.spec.delivery == Delivery::Stored && dice.happens(500) {
            self.spec.delivery = Delivery::Whole;
        }
        let rests_at = self.submit_at + millis(dice.between(0, 20_000));
        let rests = (rests_at, rests_at + millis(dice.between(0, 30_000)));
        self.habits = Habits {
            rests: dice.happens(200).then_some(rests),
            fetches: dice.happens(400),
            page: u32::try_from(dice.between(1, 20)).expect("small"),
            releases: dice.happens(300),
        };
    }
}

impl JobPlan {
    /// A budget that may or may not suffice.
    fn take_budget(&mut self, dice: &mut Dice) {
        let items = dice.between(1, 40);
        if dice.happens(200) {
            let fuel = |count| Fuel::new(count).ok();
            self.spec.limits.fuel_per_item = fuel(FUEL_PER_ITEM).expect("fuel");
            self.spec.budget_fuel = fuel(FUEL_PER_ITEM * items);
        }
    }
}

/// Some customers do not read for a while.
fn sleeps(dice: &mut Dice, jobs: &[JobPlan]) -> Vec<(CustomerName, Duration, Duration)> {
    let mut sleeps = Vec::new();
    for job in jobs {
        let from = job.submit_at + millis(dice.between(0, 10_000));
        if dice.happens(200) {
            sleeps.push((job.customer.clone(), from, from + millis(dice.between(1_000, 40_000))));
        }
    }
    sleeps
}

/// The pool of all simulated machines.
pub(crate) fn pool() -> PoolName {
    PoolName::new("open").expect("a name")
}

fn input(dice: &mut Dice, count: u64) -> (Input, Option<Vec<u8>>) {
    let start = dice.between(0, 1_000);
    match dice.between(0, 5) {
        0 => {
            let lines = (0..count).map(|line| format!("line {line} of {start}\n"));
            let text = lines.collect::<String>().into_bytes();
            (Input::Lines { blob: Digest::of(&text) }, Some(text))
        }
        1 => {
            let data: Vec<u8> = (0..count).flat_map(|record| (record + start).to_le_bytes()).collect();
            (Input::Records { blob: Digest::of(&data), bytes: 8 }, Some(data))
        }
        2 => (Input::Items((0..count).map(|item| Value::from(format!("item {item} of {start}"))).collect()), None),
        3 if count > 0 => {
            let axis = |name: &str, values: u64| Axis { name: name.to_owned(), values: (0..values).map(Value::from).collect() };
            (Input::Grid(vec![axis("x", count.div_ceil(2)), axis("y", 2)]), None)
        }
        _ => (Input::Range { start, end: start + count }, None),
    }
}

/// An input's items as the app sees them.
fn items(input: &Input, blob: &[u8]) -> Vec<Vec<u8>> {
    let bin = |bytes: &[u8]| input::bin_item(bytes).expect("an item");
    match input {
        Input::Lines { .. } => blob.split_inclusive(|byte| *byte == b'\n').map(|line| bin(line.trim_ascii_end())).collect(),
        Input::Records { bytes, .. } => blob.chunks(usize::try_from(*bytes).expect("small")).map(bin).collect(),
        Input::Range { .. } | Input::Items(_) | Input::Grid(_) => {
            let count = input.count().expect("known");
            (0..count).map(|index| input.item(index).expect("there").expect("an item")).collect()
        }
    }
}
