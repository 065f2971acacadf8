//! The sandbox's contract: the same tests on executors in this process and in child processes, with hostile modules.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod adversarial;
mod children;
mod command;
mod examples;
mod in_process;
mod modules;
mod property;
mod publish;
mod rig;
mod units;
