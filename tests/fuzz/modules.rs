//! Puppets: modules that read a script of 32-bit numbers and do what it says; and modules damaged, looked at and run.

use ports::sandbox::Publish as _;
use proptest::prelude::*;
use sandbox::{Compiler, PublishSettings, Publisher, inspect, wasi};

use crate::mutate::{mutated, mutations};
use crate::{cases, holds, measured, turn};

/// An app whose script is the shared input. Each entry plays a few steps, then returns what the script says.
pub(crate) const PUPPET: &str = r#"(module
  (import "offpeak1" "log" (func $log (param i32 i32)))
  (import "offpeak1" "progress" (func $progress (param i32 i32)))
  (import "offpeak1" "fail" (func $fail (param i32 i32)))
  (import "offpeak1" "blob_len" (func $blob_len (param i32) (result i64)))
  (import "offpeak1" "blob_read" (func $blob_read (param i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $at (mut i64) (i64.const 0))
  (func $next (result i32)
    (i32.store (i32.const 16) (i32.const 0))
    (drop (call $blob_read (i32.const 0) (global.get $at) (i32.const 16) (i32.const 4)))
    (global.set $at (i64.add (global.get $at) (i64.const 4)))
    (i32.load (i32.const 16)))
  (func $wide (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32)) (i64.extend_i32_u (call $next))))
  (func $step (param $what i32) (local $n i32)
    (block $end (block $trap (block $spin (block $store (block $grow (block $read (block $len (block $fail (block $progress (block $log
      (br_table $log $progress $fail $len $read $grow $store $spin $trap $end (local.get $what)))
      (return (call $log (call $next) (call $next))))
      (return (call $progress (call $next) (call $next))))
      (return (call $fail (call $next) (call $next))))
      (drop (call $blob_len (call $next))) (return))
      (drop (call $blob_read (call $next) (call $wide) (call $next) (call $next))) (return))
      (drop (memory.grow (call $next))) (return))
      (return (i32.store (call $next) (call $next))))
      (local.set $n (call $next))
      (loop $on (br_if $on (local.tee $n (i32.sub (local.get $n) (i32.const 1))))) (return))
      (unreachable))
    )
  (func $play (local $steps i32)
    (local.set $steps (i32.and (call $next) (i32.const 3)))
    (block $end (loop $more
      (br_if $end (i32.eqz (local.get $steps)))
      (local.set $steps (i32.sub (local.get $steps) (i32.const 1)))
      (call $step (call $next))
      (br $more))))
  (func $pack (param $at i32) (param $len i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $len))))
  (func $answer (result i64) (local $how i32) (local $len i32)
    (call $play)
    (local.set $how (i32.and (call $next) (i32.const 3)))
    (if (i32.eq (local.get $how) (i32.const 0)) (then
      (local.set $len (i32.and (call $next) (i32.const 0xffff)))
      (i32.store (i32.const 1024) (i32.const 1))
      (i32.store (i32.const 1028) (i32.and (local.get $len) (i32.const 1)))
      (i32.store (i32.const 1032) (local.get $len))
      (return (call $pack (i32.const 1024)
        (i32.add (i32.const 12) (i32.and (i32.add (local.get $len) (i32.const 7)) (i32.const -8)))))))
    (if (i32.eq (local.get $how) (i32.const 1)) (then
      (i32.store (i32.const 1024) (call $next))
      (i32.store (i32.const 1028) (call $next))
      (i32.store (i32.const 1032) (call $next))
      (return (call $pack (i32.const 1024) (call $next)))))
    (call $pack (call $next) (call $next)))
  (func (export "op_alloc") (param i32) (result i32) (local $at i32)
    (call $play)
    (local.set $at (call $next))
    (select (local.get $at) (i32.const 4096) (i32.gt_u (local.get $at) (i32.const 15))))
  (func (export "op_init") (param i32 i32) (result i32)
    (call $play)
    (i32.eq (call $next) (i32.const 1)))
  (func (export "op_map") (param i32 i32) (result i64) (call $answer))
  (func (export "op_reduce") (param i32 i32) (result i64) (call $answer))
  (func (export "op_finish") (param i32 i32) (result i64) (call $answer)))"#;

