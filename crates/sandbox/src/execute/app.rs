//! One instance of an app under the ABI `offpeak1`: made, initialised, called item by item.

use ports::sandbox::ExecuteError;
use protocol::unit::Call;
use wasmtime::{InstancePre, Memory, Store, TypedFunc};

use super::failure::{Failure, poison};
use super::host::{Host, Limiter, Log, range};
use super::loaded::Loaded;

/// An instance that has been initialised.
pub(crate) struct App {
    store: Store<Host>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    compute: TypedFunc<(u32, u32), u64>,
    finish: Option<TypedFunc<(u32, u32), u64>>,
    call: Call,
    budget: u64,
    output_bytes: usize,
}

/// What became of one item.
pub(crate) enum Item {
    /// It has an output, and used that much fuel.
    Done(Vec<u8>, u64),
    /// The app says that it failed.
    Failed(String),
}

impl App {
    /// Makes a fresh instance and hands it the job's parameters; neither is metered, both are bounded as an item is.
    pub(crate) fn start(pre: &InstancePre<Host>, loaded: &Loaded, call: Call) -> Result<Self, ExecuteError> {
        let limits = loaded.limits;
        let budget = limits.fuel_per_item.get();
        let host = Host::new(loaded.shared.clone(), Limiter::new(limits.memory_bytes));
        let mut store = Store::new(pre.module().engine(), host);
        store.limiter(|host| &mut host.limiter);
        let fits = store.set_fuel(budget).and_then(|()| pre.instantiate(&mut store));
        let instance = fits.map_err(|e| refused("the app cannot be instantiated", &e, &mut store, budget))?;
        let missing =
            |name: &str| ExecuteError::App { reason: format!("the app exports no function {name}, which the job calls") };
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| missing("memory"))?;
        let alloc = instance.get_typed_func(&mut store, "op_alloc").map_err(|_none| missing("op_alloc"))?;
        let name = match call {
            Call::Map => "op_map",
            Call::Reduce | Call::ReduceAndFinish => "op_reduce",
        };
        let compute = instance.get_typed_func(&mut store, name).map_err(|_none| missing(name))?;
        let finish = match call {
            Call::Map | Call::Reduce => None,
            Call::ReduceAndFinish => instance.get_typed_func(&mut store, "op_finish").ok(),
        };
        let init = instance.get_typed_func::<(u32, u32), u32>(&mut store, "op_init").ok();
        let output_bytes = usize::try_from(limits.output_bytes).unwrap_or(usize::MAX);
        let mut app = Self { store, memory, alloc, compute, finish, call, budget, output_bytes };
        if let Some(init) = init {
            app.init(&init, &loaded.params)?;
        }
        Ok(app)
    }

    fn init(&mut self, init: &TypedFunc<(u32, u32), u32>, params: &[u8]) -> Result<(), ExecuteError> {
        let budget = self.budget;
        let code = self.give(params.len(), |room| room.copy_from_slice(params)).and_then(|input| {
            self.store.set_fuel(budget)?;
            init.call(&mut self.store, input)
        });
        match code {
            Ok(0) => Ok(()),
            Ok(code) => {
                let text = self.store.data_mut().reason.take().unwrap_or_default();
                Err(ExecuteError::App { reason: bounded(&format!("op_init returned {code}: {text}")) })
            }
            Err(e) => Err(refused("op_init failed", &e, &mut self.store, budget)),
        }
    }

    /// Computes one item. An error is a poisoned item: the instance is not to be used again.
    pub(crate) fn compute(&mut self, item: &[u8]) -> Result<Item, Failure> {
        self.store.data_mut().reason = None;
        let answer = match self.call {
            Call::Map => self.map(item),
            Call::Reduce | Call::ReduceAndFinish => self.reduce(item),
        };
        answer.map_err(|e| {
            let host = self.store.data_mut();
            match host.limiter.host_failure.take() {
                Some(reason) => Failure::Host(reason),
                None => Failure::Item(poison(&e, host.reason.take(), self.budget)),
            }
        })
    }

    fn map(&mut self, item: &[u8]) -> wasmtime::Result<Item> {
        let (at, len) = self.give(frame_len(item), |room| frame_item(room, item))?;
        let (at, len) = self.call(&self.compute.clone(), (at, len), self.budget)?;
        let fuel = self.used()?;
        let answer = self.read(at, len)?;
        match single(answer).map_err(|e| wasmtime::Error::msg(format!("the frame that op_map returned is wrong: {e}")))? {
            (0, output) => {
                self.check(output.len())?;
                Ok(Item::Done(output.to_vec(), fuel))
            }
            (_, reason) => {
                let mut reason = String::from_utf8_lossy(&reason[..reason.len().min(MAX_REASON)]).into_owned();
                if reason.is_empty() {
                    reason = self.store.data_mut().reason.take().unwrap_or_else(|| "the app gave no reason".into());
                }
                Ok(Item::Failed(bounded(&reason)))
            }
        }
    }

    fn reduce(&mut self, item: &[u8]) -> wasmtime::Result<Item> {
        let input = self.give(item.len(), |room| room.copy_from_slice(item))?;
        let (mut at, mut len) = self.call(&self.compute.clone(), input, self.budget)?;
        let mut fuel = self.used()?;
        if let Some(finish) = self.finish.clone() {
            let partial = self.read(at, len)?.to_vec();
            let input = self.give(partial.len(), |room| room.copy_from_slice(&partial))?;
            (at, len) = self.call(&finish, input, self.budget - fuel)?;
            fuel = self.used()?;
        }
        let output = self.read(at, len)?;
        self.check(output.len())?;
        Ok(Item::Done(output.to_vec(), fuel))
    }

    /// One metered call; gives back where the result is.
    fn call(&mut self, function: &TypedFunc<(u32, u32), u64>, input: (u32, u32), fuel: u64) -> wasmtime::Result<(u32, u32)> {
        self.store.set_fuel(fuel)?;
        let packed = function.call(&mut self.store, input)?;
        let [l0, l1, l2, l3, a0, a1, a2, a3] = packed.to_le_bytes();
        Ok((u32::from_le_bytes([a0, a1, a2, a3]), u32::from_le_bytes([l0, l1, l2, l3])))
    }

    /// What is gone of the item's budget; all of it gone is the same as out of fuel, wherever the engine looked last.
    fn used(&self) -> wasmtime::Result<u64> {
        match self.store.get_fuel()? {
            0 => Err(wasmtime::Error::new(wasmtime::Trap::OutOfFuel)),
            rest => Ok(self.budget - rest.min(self.budget)),
        }
    }

    /// Has the guest hand out a buffer and fills it; the allocation is bounded, not metered.
    fn give(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8])) -> wasmtime::Result<(u32, u32)> {
        let len = u32::try_from(bytes).map_err(wasmtime::Error::new)?;
        self.store.set_fuel(self.budget)?;
        let at = self.alloc.call(&mut self.store, len)?;
        let room = range(at, len).filter(|_room| at != 0).and_then(|room| self.memory.data_mut(&mut self.store).get_mut(room));
        let room = room.ok_or_else(|| wasmtime::Error::msg(format!("op_alloc({len}) returned {at}, which is no buffer")))?;
        fill(room);
        Ok((at, len))
    }

    fn read(&self, at: u32, len: u32) -> wasmtime::Result<&[u8]> {
        let bytes = range(at, len).and_then(|range| self.memory.data(&self.store).get(range));
        bytes.ok_or_else(|| wasmtime::Error::msg(format!("the result ({len} bytes at {at}) is not within memory")))
    }

    fn check(&self, output: usize) -> wasmtime::Result<()> {
        if output > self.output_bytes {
            let limit = self.output_bytes;
            return Err(wasmtime::Error::msg(format!("output of {output} bytes is over the limit of {limit}")));
        }
        Ok(())
    }

    /// What the instance logged.
    pub(crate) fn log(&mut self) -> &mut Log {
        &mut self.store.data_mut().log
    }
}

