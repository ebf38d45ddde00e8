//! Ctrl-C and SIGTERM set a flag; loops look at it and leave, so links detach.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Was the user's wish to stop heard?
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Starts listening. A second signal ends the process at once.
    pub fn listen() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the shutdown looks at the flag before the next line sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))
                .context("cannot listen for signals")?;
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot listen for signals")?;
        }
        Ok(Self(flag))
    }

    /// Has a signal arrived?
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
