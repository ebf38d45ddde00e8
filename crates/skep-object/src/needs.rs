//! What an object needs of the system that runs it.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::{
    AttachType, MapType, ProgType, Release,
    helper::{self, Proto},
    section::{BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS},
};

use crate::reference::{CALL, LDDW};
use crate::spec::{ExternKind, MapOrigin, ObjectSpec, ProgramSpec, RelocTarget};

/// What an object needs, over all its programs and maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Program types.
    pub prog_types: BTreeSet<ProgType>,
    /// Expected attach types.
    pub attach_types: BTreeSet<AttachType>,
    /// Map types, inner maps included.
    pub map_types: BTreeSet<MapType>,
    /// Helpers by number, with the programs that call them (index into
    /// [`ObjectSpec::programs`]).
    pub helpers: BTreeMap<u32, BTreeSet<usize>>,
    /// Kernel functions that programs call or take the address of; true where it may be absent.
    pub kfuncs: BTreeMap<String, bool>,
    /// Kernel variables and symbols that programs use; true where it may be absent.
    pub ksyms: BTreeMap<String, bool>,
    /// Options of the kernel's configuration and facts about it; true where it may be absent.
    pub kconfig: BTreeMap<String, bool>,
    /// What programs attach to by name, with the program.
    pub targets: BTreeSet<(String, usize)>,
    /// Number of CO-RE relocations: with any, the types of a kernel are needed.
    pub core_relocs: usize,
    /// Programs that may sleep or take multi-buffer packets, by `prog_flags`.
    pub load_flags: BTreeMap<u32, BTreeSet<usize>>,
    /// Is there global data: variables in maps of their own?
    pub global_data: bool,
}

/// The release with addresses inside the values of maps.
const GLOBAL_DATA: Release = Release(5, 2);

/// Load flags, and the release that knows them.
const FLAGS: &[(u32, Release)] =
    &[(BPF_F_SLEEPABLE, Release(5, 10)), (BPF_F_XDP_HAS_FRAGS, Release(5, 18))];

impl Needs {
    /// The oldest kernel release that has these program, attach and map types, helpers and flags,
    /// and global data where there is some.
    ///
    /// Kernel functions, types and instructions may ask for a later one.
    pub fn oldest_release(&self) -> Option<Release> {
        let types = self.prog_types.iter().filter_map(|t| t.since());
        let attach = self.attach_types.iter().filter_map(|t| t.since());
        let maps = self.map_types.iter().filter_map(|t| t.since());
        let numbers = self.helpers.keys().filter_map(|&id| i32::try_from(id).ok());
        let helpers = numbers.filter_map(helper::proto).map(Proto::since);
        let used = |flag: u32| self.load_flags.keys().any(|flags| flags & flag != 0);
        let flags = FLAGS.iter().filter(|row| used(row.0)).map(|row| row.1);
        let data = self.global_data.then_some(GLOBAL_DATA);
        types.chain(attach).chain(maps).chain(helpers).chain(flags).chain(data).max()
    }
}

impl ObjectSpec {
    /// What the object needs of the system that runs it.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for (index, program) in self.programs.iter().enumerate() {
            needs.prog_types.extend(program.prog_type);
            needs.attach_types.extend(program.attach_type);
            needs.core_relocs += program.core_relos.len();
            if let Some(target) = &program.attach_to {
                needs.targets.insert((target.clone(), index));
            }
            if program.flags != 0 {
                needs.load_flags.entry(program.flags).or_default().insert(index);
            }
            for helper in helpers(program) {
                needs.helpers.entry(helper).or_default().insert(index);
            }
            for reloc in &program.relocs {
                self.add_symbol(&mut needs, reloc.target);
            }
        }
        for map in &self.maps {
            needs.map_types.insert(map.def.map_type);
            needs.global_data |= matches!(
                map.origin,
                MapOrigin::Rodata | MapOrigin::Data | MapOrigin::Bss | MapOrigin::Kconfig
            );
            needs.map_types.extend(map.inner.iter().map(|m| m.def.map_type));
        }
        let options = self.externs.iter().filter(|e| matches!(e.kind, ExternKind::Kconfig { .. }));
        needs.kconfig.extend(options.map(|e| (e.name.clone(), e.weak)));
        needs
    }

    fn add_symbol(&self, needs: &mut Needs, target: RelocTarget) {
        let (RelocTarget::Ksym(index) | RelocTarget::Kfunc(index)) = target else { return };
        let Some(symbol) = self.externs.get(index) else { return };
        let list = match symbol.kind {
            ExternKind::Kfunc => &mut needs.kfuncs,
            _ => &mut needs.ksyms,
        };
        list.insert(symbol.name.clone(), symbol.weak);
    }
}

/// The helpers that a program calls.
fn helpers(program: &ProgramSpec) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut slots = program.insns.iter();
    while let Some(slot) = slots.next() {
        match slot.code {
            // The second half is no instruction, whatever it looks like.
            LDDW => drop(slots.next()),
            CALL if slot.src == 0 => {
                found.insert(slot.imm.cast_unsigned());
            }
            _ => {}
        }
    }
    found
}
