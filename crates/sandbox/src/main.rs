//! The sandbox's child processes as one small program: `offpeak-sandbox compiler` and `offpeak-sandbox executor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("compiler") => sandbox::compiler_main(),
        Some("executor") => sandbox::executor_main(),
        other => {
            eprintln!("offpeak-sandbox: {other:?} is none of: compiler, executor");
            ExitCode::from(2)
        }
    }
}
