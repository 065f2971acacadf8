//! The servers themselves: they start apart, survive a kill with their data, and go with their owner.

use std::path::Path;

use super::*;

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_private_postgres_keeps_commits_over_a_kill_and_ends_with_its_owner() {
    let server = Postgres::start(Durability::Synced);
    let url = server.fresh_database();
    assert_ne!(url, server.fresh_database());
    psql(&url, "create table kept (n int); insert into kept values (7)").expect("commit");
    assert!(psql(&server.url(), "select n from kept").is_err(), "databases are apart");
    let killed = server.pid().expect("pid");
    server.kill9();
    assert!(!is_running(killed) && psql(&url, "select 1").is_err());
    server.restart();
    assert_eq!(psql(&url, "select n from kept").expect("after recovery"), "7");
    let copy = server.copy(&url);
    psql(&url, "delete from kept").expect("delete");
    assert_eq!(psql(&copy, "select n from kept").expect("copied"), "7");
    let pid = server.pid().expect("pid");
    drop(server);
    assert!(!is_running(pid));
}

#[test]
fn a_private_rabbitmq_keeps_its_vhosts_over_a_kill_and_ends_with_its_owner() {
    let server = RabbitMq::start();
    let url = server.vhost("own vhost");
    assert!(url.starts_with(&server.url()) && url.contains("/own-vhost-"), "{url}");
    let vhost = url.rsplit_once('/').expect("vhost").1.to_owned();
    server.set_memory_alarm(true);
    server.set_memory_alarm(false);
    let killed = server.pid().expect("pid");
    server.kill9();
    assert!(!is_running(killed));
    server.restart();
    assert!(server.rabbitmqctl(&["list_vhosts"]).contains(&vhost));
    let definitions = std::env::temp_dir().join(format!("{vhost}.json"));
    std::fs::write(&definitions, r#"{"vhosts": [{"name": "imported"}]}"#).expect("definitions");
    server.import_definitions(&definitions);
    std::fs::remove_file(&definitions).expect("definitions");
    assert!(server.rabbitmqctl(&["list_vhosts"]).contains("imported"));
    let pid = server.pid().expect("pid");
    drop(server);
    assert!(!is_running(pid));
}

#[test]
fn a_vhost_is_made_to_run_on_every_node_of_a_cluster() {
    let nodes = RabbitMq::cluster(2);
    let url = nodes[0].vhost("everywhere");
    let vhost = url.rsplit_once('/').expect("vhost").1;
    let runs = || nodes[1].rabbitmqctl(&["eval", &format!("rabbit_vhost_sup_sup:is_vhost_alive(<<\"{vhost}\">>).")]);
    assert_eq!(runs().trim(), "true");
    // As it is on a node that had not booted when the vhost was made.
    nodes[1].rabbitmqctl(&["eval", &format!("rabbit_vhost_sup_sup:stop_and_delete_vhost(<<\"{vhost}\">>).")]);
    assert_eq!(runs().trim(), "false");
    nodes[0].address().make_vhost(vhost).expect("made");
    assert_eq!(runs().trim(), "true");
}

#[test]
fn the_shared_servers_give_fresh_places() {
    assert_ne!(rabbitmq().vhost("a"), rabbitmq().vhost("a"));
    assert_ne!(postgres().fresh_database(), postgres().fresh_database());
}

#[test]
fn addresses_are_taken_apart() {
    let given = RabbitAddress::new("amqp://u:p@broker:5673/team", None);
    assert_eq!(given.url(), "amqp://u:p@broker:5673/team");
    assert_eq!(given.management_url(), "http://u:p@broker:15672");
    let given = RabbitAddress::new("amqp://broker", Some("http://a:b@other:1/"));
    assert_eq!(given.url(), "amqp://guest:guest@broker");
    assert_eq!(given.management_url(), "http://a:b@other:1");
}
