//! Which jobs a producer may claim: of each customer the most urgent, customers taking turns.

use ports::store::{in_turn, take_turns};
use protocol::{JobId, Micros};

use crate::claim::WORTH;
use crate::fault::Fault;
use crate::sql::{Row, Tx, Value, values};

/// How many customers are looked at; with more that have running jobs at one time, the last of the alphabet wait.
const MAX_CUSTOMERS: u32 = 10_000;
/// Up to how many jobs are read at once rather than to ask again: whoever has many that wait for outcomes makes asking dear.
const READ_JOBS: usize = 8_192;
/// How many customers one statement of SQLite asks for: it joins at most 500 selections.
const SELECTIONS: usize = 100;

/// Who claims, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) owner: &'a str,
    pub(crate) now: Micros,
    pub(crate) until: Micros,
    pub(crate) limit: u32,
}

/// The jobs that it is now the claimer's turn to hold, whether it holds them already or nobody does.
pub(crate) async fn choose(tx: &mut Tx, claim: Claim<'_>) -> Result<Vec<JobId>, Fault> {
    let Claim { now, until, limit, .. } = claim;
    let names = in_turn(customers(tx).await?, limit, now, until);
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Vec<JobId>> = Vec::new();
    // No more customers than jobs are needed, unless some of them have nothing to do.
    for group in names.chunks(wanted.max(1)) {
        found.extend(most_urgent(tx, claim, group, wanted).await?);
        if found.iter().map(Vec::len).sum::<usize>() >= wanted {
            break;
        }
    }
    Ok(take_turns(&found, limit))
}

/// Which turn it is of those that cannot all be claimed at one time: another in the time of each lease.
pub(crate) fn turn(now: Micros, until: Micros) -> usize {
    let lease_us = until.0.saturating_sub(now.0).max(1);
    usize::try_from(now.0 / lease_us).unwrap_or(0)
}

/// Customers with running jobs, in the order of their names, which are read with their jobs. Steps from name to name through the
/// index.
async fn customers(tx: &mut Tx) -> Result<Vec<String>, Fault> {
    let sql = "WITH RECURSIVE names (name) AS (
            SELECT (SELECT MIN(customer) FROM jobs WHERE state = 'running')
            UNION ALL
            SELECT (SELECT MIN(j.customer) FROM jobs j WHERE j.state = 'running' AND j.customer > n.name)
            FROM names n WHERE n.name IS NOT NULL)
        SELECT name FROM names WHERE name IS NOT NULL LIMIT $1";
    tx.all(sql, values![MAX_CUSTOMERS]).await?.iter().map(|row| row.text(0)).collect()
}

/// Of each of these customers the most urgent jobs, as many as may come to be chosen if `wanted` are in all.
async fn most_urgent(tx: &mut Tx, claim: Claim<'_>, customers: &[String], wanted: usize) -> Result<Vec<Vec<JobId>>, Fault> {
    let mut found: Vec<Vec<JobId>> = vec![Vec::new(); customers.len()];
    // Those that may have more than was read of them; all, before anything is read.
    let mut open: Vec<usize> = (0..customers.len()).collect();
    let enough = |open: usize, least: usize| (READ_JOBS / open.max(1)).max(least).min(wanted).max(1);
    let mut each = enough(open.len(), wanted.div_ceil(customers.len().max(1)));
    // The number at least doubles, so that it has reached `wanted` after few rounds.
    while !open.is_empty() {
        let names: Vec<&str> = open.iter().filter_map(|n| customers.get(*n)).map(String::as_str).collect();
        let jobs = first_of_each(tx, claim, &names, each).await?;
        for (n, jobs) in open.iter().zip(jobs) {
            if let Some(place) = found.get_mut(*n) {
                *place = jobs;
            }
        }
        if each >= wanted || found.iter().map(Vec::len).sum::<usize>() >= wanted {
            break;
        }
        open.retain(|n| found.get(*n).is_some_and(|jobs| jobs.len() >= each));
        each = enough(open.len(), each.saturating_mul(2));
    }
    Ok(found)
}

/// The first jobs of each of these customers that are worth claiming, `each` of them at most.
async fn first_of_each(tx: &mut Tx, claim: Claim<'_>, names: &[&str], each: usize) -> Result<Vec<Vec<JobId>>, Fault> {
    let jobs = |customer: &str| {
        format!(
            "SELECT j.id, j.priority FROM jobs j WHERE j.customer = {customer} AND {WORTH}
                AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.job = j.id AND l.owner <> $2 AND l.until > $1)
            ORDER BY j.priority DESC, j.id LIMIT $3"
        )
    };
    let common = values![claim.now, claim.owner, u64::try_from(each).unwrap_or(u64::MAX)];
    let mut found = vec![Vec::new(); names.len()];
    if matches!(tx, Tx::Sqlite(_)) {
        for (chunk, first) in names.chunks(SELECTIONS).zip((0..).step_by(SELECTIONS)) {
            let selection = |n: usize| format!("SELECT {} AS n, id, priority FROM ({})", first + n, jobs(&format!("${}", n + 4)));
            let selections: Vec<String> = (0..chunk.len()).map(selection).collect();
            let sql = format!("{} ORDER BY n, priority DESC, id", selections.join(" UNION ALL "));
            let values = common.iter().cloned().chain(chunk.iter().map(|name| Value::from(*name))).collect();
            sort_in(&mut found, &tx.composed(sql, values).await?)?;
        }
        return Ok(found);
    }
    let places: Vec<String> = (0..names.len()).map(|n| format!("({n}, ${})", n + 4)).collect();
    let sql = format!(
        "SELECT CAST(k.n AS BIGINT), t.id FROM (VALUES {}) AS k (n, name) CROSS JOIN LATERAL ({}) AS t
        ORDER BY k.n, t.priority DESC, t.id",
        places.join(", "),
        jobs("k.name")
    );
    let values = common.into_iter().chain(names.iter().map(|name| Value::from(*name))).collect();
    sort_in(&mut found, &tx.composed(sql, values).await?)?;
    Ok(found)
}

/// Puts jobs in their order to the customers whose places they come with.
fn sort_in(found: &mut [Vec<JobId>], rows: &[Row]) -> Result<(), Fault> {
    for row in rows {
        let (n, job) = (row.number::<usize>(0)?, row.job(1)?);
        if let Some(jobs) = found.get_mut(n) {
            jobs.push(job);
        }
    }
    Ok(())
}
