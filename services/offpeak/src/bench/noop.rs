//! The app that does nothing: each item has an empty output, so that a benchmark measures the grid alone.

use std::path::Path;

use anyhow::{Context as _, Result};
use protocol::input::Input;
use protocol::job::{Delivery, JobSpec, Limits, UnitSizing};
use protocol::{Digest, PoolName, Value};

use crate::jobfile::Upload;

/// Under `offpeak1`: allocation only ever grows into fresh memory, which is zero, and a frame out whose items
/// are all empty is zero but for its count.
const TEXT: &str = r#"(module
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 1024))
  (func $alloc (export "op_alloc") (param $len i32) (result i32)
    (local $at i32) (local $end i32) (local $missing i32)
    (local.set $at (global.get $top))
    (local.set $end (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 15)) (i32.const -16)))
    (local.set $missing
      (i32.sub (i32.shr_u (i32.add (local.get $end) (i32.const 65535)) (i32.const 16)) (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then (unreachable)))))
    (global.set $top (local.get $end))
    (local.get $at))
  (func (export "op_map") (param $ptr i32) (param $len i32) (result i64)
    (local $count i32) (local $size i32) (local $out i32)
    (local.set $count (i32.load (local.get $ptr)))
    (local.set $size
      (select
        (i32.add (i32.const 8) (i32.mul (local.get $count) (i32.const 8)))
        (i32.const 4)
        (local.get $count)))
    (local.set $out (call $alloc (local.get $size)))
    (i32.store (local.get $out) (local.get $count))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $out)) (i64.const 32))
      (i64.extend_i32_u (local.get $size))))
  (@custom "offpeak.manifest" "{\"name\":\"noop\",\"version\":\"1\",\"output\":\"bin\"}"))"#;

/// Writes the module into `folder`, ready to be uploaded.
pub(super) fn module(folder: &Path) -> Result<Upload> {
    let bytes = wat::parse_str(TEXT).context("the built-in module is not valid")?;
    let path = folder.join("noop.wasm");
    std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Upload { role: "app", path, digest: Digest::of(&bytes), bytes: u64::try_from(bytes.len())? })
}

/// The pool that serves the benchmark.
pub(super) fn pool() -> Result<PoolName> {
    Ok(PoolName::new("open")?)
}

/// A job of so many items, at most so many a unit.
pub(super) fn job(app: Digest, items: u64, items_per_unit: Option<u32>) -> Result<JobSpec> {
    let default = UnitSizing::default();
    Ok(JobSpec {
        app,
        input: Input::Range { start: 0, end: items },
        shared: None,
        params: Value::Map(Vec::new()),
        pool: pool()?,
        quorum: 1,
        priority: 0,
        deadline_s: None,
        budget_fuel: None,
        max_failures: 3,
        limits: Limits::default(),
        unit: UnitSizing { max_items: items_per_unit.unwrap_or(default.max_items), ..default },
        reduce: false,
        delivery: Delivery::Stored,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::frame::{Entry, ResultFrame, results};

    #[test]
    fn the_module_is_a_module_and_its_frames_are_frames() {
        let folder = tempfile::tempdir().unwrap();
        let upload = module(folder.path()).unwrap();
        assert!(std::fs::read(upload.path).unwrap().starts_with(b"\0asm"));
        for count in 0..5_u8 {
            let size = if count == 0 { 4 } else { 8 + 8 * usize::from(count) };
            let mut bytes = vec![0; size];
            bytes[0] = count;
            assert_eq!(results(&bytes).unwrap(), vec![Entry::Ok(&[]); usize::from(count)]);
            let mut frame = ResultFrame::default();
            (0..count).for_each(|_| frame.ok(&[]).unwrap());
            assert_eq!(frame.finish(), bytes);
        }
    }
}
