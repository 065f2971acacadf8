//! Queues: depths, a worker's own queue, a customer's results.

use ports::broker::{Broker, Confirm};
use protocol::address::{CONTROL_EXCHANGE, CUSTOMER_EXCHANGE, WORKER_EXCHANGE, outcomes_queue, results_queue, worker_queue};
use protocol::{CustomerName, HostId};

use super::{Grid, PATIENCE, SHARDS, ack, consume, good, ids, message, outcome, put, ready, take, until};

pub(super) async fn all(grid: &dyn Grid) {
    let broker = grid.client().await;
    tells_depths(&*broker).await;
    customers_queues_stay(grid).await;
    workers_queues_go_with_them(grid).await;
    workers_queues_come_back_after_a_cut(grid).await;
}

async fn tells_depths(broker: &dyn Broker) {
    assert_eq!(good(broker.depth("offpeak.no-such-queue").await, "depth"), None);
    let queue = outcomes_queue(SHARDS - 1);
    put(broker, vec![outcome(1, "a"), outcome(1, "b")]).await;
    ready(broker, &queue, 2).await;
    let consumers = async || good(broker.depth(&queue).await, "depth").map(|depth| depth.consumers);
    assert_eq!(consumers().await, Some(0));
    let consumer = consume(broker, &queue, 1).await;
    until("one consumer", || async { consumers().await == Some(1) }).await;
    ready(broker, &queue, 1).await;
    for _ in 0..2 {
        let one = take(&*consumer, 1).await;
        ack(&*consumer, &one).await;
    }
    drop(consumer);
    until("no consumer", || async { consumers().await == Some(0) }).await;
    ready(broker, &queue, 0).await;
}

async fn customers_queues_stay(grid: &dyn Grid) {
    let broker = grid.client().await;
    let customer = good(CustomerName::new("acme"), "name");
    let reply = || message(CUSTOMER_EXCHANGE, "acme", "reply");
    let before = broker.publish(vec![reply()], PATIENCE).await;
    assert_eq!(good(before, "publish"), [Confirm::Unroutable]);
    for _ in 0..2 {
        good(broker.declare_customer(&customer).await, "declare customer");
    }
    put(&*broker, vec![reply()]).await;
    drop(broker);
    let later = grid.client().await;
    let consumer = consume(&*later, &results_queue(&customer), 1).await;
    let replies = take(&*consumer, 1).await;
    assert_eq!(ids(&replies), ["reply"]);
    ack(&*consumer, &replies).await;
}

async fn workers_queues_go_with_them(grid: &dyn Grid) {
    let (broker, worker) = (grid.client().await, grid.client().await);
    let hosts = ["host-1", "host-2"].map(|host| good(HostId::new(host), "host"));
    let mut consumers = Vec::new();
    for host in &hosts {
        let queue = good(worker.declare_worker_queue(host).await, "declare");
        assert_eq!(queue, worker_queue(host));
        consumers.push(consume(&*worker, &queue, 10).await);
    }
    put(&*broker, vec![message(WORKER_EXCHANGE, "host-1", "mine"), message(CONTROL_EXCHANGE, "", "ours")]).await;
    let mine = take(&*consumers[0], 2).await;
    assert_eq!(ids(&mine), ["mine", "ours"]);
    ack(&*consumers[0], &mine).await;
    let other = take(&*consumers[1], 1).await;
    assert_eq!(ids(&other), ["ours"]);
    ack(&*consumers[1], &other).await;
    drop(consumers);
    until("an unroutable part", || async {
        let confirms = broker.publish(vec![message(WORKER_EXCHANGE, "host-1", "late")], PATIENCE).await;
        good(confirms, "publish") == [Confirm::Unroutable]
    })
    .await;
    assert_eq!(good(worker.depth(&worker_queue(&hosts[0])).await, "depth"), None);
}

async fn workers_queues_come_back_after_a_cut(grid: &dyn Grid) {
    let worker = grid.client().await;
    let host = good(HostId::new("host-3"), "host");
    let queue = good(worker.declare_worker_queue(&host).await, "declare");
    let consumer = consume(&*worker, &queue, 10).await;
    grid.cut().await;
    until("a routable part", || async {
        let confirms = worker.publish(vec![message(WORKER_EXCHANGE, "host-3", "part")], PATIENCE).await;
        good(confirms, "publish") == [Confirm::Stored]
    })
    .await;
    let parts = take(&*consumer, 1).await;
    assert_eq!(ids(&parts), ["part"]);
    ack(&*consumer, &parts).await;
}
