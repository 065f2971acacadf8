//! The ABI `offpeak1` between a module and its host; natively, where there is no host, its calls do nothing.

#[cfg(target_arch = "wasm32")]
pub use module::*;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::*;

#[cfg(target_arch = "wasm32")]
#[path = "module.rs"]
mod module;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    pub(crate) fn log(line: &str) {
        eprintln!("{line}");
    }

    pub(crate) fn progress(_done: u32, _total: u32) {}
}
