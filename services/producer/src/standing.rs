//! What a customer may use, and uses now: read from the store at most once a second for each, with its rate kept here.
//!
//! The counts are a second old at most, and a limit is said to be exceeded only after it was read anew. Jobs that this
//! process is admitting are counted in; several producers side by side may together exceed a limit by what they
//! admit in the same moment. A rate is kept by each producer for what it reads itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ports::store::{CustomerUse, StoreError};
use protocol::customer::CustomerLimits;
use protocol::problem::{Code, Problem};
use protocol::{CustomerName, Micros};
use rules::month::{self, Month};
use rules::rate::Bucket;

use crate::Producer;

/// What was read is believed for so long.
const FRESH: Duration = Duration::from_secs(1);
/// Customers known at once: a record each, and the longest unseen is forgotten first.
const MAX_KNOWN: usize = 10_000;
/// So many messages may wait unsent for a customer; one that reads is never near that.
pub(crate) const MAX_UNSENT: u64 = rules::delivery::MAX_WAITING_MESSAGES;
/// And so many bytes of them: twice what its results alone may take.
pub(crate) const MAX_UNSENT_BYTES: u64 = 2 * rules::delivery::MAX_WAITING_BYTES;
/// What takes long (a fetch of results, the wait for a blob) a customer may have so many of under way, so
/// that it never holds all places of intake.
const MAX_SLOW: u32 = 4;
/// And so many requests of any kind that have taken a while already: the others of intake are for others.
const MAX_LONG: u32 = 16;
/// And so many submissions and quotes that read a large blob to count its lines, beside both of those: one that waited for its
/// blob holds a place already, and must not be in its own way.
const MAX_LARGE: u32 = 4;
/// A blob above this size is large: a smaller one is read in well under a second.
const LARGE_BYTES: u64 = 16 << 20;
/// That a customer does not read is logged so often.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Limits of a customer, and what it uses of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// What it may use.
    pub(crate) limits: CustomerLimits,
    /// What it uses; its fuel is this month's, and zero for one without a budget.
    pub(crate) used: CustomerUse,
}

/// The customers seen lately; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Standings {
    known: Arc<Mutex<BTreeMap<CustomerName, Known>>>,
}

#[derive(Debug)]
struct Known {
    standing: Standing,
    read_at: Micros,
    bucket: Bucket,
    /// Jobs that are being admitted.
    admitting: u64,
    /// Requests under way of those kinds that take long.
    slow: u32,
    /// And of any kind that have taken a while.
    long: u32,
    /// And that read a large blob.
    large: u32,
    said_at: Option<Micros>,
}

/// A place among a customer's jobs, held while one is admitted.
pub(crate) struct Place<'a> {
    standings: &'a Standings,
    customer: &'a CustomerName,
}

/// One of a customer's requests that take long, while it does.
pub(crate) struct Slow<'a> {
    standings: &'a Standings,
    customer: &'a CustomerName,
    counted: Counted,
}

/// Among which requests one is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Slow,
    Long,
    Large,
}

impl Standing {
    /// Seconds until the budget begins anew, if it is spent.
    pub(crate) fn budget_spent_s(&self, now: Micros) -> Option<u64> {
        let budget = self.limits.fuel_per_month?;
        (self.used.fuel >= u128::from(budget.get())).then(|| month::seconds_left(now))
    }

    /// Whether so much waits unsent that nothing more is to be answered.
    pub(crate) fn is_deaf(&self) -> bool {
        self.used.unsent_messages > MAX_UNSENT || self.used.unsent_bytes > MAX_UNSENT_BYTES
    }

    /// Whether a further job is taken, with so many being admitted.
    fn may_submit(&self, admitting: u64, now: Micros) -> Result<(), Box<Problem>> {
        if let Some(seconds) = self.budget_spent_s(now) {
            let budget = self.limits.fuel_per_month.unwrap_or_default().get();
            let detail = format!("{} fuel of this month is metered, and your budget is {budget}", self.used.fuel);
            return Err(Box::new(Problem::over(Code::BudgetSpent, budget, Some(seconds), detail)));
        }
        let (jobs, limit) = (self.used.jobs.saturating_add(admitting), u64::from(self.limits.jobs));
        if jobs < limit {
            return Ok(());
        }
        let detail = format!("{jobs} of your jobs have not ended, and {limit} may be unfinished at once");
        Err(Box::new(Problem::over(Code::TooManyJobs, limit, None, detail)))
    }
}

