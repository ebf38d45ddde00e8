//! Errors, one enum per phase.

use std::{fmt, io, path::PathBuf};

use skep_isa::Pc;

use crate::sys::SysError;

/// An operation on a map failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", map_text(map))]
pub struct MapError {
    /// The map's name; empty when it has none.
    pub map: String,
    /// What failed.
    #[source]
    pub source: SysError,
}

impl MapError {
    /// The errno, as the embedded engine's maps give it for the same mistake.
    pub fn errno(&self) -> i32 {
        self.source.errno()
    }
}

fn map_text(name: &str) -> String {
    if name.is_empty() { "a map without a name".into() } else { format!("map '{name}'") }
}

/// Loading an object, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The kernel's verifier rejected a program.
    #[error("program '{program}' rejected by the kernel{}: {summary}", at_text(log.place()))]
    Rejected {
        /// The program.
        program: String,
        /// What `BPF_PROG_LOAD` returned.
        errno: i32,
        /// The last meaningful line of the log.
        summary: String,
        /// The whole log.
        log: VerifierLog,
    },
    /// The kernel refused a program without looking at its instructions, or the call failed.
    #[error("program '{program}' not loaded{}", hint_text(hint.as_deref()))]
    Refused {
        /// The program.
        program: String,
        /// What that means here, where the errno alone misleads.
        hint: Option<String>,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A program cannot be handed to the kernel as it is.
    #[error("program '{program}': {reason}")]
    Program {
        /// The program.
        program: String,
        /// Why not.
        reason: String,
    },
    /// No rule says what kind of program this is.
    #[error("program '{program}': section '{section}' names no program type")]
    NoType {
        /// The program.
        program: String,
        /// Its section.
        section: String,
    },
    /// A map could not be made or filled.
    #[error("cannot set up map '{map}'")]
    Map {
        /// The map.
        map: String,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A map could not be pinned, or what is pinned in its place could not be opened.
    #[error("map '{map}' cannot be pinned at {}", path.display())]
    Pin {
        /// The map.
        map: String,
        /// Where it belongs.
        path: PathBuf,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A map's definition cannot work.
    #[error("map '{map}': {reason}")]
    MapDefinition {
        /// The map.
        map: String,
        /// Why not.
        reason: String,
    },
    /// A map of `struct_ops` does not fit the kernel's structure.
    #[error("map '{map}': {problem}")]
    StructOps {
        /// The map.
        map: String,
        /// What does not fit.
        problem: StructOpsProblem,
    },
    /// A pinned map is not the map the object defines.
    #[error("map '{map}' is pinned at {} with {found}, the object wants {expected}", path.display())]
    PinMismatch {
        /// The map.
        map: String,
        /// Where it is pinned.
        path: PathBuf,
        /// Shape of the pinned map.
        found: String,
        /// Shape in the object.
        expected: String,
    },
    /// A symbol of the kernel that a program refers to is not there.
    #[error("program '{program}' refers to {what} '{symbol}', which this kernel does not have")]
    NoSymbol {
        /// The program.
        program: String,
        /// Kind of symbol.
        what: &'static str,
        /// Its name.
        symbol: String,
    },
    /// A symbol of the kernel is not what the object takes it for.
    #[error(
        "program '{program}' refers to {what} '{symbol}' as `{expected}`, which is `{found}` in \
         this kernel"
    )]
    SymbolType {
        /// The program.
        program: String,
        /// Kind of symbol.
        what: &'static str,
        /// Its name.
        symbol: String,
        /// Its type in the object.
        expected: String,
        /// Its type in the kernel.
        found: String,
    },
    /// The loaded program that a program attaches to has no such function.
    #[error("program '{program}' has nothing to attach to")]
    Function {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: Box<crate::program::FunctionError>,
    },
    /// The rights to load with could not be had.
    #[error("no BPF token")]
    Token(#[source] SysError),
    /// What the target (the running kernel) tells about itself could not be read.
    #[error("cannot read the running kernel's description")]
    Target(#[from] TargetError),
    /// The kernel refused the object's BTF.
    #[error("BTF refused by the kernel: {summary}")]
    Btf {
        /// What `BPF_BTF_LOAD` returned.
        errno: i32,
        /// The last meaningful line of the log.
        summary: String,
        /// The whole log.
        log: VerifierLog,
    },
}

/// Why a structure of functions does not fit this kernel. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StructOpsProblem {
    /// Programs cannot implement the structure.
    #[error("this kernel has no 'struct {name}' that programs can implement")]
    NoType {
        /// The structure.
        name: String,
    },
    /// The kernel's structure is larger than any should be.
    #[error("the kernel's value has {bytes} bytes, more than this loader takes")]
    TooLarge {
        /// Its size.
        bytes: u32,
    },
    /// The object does not say what it is.
    #[error("its type is not a structure with a name")]
    Anonymous,
    /// A member that is set is not in the kernel's structure.
    #[error(
        "member '{member}' is set, and 'struct {structure}' of this kernel has none of that name"
    )]
    NoMember {
        /// The member.
        member: String,
        /// The structure.
        structure: String,
    },
    /// A bitfield.
    #[error("member '{member}' is a bitfield, which cannot be set")]
    Bitfield {
        /// The member.
        member: String,
    },
    /// The object and the kernel disagree about a member.
    #[error("member '{member}' is {} in this kernel, expected {}", a_kind(*found), a_kind(*expected))]
    Kind {
        /// The member.
        member: String,
        /// Its kind in the object.
        expected: skep_btf::KindTag,
        /// Its kind in the kernel.
        found: skep_btf::KindTag,
    },
    /// As for `Kind`, about the size.
    #[error("member '{member}' has {found} bytes in this kernel, expected {expected}")]
    Size {
        /// The member.
        member: String,
        /// Its size in the object.
        expected: usize,
        /// Its size in the kernel.
        found: usize,
    },
    /// A member without size, or outside of the structure.
    #[error("member '{member}' has no size, or lies outside of its structure")]
    NoSize {
        /// The member.
        member: String,
    },
    /// A program is stored where the kernel has no function pointer.
    #[error("member '{member}' is no function pointer in this kernel, and holds a program")]
    NotFunction {
        /// The member.
        member: String,
    },
    /// A pointer that is neither null nor a program.
    #[error("member '{member}' is a pointer, which can hold nothing but a program")]
    Pointer {
        /// The member.
        member: String,
    },
    /// A program is stored between members.
    #[error("no member starts at byte {offset}, where a program is stored")]
    NoPlace {
        /// Where it is.
        offset: u32,
    },
    /// A program of another type.
    #[error("member '{member}' holds program '{program}', which is no struct_ops program")]
    NotStructOps {
        /// The member.
        member: String,
        /// The program.
        program: String,
    },
    /// A program was loaded for one member, and cannot be used as another.
    #[error(
        "member '{member}' holds program '{program}', which is member '{other}' of another \
         structure: a program can be only one"
    )]
    Reused {
        /// The member.
        member: String,
        /// The program.
        program: String,
        /// What it is already.
        other: String,
    },
}

