//! `skep prog attach` and `detach`: programs of socket maps, and the flow dissector.

use std::os::fd::AsFd as _;

use skep::{
    abi::AttachType,
    kernel::{
        inspect::{self, Kind},
        link::{Keeper, attach_lasting, detach_lasting},
    },
};

use crate::{
    cmd::manage::{rights, select},
    exit::{DONE, usage},
};

/// Attach a program to a socket map, or as the flow dissector of this network namespace.
///
/// It stays attached when the command ends: as long as the map lives, or until `prog detach`.
#[derive(Debug, clap::Args)]
pub struct Attach {
    /// `PROG TYPE [MAP]`: TYPE is `sk_msg_verdict`, `sk_skb_verdict`, `sk_skb_stream_verdict` or
    /// `sk_skb_stream_parser` with a MAP, or `flow_dissector` without.
    #[arg(value_name = "PROG TYPE [MAP]", required = true)]
    words: Vec<String>,
}

/// Take back what `prog attach` did.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// `PROG TYPE [MAP]`, as for `prog attach`.
    #[arg(value_name = "PROG TYPE [MAP]", required = true)]
    words: Vec<String>,
}

/// Attach types by bpftool's names.
const TYPES: &[(&str, AttachType)] = &[
    ("sk_msg_verdict", AttachType::SK_MSG_VERDICT),
    ("sk_skb_verdict", AttachType::SK_SKB_VERDICT),
    ("sk_skb_stream_verdict", AttachType::SK_SKB_STREAM_VERDICT),
    ("sk_skb_stream_parser", AttachType::SK_SKB_STREAM_PARSER),
    ("flow_dissector", AttachType::FLOW_DISSECTOR),
];

impl Attach {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        change(&self.words, true)
    }
}

impl Detach {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        change(&self.words, false)
    }
}

fn change(words: &[String], attach: bool) -> anyhow::Result<u8> {
    let mut rest = words;
    let id = select::take_one(Kind::Program, &mut rest)?;
    let names = || TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let Some((word, mut rest)) = rest.split_first() else {
        return Err(usage(format!("say how: {}", names())));
    };
    let found = TYPES.iter().find(|(name, _)| name == word);
    let Some(&(_, kind)) = found else {
        return Err(usage(format!("no such type `{word}`: expected one of {}", names())));
    };
    let map = if kind == AttachType::FLOW_DISSECTOR {
        None
    } else {
        let id = select::take_one(Kind::Map, &mut rest)?;
        let map = rights("opening a map", inspect::open(Kind::Map, id))?;
        Some(map.ok_or_else(|| select::gone(Kind::Map, id))?)
    };
    select::done(rest)?;
    let keeper = map.as_ref().map_or(Keeper::OwnNetns, |map| Keeper::Map(map.as_fd()));
    let program = rights("opening a program", inspect::open(Kind::Program, id))?;
    let program = program.ok_or_else(|| select::gone(Kind::Program, id))?;
    if attach {
        rights("attaching a program", attach_lasting(keeper, program.as_fd(), kind))?;
    } else {
        rights("detaching a program", detach_lasting(keeper, program.as_fd(), kind))?;
    }
    Ok(DONE)
}