impl Standings {
    /// How a customer stands, as it was read within the last second.
    pub(crate) async fn of(&self, producer: &Producer, customer: &CustomerName) -> Result<Standing, StoreError> {
        let now = producer.clock.now();
        let fresh = |known: &Known| now.since(known.read_at) < FRESH && known.read_at <= now;
        let known = self.lock().get(customer).filter(|known| fresh(known)).map(|known| known.standing);
        match known {
            Some(standing) => Ok(standing),
            None => self.read(producer, customer).await,
        }
    }

    /// Reads anew how a customer stands.
    async fn read(&self, producer: &Producer, customer: &CustomerName) -> Result<Standing, StoreError> {
        let now = producer.clock.now();
        let limits = producer.store.customer(customer).await?.map(|record| record.limits).unwrap_or_default();
        let since = fuel_since(&limits, now);
        let used = producer.store.customer_use(customer, since).await?;
        let standing = Standing { limits, used };
        let mut known = self.lock();
        if !known.contains_key(customer) && known.len() >= MAX_KNOWN {
            forget_one(&mut known);
        }
        let entry = known.entry(customer.clone()).or_insert_with(|| Known {
            standing,
            read_at: now,
            bucket: Bucket::full(limits.requests_per_second, now),
            admitting: 0,
            slow: 0,
            long: 0,
            large: 0,
            said_at: None,
        });
        (entry.standing, entry.read_at) = (standing, now);
        Ok(standing)
    }

    /// What a customer uses at this moment.
    pub(crate) async fn used_now(&self, producer: &Producer, customer: &CustomerName) -> Result<CustomerUse, StoreError> {
        Ok(self.read(producer, customer).await?.used)
    }

    /// Takes a request's worth of a customer's rate.
    pub(crate) fn take(&self, customer: &CustomerName, now: Micros) -> Result<(), Box<Problem>> {
        let mut known = self.lock();
        let Some(known) = known.get_mut(customer) else { return Ok(()) };
        let rate = known.standing.limits.requests_per_second;
        known.bucket.take(rate, now).map_err(|wait| {
            let seconds = wait.as_secs().saturating_add(1);
            let detail = format!("you may send {rate} requests a second");
            Box::new(Problem::over(Code::RateExceeded, rate.into(), Some(seconds), detail))
        })
    }

