//! The contract's vocabulary: jobs, units and outcomes in a few words.

use std::sync::Arc;

use ports::Store;
use ports::store::{
    Admission, Assembly, AssemblyView, Assignment, ClaimedJob, Cursor, Dispatch, NewJob, NewUnit, Outbox, OutboxKey,
    OutboxMessage, ReplicaEnd, ReplicaState, Settlement, StageStep, UnitEnd, UnitSettled, UnitState, Vote,
};
use protocol::frame::ResultFrame;
use protocol::input::Input;
use protocol::job::{Certificate, Delivery, ItemCounts, JobSpec, JobState, Limits, UnitSizing};
use protocol::usage::Usage;
use protocol::{CustomerName, Digest, Fuel, HostId, JobId, MeterId, Micros, PoolName, ReplicaKey, UnitKey, Value};
use uuid::Uuid;

/// The time at which everything in the contract happens, unless it says otherwise.
pub const NOW: Micros = Micros(1_700_000_000_000_000);

/// The bytes of the contract's app.
const APP: &[u8] = b"app";

/// The time so many seconds after [`NOW`].
pub fn at(seconds: i64) -> Micros {
    Micros(NOW.0 + seconds * 1_000_000)
}

/// A store with a customer.
#[derive(Clone)]
pub struct World {
    /// The store under test.
    pub store: Arc<dyn Store>,
    /// Whose jobs they are.
    pub customer: CustomerName,
}

impl World {
    /// A world around an empty store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, customer: CustomerName::new("acme").unwrap() }
    }

    /// A job of so many items, not yet admitted.
    pub fn job(&self, items: u64) -> NewJob {
        let id = JobId(Uuid::now_v7());
        NewJob {
            id,
            customer: self.customer.clone(),
            submission: id.to_string(),
            submission_digest: Digest::of(id.0.as_bytes()),
            correlation_id: Some("order 7".to_owned()),
            content_type: "application/json".to_owned(),
            traceparent: None,
            spec: spec(items),
            items,
            brief: Digest::of(b"brief"),
            meter: meter(),
            admitted_at: NOW,
            deadline_at: None,
        }
    }

    /// A message to the world's customer.
    pub fn message(&self, id: &str) -> OutboxMessage {
        OutboxMessage {
            id: id.to_owned(),
            customer: self.customer.clone(),
            kind: "offpeak.job.accepted.v1".to_owned(),
            content_type: "application/json".to_owned(),
            correlation_id: None,
            traceparent: None,
            body: id.as_bytes().to_vec(),
        }
    }

    /// Admits a job of so many items.
    pub async fn admit(&self, items: u64) -> JobId {
        self.admit_job(self.job(items)).await
    }

    /// Has the grid keep the app of these jobs, so that every customer may use it.
    pub async fn keep_app(&self) {
        assert!(self.store.put_part(Digest::of(APP), 3, 0, APP).await.unwrap());
    }

    /// Admits this job.
    pub async fn admit_job(&self, job: NewJob) -> JobId {
        self.keep_app().await;
        let (id, reply) = (job.id, self.message(&format!("accepted {}", job.id)));
        assert_eq!(self.store.admit(job, reply).await.unwrap(), Admission::New);
        id
    }

    /// Cuts units of stage 0 at these borders, beginning with unit 0, one replica each on lane 0.
    pub async fn cut(&self, job: JobId, borders: &[u64]) -> Vec<UnitKey> {
        let step = cut(job, 0, 0, borders, &[0]);
        let keys = step.cuts.iter().map(|unit| unit.key).collect();
        assert!(self.store.dispatch(step).await.unwrap());
        keys
    }

    /// Cuts likewise and marks the first replicas as sent.
    pub async fn sent(&self, job: JobId, borders: &[u64]) -> Vec<UnitKey> {
        let units = self.cut(job, borders).await;
        let replicas: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
        self.store.mark_sent(&replicas, at(60)).await.unwrap();
        units
    }

    /// What a producer claims.
    pub async fn claim(&self, owner: &str, now: Micros) -> Vec<ClaimedJob> {
        self.store.claim_jobs(owner, now, Micros(now.0 + 30_000_000), 10).await.unwrap()
    }

    /// Settles these replicas as it is said, whatever is stored.
    pub async fn settle(&self, keys: &[ReplicaKey], settlement: Settlement) {
        self.store.settle(keys, Box::new(move |_view| settlement)).await.unwrap();
    }

    /// Replica 0 of each unit was computed and makes it valid, with one output a item.
    pub async fn settle_valid(&self, units: &[UnitKey]) {
        let keys: Vec<_> = units.iter().map(|unit| unit.replica(0)).collect();
        let customer = self.customer.clone();
        let decide = move |view: &ports::store::SettlementView| Settlement {
            replicas: view.units.iter().map(|unit| computed(unit.key.replica(0))).collect(),
            units: view.units.iter().map(|unit| valid(unit.key, &customer, unit.end - unit.first)).collect(),
            ..Settlement::default()
        };
        self.store.settle(&keys, Box::new(decide)).await.unwrap();
    }

    /// Assembles a page; what the view was, and what the store answered.
    pub async fn assemble(&self, job: JobId, max_units: u32, step: StageStep) -> (Option<AssemblyView>, Option<bool>) {
        let (send, receive) = std::sync::mpsc::channel();
        let decide = move |view: &AssemblyView| {
            send.send(view.clone()).unwrap();
            assembled(view, step)
        };
        let answer = self.store.assemble(job, max_units, Box::new(decide)).await.unwrap();
        (receive.try_recv().ok(), answer)
    }

    /// Ends a job as completed.
    pub async fn end(&self, job: JobId, items: ItemCounts) {
        let state = JobState::Completed;
        let (_view, answer) = self.assemble(job, 1_000, StageStep::End { state, certificate: certificate(items) }).await;
        assert_eq!(answer, Some(false));
    }

    /// All messages claimed now, by their numbers and ids.
    pub async fn claim_messages(&self, now: Micros, limit: u32) -> Vec<OutboxKey> {
        let claimed = self.store.claim_outbox(now, Micros(now.0 + 30_000_000), limit).await.unwrap();
        claimed.iter().map(Outbox::key).collect()
    }
}

