//! The command `offpeak`.

use std::process::ExitCode;

fn main() -> ExitCode {
    offpeak::commands::main()
}