/// A command whose script is its standard input: 0 stores, 1 grows memory, 2 writes a piece out, 3 and on call a function.
pub(crate) fn puppet_command() -> String {
    let (mut imports, mut steps) = (Vec::new(), Vec::new());
    for (number, (name, params)) in (3..).zip(wasi::FUNCTIONS) {
        let types: String = params.chars().map(|kind| if kind == 'l' { " i64" } else { " i32" }).collect();
        let arguments: String = params.chars().map(|kind| if kind == 'l' { " (call $wide)" } else { " (call $next)" }).collect();
        let exits = *name == wasi::NO_RESULT;
        let result = if exits { "" } else { " (result i32)" };
        imports.push(format!("(import \"{}\" \"{name}\" (func ${name} (param{types}){result}))\n", wasi::MODULE));
        let call = if exits { format!("(call ${name}{arguments})") } else { format!("(drop (call ${name}{arguments}))") };
        steps.push(format!("(if (i32.eq (local.get $what) (i32.const {number})) (then {call}))\n"));
    }
    let (imports, steps) = (imports.concat(), steps.concat());
    format!(
        r#"(module {imports}
  (memory (export "memory") 1)
  (func $next (result i32)
    (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 4)) (i32.store (i32.const 8) (i32.const 0))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.ne (i32.load (i32.const 8)) (i32.const 4)) (then (call $proc_exit (i32.const 0))))
    (i32.load (i32.const 16)))
  (func $wide (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (call $next)) (i64.const 32)) (i64.extend_i32_u (call $next))))
  (func (export "_start") (local $what i32)
    (loop $more
      (local.set $what (i32.rem_u (call $next) (i32.const 49)))
      (if (i32.eq (local.get $what) (i32.const 0)) (then (i32.store (call $next) (call $next))))
      (if (i32.eq (local.get $what) (i32.const 1)) (then (drop (memory.grow (call $next)))))
      (if (i32.eq (local.get $what) (i32.const 2)) (then
        (i32.store (i32.const 32) (call $next)) (i32.store (i32.const 36) (call $next))
        (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))
      {steps}
      (br $more))))"#
    )
}

/// Memory for each byte of a module that is looked at.
const BYTES_PER_BYTE: usize = 128;
/// Memory whatever the module: the reader sets some aside for each section by what its header claims, up to its own bound.
const BYTES_ANYWAY: usize = 64 << 20;
/// A rejection is one message to the customer.
const REASON_BYTES: usize = 1 << 20;

fn try_module(module: &[u8]) -> Result<bool, TestCaseError> {
    let (seen, peak) = measured(|| inspect(module));
    let bound = module.len() * BYTES_PER_BYTE + BYTES_ANYWAY;
    prop_assert!(peak <= bound, "{} bytes took {peak} bytes, over {bound}", module.len());
    let told: usize = seen.reasons.iter().map(String::len).sum();
    prop_assert!(told <= REASON_BYTES, "{} reasons of {told} bytes", seen.reasons.len());
    prop_assert!(seen.entry.is_some() || !seen.reasons.is_empty());
    Ok(seen.reasons.is_empty())
}

