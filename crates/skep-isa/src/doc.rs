//! The opcode table as a page of documentation.

use std::fmt::Write as _;

use crate::{
    Insn, Slot,
    opcode::{Field, Form, Row},
    ops::Width,
};

/// `docs/isa.md`, generated from the opcode table.
pub fn isa_markdown() -> String {
    let mut out = String::from(HEAD);
    matrix(&mut out);
    out.push_str(LIST_HEAD);
    for row in Row::all() {
        list_row(&mut out, row).expect("writing to a string does not fail");
    }
    out
}

const HEAD: &str = "\
# Instruction set

Generated from the opcode table of `skep-isa`: `BLESS=1 cargo test -p skep-isa` rewrites it. What is
not here is not an instruction: decoding it is an error that names the slot, the field and what was
expected.

A slot is 8 bytes: opcode, destination and source nibble, 16-bit offset, 32-bit immediate, little
endian. `lddw` (0x18) takes two slots; of the second only the immediate is used, the rest is 0.

`callx` (0x8d) is reserved in RFC 9669. The register number sits in the destination field, as clang
19 emits it; the form of older compilers, with the number in the immediate, is refused because the
immediate is reserved.

## Matrix

Row: the five high bits of the opcode byte. Column: its class, the three low bits. An empty cell is
not defined.

";

const LIST_HEAD: &str = "
## Encodings

`dst`, `src`: a register. `n`: an operand, any value. A number: this value selects the instruction.
A dash: reserved, must be 0. Group: conformance group of RFC 9669; `linux` is not in the RFC.
ISA: the compilers' `-mcpu` version that brought it. The example has `r1` as destination, `r2` as
source, 8 as offset and 5 as immediate.

| opcode | dst | src | offset | immediate | example | group | ISA |
| --- | --- | --- | --- | --- | --- | --- | --- |
";

/// Classes by number, as RFC 9669 names them.
const CLASSES: [&str; 8] = ["LD", "LDX", "ST", "STX", "ALU", "JMP", "JMP32", "ALU64"];

fn matrix(out: &mut String) {
    out.push_str("| |");
    for class in CLASSES {
        out.push_str(&format!(" {class} |"));
    }
    out.push_str("\n| --- |");
    out.push_str(&" --- |".repeat(CLASSES.len()));
    out.push('\n');
    for high in (0..=u8::MAX).step_by(CLASSES.len()) {
        out.push_str(&format!("| {high:#04x} |"));
        for class in 0..8 {
            let mut names: Vec<String> = Row::with_code(high | class).iter().map(name).collect();
            names.dedup();
            let cell = names.join(", ");
            out.push_str(&if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") });
        }
        out.push('\n');
    }
}

/// A short name for a cell of the matrix.
fn name(row: &Row) -> String {
    let of = |reg| if reg { " reg" } else { " imm" };
    match row.form {
        Form::Alu { width, op, reg } => {
            let width = if width == Width::W32 { "32" } else { "" };
            let operand = if op.is_movsx() { "" } else { of(reg) };
            format!("{}{width}{operand}", op.row().mnemonic)
        }
        Form::Swap { op, .. } => op.row().mnemonic.to_owned(),
        Form::AddrSpaceCast => "addr_space_cast".to_owned(),
        Form::LoadImm64 { .. } => "lddw".to_owned(),
        Form::LoadPacket { size, indirect } => {
            format!("skb {size}{}", if indirect { " indirect" } else { "" })
        }
        Form::Load { size, signed } => {
            let row = size.row();
            format!("load {}", if signed { row.signed } else { row.unsigned })
        }
        Form::Store { size, reg } => format!("store {size}{}", of(reg)),
        Form::Atomic { size, .. } => format!("atomic {size}"),
        Form::LoadAcquire { size } => format!("load_acquire {size}"),
        Form::StoreRelease { size } => format!("store_release {size}"),
        Form::Jump { long } => if long { "gotol" } else { "goto" }.to_owned(),
        Form::JumpIf { width, op, reg } => {
            let width = if width == Width::W32 { "32" } else { "" };
            format!("{}{width}{}", op.row().mnemonic, of(reg))
        }
        Form::MayGoto => "may_goto".to_owned(),
        Form::Call { .. } => "call".to_owned(),
        Form::CallReg => "callx".to_owned(),
        Form::Exit => "exit".to_owned(),
    }
}

fn list_row(out: &mut String, row: &Row) -> std::fmt::Result {
    let field = |rule, operand: &str| match rule {
        Field::Zero => "-".to_owned(),
        Field::Is(value) if value > 64 => format!("{value:#x}"),
        Field::Is(value) => value.to_string(),
        Field::Reg => operand.to_owned(),
        Field::Any => "n".to_owned(),
    };
    let sample = row.fill(Slot { code: 0, dst: 1, src: 2, off: 8, imm: 5 });
    let text = Insn::decode(sample, Some(Slot::default()))
        .map_or_else(|error| error.to_string(), |insn| insn.to_string());
    writeln!(
        out,
        "| {:#04x} | {} | {} | {} | {} | `{}` | {} | v{} |",
        row.code,
        field(row.dst, "dst"),
        field(row.src, "src"),
        field(row.off, ""),
        field(row.imm, ""),
        text.replace('|', "\\|"),
        row.group.name(),
        row.version,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_current() {
        let path = skep_testing::repository().join("docs/isa.md");
        let want = isa_markdown();
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &want).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let same = found.lines().zip(want.lines()).take_while(|(found, want)| found == want);
        let line = same.count() + 1;
        assert!(found == want, "docs/isa.md differs from line {line} on; BLESS=1 rewrites it");
    }

    #[test]
    fn every_row_has_an_example() {
        assert!(!isa_markdown().contains("opcode 0x"), "a sample of the table did not decode");
    }
}
