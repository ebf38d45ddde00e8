//! `skep map`: maps and their entries.

mod change;
mod create;
mod data;
mod entry;
mod pipe;
mod queue;
mod show;

use std::io::Write;

use skep::kernel::inspect::Kind;

use super::pin;
use crate::exit::DONE;

/// Maps of this machine.
#[derive(Debug, clap::Subcommand)]
pub enum MapCommand {
    #[command(visible_alias = "list")]
    Show(show::Show),
    Create(create::Create),
    Dump(entry::Dump),
    Lookup(entry::Lookup),
    Update(change::Update),
    Delete(change::Delete),
    Getnext(entry::Getnext),
    Pin(Pin),
    #[command(name = "event_pipe")]
    EventPipe(pipe::EventPipe),
    Peek(queue::Peek),
    Push(queue::Push),
    Pop(queue::Pop),
    Enqueue(queue::Push),
    Dequeue(queue::Pop),
    Freeze(change::Freeze),
}

/// Pin a map at a path of a bpf file system.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// `id N`, `name NAME` or `pinned PATH`, and the path of the new pin.
    #[arg(value_name = "MAP PATH", required = true, num_args = 3..)]
    words: Vec<String>,
}

impl MapCommand {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Show(c) => c.run(out),
            Self::Create(c) => c.run(),
            Self::Dump(c) => c.run(out),
            Self::Lookup(c) => c.run(out),
            Self::Update(c) => c.run(),
            Self::Delete(c) => c.run(),
            Self::Getnext(c) => c.run(out),
            Self::Pin(c) => pin(Kind::Map, &c.words).map(|()| DONE),
            Self::EventPipe(c) => c.run(out),
            Self::Peek(c) => c.run(out),
            Self::Push(c) | Self::Enqueue(c) => c.run(),
            Self::Pop(c) | Self::Dequeue(c) => c.run(out),
            Self::Freeze(c) => c.run(),
        }
    }
}
