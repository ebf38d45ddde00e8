//! Packets for the packet programs: from a capture, or copies from an interface.

use std::{
    fs::File,
    io::{BufReader, BufWriter, IsTerminal as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use skep::{packets, verdict};

use super::session::{Session, Shared};
use crate::{exit::usage, output::Out};
