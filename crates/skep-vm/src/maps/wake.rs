//! Sleeping until a producer has something.

use std::{
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

/// A place to sleep. Waking costs producers one load when nobody sleeps.
#[derive(Debug, Default)]
pub(super) struct Wake {
    sleepers: AtomicU32,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Wake {
    /// Waits until `ready`, at most `timeout`; returns what `ready` said last.
    pub(super) fn wait(&self, timeout: Duration, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        let end = Instant::now().checked_add(timeout);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Relaxed);
        fence(SeqCst); // with the one in `ring`: it sees the sleeper, or `ready` sees the data
        let is_ready = loop {
            if ready() {
                break true;
            }
            let left = end.map_or(timeout, |e| e.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break false;
            }
            guard = self.bell.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.sleepers.fetch_sub(1, Relaxed);
        is_ready
    }

    /// Wakes all sleepers. Call after publishing the data.
    pub(super) fn ring(&self) {
        fence(SeqCst);
        if self.sleepers.load(Relaxed) != 0 {
            // A sleeper that has looked but not yet lain down still holds the lock.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.bell.notify_all();
        }
    }
}