    /// Holds a place for a further job, or says why there is none.
    pub(crate) async fn place<'a>(
        &'a self,
        producer: &Producer,
        customer: &'a CustomerName,
    ) -> Result<Result<Place<'a>, Box<Problem>>, StoreError> {
        self.of(producer, customer).await?;
        let now = producer.clock.now();
        let mut held = self.hold(customer, now);
        if held.is_err() {
            self.read(producer, customer).await?;
            held = self.hold(customer, now);
        }
        Ok(held.map(|()| Place { standings: self, customer }))
    }

    fn hold(&self, customer: &CustomerName, now: Micros) -> Result<(), Box<Problem>> {
        let mut known = self.lock();
        let Some(known) = known.get_mut(customer) else { return Ok(()) };
        known.standing.may_submit(known.admitting, now)?;
        known.admitting = known.admitting.saturating_add(1);
        Ok(())
    }

    /// Begins what takes long, unless the customer has as much of that under way as it may.
    pub(crate) fn slow<'a>(&'a self, customer: &'a CustomerName) -> Result<Slow<'a>, Box<Problem>> {
        self.count(customer, Counted::Slow)
    }

    /// Goes on with what takes long already, unless the customer has as much of that under way as it may.
    pub(crate) fn long<'a>(&'a self, customer: &'a CustomerName) -> Result<Slow<'a>, Box<Problem>> {
        self.count(customer, Counted::Long)
    }

    /// Begins to read a blob of that size to its end: a large one only if the customer may have one more of them read.
    pub(crate) fn reading<'a>(&'a self, customer: &'a CustomerName, bytes: u64) -> Result<Option<Slow<'a>>, Box<Problem>> {
        (bytes > LARGE_BYTES).then(|| self.count(customer, Counted::Large)).transpose()
    }

    fn count<'a>(&'a self, customer: &'a CustomerName, counted: Counted) -> Result<Slow<'a>, Box<Problem>> {
        if let Some(known) = self.lock().get_mut(customer) {
            let (count, most) = known.count(counted);
            if *count >= most {
                let detail = format!("{most} of your requests that take long are under way: send it again when one is answered");
                return Err(Box::new(Problem::over(Code::RateExceeded, most.into(), Some(1), detail)));
            }
            *count = count.saturating_add(1);
        }
        Ok(Slow { standings: self, customer, counted })
    }

    /// Whether it is time to say again that a customer does not read.
    pub(crate) fn may_say(&self, customer: &CustomerName, now: Micros) -> bool {
        let mut known = self.lock();
        let Some(known) = known.get_mut(customer) else { return true };
        let due = known.said_at.is_none_or(|at| now.since(at) >= SAY_EVERY);
        if due {
            known.said_at = Some(now);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<CustomerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From when on a customer's fuel counts: only for a budget is a month's added up. The store keeps that sum only while
/// everyone asks from the same time on.
fn fuel_since(limits: &CustomerLimits, now: Micros) -> Micros {
    if limits.fuel_per_month.is_some() { Month::of(now).begin() } else { now }
}

fn forget_one(known: &mut BTreeMap<CustomerName, Known>) {
    let idle = known.iter().filter(|(_, known)| known.is_idle());
    if let Some(name) = idle.min_by_key(|(_, known)| known.read_at).map(|(name, _)| name.clone()) {
        known.remove(&name);
    }
}

impl Known {
    /// Whether no request of the customer is counted.
    fn is_idle(&self) -> bool {
        self.admitting == 0 && self.slow == 0 && self.long == 0 && self.large == 0
    }

    /// How many requests are counted so, and how many may be.
    fn count(&mut self, counted: Counted) -> (&mut u32, u32) {
        match counted {
            Counted::Slow => (&mut self.slow, MAX_SLOW),
            Counted::Long => (&mut self.long, MAX_LONG),
            Counted::Large => (&mut self.large, MAX_LARGE),
        }
    }
}

impl Place<'_> {
    /// A job was admitted: it counts from now on.
    pub(crate) fn taken(self) {
        if let Some(known) = self.standings.lock().get_mut(self.customer) {
            known.standing.used.jobs = known.standing.used.jobs.saturating_add(1);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.standings.lock().get_mut(self.customer) {
            known.admitting = known.admitting.saturating_sub(1);
        }
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.standings.lock().get_mut(self.customer) {
            let (count, _) = known.count(self.counted);
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::Fuel;

    use super::*;

    #[test]
    fn who_leaves_many_messages_or_bytes_unread_is_deaf() {
        let deaf = |unsent_messages, unsent_bytes| {
            let used = CustomerUse { unsent_messages, unsent_bytes, ..CustomerUse::default() };
            Standing { used, ..Standing::default() }.is_deaf()
        };
        assert!(!deaf(10_000, 512 << 20));
        assert!(deaf(10_001, 0));
        assert!(deaf(1, (512 << 20) + 1));
    }

    #[test]
    fn fuel_counts_from_the_same_time_on_as_long_as_the_month_lasts() {
        let budget = CustomerLimits { fuel_per_month: Some(Fuel::MAX), ..CustomerLimits::default() };
        let (now, later) = (Micros(1_700_000_000_000_000), Micros(1_700_000_009_000_000));
        assert_eq!(fuel_since(&budget, now), fuel_since(&budget, later));
        assert_eq!(fuel_since(&CustomerLimits::default(), now), now);
    }
}
