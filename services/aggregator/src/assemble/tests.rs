//! What is assembled, sent, withheld and told, on views as the store gives them.

use std::collections::BTreeMap;

use ports::clock::SystemClock;
use ports::store::{Assembly, JobSums, StageStep, UnitState, Unsent};
use protocol::frame::{self, ResultFrame};
use protocol::head::{JobHead, Source};
use protocol::job::{Delivery, ItemCounts};
use protocol::money::Amount;
use protocol::reply::{Completed, Part, Progress};
use protocol::{Digest, Fuel, MeterId, OutputChain, PoolName};
use rules::delivery::{MAX_WAITING_BYTES, MAX_WAITING_FOR_PROGRESS, MAX_WAITING_MESSAGES};
use rules::pricing::{RateCard, Rates};
use service::{Metrics, Readiness};
use testkit::MemoryStore;
use testkit::store_contract::World;

use super::*;
use crate::{AggregatorMetrics, AggregatorSettings};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn view(delivery: Delivery, items: u64) -> AssemblyView {
    let spec = JobHead {
        app: Digest::of(b"app"),
        input: Source::Job,
        shared: None,
        pool: PoolName::new("open").expect("a name"),
        quorum: 1,
        priority: 0,
        budget_fuel: None,
        max_failures: 3,
        limits: protocol::job::Limits::default(),
        unit: protocol::job::UnitSizing::default(),
        reduce: false,
        delivery,
    };
    let job = JobFacts {
        id: "01980f3c-7b1e-7c55-8d42-0123456789ab".parse().expect("an id"),
        customer: CustomerName::new("radio").expect("a name"),
        correlation_id: Some("mine".to_owned()),
        content_type: Format::Json.content_type().to_owned(),
        traceparent: Some(TRACE.to_owned()),
        spec,
        meter: MeterId::new("meter-1").expect("a meter"),
        state: JobState::Running,
        next_unit: 0,
        admitted_at: Micros(0),
        deadline_at: None,
        cancel_requested: false,
        ending: None,
    };
    AssemblyView {
        job,
        stage: 0,
        stage_items: items,
        last_stage: true,
        cut: items,
        open_items: 0,
        assembled: 0,
        chain: OutputChain::default(),
        items_chain: None,
        items: ItemCounts { submitted: items, ..ItemCounts::default() },
        parts: 0,
        parts_sent: 0,
        unsent: Unsent::default(),
        units: Vec::new(),
        sums: JobSums::default(),
        progress_at: None,
    }
}

/// A unit of two items, each output of that many bytes.
fn unit(number: u64, bytes: usize) -> (u64, u64, UnitState, Vec<u8>) {
    let mut frame = ResultFrame::default();
    frame.ok(&vec![1; bytes]).expect("small");
    frame.failed("why").expect("small");
    (2 * number, 2 * number + 2, UnitState::Valid, frame.finish())
}

fn with_units(mut view: AssemblyView, units: impl IntoIterator<Item = u64>) -> AssemblyView {
    view.units = units.into_iter().map(|number| unit(number, 10)).collect();
    let count = u64::try_from(view.units.len()).expect("few");
    view.sums.items_succeeded += count;
    view.sums.items_failed += count;
    view.sums.usage.units += count;
    view
}

/// The next view, when what was decided is written and nothing new is there.
fn after(mut view: AssemblyView, assembly: &Assembly) -> AssemblyView {
    (view.assembled, view.chain, view.items) = (assembly.assembled, assembly.chain, assembly.items);
    (view.parts, view.parts_sent, view.progress_at) = (assembly.parts, assembly.parts_sent, assembly.progress_at);
    view.units.clear();
    view
}

fn drafter(seconds: i64) -> Drafter {
    Drafter { now: Micros(seconds * 1_000_000), rates: None, told: Told::default(), earlier: Earlier::default() }
}

fn decide(drafter: &Drafter, view: &AssemblyView) -> (Assembly, Aftermath) {
    let mut aftermath = Aftermath::default();
    let assembly = drafter.decide(view, &mut aftermath);
    assert_eq!((aftermath.error.clone(), aftermath.broken.clone()), (None, None));
    (assembly, aftermath)
}

