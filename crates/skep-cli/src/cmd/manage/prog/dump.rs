//! `skep prog dump`: the instructions of a program, before and after the kernel's compiler.

use std::{fs, io::Write};

use anyhow::Context as _;
use skep::{
    btf::Btf,
    kernel::inspect::{self, Code, Kind, ProgramInfo},
};

use super::{graph, jited, xlated};
use crate::{
    cmd::manage::{
        rights, select,
        words::{Words, unexpected},
    },
    exit::{Cannot, DONE, usage},
    output::{Out, Print},
};

/// Print the instructions of a program as the kernel runs them.
///
/// Machine code comes as bytes with the functions and source lines they belong to; it is not taken
/// apart.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// The instructions after the verifier's rewriting, or the machine code made of them.
    #[arg(value_name = "WHAT", value_enum)]
    what: What,
    /// `id N`, `name NAME`, `tag TAG` or `pinned PATH`; then `opcodes`, `linum`, `visual` (a graph in
    /// DOT, of xlated only) or `file FILE` (the bytes, into a file).
    #[arg(value_name = "PROG", required = true)]
    words: Vec<String>,
    /// Leave the source lines out.
    #[arg(long)]
    no_source: bool,
    #[command(flatten)]
    print: Print,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Xlated,
    Jited,
}

/// What is shown beside the instructions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Source lines.
    pub(super) source: bool,
    /// File, line and column of them.
    pub(super) linum: bool,
    /// Bytes of the instructions.
    pub(super) opcodes: bool,
    visual: bool,
}

/// A program with all that names its parts.
pub(super) struct Loaded {
    pub(super) info: ProgramInfo,
    pub(super) code: Code,
    pub(super) btf: Option<Btf>,
}

impl Loaded {
    /// A program by its id; none when it is gone.
    fn read(id: u32) -> anyhow::Result<Option<Self>> {
        let Some(info) = rights("reading a program", inspect::program(id))? else {
            return Ok(None);
        };
        let Some(code) = rights("reading a program", inspect::code(id))? else { return Ok(None) };
        let btf = info.btf_id.and_then(|id| inspect::types(id).ok().flatten());
        Ok(Some(Self { info, code, btf }))
    }

    /// Name of the function that begins at this slot.
    pub(super) fn function_at(&self, pc: usize) -> Option<&str> {
        let here = |at: u32| usize::try_from(at) == Ok(pc);
        let (_, ty) = self.code.functions.iter().find(|(at, _)| here(*at))?;
        self.btf.as_ref()?.name(*ty)
    }
}

/// The instructions are not shown to this process.
pub(super) fn hidden(id: u32, what: &str) -> anyhow::Error {
    let missing = format!("the kernel does not show the {what} of program {id}");
    let hint = "instructions are shown with CAP_PERFMON, machine code with CAP_SYSLOG or \
                kernel.kptr_restrict = 0, where there is a compiler (net.core.bpf_jit_enable)";
    Cannot { missing, hint: hint.into() }.into()
}

const EXPECTED: &str = "opcodes, linum, visual or file FILE";

impl Dump {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = Words(&self.words);
        let ids = select::take(Kind::Program, &mut words.0)?.unwrap_or_default();
        let mut style = Style { source: !self.no_source, ..Style::default() };
        let mut file = None;
        while let Some(word) = words.next() {
            match word {
                "opcodes" => style.opcodes = true,
                "linum" => style.linum = true,
                "visual" if self.what == What::Xlated => style.visual = true,
                "file" => file = Some(words.value(word)?),
                other => return Err(unexpected(other, EXPECTED)),
            }
        }
        if ids.len() > 1 && (style.visual || file.is_some()) {
            return Err(select::several(&ids));
        }
        for id in &ids {
            let Some(program) = Loaded::read(*id)? else { continue };
            if let Some(path) = file {
                self.save(&program, path)?;
            } else if style.visual {
                self.draw(&program, out)?;
            } else {
                if ids.len() > 1 && self.print.format() == crate::output::Format::Text {
                    writeln!(out, "{id}:")?;
                }
                let mut out = Out::new(out, self.print.format());
                match self.what {
                    What::Xlated => xlated::dump(&program, style, &mut out)?,
                    What::Jited => jited::dump(&program, style, &mut out)?,
                }
            }
        }
        Ok(DONE)
    }

    fn save(&self, program: &Loaded, path: &str) -> anyhow::Result<()> {
        let (bytes, what) = match self.what {
            What::Xlated => {
                let slots = program.code.xlated.iter();
                (slots.flat_map(|s| s.to_le_bytes()).collect(), "instructions")
            }
            What::Jited => (program.code.jited.clone(), "machine code"),
        };
        if bytes.is_empty() {
            return Err(hidden(program.info.id, what));
        }
        fs::write(path, bytes).with_context(|| format!("cannot write {path}"))
    }

    fn draw(&self, program: &Loaded, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.print.format() != crate::output::Format::Text {
            return Err(usage("`visual` prints a graph in DOT, which is not JSON"));
        }
        if program.code.xlated.is_empty() {
            return Err(hidden(program.info.id, "instructions"));
        }
        let context = xlated::Context::new(program);
        let graph = graph::Graph::new(&program.code.xlated);
        let name = |pc| program.function_at(pc).unwrap_or("main").to_owned();
        write!(out, "{}", graph.dot(name, |pc| context.line(pc)))?;
        Ok(())
    }
}
