//! Faults of PostgreSQL: killed, cut off, set back.

use std::thread::sleep;
use std::time::Duration;

use testkit::servers::psql;

use crate::world::World;

/// How old the backup is when it is needed.
const AGE: Duration = Duration::from_secs(3);

pub(super) fn kill(world: &mut World) {
    world.postgres.kill9();
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
    sleep(AGE);
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
    let settled = |world: &World| world.number("select count(*) from ledger").expect("a number");
    let (live, backup, before) = (name(&world.services.database).to_owned(), name(backup), settled(world));
    let sql = |statement: String| psql(&world.postgres.url(), &statement).expect("changed");
    sql(format!("drop database \"{live}\" with (force)"));
    sql(format!("alter database \"{backup}\" rename to \"{live}\""));
    world.set_back = true;
    // A backup of jobs that were over has lost nothing: the fault has missed them, which its round finds out.
    let missed = world.number("select count(*) from jobs where state = 'running'") == Some(0);
    assert!(settled(world) < before || missed, "nothing was lost with the database");
}