fn replies<M: Message>(assembly: &Assembly) -> Vec<M> {
    let own = assembly.replies.iter().filter(|reply| reply.kind == M::KIND);
    own.map(|reply| M::from_bytes(&reply.body, Format::Json).expect("a message")).collect()
}

fn completed(assembly: &Assembly) -> Completed {
    let mut all = replies::<Completed>(assembly);
    assert_eq!(all.len(), 1);
    assert!(matches!(assembly.step, StageStep::End { .. }));
    assert_eq!(assembly.replies.last().map(|reply| reply.kind.as_str()), Some(Completed::KIND), "nothing follows");
    all.remove(0)
}

#[test]
fn parts_are_numbered_for_every_delivery_and_sent_as_the_job_asks() {
    for (delivery, sent) in [(Delivery::Stored, 0), (Delivery::Parts, 3), (Delivery::Whole, 0)] {
        let (assembly, _) = decide(&drafter(9), &with_units(view(delivery, 8), 0..3));
        assert_eq!(assembly.numbered, [(0, 0), (2, 1), (4, 2)], "{delivery:?}");
        assert_eq!((assembly.parts, assembly.parts_sent), (3, sent), "{delivery:?}");
        let parts = replies::<Part>(&assembly);
        assert_eq!(parts.iter().map(|part| part.part).collect::<Vec<_>>(), (0..sent).collect::<Vec<_>>());
        assert!(assembly.replies.iter().all(|reply| reply.traceparent.as_deref() == Some(TRACE)));
    }
}

#[test]
fn stages_that_are_not_the_last_have_no_parts() {
    let (assembly, _) = decide(&drafter(9), &AssemblyView { last_stage: false, ..with_units(view(Delivery::Parts, 8), 0..3) });
    assert_eq!((assembly.numbered, assembly.parts, assembly.parts_sent), (Vec::new(), 0, 0));
}

#[test]
fn from_the_first_part_withheld_none_is_sent_any_more() {
    let mut first = with_units(view(Delivery::Parts, 8), 0..2);
    first.unsent = Unsent { messages: MAX_WAITING_MESSAGES - 1, bytes: 0 };
    let (assembly, _) = decide(&drafter(9), &first);
    assert_eq!((assembly.parts, assembly.parts_sent, replies::<Part>(&assembly).len()), (2, 1, 1));
    // The customer reads again, but what comes now would leave a gap.
    let mut second = with_units(after(first, &assembly), 2..4);
    second.unsent = Unsent::default();
    let (assembly, _) = decide(&drafter(10), &second);
    assert_eq!((assembly.parts, assembly.parts_sent, replies::<Part>(&assembly).len()), (4, 1, 0));
    assert_eq!(assembly.numbered, [(4, 2), (6, 3)]);
    let completed = completed(&assembly);
    assert_eq!((completed.parts, completed.withheld), (1, true));
}

#[test]
fn what_waits_is_bounded_in_bytes_too() {
    let mut view = with_units(view(Delivery::Parts, 4), 0..2);
    view.unsent = Unsent { messages: 1, bytes: MAX_WAITING_BYTES - 1 };
    let (assembly, _) = decide(&drafter(9), &view);
    assert_eq!((assembly.parts, assembly.parts_sent), (2, 1));
}

#[test]
fn a_whole_job_is_one_part_at_its_end() {
    let (assembly, _) = decide(&drafter(9), &with_units(view(Delivery::Whole, 6), 0..3));
    let parts = replies::<Part>(&assembly);
    assert_eq!((parts.len(), parts[0].part, parts[0].first), (1, 0, 0));
    assert_eq!(frame::results(&parts[0].output).expect("a frame").len(), 6);
    let completed = completed(&assembly);
    assert_eq!((completed.parts, completed.withheld, assembly.parts, assembly.parts_sent), (1, false, 1, 1));
}

