//! Questions to the machine that need a system call.

/// A clock in nanoseconds.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for a timespec; an unknown clock only gives an error.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return 0;
    }
    let sec = u64::try_from(now.tv_sec).unwrap_or_default();
    sec.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// A random number, not for secrets.
pub(crate) fn random_u32() -> u32 {
    use std::cell::Cell;
    use std::hash::{BuildHasher as _, RandomState};
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        u32::try_from(x >> 32).unwrap_or_default()
    })
}

/// Process and thread number as `bpf_get_current_pid_tgid` gives them.
pub(crate) fn pid_tgid() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    let thread = unsafe { libc::gettid() };
    u64::from(std::process::id()) << 32 | u64::from(thread.cast_unsigned())
}

/// User and group as `bpf_get_current_uid_gid` gives them.
pub(crate) fn uid_gid() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    let gid = unsafe { libc::getgid() };
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() };
    u64::from(gid) << 32 | u64::from(uid)
}
