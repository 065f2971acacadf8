//! The chaos suite: faults strike a running grid of real processes and servers; nothing may be lost, nothing done twice.
//!
//! Without arguments every fault strikes once. `--minutes N` goes on for so long, in an order that follows from
//! `--seed N`; other words choose faults whose name contains them.

mod dice;
mod faults;
mod load;
mod memory;
#[path = "../support/offpeak.rs"]
#[expect(dead_code, reason = "shared with the tests of the grid, which use the rest")]
mod offpeak;
mod proxy;
mod rounds;
mod table;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use crate::rounds::Plan;

fn main() -> ExitCode {
    let mut plan = Plan::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|number| number.parse().ok());
        match argument.as_str() {
            flag @ ("--minutes" | "--seed") => {
                let Some(number) = number() else {
                    say(&format!("{flag} takes a whole number, such as {flag} 30"));
                    return ExitCode::FAILURE;
                };
                match flag {
                    "--minutes" => plan.lasts = Some(Duration::from_mins(number)),
                    _ => plan.seed = number,
                }
            }
            // Flags of the usual test harness, which `cargo test` hands to all targets, mean nothing here.
            flag if flag.starts_with("--") => {}
            word => plan.words.push(word.to_owned()),
        }
    }
    if rounds::run(&plan) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the suite has a main of its own, and what it says is for people")]
fn say(text: &str) {
    println!("chaos: {text}");
}