/// An assembly of all the units in view.
pub fn assembled(view: &AssemblyView, step: StageStep) -> Assembly {
    let mut items = view.items;
    for (first, end, state, _) in &view.units {
        match state {
            UnitState::Valid => items.succeeded += end - first,
            UnitState::Failed => items.failed += end - first,
            UnitState::Cancelled => items.cancelled += end - first,
            UnitState::Open => panic!("a unit that has not ended is assembled"),
        }
    }
    let mut chain = view.chain;
    chain.succeeded(b"x");
    Assembly {
        assembled: view.units.last().map_or(view.assembled, |(_, end, _, _)| *end),
        chain,
        items_chain: None,
        items,
        parts: view.parts,
        parts_sent: view.parts_sent,
        numbered: Vec::new(),
        step,
        replies: Vec::new(),
        progress_at: None,
    }
}

/// A certificate over these counts.
pub fn certificate(items: ItemCounts) -> Certificate {
    Certificate { items, items_digest: Digest::of(b"items"), output_digest: Digest::of(b"output") }
}

/// The contract's meter.
pub fn meter() -> MeterId {
    MeterId::new("meter-1").unwrap()
}

/// A specification of so many numbers.
pub fn spec(items: u64) -> JobSpec {
    JobSpec {
        app: Digest::of(APP),
        input: Input::Range { start: 0, end: items },
        shared: None,
        params: Value::Map(Vec::new()),
        pool: PoolName::new("open").unwrap(),
        quorum: 1,
        priority: 0,
        deadline_s: None,
        budget_fuel: None,
        max_failures: 3,
        limits: Limits::default(),
        unit: UnitSizing::default(),
        reduce: false,
        delivery: Delivery::Stored,
    }
}

/// A step that cuts units at these borders, numbered from `unit`, each with a replica on each of the lanes.
pub fn cut(job: JobId, stage: u8, unit: u32, borders: &[u64], lanes: &[u16]) -> Dispatch {
    let cuts = borders.windows(2).zip(unit..).map(|(border, unit)| NewUnit {
        key: UnitKey { job, unit },
        stage,
        first: border[0],
        end: border[1],
        bytes: (border[0] * 10, border[1] * 10),
        lanes: lanes.to_vec(),
    });
    let cuts: Vec<_> = cuts.collect();
    let next = unit + u32::try_from(cuts.len()).unwrap();
    let end = borders.last().copied().unwrap();
    let cursor = Cursor { stage, item: end, byte: end * 10, unit: next };
    Dispatch { at: NOW, cuts, assignments: Vec::new(), cursors: vec![(job, unit, cursor)] }
}

/// A step that gives these replicas a lane.
pub fn assign(replicas: &[(ReplicaKey, u16)]) -> Dispatch {
    let assignments = replicas.iter().map(|(key, lane)| Assignment { key: *key, lane: *lane });
    Dispatch { assignments: assignments.collect(), ..Dispatch::default() }
}

/// A replica that was computed in 50 microseconds.
pub fn computed(key: ReplicaKey) -> ReplicaEnd {
    ReplicaEnd {
        key,
        state: ReplicaState::Computed,
        host: Some(HostId::new("host-1").unwrap()),
        vote: Some(Vote { meter: meter(), fuel: Fuel::new(1_000).unwrap(), input_bytes: 40, output: Digest::of(b"frame") }),
        reason: None,
        compute_us: 50,
    }
}

/// A replica that ended otherwise, after 30 microseconds.
pub fn ended(key: ReplicaKey, state: ReplicaState, reason: &str) -> ReplicaEnd {
    ReplicaEnd { key, state, host: None, vote: None, reason: Some(reason.to_owned()), compute_us: 30 }
}

/// A frame of so many outputs, all alike.
pub fn frame(items: u64) -> Vec<u8> {
    let mut frame = ResultFrame::default();
    (0..items).for_each(|_| frame.ok(b"output").unwrap());
    frame.finish()
}

/// The ledger's row of a unit.
pub fn usage(unit: UnitKey, customer: &CustomerName, fuel: u64, bytes: u64) -> Usage {
    Usage {
        unit,
        customer: customer.clone(),
        pool: PoolName::new("open").unwrap(),
        meter: meter(),
        fuel: Fuel::new(fuel).unwrap(),
        bytes,
        output: Digest::of(b"frame"),
        recorded_at: NOW,
    }
}

/// A unit that is valid, of 1,000 fuel and 100 bytes.
pub fn valid(unit: UnitKey, customer: &CustomerName, items: u64) -> UnitSettled {
    let end = UnitEnd::Valid { usage: usage(unit, customer, 1_000, 100), output: frame(items), failed_items: 0, compute_us: 50 };
    UnitSettled { key: unit, end }
}