/// A kind of type, as a sentence has it.
fn a_kind(kind: skep_btf::KindTag) -> &'static str {
    use skep_btf::KindTag;
    match kind {
        KindTag::Ptr => "a pointer",
        KindTag::Int => "an integer",
        KindTag::Array => "an array",
        KindTag::Struct => "a structure",
        KindTag::Union => "a union",
        KindTag::Enum | KindTag::Enum64 => "an enumeration",
        KindTag::Float => "a floating point number",
        _ => "of a kind that has no values",
    }
}

/// An object could not be resolved for the running kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HereError {
    /// The kernel's description of itself could not be read.
    #[error("cannot read the running kernel's description")]
    Target(#[from] TargetError),
    /// The object does not fit this kernel.
    #[error("cannot resolve the object for the running kernel")]
    Resolve(#[from] skep_object::resolve::ResolveError),
}

/// The running kernel's description of itself could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A file could not be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An ELF file has no types.
    #[error("{} has no section .BTF", path.display())]
    NoTypes {
        /// The file.
        path: PathBuf,
    },
    /// The types are there, in an archive.
    #[error("{} is packed: tar -xJf unpacks it", path.display())]
    Packed {
        /// The archive.
        path: PathBuf,
    },
    /// A directory has no types for the running kernel.
    #[error("{} has no types for the running kernel; looked for {}", root.display(), list(tried))]
    NoneFor {
        /// The directory.
        root: PathBuf,
        /// Where they could be.
        tried: Vec<PathBuf>,
    },
    /// The kernel's BTF does not parse.
    #[error("BTF in {} is malformed", path.display())]
    Btf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: skep_btf::BtfError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn hint_text(hint: Option<&str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// A verifier log. `Debug` prints its size only: logs run to megabytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VerifierLog {
    /// The text; its beginning or end may be missing when `truncated`.
    pub text: String,
    /// Did the log not fit the largest buffer the kernel takes?
    pub truncated: bool,
}

impl fmt::Debug for VerifierLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.truncated { ", truncated" } else { "" };
        write!(f, "VerifierLog({} bytes{cut})", self.text.len())
    }
}

