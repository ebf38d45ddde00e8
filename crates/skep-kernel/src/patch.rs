//! References to live objects, written into instructions.

use skep_isa::{Pc, Slot};

/// What a reference becomes on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Descriptor of a map.
    #[doc(alias = "BPF_PSEUDO_MAP_FD")]
    Map(i32),
    /// Descriptor of a one-element map, and an offset in its value.
    #[doc(alias = "BPF_PSEUDO_MAP_VALUE")]
    MapValue(i32, u32),
    /// A map that is not made: the verifier must find the place unreachable.
    MissingMap(u32),
    /// Kernel variable or function, by its number in the kernel's BTF, or in that of a module with
    /// this descriptor.
    #[doc(alias = "BPF_PSEUDO_BTF_ID")]
    KernelVar(u32, i32),
    /// A plain 64-bit number: an address, or 0 for a weak symbol that is not there.
    Number(u64),
    /// Kernel function, by its number in the kernel's BTF (0), or in that of the module at this
    /// index of the descriptors.
    #[doc(alias = "BPF_PSEUDO_KFUNC_CALL")]
    Kfunc(u32, i16),
    /// A weak kernel function that is not there: the verifier must find the call unreachable.
    MissingKfunc(u32),
}

const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
const PSEUDO_BTF_ID: u8 = 3;
const PSEUDO_KFUNC_CALL: u8 = 2;
/// No helper has a number this large; the log of a reached call names it.
const MISSING_MAP_BASE: u32 = 2_001_000_000;
/// As for maps.
const MISSING_KFUNC_BASE: u32 = 2_002_000_000;

const LDDW: u8 = 0x18;
const CALL: u8 = 0x85;

/// Why a reference cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PatchError {
    #[error("{at} is not in the program, which has {slots} slots")]
    Outside { at: Pc, slots: usize },
    #[error("{at} has opcode {code:#04x}, a reference to {what} needs {want:#04x}")]
    WrongInsn { at: Pc, code: u8, want: u8, what: &'static str },
}

/// Writes one reference.
pub(crate) fn fill(insns: &mut [Slot], at: Pc, what: Fill) -> Result<(), PatchError> {
    match what {
        Fill::Map(fd) => wide(insns, at, "a map", PSEUDO_MAP_FD, fd, 0),
        Fill::MapValue(fd, offset) => {
            wide(insns, at, "a map value", PSEUDO_MAP_VALUE, fd, offset.cast_signed())
        }
        Fill::MissingMap(index) => {
            // Both halves become calls.
            let number = missing(MISSING_MAP_BASE, index);
            wide(insns, at, "a map", 0, number, number)?;
            for slot in insns.iter_mut().skip(at.index()).take(2) {
                *slot = Slot { code: CALL, imm: number, ..Slot::default() };
            }
            Ok(())
        }
        Fill::KernelVar(id, module) => {
            wide(insns, at, "a kernel variable", PSEUDO_BTF_ID, id.cast_signed(), module)
        }
        Fill::Number(number) => {
            let (low, high) = halves(number);
            wide(insns, at, "an address", 0, low, high)
        }
        Fill::Kfunc(id, index) => call(insns, at, (PSEUDO_KFUNC_CALL, index, id.cast_signed())),
        Fill::MissingKfunc(index) => call(insns, at, (0, 0, missing(MISSING_KFUNC_BASE, index))),
    }
}

/// The helper number that stands for something missing.
fn missing(base: u32, index: u32) -> i32 {
    (base + index.min(0xffff)).cast_signed()
}

/// Which extern a helper number of [`Fill::MissingKfunc`] stands for.
pub(crate) fn missing_kfunc(helper: u32) -> Option<usize> {
    missing_index(MISSING_KFUNC_BASE, helper)
}

/// Which map a helper number of [`Fill::MissingMap`] stands for.
pub(crate) fn missing_map(helper: u32) -> Option<usize> {
    missing_index(MISSING_MAP_BASE, helper)
}

fn missing_index(base: u32, helper: u32) -> Option<usize> {
    helper.checked_sub(base).filter(|&index| index <= 0xffff).map(|index| index as usize)
}