#[test]
fn what_was_assembled_before_the_end_of_a_whole_job_is_read_again() {
    let first = with_units(view(Delivery::Whole, 6), 0..2);
    let (assembly, _) = decide(&drafter(9), &first);
    let second = with_units(after(first, &assembly), 2..3);
    let (nothing, aftermath) = decide(&drafter(9), &second);
    assert_eq!((aftermath.wants_earlier, nothing.step, nothing.replies.len()), (Some(4), StageStep::Stay, 0));
    assert_eq!(nothing.assembled, second.assembled, "nothing is written");
    let page = [0, 1].map(|number| unit(number, 10)).map(|(first, end, _, frame)| (first, end, frame));
    let drafter = Drafter { earlier: Earlier::of(4, page.to_vec()), ..drafter(9) };
    let (assembly, _) = decide(&drafter, &second);
    let parts = replies::<Part>(&assembly);
    assert_eq!((parts.len(), frame::results(&parts[0].output).expect("a frame").len()), (1, 6));
    assert_eq!(completed(&assembly).parts, 1);
}

#[test]
fn a_whole_job_that_fits_no_message_or_whose_customer_does_not_read_is_fetched() {
    let mut large = with_units(view(Delivery::Whole, 6), 0..3);
    large.units = (0..3).map(|number| unit(number, 3 << 20)).collect();
    let (assembly, _) = decide(&drafter(9), &large);
    let told = completed(&assembly);
    assert_eq!((told.parts, told.withheld, assembly.parts, assembly.parts_sent), (0, true, 3, 0));
    let mut full = with_units(view(Delivery::Whole, 6), 0..3);
    full.unsent.messages = MAX_WAITING_MESSAGES;
    let (assembly, _) = decide(&drafter(9), &full);
    let told = completed(&assembly);
    assert_eq!((told.parts, told.withheld, assembly.parts, assembly.parts_sent), (0, true, 1, 0), "fetched, it is one part");
}

#[test]
fn a_job_without_outputs_withholds_nothing() {
    for delivery in [Delivery::Stored, Delivery::Parts, Delivery::Whole] {
        let (assembly, _) = decide(&drafter(9), &view(delivery, 0));
        let told = completed(&assembly);
        assert_eq!((told.parts, told.withheld), (0, false), "{delivery:?}");
    }
}

#[test]
fn progress_is_told_once_a_second_if_it_is_news_and_read() {
    let first = with_units(view(Delivery::Stored, 20), 0..2);
    let (assembly, aftermath) = decide(&drafter(10), &first);
    let told = replies::<Progress>(&assembly);
    assert_eq!((told.len(), told[0].units, told[0].eta_s), (1, 2, Some(40)));
    let drafter = |seconds: i64| Drafter { told: aftermath.progress.expect("told"), ..drafter(seconds) };
    let next = after(first, &assembly);
    let tells = |drafter: &Drafter, view: &AssemblyView| replies::<Progress>(&decide(drafter, view).0).len();
    assert_eq!(tells(&drafter(30), &next), 0, "nothing is new");
    // Units beyond one that is still computed are news, though nothing can be assembled.
    let mut settled = next.clone();
    settled.sums.usage.units += 1;
    assert_eq!(tells(&drafter(30), &settled), 1);
    let soon = Drafter { now: Micros(10_999_999), ..drafter(0) };
    assert_eq!(tells(&soon, &settled), 0);
    settled.unsent.messages = MAX_WAITING_FOR_PROGRESS;
    assert_eq!(tells(&drafter(30), &settled), 0, "it would only pile up");
    let last = with_units(view(Delivery::Stored, 4), 0..2);
    assert_eq!(tells(&drafter(30), &last), 0, "the end says it all");
}