impl VerifierLog {
    /// The last line that says something, with the number of lines left out.
    ///
    /// The verifier ends with statistics, and a rejected program's state dump may follow the
    /// sentence that matters.
    pub fn summary(&self) -> Option<String> {
        let mut lines = self.text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.clone().rev().find(|line| is_meaningful(line));
        let line = line.or_else(|| lines.clone().next_back())?;
        let omitted = lines.by_ref().count() - 1;
        Some(match omitted {
            0 => line.to_owned(),
            1 => format!("{line} (1 line omitted)"),
            n => format!("{line} ({n} lines omitted)"),
        })
    }

    /// The instruction before the sentence that [`Self::summary`] gives, and its line in the source.
    pub fn place(&self) -> Option<Place> {
        let mut before = self.text.lines().map(str::trim).rev();
        before.find(|line| !line.is_empty() && is_meaningful(line))?;
        let pc = before.find_map(instruction)?;
        // A source line stands once, before the first of its instructions.
        Some(Place { pc, source: before.find_map(source_line) })
    }
}

/// Where the verifier gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The instruction.
    pub pc: Pc,
    /// The line it was compiled from, when the program has line information.
    pub source: Option<SourceLine>,
}

/// A line of a program's source, as the verifier quotes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Its text.
    pub text: String,
    /// File and number, `classify.bpf.c:31`; older kernels do not say.
    pub at: Option<String>,
}

impl fmt::Display for Place {
    /// `insn 7, classify.bpf.c:31 "*v += 1;"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pc)?;
        let Some(SourceLine { text, at }) = &self.source else { return Ok(()) };
        let at = at.as_deref().unwrap_or("source");
        write!(f, ", {at} {text:?}")
    }
}

fn at_text(place: Option<Place>) -> String {
    place.map(|place| format!(" at {place}")).unwrap_or_default()
}

/// The number in front of an instruction, `7: (79) r1 = *(u64 *)(r0 +0)`.
fn instruction(line: &str) -> Option<Pc> {
    let (pc, rest) = line.split_once(": (")?;
    let [high, low, b')', ..] = rest.as_bytes() else { return None };
    let opcode = high.is_ascii_hexdigit() && low.is_ascii_hexdigit();
    if opcode { Some(Pc(pc.parse().ok()?)) } else { None }
}

