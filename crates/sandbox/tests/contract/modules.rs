//! Modules of the tests, as text. An item's first byte says how the app behaves on it.

/// What every app here has: an input buffer at 4096, and `$result` that frames what is at 1036.
const FRAME: &str = r#"
  (memory (export "memory") 2)
  (data (i32.const 16) "boom")
  (data (i32.const 32) "no luck")
  (func (export "op_alloc") (param i32) (result i32) (i32.const 4096))
  (func $pack (param $at i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
  (func $result (param $status i32) (param $len i32) (result i64)
    (i32.store (i32.const 1024) (i32.const 1))
    (i32.store (i32.const 1028) (local.get $status))
    (i32.store (i32.const 1032) (local.get $len))
    (call $pack (i32.const 1024)
      (i32.add (i32.const 12) (i32.and (i32.add (local.get $len) (i32.const 7)) (i32.const -8)))))
"#;

/// The behaviours, by the item's first byte; 0 is good and gives the next byte doubled.
pub(crate) const GOOD: u8 = 0;
pub(crate) const TRAP: u8 = 1;
pub(crate) const ENDLESS: u8 = 2;
pub(crate) const MEMORY_BOMB: u8 = 3;
pub(crate) const RECURSION: u8 = 4;
pub(crate) const SAYS_FAILED: u8 = 5;
pub(crate) const LYING_POINTER: u8 = 6;
pub(crate) const WRONG_COUNT: u8 = 7;
pub(crate) const OVERSIZE: u8 = 8;
pub(crate) const OUT_OF_BOUNDS: u8 = 9;
pub(crate) const LOG_FLOOD: u8 = 10;
pub(crate) const BAD_STATUS: u8 = 11;
pub(crate) const BLOB: u8 = 12;
pub(crate) const LARGE: u8 = 13;
pub(crate) const BAD_LOG: u8 = 14;

/// An app that behaves as each item says.
pub(crate) fn behaving() -> String {
    format!(
        r#"(module
  (import "offpeak1" "fail" (func $fail (param i32 i32)))
  (import "offpeak1" "log" (func $log (param i32 i32)))
  (import "offpeak1" "progress" (func $progress (param i32 i32)))
  (import "offpeak1" "blob_len" (func $blob_len (param i32) (result i64)))
  (import "offpeak1" "blob_read" (func $blob_read (param i32 i64 i32 i32) (result i32)))
  {FRAME}
  (func $down (param i32) (result i32)
    (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.load (i32.const 0))))
  (func $flood (local $n i32)
    (loop $more
      (call $log (i32.const 0) (i32.const 65536))
      (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000)))))
  (func $blob (result i64)
    (i64.store (i32.const 1036) (call $blob_len (i32.const 0)))
    (i64.store (i32.const 1044) (call $blob_len (i32.const 1)))
    (i32.store (i32.const 1052) (call $blob_read (i32.const 0) (i64.const 2) (i32.const 1068) (i32.const 8)))
    (i32.store (i32.const 1056) (call $blob_read (i32.const 0) (i64.const -1) (i32.const 1068) (i32.const 0)))
    (i32.store (i32.const 1060) (call $blob_read (i32.const 0) (i64.const 99) (i32.const 1068) (i32.const 8)))
    (i32.store (i32.const 1064) (call $blob_read (i32.const 7) (i64.const 0) (i32.const 1068) (i32.const 8)))
    (call $result (i32.const 0) (i32.const 40)))
  (func (export "op_map") (param $at i32) (param $len i32) (result i64) (local $kind i32)
    (local.set $kind (i32.load8_u (i32.const 4104)))
    (call $progress (i32.const 1) (i32.const 2))
    (if (i32.eq (local.get $kind) (i32.const {TRAP}))
      (then (call $fail (i32.const 16) (i32.const 4)) (unreachable)))
    (if (i32.eq (local.get $kind) (i32.const {ENDLESS})) (then (loop $on (br $on))))
    (if (i32.eq (local.get $kind) (i32.const {MEMORY_BOMB}))
      (then (loop $on (br_if $on (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))))
    (if (i32.eq (local.get $kind) (i32.const {RECURSION})) (then (drop (call $down (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const {SAYS_FAILED}))
      (then (memory.copy (i32.const 1036) (i32.const 32) (i32.const 7))
        (return (call $result (i32.const 1) (i32.const 7)))))
    (if (i32.eq (local.get $kind) (i32.const {LYING_POINTER}))
      (then (return (call $pack (i32.const -16) (i32.const 100)))))
    (if (i32.eq (local.get $kind) (i32.const {WRONG_COUNT}))
      (then (drop (call $result (i32.const 0) (i32.const 0))) (i32.store (i32.const 1024) (i32.const 2))
        (return (call $pack (i32.const 1024) (i32.const 12)))))
    (if (i32.eq (local.get $kind) (i32.const {BAD_STATUS}))
      (then (return (call $result (i32.const 7) (i32.const 0)))))
    (if (i32.eq (local.get $kind) (i32.const {OVERSIZE}))
      (then (drop (memory.grow (i32.const 32))) (return (call $result (i32.const 0) (i32.const 1048577)))))
    (if (i32.eq (local.get $kind) (i32.const {LARGE}))
      (then (drop (memory.grow (i32.const 32))) (return (call $result (i32.const 0) (i32.const 1048576)))))
    (if (i32.eq (local.get $kind) (i32.const {OUT_OF_BOUNDS})) (then (drop (i32.load (i32.const -4)))))
    (if (i32.eq (local.get $kind) (i32.const {LOG_FLOOD})) (then (call $flood)))
    (if (i32.eq (local.get $kind) (i32.const {BAD_LOG})) (then (call $log (i32.const -1) (i32.const 5))))
    (if (i32.eq (local.get $kind) (i32.const {BLOB})) (then (return (call $blob))))
    (i32.store8 (i32.const 1036) (i32.mul (i32.load8_u (i32.const 4105)) (i32.const 2)))
    (call $result (i32.const 0) (i32.const 1))))"#
    )
}

/// An app that sums the bytes of an item and gives sum and length; a longer item takes more fuel. It reduces by summing.
pub(crate) fn summing() -> String {
    format!(
        r#"(module
  {FRAME}
  (func (export "op_init") (param i32 i32) (result i32) (i32.const 0))
  (func $sum (param $at i32) (param $end i32) (result i32) (local $sum i32)
    (block $out (loop $more
      (br_if $out (i32.ge_u (local.get $at) (local.get $end)))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $more)))
    (local.get $sum))
  (func (export "op_map") (param $at i32) (param $len i32) (result i64)
    (i32.store (i32.const 1036)
      (call $sum (i32.const 4104) (i32.add (i32.const 4104) (i32.load (i32.const 4100)))))
    (i32.store (i32.const 1040) (i32.load (i32.const 4100)))
    (call $result (i32.const 0) (i32.const 8)))
  (func (export "op_reduce") (param $at i32) (param $len i32) (result i64)
    (i32.store (i32.const 1036) (call $sum (local.get $at) (i32.add (local.get $at) (local.get $len))))
    (call $pack (i32.const 1036) (i32.const 4)))
  (func (export "op_finish") (param $at i32) (param $len i32) (result i64)
    (i32.store (i32.const 1036) (i32.add (i32.load (local.get $at)) (i32.const 1000)))
    (call $pack (i32.const 1036) (local.get $len))))"#
    )
}

/// An app whose `op_init` and `op_alloc` are what is given.
pub(crate) fn with(init: &str, alloc: &str) -> String {
    format!(
        r#"(module
  (import "offpeak1" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 16) "boom")
  (global $calls (mut i32) (i32.const 0))
  (func (export "op_alloc") (param i32) (result i32) {alloc})
  (func (export "op_init") (param i32 i32) (result i32) {init})
  (func (export "op_map") (param i32 i32) (result i64)
    (i32.store (i32.const 1024) (i32.const 1)) (i64.const 0x40000000010)))"#
    )
}
