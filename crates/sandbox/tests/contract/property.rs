//! What a unit gives does not depend on how items are cut into units, nor on where they run.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::modules::summing;
use crate::rig::{executors, program, run, task};

#[test]
fn outputs_and_fuel_are_the_same_for_any_slicing_anywhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let program = runtime.block_on(program(&summing()));
    let executors = runtime.block_on(async { executors() });
    // Few cases: each runs the items once as a whole and once in slices, on every executor.
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let items = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..40);
    let tested = runner.run(&(items, 1_usize..10), |(items, slice)| {
        let mut first = None;
        for executor in &executors {
            let whole = runtime.block_on(run(executor.as_ref(), task(&program, &items))).unwrap();
            let (mut outcomes, mut fuel) = (Vec::new(), 0);
            for slice in items.chunks(slice) {
                let (part, used) = runtime.block_on(run(executor.as_ref(), task(&program, slice))).unwrap();
                outcomes.extend(part);
                fuel += used;
            }
            prop_assert_eq!(&whole, &(outcomes, fuel));
            prop_assert_eq!(first.get_or_insert_with(|| whole.clone()), &whole);
        }
        Ok(())
    });
    tested.unwrap();
}
