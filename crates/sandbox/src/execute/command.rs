//! One item through a command: a fresh instance of an unmodified WASI program, from stdin to stdout.

use protocol::codec::{Format, decode, encode};
use protocol::outcome::bounded_reason;
use protocol::{Digest, Value};
use wasmtime::{InstancePre, Store};

use super::app::Item;
use super::failure::{Failure, poison};
use super::host::Limiter;
use super::loaded::Loaded;
use super::shim::{Exit, Shim};

/// Runs the program on one item; `index` is the item's index within the job.
pub(crate) fn run(pre: &InstancePre<Shim>, loaded: &Loaded, index: u64, item: &[u8]) -> Result<Item, Failure> {
    let limits = loaded.limits;
    let budget = limits.fuel_per_item.get();
    let stdin = stdin(item).map_err(Failure::Item)?;
    let shim = Shim::new(stdin, seed(loaded.brief, index), limits.output_bytes, Limiter::new(limits.memory_bytes));
    let mut store = Store::new(pre.module().engine(), shim);
    store.limiter(|shim| &mut shim.limiter);
    let ended = store.set_fuel(budget).and_then(|()| {
        let instance = pre.instantiate(&mut store)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        store.set_fuel(budget)?;
        start.call(&mut store, ())
    });
    let rest = store.get_fuel().unwrap_or(0);
    let mut shim = store.into_data();
    if let Some(reason) = shim.limiter.host_failure.take() {
        return Err(Failure::Host(reason));
    }
    let code = match &ended {
        Ok(()) => 0,
        Err(e) => match e.downcast_ref::<Exit>() {
            Some(Exit(code)) => *code,
            None => return Err(Failure::Item(poison(e, Some(shim.stderr_tail()), budget))),
        },
    };
    match (code, rest) {
        (0, 0) => Err(Failure::Item(format!("out of fuel after {budget}"))),
        (0, rest) => Ok(Item::Done(shim.stdout, budget - rest.min(budget))),
        (code, _) => {
            let reason = format!("exit code {code}: {}", shim.stderr_tail());
            Ok(Item::Failed(bounded_reason(reason.trim_end_matches([' ', ':']).to_owned())))
        }
    }
}

/// What random numbers come from: the same for the same job and item, wherever it runs.
fn seed(brief: Digest, index: u64) -> Digest {
    Digest::of(&[brief.0.as_slice(), &index.to_le_bytes()].concat())
}

/// What the program reads: text and bytes as they are, any other value as a line of JSON.
fn stdin(item: &[u8]) -> Result<Vec<u8>, String> {
    match decode::<Value>("item", item, Format::MessagePack).map_err(|e| e.to_string())? {
        Value::String(text) => Ok(text.into_bytes()),
        Value::Binary(bytes) => Ok(bytes),
        value @ (Value::Nil
        | Value::Boolean(_)
        | Value::Integer(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::Array(_)
        | Value::Map(_)
        | Value::Ext(..)) => {
            let mut line = encode("item", &value, Format::Json).map_err(|e| e.to_string())?;
            line.push(b'\n');
            Ok(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_becomes_what_a_program_reads() {
        let stdin_of = |value: Value| stdin(&encode("item", &value, Format::MessagePack).unwrap()).unwrap();
        assert_eq!(stdin_of("a\nb".into()), b"a\nb");
        assert_eq!(stdin_of(Value::Binary(vec![0, 255])), [0, 255]);
        assert_eq!(stdin_of(7.into()), b"7\n");
        assert_eq!(stdin_of(Value::Map(vec![("x".into(), 1.5.into())])), b"{\"x\":1.5}\n");
        assert!(stdin(&[0xc1]).is_err());
    }

    #[test]
    fn seeds_differ_by_job_and_item() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(seed(a, 1), seed(a, 1));
        assert_ne!(seed(a, 1), seed(a, 2));
        assert_ne!(seed(a, 1), seed(b, 1));
    }
}
