//! Jobs that a service of the version before admitted and assembled: their parts are numbered when someone asks.

use std::sync::Arc;

use ports::store::{Assembly, AssemblyView, PartPut, Sender, Settlement, StageStep, UnitEnd, UnitSettled, UnitState, UploadRoom};
use protocol::blob::PutBlob;
use protocol::frame::ResultFrame;
use protocol::job::{ItemCounts, JobState};
use protocol::{Digest, JobId, Micros, UnitKey, parts};
use store::{SqlStore, StoreOptions};
use testkit::store_contract::World;
use testkit::store_contract::world::{NOW, assembled, certificate, computed, usage};

use super::alone::execute;
use super::{postgres_url, sqlite};

/// Units of the job: more than are numbered in one step.
const UNITS: u64 = 600;

/// An assembly of a service that numbers parts.
fn numbered(view: &AssemblyView, step: StageStep) -> Assembly {
    let mut assembly = assembled(view, step);
    for (first, _, state, frame) in &view.units {
        if matches!(state, UnitState::Valid | UnitState::Failed) {
            assembly.numbered.push((*first, assembly.parts));
            assembly.parts += parts::count(frame).unwrap();
        }
    }
    assembly
}

/// Settles units that have one part each, but for unit 1, which has three, and unit 2, which was given up.
async fn settle(world: &World, units: &[UnitKey]) {
    let end = |unit: &UnitKey| {
        if unit.unit == 2 {
            return UnitEnd::Failed { reason: "trap".to_owned() };
        }
        let mut frame = ResultFrame::default();
        let (items, bytes) = if unit.unit == 1 { (3, 3 << 20) } else { (1, 5) };
        (0..items).for_each(|_| frame.ok(&vec![1; bytes]).unwrap());
        UnitEnd::Valid { usage: usage(*unit, &world.customer, 1, 1), output: frame.finish(), failed_items: 0, compute_us: 1 }
    };
    let keys: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
    let settlement = Settlement {
        replicas: keys.iter().map(|key| computed(*key)).collect(),
        units: units.iter().map(|unit| UnitSettled { key: *unit, end: end(unit) }).collect(),
        ..Settlement::default()
    };
    world.settle(&keys, settlement).await;
}

/// All parts from one on, of so many that there are, page by page: each unit's number and first item.
async fn all_from(world: &World, job: JobId, mut part: u32, parts_there: u32) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    loop {
        let page = world.store.numbered_outputs(job, part).await.unwrap();
        let Some(last) = page.last() else { return found };
        part = last.part + parts::count(&last.frame).unwrap();
        found.extend(page.iter().map(|unit| (unit.part, unit.first)));
        let report = world.store.job(job).await.unwrap().unwrap();
        assert_eq!(report.parts > part, part < parts_there, "whether something follows is known");
    }
}

/// A job of which the first 300 units are assembled by a service that knows no numbers, and the others by one that does.
async fn is_numbered_in_turn(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let job = world.admit(UNITS + 2).await;
    let borders: Vec<u64> = [0, 1, 4].into_iter().chain(5..=UNITS + 2).collect();
    let units = world.sent(job, &borders).await;
    settle(&world, &units[..300]).await;
    // It sends no parts of this job, and so counts none.
    world.store.assemble(job, 300, Box::new(|view| assembled(view, StageStep::Stay))).await.unwrap();
    execute(url, "UPDATE units SET part = NULL").await;
    settle(&world, &units[300..]).await;
    world.store.assemble(job, 100, Box::new(|view| numbered(view, StageStep::Stay))).await.unwrap();
    let first = world.store.numbered_outputs(job, 2).await.unwrap();
    assert_eq!((first[0].part, first[0].first, first[1].part, first[1].first), (1, 1, 4, 4));
    let found = all_from(&world, job, 0, 402).await;
    let first_item = |unit: u64| [0, 1, 4].get(usize::try_from(unit).unwrap()).copied().unwrap_or(unit + 2);
    let part = |unit: u64| u32::try_from(if unit < 2 { unit } else { unit + 2 }).unwrap();
    let expected = |units: u64| (0..units).map(|unit| (part(unit), first_item(unit))).collect::<Vec<_>>();
    assert_eq!(found, expected(400));
    assert_eq!(world.store.job(job).await.unwrap().unwrap().parts, 402);
    // What is assembled from here on goes on from the right number.
    let (send, receive) = std::sync::mpsc::channel();
    let end = StageStep::End { state: JobState::Completed, certificate: certificate(ItemCounts::default()) };
    let decide = move |view: &AssemblyView| {
        send.send((view.parts, view.parts_sent)).unwrap();
        numbered(view, end)
    };
    world.store.assemble(job, 1_000, Box::new(decide)).await.unwrap();
    assert_eq!(receive.recv().unwrap(), (402, 0));
    assert_eq!(all_from(&world, job, 0, 602).await, expected(UNITS));
    assert_eq!(all_from(&world, job, 500, 602).await.first(), Some(&(500, 500)));
}

