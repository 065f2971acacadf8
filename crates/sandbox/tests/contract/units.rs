//! Units that go well: items in order, reductions, parameters, logs, poisoned items among good ones.

use std::sync::Arc;

use protocol::frame::ItemFrame;
use protocol::unit::Call;

use crate::modules::{GOOD, LOG_FLOOD, SAYS_FAILED, TRAP, behaving, summing, with};
use crate::rig::{agreed, executors, failed, ok, program, renamed, run, task};

#[tokio::test]
async fn items_give_outputs_in_order() {
    let program = program(&behaving()).await;
    let (outcomes, fuel) = agreed(task(&program, &[[GOOD, 1], [GOOD, 2], [GOOD, 3]])).await.unwrap();
    assert_eq!(outcomes, [ok(&[2]), ok(&[4]), ok(&[6])]);
    let (_, one) = agreed(task(&program, &[[GOOD, 1]])).await.unwrap();
    assert!(one > 0 && fuel == 3 * one, "{fuel} for three, {one} for one");
}

#[tokio::test]
async fn a_unit_without_items_is_done_at_once() {
    let program = program(&summing()).await;
    assert_eq!(agreed(task(&program, &[[0_u8; 0]; 0])).await.unwrap(), (vec![], 0));
}

#[tokio::test]
async fn one_poisoned_item_of_ten_thousand_fails_alone() {
    let program = program(&behaving()).await;
    let mut items = vec![[GOOD, 21]; 10_000];
    items[7_654] = [TRAP, 0];
    let (outcomes, fuel) = agreed(task(&program, &items)).await.unwrap();
    assert_eq!(outcomes[7_654], failed("trap: unreachable: boom"));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ok(&[42])).count(), 9_999);
    let (_, one) = agreed(task(&program, &items[..1])).await.unwrap();
    assert_eq!(fuel, 9_999 * one);
}

#[tokio::test]
async fn an_item_that_says_it_failed_costs_nothing_and_spoils_nothing() {
    let program = program(&behaving()).await;
    let (outcomes, fuel) = agreed(task(&program, &[[GOOD, 1], [SAYS_FAILED, 0], [GOOD, 2]])).await.unwrap();
    assert_eq!(outcomes, [ok(&[2]), failed("no luck"), ok(&[4])]);
    let (_, two) = agreed(task(&program, &[[GOOD, 1], [GOOD, 2]])).await.unwrap();
    assert_eq!(fuel, two);
}

#[tokio::test]
async fn partial_results_are_reduced_and_finished() {
    let program = program(&summing()).await;
    let mut parts = ItemFrame::default();
    parts.push(&[1, 2, 3]).unwrap();
    parts.push(&[4]).unwrap();
    let parts = parts.finish();
    let expected = u32::from(parts.iter().copied().map(u16::from).sum::<u16>());
    let mut reduce = task(&program, &[&parts]);
    reduce.call = Call::Reduce;
    let (outcomes, partial) = agreed(reduce.clone()).await.unwrap();
    assert_eq!(outcomes, [ok(&expected.to_le_bytes())]);
    reduce.call = Call::ReduceAndFinish;
    let (outcomes, whole) = agreed(reduce).await.unwrap();
    assert_eq!(outcomes, [ok(&(expected + 1000).to_le_bytes())]);
    assert!(whole > partial);
}

#[tokio::test]
async fn an_app_that_cannot_reduce_says_so() {
    let mut reduce = task(&program(&behaving()).await, &[[0; 4]]);
    reduce.call = Call::Reduce;
    let error = agreed(reduce).await.unwrap_err();
    assert_eq!(error, "app failed: the app exports no function op_reduce, which the job calls");
}

#[tokio::test]
async fn a_flood_of_logs_does_no_harm() {
    let program = program(&behaving()).await;
    let (outcomes, _) = agreed(task(&program, &[[LOG_FLOOD, 1], [GOOD, 2]])).await.unwrap();
    assert_eq!(outcomes, [ok(&[2]), ok(&[4])]);
}

#[tokio::test]
async fn an_app_that_refuses_its_parameters_fails_as_a_whole() {
    for (init, expected) in [
        ("(call $fail (i32.const 16) (i32.const 4)) (i32.const 3)", "app failed: op_init returned 3: boom"),
        ("(i32.const 3)", "app failed: op_init returned 3"),
        ("(call $fail (i32.const 16) (i32.const 4)) (unreachable)", "app failed: op_init failed: trap: unreachable: boom"),
        ("(loop $on (br $on)) (i32.const 0)", "app failed: op_init failed: out of fuel after 1000000"),
        ("(drop (memory.grow (i32.const 1000))) (i32.const 0)", "app failed: op_init failed: memory limit of 4194304 bytes"),
    ] {
        let program = program(&with(init, "(i32.const 4096)")).await;
        assert_eq!(agreed(task(&program, &[[0]])).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn items_that_are_no_frame_are_an_error() {
    let mut broken = task(&program(&summing()).await, &[[1]]);
    broken.items.truncate(9);
    assert!(agreed(broken).await.unwrap_err().contains("the unit's items are broken"));
}

#[tokio::test]
async fn more_programs_than_are_kept_take_turns() {
    let program = program(&behaving()).await;
    for executor in executors() {
        for round in 0..20 {
            let program = renamed(&program, &format!("job {}", round % 10));
            assert_eq!(run(executor.as_ref(), task(&program, &[[GOOD, 4]])).await.unwrap().0, [ok(&[8])]);
        }
    }
}

#[tokio::test]
async fn an_artefact_that_is_none_is_refused() {
    let mut program = program(&behaving()).await;
    program.artefact = Arc::new(b"rubbish".to_vec());
    let error = agreed(task(&program, &[[GOOD, 1]])).await.unwrap_err();
    assert!(error.starts_with("artefact does not run on this host"), "{error}");
}
