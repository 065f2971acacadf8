//! Customers: limits and weight, and what each uses.

use ports::store::{Admission, CustomerUse, NewJob, OutboxMessage, PartPut, Sender, Settlement, UploadRoom};
use protocol::blob::{PART_BYTES, PutBlob};
use protocol::customer::{CustomerLimits, CustomerRecord};
use protocol::job::ItemCounts;
use protocol::usage::Usage;
use protocol::{CustomerName, Digest, Fuel, JobId, Micros, UnitKey};

use super::blobs::size;
use super::world::{NOW, World, at, usage, valid};

fn name(name: &str) -> CustomerName {
    CustomerName::new(name).unwrap()
}

/// Limits of which each differs from the grid's.
fn limits() -> CustomerLimits {
    CustomerLimits {
        message_bytes: 1_000,
        requests_per_second: 2,
        jobs: 3,
        units: 4,
        stored_bytes: 5 << 40,
        fuel_per_month: Some(Fuel::new(1 << 60).unwrap()),
    }
}

fn record(customer: &str, weight: u32, limits: CustomerLimits) -> CustomerRecord {
    CustomerRecord { name: name(customer), weight, limits, created_at: at(100) }
}

/// A customer that nobody set up is there with its first job, with the grid's limits.
pub async fn a_customer_is_seen_with_its_first_job(world: World) {
    assert_eq!(world.store.customer(&world.customer).await.unwrap(), None);
    world.admit(1).await;
    world.admit_job(NewJob { admitted_at: at(5), ..world.job(1) }).await;
    let expected = CustomerRecord { name: world.customer.clone(), weight: 1, limits: CustomerLimits::default(), created_at: NOW };
    assert_eq!(world.store.customer(&world.customer).await.unwrap(), Some(expected));
}

/// What is written is read; the time of the first sight stays.
pub async fn limits_are_kept(world: World) {
    let first = record("acme", 7, limits());
    world.store.put_customer(first.clone()).await.unwrap();
    assert_eq!(world.store.customer(&name("acme")).await.unwrap(), Some(first.clone()));
    world.admit(1).await;
    assert_eq!(world.store.customer(&name("acme")).await.unwrap(), Some(first), "a job changes nothing");
    let changed = CustomerRecord { created_at: at(900), ..record("acme", 2, CustomerLimits::default()) };
    world.store.put_customer(changed.clone()).await.unwrap();
    let expected = CustomerRecord { created_at: at(100), ..changed };
    assert_eq!(world.store.customer(&name("acme")).await.unwrap(), Some(expected));
    let weightless = world.store.put_customer(record("acme", 0, limits())).await;
    assert!(weightless.is_err(), "a weight of zero has no share");
}

/// All customers are read page by page.
pub async fn customers_come_in_pages(world: World) {
    for customer in ["c", "a", "d", "b"] {
        world.store.put_customer(record(customer, 1, limits())).await.unwrap();
    }
    let page = async |after: Option<&str>, limit| {
        let page = world.store.customers(after.map(name).as_ref(), limit).await.unwrap();
        page.into_iter().map(|record| record.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3).await, ["a", "b", "c"]);
    assert_eq!(page(Some("c"), 3).await, ["d"]);
    assert_eq!(page(Some("d"), 3).await, [""; 0]);
}

/// A customer is removed once no job of it runs; its jobs and its ledger stay.
pub async fn one_with_jobs_stays(world: World) {
    let job = world.admit(1).await;
    let units = world.sent(job, &[0, 1]).await;
    world.settle_valid(&units).await;
    assert!(!world.store.remove_customer(&world.customer).await.unwrap());
    assert!(world.store.customer(&world.customer).await.unwrap().is_some());
    world.end(job, ItemCounts { submitted: 1, succeeded: 1, ..Default::default() }).await;
    for _twice in 0..2 {
        assert!(world.store.remove_customer(&world.customer).await.unwrap());
    }
    assert_eq!(world.store.customer(&world.customer).await.unwrap(), None);
    assert_eq!(world.store.jobs(Some(&world.customer), 10).await.unwrap().len(), 1);
    assert_eq!(world.store.customer_use(&world.customer, NOW).await.unwrap().fuel, 1_000);
    world.admit(1).await;
    assert_eq!(world.store.customer(&world.customer).await.unwrap().unwrap().limits, CustomerLimits::default());
    assert_eq!(world.claim("a", NOW).await.len(), 1);
}

