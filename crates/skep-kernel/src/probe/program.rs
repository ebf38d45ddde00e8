//! Program types.

use std::{collections::HashMap, os::fd::AsFd as _, sync::Mutex};

use skep_abi::{AttachType, ProgType, section::BPF_F_SLEEPABLE};
use skep_btf::{Btf, Kind, KindTag, TypeId};
use skep_isa::{Pc, Slot};
use skep_object::spec::FuncInfo;

use super::{Answer, RETURN_0, Support, btf, cached, can_load, if_loading, of_load_error};
use crate::{
    error::LoadError,
    program::{Program, ProgramLoad},
    target,
};

/// What the smallest program of a type needs beside its instructions.
const NEEDS: &[(ProgType, Option<AttachType>, Option<(KindTag, &str)>)] = &[
    (ProgType::CGROUP_SOCK_ADDR, Some(AttachType::CGROUP_INET4_CONNECT), None),
    (ProgType::CGROUP_SOCKOPT, Some(AttachType::CGROUP_GETSOCKOPT), None),
    (ProgType::SK_LOOKUP, Some(AttachType::SK_LOOKUP), None),
    (ProgType::NETFILTER, Some(AttachType::NETFILTER), None),
    (
        ProgType::TRACING,
        Some(AttachType::TRACE_RAW_TP),
        Some((KindTag::Typedef, "btf_trace_sched_switch")),
    ),
    (ProgType::LSM, Some(AttachType::LSM_MAC), Some((KindTag::Func, "bpf_lsm_file_open"))),
];

/// Can programs of this type be loaded? For [`ProgType::TRACING`] this is about BTF tracepoints.
pub fn prog_type(prog_type: ProgType) -> Support {
    static CACHE: Mutex<Option<HashMap<ProgType, Support>>> = Mutex::new(None);
    cached(&CACHE, prog_type, || match prog_type {
        ProgType::EXT => if_loading(extension),
        _ => smallest(prog_type),
    })
}

/// A program of this type that has these instructions; `Err` where the kernel's BTF lacks what it
/// would attach to.
pub(super) fn of_type(prog_type: ProgType, insns: &[Slot]) -> Result<ProgramLoad<'_>, Support> {
    let mut load = ProgramLoad::new("probe", prog_type, insns);
    if prog_type == ProgType::SYSCALL {
        load.flags = BPF_F_SLEEPABLE;
    }
    if prog_type == ProgType::STRUCT_OPS {
        // Nothing is registered by loading a member.
        let (structure, index) = structure_member()?;
        load.attach_btf_id = structure.0;
        load.attach_type = Some(AttachType(index));
    }
    if let Some(&(_, attach_type, target)) = NEEDS.iter().find(|row| row.0 == prog_type) {
        load.attach_type = attach_type;
        if let Some((kind, name)) = target {
            load.attach_btf_id = named(kind, &[name])?.0;
        }
    }
    Ok(load)
}

/// The first of these names that the kernel's BTF has.
pub(super) fn named(kind: KindTag, names: &[&str]) -> Result<TypeId, Support> {
    let btf = target::vmlinux_btf()?;
    let found = names.iter().find_map(|name| btf.find(kind, name).next());
    found.ok_or_else(|| Support::No(format!("this kernel has no {}", names.join(", "))))
}

fn smallest(prog_type: ProgType) -> Support {
    let load = match of_type(prog_type, &RETURN_0) {
        Ok(load) => load,
        Err(support) => return support,
    };
    match Program::load(&load) {
        Ok(_) => Support::Yes,
        Err(LoadError::Refused { source, .. })
            if source.errno() == libc::EINVAL && can_load().is_yes() =>
        {
            Support::No(format!("this kernel has no {prog_type} programs"))
        }
        // Trampolines: what may be loaded at all is known from `can_load`.
        Err(e @ LoadError::Refused { .. }) if can_load().is_yes() => e.into(),
        Err(e) => of_load_error(&e),
    }
}

/// Loads a program that replaces another of the probe's own.
pub(super) fn extension() -> Answer {
    let types = btf::packet_function()?;
    let func_info = [FuncInfo { at: Pc(0), type_id: types.id }];
    let base = ProgramLoad {
        btf: Some(types.fd.as_fd()),
        func_info: &func_info,
        ..ProgramLoad::new("probe", ProgType::SOCKET_FILTER, &RETURN_0)
    };
    let target = Program::load(&base)?;
    let new = ProgramLoad {
        prog_type: ProgType::EXT,
        attach_btf_id: types.id.0,
        attach_fd: Some(target.as_fd()),
        ..base
    };
    Program::load(&new)?;
    Ok(())
}

/// A structure of functions that programs may be, and a member that every kernel with it has.
const STRUCTURE: (&str, &str) = ("tcp_congestion_ops", "ssthresh");

/// The structure's type, and the number of the member.
fn structure_member() -> Result<(TypeId, u32), Support> {
    let (name, member) = STRUCTURE;
    let btf = target::vmlinux_btf()?;
    let id = named(KindTag::Struct, &[name])?;
    let index = member_index(&btf, id, member)
        .ok_or_else(|| Support::No(format!("this kernel's {name} has no {member}")))?;
    Ok((id, index))
}

fn member_index(btf: &Btf, id: TypeId, name: &str) -> Option<u32> {
    let Kind::Struct(structure) = btf.get(id)?.kind else { return None };
    let at = structure.members.iter().position(|member| member.name == name)?;
    u32::try_from(at).ok()
}