fn modules() -> Vec<Vec<u8>> {
    let small = ["c-sum", "wc-command"]
        .map(|name| std::fs::read(format!("{}/../examples/{name}/app.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap());
    [vec![wat::parse_str(PUPPET).unwrap(), wat::parse_str(puppet_command()).unwrap()], small.to_vec()].concat()
}

/// What readers of modules trip over: lengths in LEB128, section heads, types, blocks.
fn words() -> Vec<Vec<u8>> {
    let words: [&[u8]; 14] = [
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\xff",
        b"\x80\x80\x80\x80\x00",
        b"\0asm",
        b"\x0d\0\x01\0",
        b"\x00\x10offpeak.manifest{",
        b"\x00\xff\x7f",
        b"\x02\x40",
        b"\x0b",
        b"\x60\x00\x00",
        b"\x0e\xff\xff\x03",
        b"\xfc\x0a\0\0",
        b"\xfd\x0c",
        b"\x05\x03\x01\x00\x11",
    ];
    let nested = [b"\x02\x40".repeat(300), vec![0x60; 2_000]];
    words.map(<[u8]>::to_vec).into_iter().chain(nested).collect()
}

#[test]
fn damaged_modules_are_refused_or_compile() {
    let _turn = turn();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let publisher = Publisher::new(PublishSettings::new(Compiler::InProcess)).unwrap();
    let compiled = std::cell::Cell::new(cases(40, 50));
    let seeds = proptest::sample::select(modules());
    holds(cases(3_000, 4), &(seeds, mutations(words())), |(seed, mutations)| {
        let module = mutated(&seed, &mutations);
        if try_module(&module)? && compiled.get() > 0 {
            compiled.set(compiled.get() - 1);
            let outcome = runtime.block_on(publisher.publish(&module));
            prop_assert!(outcome.is_ok(), "it was accepted, but: {outcome:?}");
        }
        Ok(())
    });
}

#[test]
fn rubbish_is_no_module() {
    let _turn = turn();
    let bytes = (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300));
    holds(cases(5_000, 1), &bytes, |(head, bytes)| {
        let head: &[u8] = if head { b"\0asm\x01\0\0\0" } else { b"" };
        try_module(&[head, &bytes].concat()).map(drop)
    });
}

/// LEB128.
fn number(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while rest > 127 {
        bytes.push(u8::try_from(rest & 127).unwrap() | 128);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn section(kind: u8, count: usize, entry: &[u8]) -> Vec<u8> {
    let body = [number(count), entry.repeat(count)].concat();
    [vec![kind], number(body.len()), body].concat()
}

/// What makes a module look like an app, or like a command: a function, a memory, exports.
fn exporting(functions: usize, name: &str) -> Vec<u8> {
    let function = [number(name.len()), name.as_bytes().to_vec(), vec![0], number(functions)].concat();
    let exports = [b"\x07\x00\x02\x06memory\x02\x00".as_slice(), &function].concat();
    let length = u8::try_from(exports.len() - 2).unwrap();
    let exports = [&[7, length], &exports[2..]].concat();
    [section(3, 1, b"\0"), section(5, 1, b"\0\x01"), exports, section(10, 1, b"\x02\0\x0b")].concat()
}

#[test]
fn modules_of_many_small_things_are_refused_in_few_words() {
    let _turn = turn();
    let types = section(1, 1, b"\x60\0\0");
    // A function of a thousand parameters, which each import names again.
    let wide = section(1, 1, &[b"\x60\xe8\x07".as_slice(), &[0x7f; 1_000], b"\0"].concat());
    let imports = |count, module: &str| {
        let entry = [number(module.len()), module.as_bytes().to_vec(), b"\x01b\0\0".to_vec()].concat();
        section(2, count, &entry)
    };
    let wasi = "wasi_snapshot_preview1";
    for count in [1_000, 20_000, 200_000] {
        let lists: [Vec<u8>; 10] = [
            [types.clone(), imports(count, "a"), exporting(count, "op_map")].concat(),
            [types.clone(), imports(count, wasi), exporting(count, "op_map")].concat(),
            [types.clone(), imports(count, "a"), exporting(count, "_start")].concat(),
            [types.clone(), imports(count, wasi), exporting(count, "_start")].concat(),
            [wide.clone(), imports(count, ""), exporting(count, "op_map")].concat(),
            [types.clone(), imports(100, &"n".repeat(90_000)), exporting(100, "op_map")].concat(),
            section(1, count, b"\x60\0\0"),
            [types.clone(), section(3, count, b"\0"), section(10, count, b"\x02\0\x0b")].concat(),
            section(6, count, b"\x7f\0\x41\0\x0b"),
            section(0, 1, &[b"\x10offpeak.manifest".as_slice(), &vec![b'['; count]].concat()),
        ];
        for (kind, list) in lists.into_iter().enumerate() {
            let module = [b"\0asm\x01\0\0\0".to_vec(), list].concat();
            let accepted = try_module(&module).unwrap_or_else(|e| panic!("{kind} x {count}: {e}"));
            let seen = inspect(&module);
            assert!(!accepted, "{kind} x {count}");
            // The fifth is over the bound of the reader itself on all types together.
            assert!(kind > 3 || seen.entry.is_some(), "{kind} x {count} is not read to its end: {:?}", seen.reasons);
        }
    }
}
