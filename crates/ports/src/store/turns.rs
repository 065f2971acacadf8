//! Whose jobs are claimed: customers take turns, so that none waits behind another's thousands. Every store decides by this.

use protocol::{JobId, Micros};

/// Customers in the order in which they are looked at. If they are more than jobs may be claimed, the first is another
/// one in the time of each lease, so that everyone's turn comes.
pub fn in_turn<C>(mut customers: Vec<C>, limit: u32, now: Micros, until: Micros) -> Vec<C> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if customers.len() > limit {
        let lease_us = until.0.saturating_sub(now.0).max(1);
        let leases = usize::try_from(now.0 / lease_us).unwrap_or(0);
        let first = leases.wrapping_mul(limit) % customers.len();
        customers.rotate_left(first);
    }
    customers
}

/// Takes the most urgent job of each customer, then the second of each, and so on; in each turn the oldest first.
pub fn take_turns(of_customers: &[Vec<JobId>], limit: u32) -> Vec<JobId> {
    let mut ranked: Vec<(usize, JobId)> = of_customers.iter().flat_map(|jobs| jobs.iter().copied().enumerate()).collect();
    ranked.sort_unstable();
    ranked.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    ranked.into_iter().map(|(_, job)| job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(ids: &[u128]) -> Vec<JobId> {
        ids.iter().map(|id| JobId(uuid::Uuid::from_u128(*id))).collect()
    }

    #[test]
    fn each_has_its_first_job_before_anyone_has_a_second() {
        let of_customers = [jobs(&[1, 2, 3, 4]), jobs(&[9]), jobs(&[6, 5])];
        assert_eq!(take_turns(&of_customers, 4), jobs(&[1, 6, 9, 2]));
        assert_eq!(take_turns(&of_customers, 100), jobs(&[1, 6, 9, 2, 5, 3, 4]));
        assert_eq!(take_turns(&of_customers, 0), []);
    }

    #[test]
    fn everyone_is_first_some_time() {
        let order = |seconds: i64| in_turn(vec!['a', 'b', 'c', 'd', 'e'], 2, Micros(seconds), Micros(seconds + 10));
        assert_eq!((order(0)[..2].to_vec(), order(9)[..2].to_vec()), (vec!['a', 'b'], vec!['a', 'b']), "a lease's time");
        let firsts: std::collections::BTreeSet<char> = (0..5).flat_map(|n| order(10 * n)[..2].to_vec()).collect();
        assert_eq!(firsts.len(), 5);
        assert_eq!(in_turn(vec!['a', 'b'], 2, Micros(10), Micros(20)), ['a', 'b'], "all fit");
    }
}
