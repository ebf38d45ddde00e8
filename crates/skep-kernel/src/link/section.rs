//! Probes as section names spell them: `kprobe/function+offset`, `uprobe/binary:function+offset`.

use skep_abi::section::{self, AutoAttach};

use super::{
    AttachError, Kprobe, KprobeMulti, Link, Place, Uprobe, Usdt, attach_kprobe,
    attach_kprobe_multi, attach_uprobe, attach_uprobe_multi, attach_usdt, kprobe::ksyscall,
};
use crate::program::Program;

const FUNCTION: &str = "'function' or 'function+offset'";
const STATIC_PROBE: &str = "'binary:provider:name'";
const USER_FUNCTION: &str = "'binary:function' or 'binary:function+offset'";

/// Attaches a kprobe or uprobe program where its section name says; uprobes of one process where
/// `pid` says so.
pub(super) fn attach_probe(
    program: &Program,
    pid: Option<u32>,
    cookie: u64,
) -> Result<Link, AttachError> {
    let needs = |needs| AttachError::NeedsTarget {
        program: program.name().to_owned(),
        hook: "kprobe or uprobe",
        needs,
    };
    let found = program.section().and_then(section::find);
    let def =
        found.map(|found| found.def).ok_or_else(|| needs("a section name that says where"))?;
    let to = program.attach_to().filter(|to| !to.is_empty());
    let returns = def.name.starts_with("kret") || def.name.starts_with("uret");
    let bad = |expected| AttachError::Name {
        program: program.name().to_owned(),
        hook: def.name,
        target: to.unwrap_or_default().to_owned(),
        expected,
    };
    match def.attach {
        AutoAttach::Kprobe => {
            let to = to.ok_or_else(|| needs("a function's name"))?;
            let (function, offset) = with_offset(to).ok_or_else(|| bad(FUNCTION))?;
            if returns && offset != 0 {
                return Err(bad("function: a return has no offset"));
            }
            attach_kprobe(program, &Kprobe { function, offset, returns, cookie })
        }
        AutoAttach::Ksyscall => {
            let to = to.ok_or_else(|| needs("a system call's name"))?;
            ksyscall(program, to, returns, cookie)
        }
        AutoAttach::KprobeMulti => {
            let to = to.ok_or_else(|| needs("a function's name, or a pattern"))?;
            let probe = KprobeMulti { functions: &[to], cookies: &[cookie], returns };
            attach_kprobe_multi(program, &probe)
        }
        AutoAttach::Uprobe | AutoAttach::UprobeMulti => {
            let to = to.ok_or_else(|| needs(USER_FUNCTION))?;
            let many = def.attach == AutoAttach::UprobeMulti;
            let (binary, place) = user_place(to, many).ok_or_else(|| bad(USER_FUNCTION))?;
            let behind = matches!(place, Place::Function(_, 1..));
            if returns && behind {
                return Err(bad("function: a return has no offset"));
            }
            let probe = Uprobe { binary, place, returns, pid, reference_counter: 0, cookie };
            if many { attach_uprobe_multi(program, &probe) } else { attach_uprobe(program, &probe) }
        }
        AutoAttach::Usdt => {
            let to = to.ok_or_else(|| needs(STATIC_PROBE))?;
            let probe = Usdt::parse(to).ok_or_else(|| bad(STATIC_PROBE))?;
            attach_usdt(program, &Usdt { pid, cookie, ..probe })
        }
        _ => Err(needs("a section name of a kprobe or uprobe")),
    }
}

/// `function+0x10`; `None` when what stands behind the `+` is no number.
fn with_offset(text: &str) -> Option<(&str, u64)> {
    match text.rsplit_once('+') {
        None => Some((text, 0)),
        Some((name, offset)) => number(offset).map(|offset| (name, offset)),
    }
    .filter(|(name, _)| !name.is_empty())
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `binary:function+offset`, `binary:pattern`, or with a number alone a place in the file.
fn user_place(text: &str, many: bool) -> Option<(&str, Place<'_>)> {
    let (binary, place) = text.rsplit_once(':')?;
    if binary.is_empty() || place.is_empty() {
        return None;
    }
    let place = match number(place) {
        Some(offset) => Place::Offset(offset),
        None if many => Place::Pattern(place),
        None => with_offset(place).map(|(name, offset)| Place::Function(name, offset))?,
    };
    Some((binary, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_section_names_spell_them() {
        assert_eq!(with_offset("f"), Some(("f", 0)));
        assert_eq!(with_offset("f.isra.0+0x1f"), Some(("f.isra.0", 31)));
        assert_eq!(with_offset("f+10"), Some(("f", 10)));
        for wrong in ["", "f+", "f+x", "+1"] {
            assert_eq!(with_offset(wrong), None, "{wrong}");
        }
        let place = user_place("/proc/self/exe:f+4", false);
        assert!(matches!(place, Some(("/proc/self/exe", Place::Function("f", 4)))), "{place:?}");
        let place = user_place("libc.so.6:0x400", false);
        assert!(matches!(place, Some(("libc.so.6", Place::Offset(0x400)))), "{place:?}");
        let place = user_place("/bin/x:a*", true);
        assert!(matches!(place, Some(("/bin/x", Place::Pattern("a*")))), "{place:?}");
        for wrong in ["libc", ":f", "libc:", "libc:f+"] {
            assert!(user_place(wrong, false).is_none(), "{wrong}");
        }
    }
}
