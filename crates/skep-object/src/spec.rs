//! What a file says, before any system is asked.

use std::sync::Arc;

use skep_abi::MapDef;
use skep_btf::{Btf, TypeId};
use skep_isa::{Pc, Slot};

/// An object file: programs, maps, externs, types.
#[derive(Clone, Debug)]
pub struct ObjectSpec {
    /// The `license` section, empty when there is none.
    pub license: String,
    /// The `version` section (kernel version code), when there is one.
    pub version: Option<u32>,
    /// Entry programs, in file order.
    pub programs: Vec<ProgramSpec>,
    /// Maps: BTF-defined, legacy, and those made of `.data`, `.rodata`, `.bss`, `.kconfig`.
    pub maps: Vec<MapSpec>,
    /// `__kconfig` and `__ksym` externs.
    pub externs: Vec<ExternSpec>,
    /// `.BTF`.
    pub btf: Option<Btf>,
}

/// One program with the subprograms it calls appended behind it: a complete unit to load.
///
/// Calls between subprograms and subprogram addresses are already relocated.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// Name of the function.
    pub name: String,
    /// ELF section, as written (`?xdp.frags/devmap`).
    pub section: String,
    /// Kind, from the section name; `None` when no rule of libbpf matches the name.
    pub prog_type: Option<skep_abi::ProgType>,
    /// Expected attach type, where the section names one.
    pub attach_type: Option<skep_abi::AttachType>,
    /// The part of the section name behind the first `/`: function, tracepoint, path…
    pub attach_to: Option<String>,
    /// Load flags the section name asks for, `BPF_F_SLEEPABLE` and the like.
    pub flags: u32,
    /// False for `SEC("?…")`.
    pub autoload: bool,
    /// Entry function, then subprograms.
    pub insns: Vec<Slot>,
    /// Functions within `insns`; the first is the program itself.
    pub subprogs: Vec<Subprog>,
    /// References that only an engine can fill in, by position.
    pub relocs: Vec<Reloc>,
    /// CO-RE relocations, rebased onto `insns`.
    pub core_relos: Vec<CoreReloc>,
    /// BTF function info, rebased onto `insns`.
    pub func_info: Vec<FuncInfo>,
    /// BTF line info, rebased onto `insns`.
    pub line_info: Vec<LineInfo>,
    /// Accesses that CO-RE found impossible: reaching one is an error with this text.
    /// Filled by [`resolve`](crate::resolve()).
    pub poisoned: Vec<Poison>,
}

/// A function inside a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subprog {
    /// Name.
    pub name: String,
    /// First slot.
    pub start: Pc,
    /// Length in slots.
    pub len: u32,
    /// Is it local to the object (`static`, or hidden)? Then it is verified where it is called,
    /// even if its BTF calls it global.
    pub local: bool,
}

/// A reference to something live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloc {
    /// The `lddw` or `call`.
    pub at: Pc,
    /// What it refers to.
    pub target: RelocTarget,
}

/// What a [`Reloc`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelocTarget {
    /// `lddw` of a map: index into [`ObjectSpec::maps`].
    Map(usize),
    /// `lddw` of an address inside the value of a one-element map (global data).
    MapValue {
        /// Index into [`ObjectSpec::maps`].
        map: usize,
        /// Byte offset.
        offset: u32,
    },
    /// `lddw` of a `__ksym` variable or function address: index into [`ObjectSpec::externs`].
    Ksym(usize),
    /// `call` of a kernel function: index into [`ObjectSpec::externs`].
    Kfunc(usize),
}

/// A CO-RE relocation at an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreReloc {
    /// The instruction to patch.
    pub at: Pc,
    /// Root type, in the object's BTF.
    pub type_id: TypeId,
    /// Access string, `0:1:2`; the same accesses of one object share it.
    pub access: Arc<str>,
    /// Raw `enum bpf_core_relo_kind`.
    pub kind: u32,
}

/// Which BTF function starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// First slot.
    pub at: Pc,
    /// The `FUNC` type.
    pub type_id: TypeId,
}

/// Which source line starts here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// First slot.
    pub at: Pc,
    /// Offset of the file name in the BTF strings.
    pub file_off: u32,
    /// Offset of the line's text in the BTF strings.
    pub line_off: u32,
    /// `line << 10 | column`, as in BTF.ext.
    pub line_col: u32,
}

/// An access that cannot work on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// The poisoned instruction.
    pub at: Pc,
    /// What could not be resolved, and why.
    pub reason: String,
}

/// How a map is pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Not at all.
    #[default]
    None,
    /// `LIBBPF_PIN_BY_NAME`: below the engine's pin root, by name.
    ByName,
    /// iproute2's `PIN_OBJECT_NS`.
    ObjectNs,
    /// iproute2's `PIN_GLOBAL_NS`.
    GlobalNs,
}

/// A map as the file defines it.
#[derive(Clone, Debug)]
pub struct MapSpec {
    /// Name; `.rodata` and friends carry the section's name.
    pub name: String,
    /// Shape.
    pub def: MapDef,
    /// Where the definition came from.
    pub origin: MapOrigin,
    /// Key type in the object's BTF.
    pub key_type: Option<TypeId>,
    /// Value type in the object's BTF; the `DATASEC` for global data, the object's structure for
    /// `struct_ops`.
    pub value_type: Option<TypeId>,
    /// Pinning.
    pub pinning: Pinning,
    /// Template of the inner maps of a map-in-map.
    pub inner: Option<Box<Self>>,
    /// False for a map that is made only when asked for: `SEC("?.struct_ops")`.
    pub autocreate: bool,
    /// Initial entries of prog arrays and maps-in-maps, programs of `struct_ops`.
    pub initial: Vec<InitialEntry>,
    /// Initial value of global data (one element), of a `struct_ops` structure, of an arena.
    pub data: Option<Vec<u8>>,
    /// Variables of global data.
    pub variables: Vec<VarSpec>,
}

