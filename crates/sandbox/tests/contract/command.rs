//! Commands: WASI programs from stdin to stdout, with a clock and random numbers that are the same everywhere.

use ports::sandbox::Program;
use protocol::Value;
use protocol::codec::{Format, encode};
use protocol::unit::Call;

use crate::rig::{Outcome, agreed, failed, ok, program, renamed, task};

/// A command with these imports beyond `fd_read`, `fd_write` and `proc_exit`, and this body; reads and writes at 1024.
async fn command(imports: &str, body: &str) -> Program {
    let module = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  {imports}
  (memory (export "memory") 1)
  (data (i32.const 512) "sorry")
  (func $write (param $fd i32) (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $read (result i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 100))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func (export "_start") (local $n i32) {body}))"#
    );
    program(&module).await
}

const CAT: &str = "(block $end (loop $more
    (br_if $end (i32.eqz (local.tee $n (call $read))))
    (call $write (i32.const 1) (i32.const 1024) (local.get $n))
    (br $more)))";

fn item(value: impl Into<Value>) -> Vec<u8> {
    encode("item", &value.into(), Format::MessagePack).unwrap()
}

#[tokio::test]
async fn stdin_goes_to_stdout() {
    let program = command("", CAT).await;
    let long = "long ".repeat(100);
    let items = [item("hello"), item(Value::Binary(vec![1, 2])), item(7), item(long.as_str())];
    let (outcomes, fuel) = agreed(task(&program, &items)).await.unwrap();
    assert_eq!(outcomes, [ok(b"hello"), ok(&[1, 2]), ok(b"7\n"), ok(long.as_bytes())]);
    assert!(fuel > 0);
}

#[tokio::test]
async fn clock_and_random_belong_to_job_and_item() {
    let imports = r#"
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;
    let body = "
    (drop (call $now (i32.const 0) (i64.const 0) (i32.const 1024)))
    (drop (call $now (i32.const 1) (i64.const 0) (i32.const 1032)))
    (drop (call $random (i32.const 1040) (i32.const 40)))
    (call $write (i32.const 1) (i32.const 1024) (i32.const 56))";
    let program = command(imports, body).await;
    let items = [item(0), item(0)];
    let (outcomes, _) = agreed(task(&program, &items)).await.unwrap();
    let bytes = |outcome: &Outcome| match outcome {
        Outcome::Ok(output) => output.clone(),
        Outcome::Failed(reason) => panic!("{reason}"),
    };
    let (first, second) = (bytes(&outcomes[0]), bytes(&outcomes[1]));
    assert_eq!(first[..8], 1_000_000_000_000_001_000_u64.to_le_bytes());
    assert_eq!(first[8..16], 1_000_000_000_000_002_000_u64.to_le_bytes());
    assert_eq!(first[..16], second[..16], "each item begins at the same time");
    assert_ne!(first[16..], second[16..], "each item has random numbers of its own");
    let mut later = task(&program, &items[..1]);
    later.first = 1;
    assert_eq!(bytes(&agreed(later).await.unwrap().0[0]), second, "an item's index decides, not its unit");
    let other = agreed(task(&renamed(&program, "another job"), &items)).await.unwrap().0;
    assert_ne!(bytes(&other[0])[16..], first[16..]);
}

#[tokio::test]
async fn an_exit_code_fails_the_item_with_what_it_said() {
    let body = "(local.set $n (call $read))
        (call $write (i32.const 2) (i32.const 512) (i32.const 5))
        (call $write (i32.const 1) (i32.const 1024) (local.get $n))
        (call $exit (i32.sub (i32.load8_u (i32.const 1024)) (i32.const 48)))";
    let program = command("", body).await;
    let (outcomes, fuel) = agreed(task(&program, &[item("0"), item("3"), item("0!")])).await.unwrap();
    assert_eq!(outcomes, [ok(b"0"), failed("exit code 3: sorry"), ok(b"0!")]);
    let (_, good) = agreed(task(&program, &[item("0"), item("0!")])).await.unwrap();
    assert_eq!(fuel, good);
}

#[tokio::test]
async fn what_is_refused_is_there_and_says_so() {
    let imports = r#"
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))"#;
    let body = "
    (i32.store8 (i32.const 1024) (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
    (i32.store8 (i32.const 1025) (call $accept (i32.const 3) (i32.const 0) (i32.const 0)))
    (i32.store8 (i32.const 1026) (call $prestat (i32.const 3) (i32.const 0)))
    (i32.store (i32.const 16) (i32.const 9))
    (i32.store8 (i32.const 1027) (call $environ (i32.const 16) (i32.const 20)))
    (i32.store8 (i32.const 1028) (i32.load (i32.const 16)))
    (call $write (i32.const 1) (i32.const 1024) (i32.const 5))";
    let program = command(imports, body).await;
    assert_eq!(agreed(task(&program, &[item(0)])).await.unwrap().0, [ok(&[8, 52, 8, 0, 0])]);
}

#[tokio::test]
async fn sleeping_moves_the_clock_and_nothing_else() {
    let imports = r#"
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    // One subscription at 2048: user data 5, clock 1, an hour from now.
    let body = "
    (i64.store (i32.const 2048) (i64.const 5))
    (i32.store (i32.const 2064) (i32.const 1))
    (i64.store (i32.const 2072) (i64.const 3600000000000))
    (drop (call $poll (i32.const 2048) (i32.const 1024) (i32.const 1) (i32.const 1056)))
    (drop (call $now (i32.const 1) (i64.const 0) (i32.const 1060)))
    (call $write (i32.const 1) (i32.const 1024) (i32.const 44))";
    let program = command(imports, body).await;
    let mut expected = [0; 44];
    expected[0] = 5;
    expected[32] = 1;
    expected[36..].copy_from_slice(&1_000_003_600_000_001_000_u64.to_le_bytes());
    assert_eq!(agreed(task(&program, &[item(0)])).await.unwrap().0, [ok(&expected)]);
}

#[tokio::test]
async fn endless_traps_and_floods_fail_alone() {
    for (body, expected) in [
        ("(loop $on (br $on))", "out of fuel after 1000000"),
        ("(call $write (i32.const 2) (i32.const 512) (i32.const 5)) (unreachable)", "trap: unreachable: sorry"),
        (
            "(loop $on (call $write (i32.const 1) (i32.const 0) (i32.const 65536)) (br $on))",
            "output of 1114112 bytes or more is over the limit of 1048576",
        ),
        ("(loop $on (call $write (i32.const 2) (i32.const 0) (i32.const 65536)) (br $on))", "out of fuel after 1000000"),
        ("(call $write (i32.const 1) (i32.const -1) (i32.const 2))", "trap: out of bounds memory access"),
    ] {
        let program = command("", body).await;
        let (outcomes, fuel) = agreed(task(&program, &[item(0)])).await.unwrap();
        match &outcomes[0] {
            Outcome::Failed(reason) => assert!(reason.starts_with(expected), "{reason}"),
            Outcome::Ok(output) => panic!("{output:?}"),
        }
        assert_eq!(fuel, 0);
    }
}

#[tokio::test]
async fn a_command_cannot_reduce() {
    let mut reduce = task(&command("", CAT).await, &[item(0)]);
    reduce.call = Call::Reduce;
    assert_eq!(agreed(reduce).await.unwrap_err(), "app failed: a command cannot reduce: it has no op_reduce");
}
