//! What a child process gives up, for itself and for good, before it touches anything of a stranger.

use std::io;

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

/// Open files: three pipes, and one memory image per loaded app.
const MAX_FILES: u64 = 64;

/// Bounds on the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Processor time, after which it is killed.
    pub(crate) cpu_seconds: Option<u64>,
    /// Private memory that can be written.
    pub(crate) data_bytes: u64,
    /// Address space.
    pub(crate) address_bytes: Option<u64>,
}

/// Ignores SIGTERM and SIGINT. Who sends them to all processes of a service means the service, which drains and ends its children
/// itself: it closes their stdin, or kills them.
#[expect(unsafe_code, reason = "the standard library sets the disposition of no signal")]
pub(crate) fn ignore_stops() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: to ignore a signal installs no handler, and refers to nothing.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Sets the bounds and the lowest priority, forbids new privileges and core files, closes what was inherited by mistake.
pub(crate) fn confine(bounds: Bounds) -> io::Result<()> {
    close_inherited();
    // A host without these still has the sandbox itself: priority and privileges are a second line.
    let _nice = setpriority_process(None, 19);
    #[cfg(target_os = "linux")]
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Nofile, MAX_FILES, MAX_FILES)?;
    limit(Resource::Data, bounds.data_bytes, bounds.data_bytes)?;
    if let Some(bytes) = bounds.address_bytes {
        limit(Resource::As, bytes, bytes)?;
    }
    if let Some(seconds) = bounds.cpu_seconds {
        // The first limit's signal tells this end from others; the second is for a process that ignores it.
        limit(Resource::Cpu, seconds, seconds.saturating_add(5))?;
    }
    Ok(())
}

fn limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let new = Rlimit { current: Some(soft.min(inherited)), maximum: Some(hard.min(inherited)) };
    Ok(setrlimit(resource, new)?)
}

/// Closes every file but the three standard streams; ours are closed on exec, those of whoever started us may not be.
fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // One of them was the listing itself, which is closed by now.
    for file in open.into_iter().filter(|file| *file > 2 && std::fs::read_link(format!("/proc/self/fd/{file}")).is_ok()) {
        close(file);
    }
}

#[expect(unsafe_code, reason = "closing a file by its number can pull it from under its owner")]
fn close(file: i32) {
    // SAFETY: called first thing in the process, which has opened nothing yet: no file above 2 has an owner here.
    unsafe { rustix::io::close(file) }
}

/// Forbids every system call that computing does not need: no files, no sockets, no processes.
///
/// To be called when all threads run and the engine is set up. What is not allowed fails with `EPERM`.
#[cfg(all(feature = "execute", target_os = "linux"))]
pub(crate) fn filter_system_calls() -> io::Result<()> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        apply_filter_all_threads,
    };

    let other = |e: &dyn std::fmt::Display| io::Error::other(format!("system call filter: {e}"));
    let arch = std::env::consts::ARCH.try_into().map_err(|e| other(&e))?;
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // A signal only to itself: how a process aborts.
    let own = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0);
    let itself = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own).map_err(|e| other(&e))?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![itself]).map_err(|e| other(&e))?]);
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch).map_err(|e| other(&e))?;
    let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| other(&e))?;
    apply_filter_all_threads(&program).map_err(|e| other(&e))
}

/// Elsewhere the sandbox and the limits have to do.
#[cfg(all(feature = "execute", not(target_os = "linux")))]
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub(crate) fn filter_system_calls() -> io::Result<()> {
    Ok(())
}

/// Pipes, memory, threads waiting for each other, signals of traps, clocks, the end.
#[cfg(all(feature = "execute", target_os = "linux"))]
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
