//! Rests of a pool whose queues take nothing, as when they are full or not bound: it is not tried all the time, and other pools
//! go on.

use std::time::Duration;

use ports::broker::Confirm;
use protocol::PoolName;
use service::Backoff;
use service::patience::random;
use tokio::time::Instant;

/// The first rest.
const FIRST: Duration = Duration::from_millis(100);
/// The longest: soon enough that a queue that has room again is used at once.
const LONGEST: Duration = Duration::from_secs(5);

/// Whether a pool rests.
#[derive(Default)]
pub(super) struct Rest(Option<Refused>);

/// Something of the pool was refused, and no lot was stored whole since.
struct Refused {
    backoff: Backoff,
    until: Instant,
}

impl Rest {
    /// Whether nothing is to be sent for now.
    pub(super) fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|refused| Instant::now() < refused.until)
    }

    /// Notes what became of a lot. After one of which nothing was stored the pool rests, longer each time; after one of which
    /// something was, it goes on at once. That something was refused is told once.
    pub(super) fn note(&mut self, pool: &PoolName, lot: &[Confirm]) {
        let count = |what: Confirm| lot.iter().filter(|confirm| **confirm == what).count();
        let (stored, full, unbound) = (count(Confirm::Stored), count(Confirm::Refused), count(Confirm::Unroutable));
        if full + unbound == 0 {
            if stored > 0 && self.0.take().is_some() {
                tracing::info!("the lanes of pool {pool} take units again");
            }
            return;
        }
        if self.0.is_none() {
            tracing::warn!(
                "of {} units for lanes of pool {pool} {full} were Refused by full queues and {unbound} were Unroutable; they are \
                 sent again: see the policies for offpeak.work, and that a producer runs that may declare queues and bindings",
                lot.len()
            );
        }
        let fresh = || Refused { backoff: Backoff::new(FIRST, LONGEST), until: Instant::now() };
        if stored > 0 {
            self.0 = Some(fresh());
        } else {
            let refused = self.0.get_or_insert_with(fresh);
            refused.until = Instant::now() + refused.backoff.next_delay(random);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pool_rests_longer_each_time_until_something_is_stored() {
        let (mut rest, pool) = (Rest::default(), PoolName::new("open").expect("a name"));
        rest.note(&pool, &[Confirm::Stored, Confirm::Unknown]);
        assert!(!rest.is_on());
        rest.note(&pool, &[Confirm::Unknown]);
        assert!(!rest.is_on(), "what the broker did not answer took its time already");
        for _ in 0..20 {
            rest.note(&pool, &[Confirm::Refused, Confirm::Unroutable]);
            assert!(rest.is_on());
            advance(LONGEST).await;
            assert!(!rest.is_on());
        }
        rest.note(&pool, &[Confirm::Unroutable]);
        advance(LONGEST * 2 / 5).await;
        assert!(rest.is_on(), "it has become the longest");
        rest.note(&pool, &[Confirm::Refused, Confirm::Stored]);
        assert!(!rest.is_on(), "another lane has room");
        rest.note(&pool, &[Confirm::Refused]);
        assert!(rest.is_on());
        advance(FIRST).await;
        assert!(!rest.is_on(), "it begins anew");
        rest.note(&pool, &[Confirm::Refused]);
        rest.note(&pool, &[Confirm::Stored]);
        assert!(!rest.is_on() && rest.0.is_none());
    }
}
