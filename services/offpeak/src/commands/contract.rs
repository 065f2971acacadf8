//! `offpeak contract`: the customers' contract, as this version of the program reads and writes messages.

use anyhow::Result;
use protocol::contract as document;

use crate::args::ContractArgs;
use crate::{exit, terminal};

/// Prints it.
pub(super) fn contract(args: &ContractArgs) -> Result<u8> {
    terminal::print(&if args.json { document::json() } else { document::yaml() })?;
    Ok(exit::SUCCESS)
}
