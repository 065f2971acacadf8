//! Items and modules that mean harm: each fails alone, with a reason that says what happened.

use std::sync::Arc;

use crate::modules::{
    BAD_LOG, BAD_STATUS, BLOB, ENDLESS, GOOD, LARGE, LYING_POINTER, MEMORY_BOMB, OUT_OF_BOUNDS, OVERSIZE, RECURSION, WRONG_COUNT,
    behaving, with,
};
use crate::rig::{Outcome, agreed, failed, ok, program, task};

/// Runs a bad item between two good ones and gives the reason of its failure.
async fn reason_of(kind: u8) -> String {
    let program = program(&behaving()).await;
    let (outcomes, fuel) = agreed(task(&program, &[[GOOD, 1], [kind, 0], [GOOD, 2]])).await.unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&ok(&[2]), &ok(&[4])));
    let (_, good) = agreed(task(&program, &[[GOOD, 1], [GOOD, 2]])).await.unwrap();
    assert_eq!(fuel, good, "a failed item is not counted");
    let (alone, none) = agreed(task(&program, &[[kind, 0]])).await.unwrap();
    assert_eq!((&alone[0], none), (&outcomes[1], 0), "alone it fails for the same reason");
    match &outcomes[1] {
        Outcome::Failed(reason) => reason.clone(),
        Outcome::Ok(output) => panic!("it gave {output:?}"),
    }
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel() {
    assert_eq!(reason_of(ENDLESS).await, "out of fuel after 1000000");
}

#[tokio::test]
async fn a_memory_bomb_meets_its_limit() {
    assert_eq!(reason_of(MEMORY_BOMB).await, "memory limit of 4194304 bytes");
}

#[tokio::test]
async fn deep_recursion_exhausts_its_stack_only() {
    assert_eq!(reason_of(RECURSION).await, "trap: call stack exhausted");
}

#[tokio::test]
async fn a_lying_pointer_is_not_followed() {
    assert_eq!(reason_of(LYING_POINTER).await, "the result (100 bytes at 4294967280) is not within memory");
}

#[tokio::test]
async fn a_result_frame_of_another_shape_is_refused() {
    assert!(reason_of(WRONG_COUNT).await.starts_with("the frame that op_map returned is wrong: it has 2 entries for one item"));
    assert!(reason_of(BAD_STATUS).await.starts_with("the frame that op_map returned is wrong: its entry has an unknown status"));
}

#[tokio::test]
async fn an_oversize_output_is_named_with_its_limit() {
    assert_eq!(reason_of(OVERSIZE).await, "output of 1048577 bytes is over the limit of 1048576");
}

#[tokio::test]
async fn an_access_out_of_bounds_is_a_trap() {
    assert_eq!(reason_of(OUT_OF_BOUNDS).await, "trap: out of bounds memory access");
    assert_eq!(reason_of(BAD_LOG).await, "trap: out of bounds memory access");
}

#[tokio::test]
async fn outputs_beyond_a_message_are_a_unit_too_large() {
    let program = program(&behaving()).await;
    let (outcomes, _) = agreed(task(&program, &[[LARGE]; 6])).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Ok(output) if output.len() == 1 << 20)));
    assert_eq!(agreed(task(&program, &[[LARGE]; 8])).await.unwrap_err(), "unit output exceeds 7340032 bytes");
}

#[tokio::test]
async fn a_buffer_that_is_none_is_not_written_to() {
    let at = |alloc: &'static str| async move {
        let program = program(&with("(i32.const 0)", alloc)).await;
        agreed(task(&program, &[[7]])).await
    };
    for alloc in ["(i32.const 0)", "(i32.const -8)", "(i32.const 131072)"] {
        let error = at(alloc).await.unwrap_err();
        assert!(error.contains("op_init failed: op_alloc(1) returned") && error.contains("which is no buffer"), "{error}");
    }
    // The first call is for the parameters, the second for the item.
    let second = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (select (i32.const 4096) (i32.const -8) (i32.eq (global.get $calls) (i32.const 1)))";
    let (outcomes, fuel) = at(second).await.unwrap();
    assert_eq!((outcomes, fuel), (vec![failed("op_alloc(16) returned 4294967288, which is no buffer")], 0));
}

#[tokio::test]
async fn blobs_are_read_within_their_bounds() {
    let mut program = program(&behaving()).await;
    program.shared = Arc::new(b"0123456".to_vec());
    let (outcomes, _) = agreed(task(&program, &[[BLOB]])).await.unwrap();
    let mut expected = Vec::new();
    expected.extend(7_i64.to_le_bytes());
    expected.extend((-1_i64).to_le_bytes());
    for count in [5_i32, 0, 0, -1] {
        expected.extend(count.to_le_bytes());
    }
    expected.extend(b"23456\0\0\0");
    assert_eq!(outcomes, [ok(&expected)]);
}

#[tokio::test]
async fn memory_that_begins_over_the_limit_is_refused() {
    let large = behaving().replace("\"memory\") 2)", "\"memory\") 200)");
    let error = agreed(task(&program(&large).await, &[[GOOD, 1]])).await.unwrap_err();
    assert_eq!(error, "app failed: the app cannot be instantiated: memory limit of 4194304 bytes");
}
