//! `skep asm`: text to instructions.

use std::{
    fs,
    io::{IsTerminal as _, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use skep::{
    isa::{Pc, Slot, asm::assemble},
    spec::{
        ObjectSpec,
        spec::{ProgramSpec, Subprog},
        write::ObjectWriter,
    },
};

use crate::exit::{DONE, usage};

/// Assemble text to eBPF instructions.
///
/// Reads what `skep disasm`, llvm-objdump and the kernel's verifier log print, and the notation of
/// the conformance suite.
#[derive(Debug, clap::Args)]
pub struct Asm {
    /// Text to assemble; `-` is stdin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to write.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
    /// Name of the program in an ELF object.
    #[arg(long, value_name = "NAME", default_value = "program")]
    name: String,
    /// Section of the program in an ELF object; it decides the program type.
    #[arg(long, value_name = "NAME", default_value = "socket")]
    section: String,
    /// License of the program in an ELF object.
    #[arg(long, value_name = "TEXT", default_value = "GPL")]
    license: String,
    /// Write here instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Hex bytes on one line, 8 bytes an instruction slot.
    #[default]
    Hex,
    /// The bytes themselves.
    Raw,
    /// An ELF object with one program.
    Elf,
}

impl Asm {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let text = read_text(&self.file)?;
        let slots = assemble(&text).with_context(|| name_of(&self.file))?;
        let bytes = match self.format {
            Format::Hex => format!("{}\n", hex(&slots)).into_bytes(),
            Format::Raw => bytes(&slots),
            Format::Elf => self.elf(slots)?,
        };
        match &self.output {
            Some(path) => fs::write(path, bytes)
                .with_context(|| format!("cannot write {}", path.display()))?,
            None if self.format != Format::Hex && std::io::stdout().is_terminal() => {
                return Err(usage("binary output to a terminal: give --output FILE or a pipe"));
            }
            None => out.write_all(&bytes)?,
        }
        Ok(DONE)
    }

    fn elf(&self, insns: Vec<Slot>) -> anyhow::Result<Vec<u8>> {
        let len = u32::try_from(insns.len()).context("the program is too long")?;
        let program = ProgramSpec {
            name: self.name.clone(),
            section: self.section.clone(),
            prog_type: None,
            attach_type: None,
            attach_to: None,
            flags: 0,
            autoload: true,
            insns,
            subprogs: vec![Subprog { name: self.name.clone(), start: Pc(0), len, local: false }],
            relocs: Vec::new(),
            core_relos: Vec::new(),
            func_info: Vec::new(),
            line_info: Vec::new(),
            poisoned: Vec::new(),
        };
        let spec = ObjectSpec {
            license: self.license.clone(),
            version: None,
            programs: vec![program],
            maps: Vec::new(),
            externs: Vec::new(),
            btf: None,
        };
        Ok(ObjectWriter::new(&spec).to_bytes()?)
    }
}

/// What errors call a file that may be stdin.
pub fn name_of(path: &Path) -> String {
    if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() }
}

/// A text file, or stdin for `-`.
pub fn read_text(path: &Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).context("cannot read stdin")?;
        return Ok(text);
    }
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn bytes(slots: &[Slot]) -> Vec<u8> {
    slots.iter().flat_map(|s| s.to_le_bytes()).collect()
}

fn hex(slots: &[Slot]) -> String {
    let bytes: Vec<String> = bytes(slots).iter().map(|b| format!("{b:02x}")).collect();
    bytes.join(" ")
}