impl MapSpec {
    /// The name that libbpf gives the map in the kernel, at most 15 bytes.
    ///
    /// Maps of global data are called after the object's file (without `.bpf.o` and the like) and
    /// their section: `my_objec.rodata`. Sections with a name of their own (`.data.custom`) are
    /// not.
    pub fn kernel_name(&self, object: &str) -> String {
        const LEN: usize = 15;
        // So much is kept for the section's name, even where it is shorter.
        const SECTION: usize = 7;
        let global = matches!(
            self.origin,
            MapOrigin::Data | MapOrigin::Rodata | MapOrigin::Bss | MapOrigin::Kconfig
        );
        let custom = self.name.chars().skip(1).any(|c| c == '.');
        let prefix = if global && !custom { LEN - self.name.len().clamp(SECTION, LEN) } else { 0 };
        object
            .bytes()
            .take(prefix)
            .chain(self.name.bytes())
            .take(LEN)
            .map(|b| match b {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' => char::from(b),
                _ => '_',
            })
            .collect()
    }
}

/// Where a map definition came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOrigin {
    /// `SEC(".maps")`.
    Btf,
    /// libbpf's `struct bpf_map_def` in `SEC("maps")`.
    Legacy,
    /// iproute2's `struct bpf_elf_map` in `SEC("maps")`.
    Iproute2 {
        /// `id`: how inner maps and tail-call slots (`SEC("id/slot")`) name this map.
        id: u32,
        /// `inner_id`: the map that is the template of this map-in-map.
        inner_id: u32,
        /// `inner_idx`: where the inner map is stored at load, `-1` for nowhere.
        inner_idx: i32,
    },
    /// `.data*`.
    Data,
    /// `.rodata*`: frozen after load.
    Rodata,
    /// `.bss*`.
    Bss,
    /// `.kconfig`: frozen after load.
    Kconfig,
    /// `.struct_ops*`.
    StructOps,
}

/// An initial entry of a prog array or map-in-map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialEntry {
    /// Array index, or key of a hash of maps; for `struct_ops`, byte offset of the function
    /// pointer in the object's structure.
    pub index: u32,
    /// What is stored there.
    pub value: InitialValue,
}

/// What an [`InitialEntry`] stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialValue {
    /// Index into [`ObjectSpec::maps`].
    Map(usize),
    /// Index into [`ObjectSpec::programs`].
    Program(usize),
}

/// A variable of global data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VarSpec {
    /// Name.
    pub name: String,
    /// Byte offset in the map's value.
    pub offset: u32,
    /// Size in bytes.
    pub size: u32,
    /// Type in the object's BTF.
    pub type_id: Option<TypeId>,
}

/// An extern the running system must provide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternSpec {
    /// Name.
    pub name: String,
    /// May be absent.
    pub weak: bool,
    /// Its type in the object's BTF.
    pub type_id: Option<TypeId>,
    /// Kind.
    pub kind: ExternKind,
}

/// Kind of an extern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExternKind {
    /// `__kconfig`: lies in the `.kconfig` map at `offset`.
    Kconfig {
        /// Byte offset.
        offset: u32,
        /// Size in bytes.
        size: u32,
    },
    /// `__ksym` with a BTF type: a kernel variable.
    KsymVar,
    /// `__ksym` without type (`void`): an address of `/proc/kallsyms`.
    KsymAddr,
    /// A kernel function.
    Kfunc,
}

#[cfg(test)]
mod tests {
    use skep_abi::{MapFlags, MapType};

    use super::*;

    #[test]
    fn maps_are_called_as_libbpf_calls_them() {
        let map = |name: &str, origin| MapSpec {
            name: name.to_owned(),
            def: MapDef {
                map_type: MapType::ARRAY,
                key_size: 4,
                value_size: 4,
                max_entries: 1,
                flags: MapFlags::default(),
                extra: 0,
                numa_node: 0,
            },
            origin,
            key_type: None,
            value_type: None,
            pinning: Pinning::None,
            inner: None,
            autocreate: true,
            initial: Vec::new(),
            data: None,
            variables: Vec::new(),
        };
        let cases = [
            (".rodata", MapOrigin::Rodata, "my_object_name", "my_objec.rodata"),
            (".bss", MapOrigin::Bss, "my_object_name", "my_objec.bss"),
            (".bss", MapOrigin::Bss, "a-b", "a_b.bss"),
            (".kconfig", MapOrigin::Kconfig, "my_object_name", "my_obje.kconfig"),
            (".rodata.abracadabra", MapOrigin::Rodata, "my_object_name", ".rodata.abracad"),
            (".data.x", MapOrigin::Data, "my_object_name", ".data.x"),
            ("a_very_long_map_name", MapOrigin::Btf, "my_object_name", "a_very_long_map"),
        ];
        for (name, origin, object, expected) in cases {
            assert_eq!(map(name, origin).kernel_name(object), expected);
        }
    }
}
