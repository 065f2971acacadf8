//! Rounds: jobs are handed in, a fault strikes in their middle, and what must hold is checked when they have ended.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::faults::{CLUSTER_FAULTS, FAULTS, Fault};
use crate::load::{self, Balance, Kind, Load, Told};
use crate::memory::Memory;
use crate::offpeak::{Running, wait_for};
use crate::say;
use crate::table::Table;
use crate::world::World;

/// The fault strikes when so many units of the first job are in the ledger.
const BEGUN: u64 = 3;
/// So long a run has to tell whether memory grows.
const LONG: Duration = Duration::from_mins(30);

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How long to go on; without it every fault strikes once.
    pub(crate) lasts: Option<Duration>,
    /// From which chance follows.
    pub(crate) seed: u64,
    /// Words of the faults' names; all faults without any.
    pub(crate) words: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { lasts: None, seed: 1, words: Vec::new() }
    }
}

impl Plan {
    fn chosen(&self, faults: &[Fault]) -> Vec<Fault> {
        let wanted = |fault: &&Fault| self.words.is_empty() || self.words.iter().any(|word| fault.name.contains(word));
        faults.iter().filter(wanted).copied().collect()
    }
}

/// Carries out the plan; whether nothing was lost and nothing done twice.
pub(crate) fn run(plan: &Plan) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let mut campaign = Campaign::new(folder.path(), plan);
    let end = plan.lasts.map(|lasts| now() + lasts);
    say(&format!("seed {}", plan.seed));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        // The cluster takes a quarter of a long run.
        let shares = [(1, FAULTS, plan.lasts.map(|lasts| lasts.mul_f64(0.75))), (3, CLUSTER_FAULTS, None)];
        for (nodes, faults, share) in shares {
            let faults = plan.chosen(faults);
            if !faults.is_empty() {
                campaign.grid(nodes, &faults, share.map(|share| now() + share).or(end));
            }
        }
        assert!(campaign.memory.is_flat(), "memory grows");
        assert!(
            plan.lasts.is_none_or(|lasts| lasts < LONG) || campaign.memory.tells(),
            "no process lived long enough to tell of its memory"
        );
    }));
    say(&format!("what came of it\n\n{}\nmemory of the services\n{}", campaign.table.text(), campaign.memory.text()));
    if ended.is_err() {
        say(&format!("failed; the services' logs are in {}", folder.keep().display()));
    }
    ended.is_ok() && campaign.table.is_clean()
}

/// Everything that is kept over rounds.
struct Campaign {
    folder: std::path::PathBuf,
    dice: Dice,
    long: bool,
    kinds: BTreeMap<(u32, bool), Kind>,
    table: Table,
    memory: Memory,
    runtime: tokio::runtime::Runtime,
}

impl Campaign {
    fn new(folder: &Path, plan: &Plan) -> Self {
        Self {
            folder: folder.to_owned(),
            dice: Dice(plan.seed),
            long: plan.lasts.is_some(),
            kinds: BTreeMap::new(),
            table: Table::default(),
            memory: Memory::default(),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
        }
    }

    /// Lets faults strike one grid: each once, or until that time.
    fn grid(&mut self, nodes: usize, faults: &[Fault], end: Option<Instant>) {
        let folder = self.folder.join(format!("nodes-{nodes}"));
        std::fs::create_dir(&folder).expect("a folder");
        let mut world = World::start(folder, nodes, self.dice.clone());
        let mut told = Told::default();
        loop {
            let mut order = faults.to_owned();
            if self.long {
                self.dice.shuffle(&mut order);
                // All others with the same processes, whose memory is looked at.
                order.sort_by_key(|fault| !fault.replaces);
            }
            for fault in order {
                let begin = now();
                let (recovery, balance) = self.strike(&mut world, fault, &mut told);
                let (recovered, whole) = (recovery.as_secs_f64(), begin.elapsed().as_secs_f64());
                say(&format!("{}: recovered in {recovered:.1} s, at rest after {whole:.1} s", fault.name));
                self.table.note(fault.name, recovery, balance);
                assert!(self.table.is_clean(), "{}: {balance:?}", fault.name);
                self.memory.look(&world);
                if end.is_some_and(|end| now() > end) {
                    break;
                }
            }
            if end.is_none_or(|end| now() > end) {
                break;
            }
        }
        stop(world);
    }

