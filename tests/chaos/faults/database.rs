//! Faults of PostgreSQL: killed, cut off, set back.

use std::process::Command;
use std::thread::sleep;

use testkit::servers::psql;

use super::AWAY;
use crate::world::World;

/// How many units are settled between the backup and its need: a matter of seconds.
const AGE: u64 = 20;

const SETTLED: &str = "select count(*) from ledger";

pub(super) fn kill(world: &mut World) {
    world.postgres.kill9();
    world.postgres.restart();
}

/// Away for longer than replicas have, after a stop in good order.
pub(super) fn away(world: &mut World) {
    let pid = world.postgres.pid().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    sleep(AWAY);
    world.postgres.restart();
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().expect("a database")
}

pub(super) fn cut_connections(world: &mut World) {
    let database = name(&world.services.database);
    let cut = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{database}'");
    let ended = psql(&world.postgres.url(), &cut).expect("cut");
    assert_ne!(ended, "0", "nobody was connected");
}

/// What was written after the backup is gone; the broker and the workers know of it.
pub(super) fn restore(world: &mut World) {
    let backup = world.postgres.copy(&world.services.database);
    let kept: u64 = psql(&backup, SETTLED).expect("the backup").parse().expect("a number");
    world.until_or_over("units that the backup lacks", |world| world.number(SETTLED).is_some_and(|now| now >= kept + AGE));
    set_back(world, &backup);
}

/// The same, when customers were told of the end of their jobs already.
pub(super) fn restore_after_the_end(world: &mut World) {
    let backup = world.postgres.copy(&world.services.database);
    let running = "select (select count(*) from jobs where state = 'running') + (select count(*) from outbox)";
    world.until("the jobs' end", |world| world.number(running) == Some(0));
    set_back(world, &backup);
}

/// Puts the backup in the database's place, under services that run.
fn set_back(world: &mut World, backup: &str) {
    let (live, backup) = (name(&world.services.database).to_owned(), name(backup));
    // Sessions that do not end soon refuse it.
    let sql = |statement: String| world.until("the change of databases", |world| psql(&world.postgres.url(), &statement).is_ok());
    sql(format!("drop database if exists \"{live}\" with (force)"));
    sql(format!("alter database \"{backup}\" rename to \"{live}\""));
    world.set_back = true;
}