/// A comment with a line of the source, `; *v += 1; @ classify.bpf.c:31`.
fn source_line(line: &str) -> Option<SourceLine> {
    let text = line.strip_prefix("; ")?;
    let cut = text.rsplit_once(" @ ").filter(|(_, at)| {
        at.rsplit_once(':').is_some_and(|(_, number)| number.parse::<u32>().is_ok())
    });
    let (text, at) = cut.map_or((text, None), |(text, at)| (text, Some(at.to_owned())));
    Some(SourceLine { text: text.to_owned(), at })
}

/// The text of a log buffer: up to its first NUL.
pub(crate) fn until_nul(buffer: &[u8]) -> String {
    let text = buffer.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Beginnings of lines that are bookkeeping, not a reason.
const BOOKKEEPING: &[&str] = &[
    "processed ",
    "verification time ",
    "stack depth ",
    "max_states_per_insn ",
    "peak_states ",
    "mark_read ",
    "insns processed ",
    "from ",
    "; ",
    "caller:",
    "callee:",
];

fn is_meaningful(line: &str) -> bool {
    if BOOKKEEPING.iter().any(|start| line.starts_with(start)) {
        return false;
    }
    // `7: (95) exit`, and the registers behind it: `R0=scalar() R10=fp0`, `fp-8=mmmmmmmm`.
    let at_insn = line.split_once(": ").is_some_and(|(pc, _)| pc.parse::<u32>().is_ok());
    let first = line.split_whitespace().next().unwrap_or(line);
    let state = (first.starts_with('R') || first.starts_with("fp-")) && first.contains('=');
    !at_insn && !state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_last_instruction_before_the_sentence() {
        let cases = [
            ("", None),
            ("unknown opcode 06\n", None),
            // Nothing but bookkeeping: there is no sentence.
            ("0: (95) exit\nprocessed 1 insns\n", None),
            ("0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n", Some("insn 0")),
            (
                "0: R1=ctx() R10=fp0\n; k = ctx->x; @ a.bpf.c:6\n0: (61) r1 = *(u32 *)(r1 +12)\n\
                 ; *v += 1; @ dir/a.bpf.c:9\n7: (79) r1 = *(u64 *)(r0 +0)  ; R1=scalar()\n\
                 8: (07) r1 += 1\nR0 invalid mem access 'map_value_or_null'\nprocessed 7 insns\n",
                Some("insn 8, dir/a.bpf.c:9 \"*v += 1;\""),
            ),
            // Before Linux 6.10 without file and number.
            ("; a @ b;\n3: (b7) r0 = 1\nbad\n", Some("insn 3, source \"a @ b;\"")),
            // What follows the sentence is not before it.
            ("1: (b7) r0 = 1\nbad\n; x; @ a.c:1\n2: (95) exit\n", Some("insn 1")),
            ("1: (é) r0\nbad\n", None),
        ];
        for (text, want) in cases {
            let log = VerifierLog { text: text.into(), truncated: false };
            assert_eq!(log.place().map(|p| p.to_string()).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn the_summary_is_the_sentence_before_the_statistics() {
        let cases = [
            ("", None),
            (
                "0: R1=ctx() R10=fp0\n0: (61) r0 = *(u32 *)(r1 +200)\ninvalid bpf_context access \
                 off=200 size=4\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n",
                Some("invalid bpf_context access off=200 size=4 (3 lines omitted)"),
            ),
            (
                "0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n\n",
                Some("R0 !read_ok (2 lines omitted)"),
            ),
            (
                "0: R1=ctx() R10=fp0\n0: (85) call 1\nR1 type=ctx expected=map_ptr\nprocessed 1 x",
                Some("R1 type=ctx expected=map_ptr (3 lines omitted)"),
            ),
            ("unknown opcode 06", Some("unknown opcode 06")),
            ("processed 5 insns", Some("processed 5 insns")),
        ];
        for (text, want) in cases {
            let log = VerifierLog { text: text.into(), truncated: false };
            assert_eq!(log.summary().as_deref(), want, "{text:?}");
        }
    }
}
