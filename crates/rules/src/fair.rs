//! Fair share: weighted deficit round robin over customers (Shreedhar and Varghese, 1995), priority within a customer.

use std::collections::BTreeMap;

use protocol::CustomerName;

/// What a customer of weight 1 may dispatch per round, in microseconds of expected computing: so little that turns are short,
/// and a newcomer's comes soon. Longer units save up for several rounds, which takes no longer to decide.
const QUANTUM_US: i64 = 10_000;
/// No single unit is charged more, so that a wrong estimate cannot silence a customer for long.
const MAX_COST_US: i64 = 600_000_000;

/// A customer who has work that can be dispatched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// Who.
    pub customer: CustomerName,
    /// Their weight, 1 or more.
    pub weight: u32,
    /// Expected computing time of their next unit, all replicas, in microseconds.
    pub cost_us: u64,
}

/// The round robin's memory: whose turn it is, and what each customer has left of it.
#[derive(Debug, Clone, Default)]
pub struct FairShare {
    deficits: BTreeMap<CustomerName, i64>,
    turn: Option<CustomerName>,
}

impl FairShare {
    /// Forgets who has no work: idleness earns no credit. Who has work and no room for it keeps what they had saved.
    pub fn forget_idle(&mut self, works: impl Fn(&CustomerName) -> bool) {
        self.deficits.retain(|name, _| works(name));
    }

    /// Whose unit is next; charges them for it. `None` if nobody contends.
    ///
    /// A customer keeps the turn while their deficit covers their next unit.
    pub fn next(&mut self, contenders: &[Contender]) -> Option<CustomerName> {
        for contender in contenders {
            self.deficits.entry(contender.customer.clone()).or_insert(0);
        }
        let mut order: Vec<&Contender> = contenders.iter().collect();
        order.sort_by(|a, b| a.customer.cmp(&b.customer));
        let start = self.turn.as_ref().map_or(0, |turn| order.partition_point(|c| c.customer < *turn));
        if let Some(holder) = order.get(start).filter(|c| Some(&c.customer) == self.turn.as_ref()) {
            if self.covers(holder) {
                return Some(self.charge(holder));
            }
            return self.rounds(&order, start + 1);
        }
        self.rounds(&order, start)
    }

    /// Goes round from `start`, crediting each customer a quantum as their turn comes, until one can pay.
    fn rounds(&mut self, order: &[&Contender], start: usize) -> Option<CustomerName> {
        if order.is_empty() {
            return None;
        }
        // Rounds in which nobody could pay are credited at once, which bounds the loop below to one round.
        let needed = order.iter().map(|c| self.rounds_needed(c)).min().unwrap_or(1);
        for contender in order {
            *self.deficits.entry(contender.customer.clone()).or_insert(0) += (needed - 1) * quantum(contender);
        }
        for offset in 0..order.len() {
            let contender = order[(start + offset) % order.len()];
            *self.deficits.entry(contender.customer.clone()).or_insert(0) += quantum(contender);
            if self.covers(contender) {
                self.turn = Some(contender.customer.clone());
                return Some(self.charge(contender));
            }
        }
        None
    }

    fn rounds_needed(&self, contender: &Contender) -> i64 {
        let missing = cost(contender) - self.deficits.get(&contender.customer).copied().unwrap_or(0);
        let quantum = quantum(contender);
        ((missing + quantum - 1) / quantum).max(1)
    }

    fn covers(&self, contender: &Contender) -> bool {
        self.deficits.get(&contender.customer).is_some_and(|deficit| *deficit >= cost(contender))
    }

    fn charge(&mut self, contender: &Contender) -> CustomerName {
        *self.deficits.entry(contender.customer.clone()).or_insert(0) -= cost(contender);
        contender.customer.clone()
    }
}

fn cost(contender: &Contender) -> i64 {
    i64::try_from(contender.cost_us).unwrap_or(MAX_COST_US).clamp(1, MAX_COST_US)
}

fn quantum(contender: &Contender) -> i64 {
    i64::from(contender.weight.max(1)).saturating_mul(QUANTUM_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contender(name: &str, weight: u32, cost_us: u64) -> Contender {
        Contender { customer: CustomerName::new(name).unwrap(), weight, cost_us }
    }

    fn shares(contenders: &[Contender], picks: usize) -> BTreeMap<String, u64> {
        let mut fair = FairShare::default();
        let mut dispatched = BTreeMap::new();
        for _ in 0..picks {
            let next = fair.next(contenders).unwrap();
            let cost = contenders.iter().find(|c| c.customer == next).unwrap().cost_us;
            *dispatched.entry(next.to_string()).or_insert(0) += cost;
        }
        dispatched
    }

    #[test]
    fn weights_are_shares_whatever_the_length_of_units() {
        let shares = shares(&[contender("a", 3, 700_000), contender("b", 1, 90_000)], 5_000);
        let (a, b) = (shares["a"], shares["b"]);
        let ratio = a * 1_000 / b;
        assert!((2_850..=3_150).contains(&ratio), "{a}:{b}");
    }

    #[test]
    fn a_newcomer_is_served_within_a_round() {
        let mut fair = FairShare::default();
        let busy = contender("busy", 1, 1_000);
        for _ in 0..10_000 {
            fair.next(std::slice::from_ref(&busy));
        }
        let both = [busy, contender("new", 1, 1_000)];
        let waited = (0..100).take_while(|_| fair.next(&both).unwrap().as_str() != "new").count();
        assert!(waited <= 10, "{waited}");
    }

    #[test]
    fn who_saves_up_keeps_it_while_there_is_no_room() {
        let contenders = [contender("a", 3, 40_000), contender("b", 1, 40_000)];
        let mut fair = FairShare::default();
        let mut units = BTreeMap::new();
        for _ in 0..4_000 {
            // Room for one unit at a time, and then for none.
            *units.entry(fair.next(&contenders).unwrap().to_string()).or_insert(0) += 1;
            assert_eq!(fair.next(&[]), None);
            fair.forget_idle(|_| true);
        }
        assert_eq!((units["a"], units["b"]), (3_000, 1_000));
        fair.forget_idle(|_| false);
        assert!(fair.deficits.is_empty());
    }

    #[test]
    fn nobody_contends() {
        assert_eq!(FairShare::default().next(&[]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn nobody_starves(costs in proptest::collection::vec((1_u32..10, 500_000_u64..100_000_000), 1..6)) {
            let contenders: Vec<_> = costs.iter().enumerate().map(|(i, (w, c))| contender(&format!("c{i}"), *w, *c)).collect();
            let shares = shares(&contenders, 8_000);
            prop_assert_eq!(shares.len(), contenders.len());
        }
    }
}