/// Rows of outputs that are left over when a process dies while deleting them go with the next call.
async fn left_over_outputs_go(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let job = world.admit(3).await;
    let units = world.sent(job, &[0, 1, 2, 3]).await;
    world.settle_valid(&units).await;
    world.end(job, ItemCounts::default()).await;
    execute(url, "UPDATE jobs SET results_gone_at = 1, dropping = 1").await;
    assert!(world.store.outputs(job, 0).await.unwrap().is_empty());
    execute(url, "UPDATE jobs SET results_gone_at = NULL").await;
    assert_eq!(world.store.outputs(job, 0).await.unwrap().len(), 3, "the rows are there");
    execute(url, "UPDATE jobs SET results_gone_at = 1").await;
    for left in [1, 0] {
        assert_eq!(world.store.expire_results(Micros(i64::MIN), NOW, 10).await.unwrap(), left);
    }
    execute(url, "UPDATE jobs SET results_gone_at = NULL").await;
    assert!(world.store.outputs(job, 0).await.is_err(), "the rows are deleted");
}

/// Messages that sent parts of an upload which was dropped without them are forgotten; those of one that is there are not.
async fn left_over_part_messages_go(store: SqlStore, url: &str) {
    let world = World::new(Arc::new(store));
    let send = async |bytes: &[u8], message: &str| {
        let part = PutBlob { digest: Digest::of(bytes), size: 1, offset: 0, data: bytes.to_vec() };
        let sender = Sender { customer: &world.customer, message: Some(message) };
        world.store.put_own_part(sender, &part, UploadRoom::of_bytes(1 << 20), NOW).await.unwrap()
    };
    for message in ["one", "two", "three"] {
        send(b"a", message).await;
    }
    send(b"b", "four").await;
    execute(url, "DELETE FROM uploads WHERE number = (SELECT MIN(number) FROM uploads)").await;
    for left in [2, 1, 0] {
        assert_eq!(world.store.forget_handled(Micros(i64::MIN), 2).await.unwrap(), left);
    }
    world.store.release_blob(&world.customer, Digest::of(b"b"), None).await.unwrap();
    assert_eq!(send(b"b", "four").await, PartPut::Handled);
}

#[tokio::test]
async fn old_jobs_are_numbered_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), StoreOptions::default()).await;
    is_numbered_in_turn(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn old_jobs_are_numbered_on_postgres() {
    let url = postgres_url().await;
    is_numbered_in_turn(super::postgres(&url).await, &url).await;
}

#[tokio::test]
async fn left_over_outputs_go_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), StoreOptions::default()).await;
    left_over_outputs_go(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn left_over_outputs_go_on_postgres() {
    let url = postgres_url().await;
    left_over_outputs_go(super::postgres(&url).await, &url).await;
}

#[tokio::test]
async fn left_over_part_messages_go_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path(), StoreOptions::default()).await;
    left_over_part_messages_go(store, &format!("sqlite://{}/store.db", folder.path().display())).await;
}

#[tokio::test]
async fn left_over_part_messages_go_on_postgres() {
    let url = postgres_url().await;
    left_over_part_messages_go(super::postgres(&url).await, &url).await;
}
