//! A structure of function pointers, from the object's layout to the kernel's.
//!
//! Members are matched by name. Pure: types and bytes in, bytes out.

use std::collections::{HashMap, HashSet};

use skep_btf::{Btf, Composite, Kind, Member, TypeId, essential_name};
use skep_object::spec::{InitialEntry, InitialValue, MapSpec};

use crate::error::StructOpsProblem as Problem;

/// Largest value taken; the kernel's structures have some hundred bytes.
const MAX_VALUE: u32 = 1 << 20;

/// A value of the kernel's type, with room for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Converted {
    pub(super) bytes: Vec<u8>,
    pub(super) slots: Vec<Slot>,
}

/// A function pointer that a program fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Where it lies in the kernel's value.
    pub(super) offset: usize,
    /// Index into the object's programs.
    pub(super) program: usize,
    /// Number of the member in the kernel's structure.
    pub(super) member: u32,
    /// Its name.
    pub(super) name: String,
}

/// The kernel's types for a structure.
#[derive(Clone, Debug)]
pub(super) struct KernelLayout<'a> {
    pub(super) btf: &'a Btf,
    /// `struct bpf_struct_ops_NAME`, the map's value.
    pub(super) value: TypeId,
    /// `struct NAME`, a member of it.
    pub(super) structure: TypeId,
}

/// The name of the structure that a map holds, without its flavor.
pub(super) fn structure_name<'a>(local: &'a Btf, map: &MapSpec) -> Result<&'a str, Problem> {
    let name = map.value_type.and_then(|id| local.name(id)).map(essential_name);
    name.filter(|name| !name.is_empty()).ok_or(Problem::Anonymous)
}

/// Converts a map's bytes, member by member, as libbpf does.
pub(super) fn convert(
    local: &Btf,
    map: &MapSpec,
    kernel: &KernelLayout<'_>,
) -> Result<Converted, Problem> {
    let name = || kernel.btf.name(kernel.structure).unwrap_or_default().to_owned();
    let local_type = map.value_type.unwrap_or_default();
    let members = composite(local, local_type).ok_or(Problem::Anonymous)?.members;
    let no_type = || Problem::NoType { name: name() };
    let value = composite(kernel.btf, kernel.value).ok_or_else(no_type)?;
    let structure = composite(kernel.btf, kernel.structure).ok_or_else(no_type)?;
    let size = value.size;
    let data = value.members.iter().find(|member| member.ty == kernel.structure);
    let base = data.ok_or_else(no_type)?.bit_offset as usize / 8;
    if size > MAX_VALUE {
        return Err(Problem::TooLarge { bytes: size });
    }
    let mut work = Work {
        local,
        kernel: kernel.btf,
        data: map.data.as_deref().unwrap_or_default(),
        programs: map.initial.iter().filter_map(program).collect(),
        base,
        out: Converted { bytes: vec![0; size as usize], slots: Vec::new() },
    };
    for member in members.iter() {
        let found = structure.members.iter().zip(0u32..).find(|(m, _)| m.name == member.name);
        match found {
            Some((theirs, number)) => work.member(&member, &theirs, number)?,
            None if work.is_zero(&member)? => {}
            None => {
                let member = member.name.to_owned();
                return Err(Problem::NoMember { member, structure: name() });
            }
        }
    }
    let places: HashSet<u32> = members.iter().map(|member| member.bit_offset).collect();
    match work.programs.keys().find(|&bits| !places.contains(bits)) {
        Some(bits) => Err(Problem::NoPlace { offset: bits / 8 }),
        None => Ok(work.out),
    }
}

fn composite(btf: &Btf, id: TypeId) -> Option<Composite<'_>> {
    match btf.get(id)?.kind {
        Kind::Struct(composite) => Some(composite),
        _ => None,
    }
}

/// What a type is behind typedefs and modifiers.
fn kind(btf: &Btf, id: TypeId) -> Option<(TypeId, Kind<'_>)> {
    let id = btf.skip_mods(id).ok()?;
    Some((id, btf.get(id)?.kind))
}

/// The bit offset at which an entry belongs, and its program.
fn program(entry: &InitialEntry) -> Option<(u32, usize)> {
    match entry.value {
        InitialValue::Program(program) => Some((entry.index.saturating_mul(8), program)),
        InitialValue::Map(_) => None,
    }
}

struct Work<'a> {
    local: &'a Btf,
    kernel: &'a Btf,
    /// The object's bytes.
    data: &'a [u8],
    /// The programs that relocations put at a place, by its bit offset.
    programs: HashMap<u32, usize>,
    /// Where the structure lies in the kernel's value.
    base: usize,
    out: Converted,
}

impl Work<'_> {
    /// The member's bytes in the object.
    fn bytes(&self, member: &Member<'_>) -> Result<&[u8], Problem> {
        let unsized_member = || Problem::NoSize { member: member.name.to_owned() };
        let size = self.local.size_of(member.ty).map_err(|_| unsized_member())? as usize;
        let at = member.bit_offset as usize / 8;
        self.data.get(at..).and_then(|rest| rest.get(..size)).ok_or_else(unsized_member)
    }

    fn program(&self, member: &Member<'_>) -> Option<usize> {
        self.programs.get(&member.bit_offset).copied()
    }

    fn is_zero(&self, member: &Member<'_>) -> Result<bool, Problem> {
        Ok(self.program(member).is_none() && self.bytes(member)?.iter().all(|&byte| byte == 0))
    }

    fn member(
        &mut self,
        mine: &Member<'_>,
        theirs: &Member<'_>,
        number: u32,
    ) -> Result<(), Problem> {
        let member = || mine.name.to_owned();
        if mine.bitfield_size != 0 || theirs.bitfield_size != 0 {
            return Err(Problem::Bitfield { member: member() });
        }
        let no_size = || Problem::NoSize { member: member() };
        let (_, expected) = kind(self.local, mine.ty).ok_or_else(no_size)?;
        let (their_id, found) = kind(self.kernel, theirs.ty).ok_or_else(no_size)?;
        let (expected_tag, found_tag) = (expected.tag(), found.tag());
        if expected_tag != found_tag {
            let (expected, found) = (expected_tag, found_tag);
            return Err(Problem::Kind { member: member(), expected, found });
        }
        let offset = self.base + theirs.bit_offset as usize / 8;
        if let Kind::Ptr(pointee) = found {
            let function = matches!(kind(self.kernel, pointee), Some((_, Kind::FuncProto(_))));
            return match self.program(mine) {
                Some(_) if !function => Err(Problem::NotFunction { member: member() }),
                Some(program) => {
                    let name = member();
                    self.out.slots.push(Slot { offset, program, member: number, name });
                    Ok(())
                }
                None if self.is_zero(mine)? => Ok(()),
                None => Err(Problem::Pointer { member: member() }),
            };
        }
        if self.program(mine).is_some() {
            return Err(Problem::NotFunction { member: member() });
        }
        let bytes = self.bytes(mine)?;
        let (expected, found) = (bytes.len(), self.kernel.size_of(their_id).unwrap_or(0) as usize);
        if expected != found {
            return Err(Problem::Size { member: member(), expected, found });
        }
        let bytes = bytes.to_vec();
        let place = self.out.bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or_else(no_size)?.copy_from_slice(&bytes);
        Ok(())
    }
}
