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

fn cut(world: &World, database: &str) {
    let cut = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{database}'");
    let ended = psql(&world.postgres.url(), &cut).expect("cut");
    assert_ne!(ended, "0", "nobody was connected");
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().expect("a database")
}

pub(super) fn cut_connections(world: &mut World) {
    cut(world, name(&world.services.database));
}

/// What was written after the backup is gone; the broker and the customers know of it.
pub(super) fn restore(world: &mut World) {
    let settled = |world: &World| world.number("select count(*) from ledger").expect("a number");
    let backup = world.postgres.copy(&world.services.database);
    let (live, backup) = (name(&world.services.database).to_owned(), name(&backup).to_owned());
    sleep(AGE);
    let before = settled(world);
    let sql = |statement: String| psql(&world.postgres.url(), &statement).expect("changed");
    sql(format!("alter database \"{live}\" with allow_connections false"));
    cut(world, &live);
    sql(format!("alter database \"{live}\" rename to \"{live}-lost\""));
    sql(format!("alter database \"{backup}\" rename to \"{live}\""));
    assert!(settled(world) < before, "nothing was lost with the database");
}
