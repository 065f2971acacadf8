//! The compiler itself, without the process around it.

/// Compiles a module for the fixed target; the error is a reason for the customer.
pub(super) fn compile(module: &[u8], optimise: bool) -> Result<Vec<u8>, String> {
    let engine = crate::engine::compiler(optimise).map_err(|e| format!("the compiler cannot be set up: {e:#}"))?;
    engine.precompile_module(module).map_err(|e| format!("the module does not compile: {e:#}"))
}