/// A removed customer's blobs go with it, whole or begun, and are not those of the next one with its name. What others, jobs
/// that run and the grid need stays.
pub async fn a_removed_customers_blobs_go(world: World) {
    let (own, common, begun, needed) = (vec![1; 9], vec![2; 9], vec![3; PART_BYTES + 1], vec![4; 9]);
    let put = async |customer: &CustomerName, bytes: &[u8]| {
        let data = bytes[..bytes.len().min(PART_BYTES)].to_vec();
        let part = PutBlob { digest: Digest::of(bytes), size: size(bytes), offset: 0, data };
        let put = world.store.put_own_part(Sender::of(customer), &part, UploadRoom::of_bytes(1 << 40), NOW).await.unwrap();
        assert!(matches!(put, PartPut::Stored { .. }), "{put:?}");
    };
    for bytes in [&own, &common, &begun, &needed] {
        put(&world.customer, bytes).await;
    }
    put(&name("other"), &common).await;
    let job = world.admit(1).await;
    world.admit_job(NewJob { customer: name("other"), brief: Digest::of(&needed), ..world.job(1) }).await;
    assert!(!world.store.remove_customer(&world.customer).await.unwrap());
    assert_eq!(world.store.own_blobs(&world.customer, None, 10).await.unwrap().len(), 4, "its job runs");
    world.end(job, ItemCounts { submitted: 1, succeeded: 1, ..Default::default() }).await;
    for _twice in 0..2 {
        assert!(world.store.remove_customer(&world.customer).await.unwrap());
        assert_eq!(world.store.own_blobs(&world.customer, None, 10).await.unwrap(), []);
        assert_eq!(world.store.customer_use(&world.customer, NOW).await.unwrap().stored_bytes, 0);
        let mut left = Vec::new();
        for bytes in [&own, &common, &needed] {
            left.push(world.store.blob_size(Digest::of(bytes)).await.unwrap());
        }
        assert_eq!(left, [None, Some(9), Some(9)]);
    }
    assert_eq!(world.store.own_blob_size(&world.customer, Digest::of(&common)).await.unwrap(), None);
    assert_eq!(world.store.own_blob_size(&name("other"), Digest::of(&common)).await.unwrap(), Some(9));
}

/// A customer has only so many blobs, however small they are.
pub async fn blobs_are_counted_too(world: World) {
    let put = async |bytes: &[u8]| {
        let part = PutBlob { digest: Digest::of(bytes), size: size(bytes), offset: 0, data: bytes.to_vec() };
        let room = UploadRoom { bytes: 1 << 20, blobs: 2 };
        world.store.put_own_part(Sender::of(&name("acme")), &part, room, NOW).await.unwrap()
    };
    for bytes in [&b""[..], b"a", b"a"] {
        assert_eq!(put(bytes).await, PartPut::Stored { received: size(bytes), whole: true });
    }
    assert_eq!(put(b"b").await, PartPut::Full(UploadRoom { bytes: 1, blobs: 2 }));
    world.store.release_blob(&name("acme"), Digest::of(b""), None).await.unwrap();
    assert_eq!(put(b"b").await, PartPut::Stored { received: 1, whole: true });
}

/// Jobs that have not ended, and messages that wait.
pub async fn use_is_counted(world: World) {
    assert_eq!(world.store.customer_use(&name("nobody"), NOW).await.unwrap(), CustomerUse::default());
    let other = NewJob { customer: name("other"), ..world.job(1) };
    let (over, _running) = (world.admit(1).await, world.admit(1).await);
    let reply = OutboxMessage { customer: name("other"), ..world.message("other") };
    assert_eq!(world.store.admit(other, reply).await.unwrap(), Admission::New);
    world.end(over, ItemCounts::default()).await;
    let expected = CustomerUse { jobs: 1, unsent_messages: 2, unsent_bytes: 2 * 45, ..CustomerUse::default() };
    assert_eq!(world.store.customer_use(&world.customer, NOW).await.unwrap(), expected);
    let claimed = world.claim_messages(NOW, 1).await;
    world.store.settle_outbox(&claimed, &[], NOW).await.unwrap();
    assert_eq!(world.store.customer_use(&world.customer, NOW).await.unwrap().unsent_messages, 1);
}

/// Fuel is that of the customer's rows from a time on, exact whenever it is asked and whatever was asked before.
pub async fn fuel_is_of_the_month(world: World) {
    let huge: u64 = 1 << 62;
    let mut total = 0_u128;
    for (n, (customer, recorded_at)) in
        [("acme", NOW), ("other", NOW), ("acme", at(10)), ("acme", at(5)), ("acme", at(20))].into_iter().enumerate()
    {
        let job = world.admit(1).await;
        let unit = world.sent(job, &[0, 1]).await[0];
        let row = Usage { recorded_at, ..usage(unit, &name(customer), huge, 0) };
        record_usage(&world, unit, row).await;
        total += if customer == "acme" { u128::from(huge) } else { 0 };
        let fuel = world.store.customer_use(&world.customer, NOW).await.unwrap().fuel;
        assert_eq!(fuel, total, "after row {n}");
    }
    let since = async |since: Micros| world.store.customer_use(&world.customer, since).await.unwrap().fuel / u128::from(huge);
    assert_eq!((since(at(5)).await, since(at(6)).await, since(at(21)).await, since(NOW).await), (3, 2, 0, 4));
}

/// Settles a unit as valid with that row of the ledger.
async fn record_usage(world: &World, unit: UnitKey, row: Usage) {
    let mut settled = valid(unit, &row.customer.clone(), 1);
    if let ports::store::UnitEnd::Valid { usage, .. } = &mut settled.end {
        *usage = row;
    }
    world.settle(&[unit.replica(0)], Settlement { units: vec![settled], ..Settlement::default() }).await;
}

/// Who dispatches is told the weight.
pub async fn weights_reach_the_dispatcher(world: World) {
    world.store.put_customer(record("acme", 9, limits())).await.unwrap();
    let job: JobId = world.admit(1).await;
    let claimed = world.claim("a", NOW).await;
    assert_eq!(claimed.iter().map(|claimed| (claimed.id, claimed.weight)).collect::<Vec<_>>(), [(job, 9)]);
}