#[test]
fn the_end_tells_what_it_costs() {
    let rates = Rates::new(Amount(2_000_000_000_000), Amount(0)).expect("prices");
    let card = RateCard {
        id: "test".to_owned(),
        digest: Digest::of(b"card"),
        currency: "EUR".parse().expect("a currency"),
        pools: BTreeMap::from([(PoolName::new("open").expect("a name"), rates)]),
    };
    let mut view = with_units(view(Delivery::Stored, 2), 0..1);
    view.sums.usage.fuel = Fuel::new(1_500_000_000_000).expect("fuel");
    let (assembly, _) = decide(&Drafter { rates: Some(Arc::new(card)), ..drafter(9) }, &view);
    let cost = completed(&assembly).cost.expect("a cost");
    assert_eq!((cost.amount.to_string().as_str(), cost.currency.to_string().as_str()), ("3", "EUR"));
    assert_eq!(completed(&decide(&drafter(9), &view).0).cost, None);
}

#[test]
fn a_job_whose_budget_suffices_for_no_further_item_is_cut_short() {
    let mut view = with_units(view(Delivery::Stored, 20), 0..2);
    let fuel = |count| Fuel::new(count).expect("fuel");
    (view.job.spec.budget_fuel, view.job.spec.limits.fuel_per_item) = (Some(fuel(100)), fuel(10));
    (view.cut, view.open_items, view.sums.usage.fuel) = (8, 4, fuel(60));
    let step = |view: &AssemblyView| decide(&drafter(9), view).0.step;
    assert_eq!(step(&view), StageStep::Stay, "what is under way may take less");
    view.open_items = 0;
    assert_eq!(step(&view), StageStep::Stay, "it suffices for four more");
    view.sums.usage.fuel = fuel(91);
    let exhausted = StageStep::Cancel { state: JobState::Exhausted };
    assert_eq!(step(&view), exhausted);
    assert_eq!(step(&AssemblyView { cut: 20, ..view.clone() }), StageStep::Stay, "all of it is decided");
    let mut aftermath = Aftermath::default();
    drafter(9).decide(&AssemblyView { open_items: 1, ..view }, &mut aftermath);
    assert!(matches!(aftermath.broken, Some((Invariant::Budget, _))));
}

fn assembler(store: &MemoryStore) -> Assembler {
    let settings =
        AggregatorSettings { batch: 50, sweep_ms: 1_000, relay_ms: 20, mirror_ms: 60_000, rates: None, results_days: 0 };
    let aggregator = Aggregator {
        broker: Arc::new(broker::MemoryBroker::new()),
        store: Arc::new(store.clone()),
        clock: Arc::new(SystemClock),
        shards: 1,
        settings: Arc::new(settings),
        metrics: AggregatorMetrics::new(&Metrics::new("test", "0").expect("metrics")).expect("metrics"),
        ready: Readiness::new().check("settling"),
    };
    Assembler { aggregator, told: Mutex::default(), damaged: Seen::new(MAX_DAMAGED) }
}

#[tokio::test]
async fn a_turn_ends_for_the_sake_of_others_and_when_the_aggregator_stops() {
    let store = MemoryStore::new(Arc::new(SystemClock));
    let (world, assembler) = (World::new(Arc::new(store.clone())), assembler(&store));
    // One item a unit, and one page more than a turn has.
    let items = u64::from(MAX_UNITS) * (u64::try_from(MAX_STEPS).expect("small") + 1);
    let job = world.admit(items).await;
    let units = world.sent(job, &(0..=items).collect::<Vec<_>>()).await;
    world.settle_valid(&units).await;
    let seen = async || {
        let report = world.store.job(job).await.expect("a store").expect("a job");
        (report.state, world.store.jobs_to_assemble(Micros(0), 9).await.expect("a store"))
    };
    let (stopped, stopping) = (CancellationToken::new(), CancellationToken::new());
    stopped.cancel();
    for token in [&stopped, &stopping] {
        assert!(matches!(assembler.turn(job, token).await, Ok(Turn::Again)));
        assert_eq!(seen().await, (JobState::Running, vec![job]), "the next sweep finds it");
    }
    assert!(matches!(assembler.turn(job, &stopping).await, Ok(Turn::Over)));
    assert_eq!(seen().await, (JobState::Completed, Vec::new()));
}
