//! What is particular to execution in this process: pauses, interruption and the time limit act between items.

use std::time::Duration;

use ports::sandbox::{Execute as _, ExecuteError};
use sandbox::InProcess;

use crate::modules::{GOOD, LOG_FLOOD, behaving};
use crate::rig::{ok, program, run, task};

#[tokio::test]
async fn a_paused_executor_waits_and_goes_on() {
    let executor = InProcess::new(1).unwrap();
    let task = task(&program(&behaving()).await, &[[GOOD, 1]]);
    executor.pause();
    let waiting = run(&executor, task);
    tokio::pin!(waiting);
    tokio::select! {
        result = &mut waiting => panic!("it computed while paused: {result:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    executor.resume();
    assert_eq!(waiting.await.unwrap().0, [ok(&[2])]);
}

#[tokio::test]
async fn a_unit_over_its_time_ends_at_the_next_item() {
    let executor = InProcess::new(1).unwrap();
    let program = program(&behaving()).await;
    let mut long = task(&program, &[[LOG_FLOOD, 1]; 10]);
    long.time_limit = Duration::ZERO;
    assert!(matches!(executor.execute(long).await, Err(ExecuteError::TimeLimit { limit: Duration::ZERO })));
    assert_eq!(run(&executor, task(&program, &[[GOOD, 1]])).await.unwrap().0, [ok(&[2])]);
}

#[tokio::test]
async fn a_unit_nobody_waits_for_frees_its_slot() {
    let executor = InProcess::new(1).unwrap();
    let program = program(&behaving()).await;
    executor.pause();
    tokio::select! {
        result = executor.execute(task(&program, &[[GOOD, 1]])) => panic!("{result:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    // Still paused: the slot is free again because the first unit gave up, not because it was computed.
    let second = run(&executor, task(&program, &[[GOOD, 2]]));
    tokio::pin!(second);
    tokio::select! {
        result = &mut second => panic!("{result:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    executor.resume();
    assert_eq!(second.await.unwrap().0, [ok(&[4])]);
}
