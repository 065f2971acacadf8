//! The command line of the grid: job files, submission, progress, outputs, usage, and the whole grid in one process.

pub mod jobfile;
