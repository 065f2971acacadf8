//! The grid's decisions: pure functions over owned values. No IO, no clock, no async, no randomness of their own.

pub mod assemble;
pub mod budget;
pub mod delivery;
pub mod eta;
pub mod explain;
pub mod fair;
pub mod invariants;
pub mod lanes;
pub mod load;
pub mod month;
pub mod pricing;
pub mod quote;
pub mod rate;
pub mod retry;
pub mod settle;
pub mod sizing;
pub mod split;
pub mod tree;