    /// A round in whose middle the fault strikes: where the jobs were over before it was, with larger ones.
    fn strike(&mut self, world: &mut World, fault: Fault, told: &mut Told) -> (Duration, Balance) {
        for enlarged in [1, 2, 4, 8, 16] {
            let jobs = self.jobs(fault.items * enlarged);
            let (recovery, balance) = round(world, fault, &jobs, told, &self.runtime);
            match recovery {
                Some(recovery) => return (recovery, balance),
                None => say(&format!("{}: the jobs were over before the fault; again with larger ones", fault.name)),
            }
        }
        panic!("{}: whatever their size, jobs are over before the fault", fault.name);
    }

    /// The jobs of a round: one, or in a long run three at once, one of them with a quorum.
    fn jobs(&mut self, items: u32) -> Vec<Kind> {
        let wanted: &[bool] = if self.long { &[false, true, false] } else { &[false] };
        let kinds = wanted.iter().map(|quorum| {
            let before = if *quorum { "quorum = 2\n" } else { "" };
            let new = || Kind::new(&self.folder, items, before);
            self.kinds.entry((items, *quorum)).or_insert_with(new).clone()
        });
        kinds.collect()
    }
}

/// One fault in the middle of jobs: how long until they were served again, if the fault did not miss them, and what came of them.
fn round(
    world: &mut World,
    fault: Fault,
    kinds: &[Kind],
    told: &mut Told,
    runtime: &tokio::runtime::Runtime,
) -> (Option<Duration>, Balance) {
    let jobs: Vec<Load> = kinds.iter().map(|kind| Load::submit(world, kind)).collect();
    let begun = wait_for(|| jobs[0].settled(world).filter(|settled| *settled >= BEGUN));
    assert!(begun.is_some(), "{}: the job did not begin", fault.name);
    // A customer's jobs are dispatched oldest first: those that wait for their turn say nothing of the fault.
    let served: Vec<&Load> = jobs.iter().filter(|job| job.settled(world) > Some(0)).collect();
    world.set_back = false;
    world.ended_unread.clear();
    (fault.strike)(world);
    let recovery = recovery(world, fault, &served);
    for job in &jobs {
        job.over(world);
    }
    if jobs.iter().any(|job| world.ended_unread.contains(&job.id)) {
        return (None, Balance::default());
    }
    // A customer who is not told within the bound has lost a reply.
    let _told = wait_for(|| {
        told.read(world, runtime);
        jobs.iter().all(|job| told.knows(job)).then_some(())
    });
    world.ready();
    load::at_rest(world);
    told.read(world, runtime);
    world.mend();
    let mut balance = Balance::default();
    for job in &jobs {
        let Balance { lost, duplicated } = job.balance(world, told);
        balance.lost += lost;
        balance.duplicated += duplicated;
    }
    (recovery, balance)
}

/// From the end of the fault until each of these jobs is served again: a unit is settled that was cut or sent again since, or the job is
/// over. Nothing if all were over without.
fn recovery(world: &World, fault: Fault, jobs: &[&Load]) -> Option<Duration> {
    let begin = now();
    let clock = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let since = wait_for(|| world.number(clock)).expect("the database is there");
    let mut waiting = jobs.to_vec();
    let mut served = false;
    let all = wait_for(|| {
        waiting.retain(|job| {
            let is_served = job.served_since(world, since);
            served |= is_served;
            !is_served && !job.is_over(world)
        });
        waiting.is_empty().then_some(())
    });
    assert!(all.is_some(), "{}: a job was not served again", fault.name);
    served.then(|| begin.elapsed())
}

/// Every service ends well when it is told to.
fn stop(world: World) {
    world.members.iter().for_each(|member| member.running.signal("-TERM"));
    for member in world.members {
        let ended = Running::end(member.running);
        assert_eq!(ended.code, Some(0), "{}: {ended:?}", member.kind);
    }
}

#[expect(clippy::disallowed_methods, reason = "the recovery is measured, and a long run has an end; no result depends on it")]
fn now() -> Instant {
    Instant::now()
}
