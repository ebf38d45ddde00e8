//! Structures of functions that a map's value gave to the kernel, without a link.

use std::collections::BTreeMap;

use skep_abi::{MapFlags, MapType};

use super::{Leftover, Place, Process, life_of, mark::Marked};
use crate::{inspect, map::Map, sys::SysError};

/// The one key of a `struct_ops` map.
const KEY: [u8; 4] = [0; 4];
/// Where a value says what the kernel does with it: behind the number of its users.
const STATE: usize = 4;
/// The kernel calls its functions: `BPF_STRUCT_OPS_STATE_INUSE` of `bpf.h`.
const IN_USE: u32 = 1;

/// The structures that marked programs are in, and that the kernel calls.
pub(super) fn stored(marked: &Marked) -> Vec<Leftover> {
    let mut by_map = BTreeMap::<(u32, u32), Vec<Process>>::new();
    for (&program, marks) in marked {
        for mark in marks {
            let Some(map) = mark.structure else { continue };
            by_map.entry((map, program)).or_default().push(mark.process);
        }
    }
    let one = |((id, program), processes): ((u32, u32), Vec<Process>)| {
        let map = inspect::open_map(id).ok()??;
        if !is_stored(&map, program) {
            return None;
        }
        let place = Place::StructOps { map: map.name().to_owned(), id };
        let (process, life) = (*processes.last()?, life_of(&processes));
        Some(Leftover { place, program: Some(program), process, life })
    };
    by_map.into_iter().filter_map(one).collect()
}

/// Does the kernel call this structure, and is this program in it? The kernel shows a program's id
/// where its descriptor was stored (`kernel/bpf/bpf_struct_ops.c`).
fn is_stored(map: &Map, program: u32) -> bool {
    let def = map.def();
    if def.map_type != MapType::STRUCT_OPS || def.flags.contains(MapFlags::LINK) {
        return false;
    }
    let Ok(Some(value)) = map.lookup_vec(&KEY) else { return false };
    let state = value.get(STATE..).and_then(|rest| rest.first_chunk()).copied();
    let words = value.as_chunks().0;
    state.map(u32::from_ne_bytes) == Some(IN_USE)
        && words.iter().any(|&word| u64::from_ne_bytes(word) == u64::from(program))
}

/// Deletes the map's entry, which takes the structure away from the kernel.
pub(super) fn remove(id: u32) -> Result<(), SysError> {
    let Some(map) = inspect::open_map(id)? else { return Ok(()) };
    match map.delete(&KEY) {
        // Another is at it.
        Err(e) if e.source.errno() == libc::EINPROGRESS => Ok(()),
        done => done.map_err(|e| e.source),
    }
}