const MAX_REASON: usize = protocol::outcome::MAX_REASON_BYTES;

fn bounded(reason: &str) -> String {
    protocol::outcome::bounded_reason(reason.trim_end_matches([' ', ':']).to_owned())
}

fn refused(what: &str, error: &wasmtime::Error, store: &mut Store<Host>, budget: u64) -> ExecuteError {
    let host = store.data_mut();
    match host.limiter.host_failure.take() {
        Some(reason) => ExecuteError::Died { reason },
        None => ExecuteError::App { reason: bounded(&format!("{what}: {}", poison(error, host.reason.take(), budget))) },
    }
}

/// The length of a frame in with this one item.
fn frame_len(item: &[u8]) -> usize {
    (8 + item.len()).next_multiple_of(8)
}

/// Writes a frame in with this one item, as [`protocol::frame::ItemFrame`] does; an item's length fits, since its frame's does.
fn frame_item(room: &mut [u8], item: &[u8]) {
    let length = u32::try_from(item.len()).unwrap_or(u32::MAX);
    let (head, body) = room.split_at_mut(8);
    head[..4].copy_from_slice(&1_u32.to_le_bytes());
    head[4..].copy_from_slice(&length.to_le_bytes());
    let (bytes, padding) = body.split_at_mut(item.len());
    bytes.copy_from_slice(item);
    padding.fill(0);
}

/// The one entry of a frame out: its status and its bytes. Padding is not looked at beyond its length.
fn single(frame: &[u8]) -> Result<(u8, &[u8]), String> {
    let cut = || format!("its {} bytes end too early", frame.len());
    let (head, rest) = frame.split_first_chunk::<12>().ok_or_else(cut)?;
    let [c0, c1, c2, c3, status, z0, z1, z2, l0, l1, l2, l3] = *head;
    let count = u32::from_le_bytes([c0, c1, c2, c3]);
    if count != 1 {
        return Err(format!("it has {count} entries for one item"));
    }
    if status > 1 || [z0, z1, z2] != [0; 3] {
        return Err("its entry has an unknown status or a reserved byte that is not zero".into());
    }
    let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let body = rest.get(..len).ok_or_else(cut)?;
    match rest.len() - len {
        0..8 => Ok((status, body)),
        extra => Err(format!("it has {extra} bytes after its entry")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::frame::{ItemFrame, ResultFrame};

    #[test]
    fn a_frame_of_one_is_written_as_the_protocol_writes_it() {
        for length in 0..20 {
            let item = vec![7; length];
            let mut frame = ItemFrame::default();
            frame.push(&item).unwrap();
            let mut room = vec![255; frame_len(&item)];
            frame_item(&mut room, &item);
            assert_eq!(room, frame.finish());
        }
    }

    #[test]
    fn a_frame_of_one_is_read_and_others_are_refused() {
        for length in 0..20 {
            let mut frame = ResultFrame::default();
            frame.ok(&vec![7; length]).unwrap();
            let frame = frame.finish();
            assert_eq!(single(&frame), Ok((0, vec![7; length].as_slice())));
            assert!(single(&frame[..11 + length]).is_err());
            assert!(single(&[frame.as_slice(), &[0; 8]].concat()).is_err());
        }
        let mut two = ResultFrame::default();
        two.ok(b"a").unwrap();
        two.failed("b").unwrap();
        assert_eq!(single(&two.finish()).unwrap_err(), "it has 2 entries for one item");
        assert_eq!(single(&ResultFrame::default().finish()).unwrap_err(), "its 4 bytes end too early");
    }
}
