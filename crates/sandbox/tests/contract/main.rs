//! The sandbox's contract: the same tests on executors in this process and in child processes, with hostile modules.

mod adversarial;
mod children;
mod command;
mod modules;
mod property;
mod publish;
mod rig;
mod units;
