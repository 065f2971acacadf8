//! The engine's configuration: one base for the compiler and the runtime, so that what one makes the other loads.

use wasmtime::{Config, Engine};

/// How fuel is counted: the engine's own fuel, whose costs belong to its major version.
#[cfg(feature = "publish")]
pub(crate) const METER: &str = "wasmtime-48-fuel";
/// The engine's version, checked against the artefact when it is loaded.
const ENGINE: &str = "wasmtime-48.0.8";
/// Counts changes of [`base`] that make artefacts of before unusable.
const REVISION: u32 = 1;
/// Native stack of a call: far above what compiled programs use, far below a thread's stack.
pub(crate) const MAX_WASM_STACK_BYTES: usize = 1 << 20;
/// Elements of all tables of an instance; C# in debug mode was seen with more than 10,000.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Tables of a module; compilers emit one, and one more for references.
pub(crate) const MAX_TABLES: u32 = 4;
/// The engine's own data of an instance: 50,000 functions in a table need 1.6 MB.
#[cfg(feature = "execute")]
const MAX_INSTANCE_BYTES: usize = 8 << 20;
/// Address space of a memory: all that 32 bits reach, so that no access needs a bounds check.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Address space behind a memory that traps; also before it.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;

/// What artefacts are compiled for.
const TARGET: Option<&str> = if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
    Some("x86_64-unknown-linux-gnu")
} else if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
    Some("aarch64-unknown-linux-gnu")
} else if cfg!(all(target_arch = "x86_64", target_os = "macos")) {
    Some("x86_64-apple-darwin")
} else if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
    Some("aarch64-apple-darwin")
} else {
    None
};

/// What is required of the processor besides its architecture: x86-64-v2, which every server and PC since 2009 has.
#[cfg(feature = "publish")]
const FEATURES: &[&str] =
    if cfg!(target_arch = "x86_64") { &["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"] } else { &[] };

/// Names everything that an artefact depends on besides the module: engine, target, configuration.
///
/// Artefacts of another generation do not load here; whoever keeps artefacts keeps this with them, and publishes again.
pub fn generation() -> String {
    let cpu = if cfg!(target_arch = "x86_64") { "x86-64-v2" } else { "generic" };
    let host = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    format!("{ENGINE}/{}/{cpu}/{REVISION}", TARGET.unwrap_or(&host))
}

/// What compiler and runtime have in common.
fn base() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_extended_const(true)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    config
}

/// An engine that runs up to `instances` instances at the same time, each from a pool of prepared memory.
#[cfg(feature = "execute")]
pub(crate) fn runtime(instances: u32) -> Result<Engine, wasmtime::Error> {
    use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig};

    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances)
        .total_memories(instances)
        .total_tables(instances.saturating_mul(MAX_TABLES))
        .max_tables_per_module(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_core_instance_size(MAX_INSTANCE_BYTES);
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// An engine that only compiles, for the fixed target and never for the machine at hand.
#[cfg(feature = "publish")]
pub(crate) fn compiler(optimise: bool) -> Result<Engine, wasmtime::Error> {
    use wasmtime::OptLevel;

    let mut config = base();
    config.cranelift_opt_level(if optimise { OptLevel::Speed } else { OptLevel::None });
    if let Some(target) = TARGET {
        config.target(target)?;
    }
    for feature in FEATURES {
        enable(&mut config, feature);
    }
    Engine::new(&config)
}

#[cfg(feature = "publish")]
#[expect(unsafe_code, reason = "the flags are processor features of the target, which a host is checked for when it loads")]
fn enable(config: &mut Config, feature: &str) {
    // SAFETY: the artefact records these flags, and loading it fails on a processor without them.
    unsafe {
        config.cranelift_flag_enable(feature);
    }
}