fn halves(number: u64) -> (i32, i32) {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
}

fn wide(
    insns: &mut [Slot],
    at: Pc,
    what: &'static str,
    src: u8,
    low: i32,
    high: i32,
) -> Result<(), PatchError> {
    let slots = insns.len();
    let Some([first, second]) =
        insns.get_mut(at.index()..).and_then(<[Slot]>::first_chunk_mut::<2>)
    else {
        return Err(PatchError::Outside { at, slots });
    };
    if first.code != LDDW {
        return Err(PatchError::WrongInsn { at, code: first.code, want: LDDW, what });
    }
    (first.src, first.imm) = (src, low);
    (second.src, second.imm) = (0, high);
    Ok(())
}

fn call(insns: &mut [Slot], at: Pc, (src, off, imm): (u8, i16, i32)) -> Result<(), PatchError> {
    let slots = insns.len();
    let Some(slot) = insns.get_mut(at.index()) else {
        return Err(PatchError::Outside { at, slots });
    };
    if slot.code != CALL {
        let what = "a kernel function";
        return Err(PatchError::WrongInsn { at, code: slot.code, want: CALL, what });
    }
    (slot.src, slot.off, slot.imm) = (src, off, imm);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lddw() -> [Slot; 2] {
        let first = Slot { code: LDDW, dst: 3, src: 9, off: 0, imm: 77 };
        [first, Slot { imm: 5, ..Slot::default() }]
    }

    #[test]
    fn references_keep_the_register_and_set_the_rest() {
        let cases = [
            (Fill::Map(7), (1, 7, 0)),
            (Fill::MapValue(7, 12), (2, 7, 12)),
            (Fill::KernelVar(9, 0), (3, 9, 0)),
            (Fill::KernelVar(9, 4), (3, 9, 4)),
            (Fill::Number(0xffff_ffff_8000_0001), (0, i32::MIN + 1, -1)),
        ];
        for (what, (src, low, high)) in cases {
            let mut insns = lddw();
            fill(&mut insns, Pc(0), what).unwrap();
            assert_eq!((insns[0].src, insns[0].imm, insns[1].imm), (src, low, high), "{what:?}");
            assert_eq!(insns[0].dst, 3);
        }
    }

    #[test]
    fn a_reference_at_the_wrong_place_is_an_error() {
        let mut insns = lddw();
        let past = fill(&mut insns, Pc(1), Fill::Map(1));
        assert_eq!(past, Err(PatchError::Outside { at: Pc(1), slots: 2 }));
        assert!(fill(&mut insns, Pc(9), Fill::Kfunc(1, 0)).is_err());
        let wrong = fill(&mut insns, Pc(0), Fill::Kfunc(1, 0));
        assert!(matches!(wrong, Err(PatchError::WrongInsn { code: 0x18, want: 0x85, .. })));
        assert_eq!(insns, lddw());
    }

    #[test]
    fn kernel_functions_are_called_by_number() {
        let mut insns = [Slot { code: CALL, dst: 0, src: 1, off: 3, imm: -1 }];
        fill(&mut insns, Pc(0), Fill::Kfunc(300, 2)).unwrap();
        assert_eq!((insns[0].src, insns[0].off, insns[0].imm), (2, 2, 300));
        fill(&mut insns, Pc(0), Fill::MissingKfunc(4)).unwrap();
        assert_eq!((insns[0].src, insns[0].imm), (0, 2_002_000_004));
        assert_eq!(missing_kfunc(2_002_000_004), Some(4));
        assert_eq!(missing_kfunc(195_896_080), None);
    }

    #[test]
    fn a_map_that_is_not_made_becomes_a_call_of_nothing() {
        let mut insns = lddw();
        fill(&mut insns, Pc(0), Fill::MissingMap(3)).unwrap();
        assert_eq!(insns, [Slot { code: CALL, imm: 2_001_000_003, ..Slot::default() }; 2]);
        assert_eq!((missing_map(2_001_000_003), missing_kfunc(2_001_000_003)), (Some(3), None));
        assert_eq!(missing_map(2_002_000_003), None);
    }
}
