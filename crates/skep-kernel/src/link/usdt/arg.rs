//! Where the arguments of a static probe are: the text `-4@-8(%rbp) 8@%rdi` that the assembler
//! wrote into the note.
//!
//! Each is `SIZE@PLACE`; a negative size means a signed number. Places are operands of the
//! machine's assembler: GNU as for x86-64 (AT&T order) and for aarch64. What `struct pt_regs` has
//! at which offset is from arch/x86/include/uapi/asm/ptrace.h and
//! arch/arm64/include/uapi/asm/ptrace.h.

/// Whose registers the text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// aarch64.
    Aarch64,
}

/// One argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Is it a signed number?
    pub signed: bool,
    /// Where it is.
    pub place: ArgPlace,
}

/// Where an argument is. Registers are byte offsets in `struct pt_regs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgPlace {
    /// It is this number.
    Const(i64),
    /// In a register.
    Register(u16),
    /// In memory, behind a register.
    Memory {
        /// The register with the address.
        base: u16,
        /// Bytes behind it.
        offset: i64,
    },
    /// In memory, behind a register and a multiple of another.
    Indexed {
        /// The register with the address.
        base: u16,
        /// The register with the index.
        index: u16,
        /// The index is multiplied by 2 to the power of this; at most 3.
        shift: u8,
        /// Bytes behind it.
        offset: i64,
    },
}

/// A text that is no argument, or one that programs cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argument {index} '{text}': {reason}")]
pub struct ArgError {
    /// Which, from 0.
    pub index: usize,
    /// How it is written.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads the arguments of a note. One that cannot be read does not spoil the others.
pub fn parse_args(arch: Arch, text: &str) -> Vec<Result<Arg, ArgError>> {
    let one = |(index, text)| {
        parse_arg(arch, text).map_err(|reason| ArgError { index, text: text.to_owned(), reason })
    };
    words(text).enumerate().map(one).collect()
}

/// Words between spaces; spaces in brackets do not count.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    let apart = move |c: char| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c.is_ascii_whitespace()
    };
    text.split(apart).filter(|word| !word.is_empty())
}

fn parse_arg(arch: Arch, text: &str) -> Result<Arg, &'static str> {
    let (size, place) = text.split_once('@').ok_or("it has no size: SIZE@PLACE is expected")?;
    let (size, signed) = match size.strip_prefix('-') {
        Some(size) => (size, true),
        None => (size, false),
    };
    let size = match size {
        "1" => 1,
        "2" => 2,
        "4" => 4,
        "8" => 8,
        _ if size.ends_with('f') => return Err("it is floating point"),
        _ => return Err("its size is not 1, 2, 4 or 8"),
    };
    let place = match arch {
        Arch::X86_64 => x86_64(place),
        Arch::Aarch64 => aarch64(place),
    };
    Ok(Arg { size, signed, place: place? })
}

const NO_NUMBER: &str = "it has no number where one is expected";
const NO_REGISTER: &str = "programs cannot read that register";
const NO_PLACE: &str = "not a place that is known";

/// A number in decimal, or hexadecimal behind `0x`, with or without a sign. Numbers beyond
/// `i64` are the unsigned ones of the same bits.
fn number(text: &str) -> Option<i64> {
    let (digits, negative) = match text.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        // `parse` takes a `+`, the assembler writes none.
        None => digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'))?,
    };
    let value = magnitude.cast_signed();
    Some(if negative { value.wrapping_neg() } else { value })
}

/// A register of x86-64 with its parts, by place in `struct pt_regs`: 64, 32, 16, 8 bits. The
/// second byte of a register lies one byte behind its start.
const X86_64: &[(&str, &[&str], u16)] = &[
    ("r15", &["r15d", "r15w", "r15b"], 0),
    ("r14", &["r14d", "r14w", "r14b"], 8),
    ("r13", &["r13d", "r13w", "r13b"], 16),
    ("r12", &["r12d", "r12w", "r12b"], 24),
    ("rbp", &["ebp", "bp", "bpl"], 32),
    ("rbx", &["ebx", "bx", "bl"], 40),
    ("r11", &["r11d", "r11w", "r11b"], 48),
    ("r10", &["r10d", "r10w", "r10b"], 56),
    ("r9", &["r9d", "r9w", "r9b"], 64),
    ("r8", &["r8d", "r8w", "r8b"], 72),
    ("rax", &["eax", "ax", "al"], 80),
    ("rcx", &["ecx", "cx", "cl"], 88),
    ("rdx", &["edx", "dx", "dl"], 96),
    ("rsi", &["esi", "si", "sil"], 104),
    ("rdi", &["edi", "di", "dil"], 112),
    ("rip", &["eip"], 128),
    ("rsp", &["esp", "sp", "spl"], 152),
    ("bh", &[], 41),
    ("ah", &[], 81),
    ("ch", &[], 89),
    ("dh", &[], 97),
];

fn x86_64_register(text: &str) -> Result<u16, &'static str> {
    let name = text.trim().strip_prefix('%').ok_or(NO_PLACE)?;
    let row = X86_64.iter().find(|(whole, parts, _)| *whole == name || parts.contains(&name));
    row.map(|row| row.2).ok_or(NO_REGISTER)
}

/// `$5`, `%rdi`, `-8(%rbp)`, `16(%rax,%rbx,4)`.
fn x86_64(text: &str) -> Result<ArgPlace, &'static str> {
    if let Some(digits) = text.strip_prefix('$') {
        return number(digits).map(ArgPlace::Const).ok_or(NO_NUMBER);
    }
    let Some((offset, inner)) = text.split_once('(') else {
        return x86_64_register(text).map(ArgPlace::Register);
    };
    let offset = match offset.trim() {
        "" => 0,
        digits => number(digits).ok_or("its offset is a symbol, not a number")?,
    };
    let inner = inner.strip_suffix(')').ok_or(NO_PLACE)?;
    let mut parts = inner.split(',');
    let base = x86_64_register(parts.next().unwrap_or_default())?;
    let Some(index) = parts.next() else { return Ok(ArgPlace::Memory { base, offset }) };
    let index = x86_64_register(index)?;
    let shift = shift_of(parts.next().map_or("1", str::trim))?;
    if parts.next().is_some() {
        return Err(NO_PLACE);
    }
    Ok(ArgPlace::Indexed { base, index, shift, offset })
}

fn shift_of(scale: &str) -> Result<u8, &'static str> {
    match scale {
        "1" => Ok(0),
        "2" => Ok(1),
        "4" => Ok(2),
        "8" => Ok(3),
        _ => Err("its index is multiplied by something else than 1, 2, 4 or 8"),
    }
}

/// `x0` to `x30` and their lower halves `w0` to `w30`, `sp`.
fn aarch64_register(text: &str) -> Result<u16, &'static str> {
    let text = text.trim();
    let name = match text {
        "sp" => return Ok(31 * 8),
        "fp" => "x29",
        "lr" => "x30",
        name => name,
    };
    let digits = name.strip_prefix(['x', 'w']).ok_or(NO_REGISTER)?;
    let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit());
    let number = digits.parse::<u16>().ok().filter(|&n| plain && n <= 30);
    number.map(|n| n * 8).ok_or(NO_REGISTER)
}

/// `5`, `x0`, `[sp, 16]`, `[x0, x1, lsl 3]`.
fn aarch64(text: &str) -> Result<ArgPlace, &'static str> {
    let literal = |text: &str| number(text.strip_prefix('#').unwrap_or(text));
    if let Some(n) = literal(text) {
        return Ok(ArgPlace::Const(n));
    }
    let Some(inner) = text.strip_prefix('[') else {
        return match text {
            "xzr" | "wzr" => Ok(ArgPlace::Const(0)),
            _ => aarch64_register(text).map(ArgPlace::Register),
        };
    };
    let inner = inner.strip_suffix(']').ok_or(NO_PLACE)?;
    let mut parts = inner.split(',').map(str::trim);
    let base = aarch64_register(parts.next().unwrap_or_default())?;
    let Some(second) = parts.next() else { return Ok(ArgPlace::Memory { base, offset: 0 }) };
    let modifier = parts.next();
    if parts.next().is_some() {
        return Err(NO_PLACE);
    }
    if let (Some(offset), None) = (literal(second), modifier) {
        return Ok(ArgPlace::Memory { base, offset });
    }
    // The lower half of a register as an index is extended first: no place a program can read.
    if !second.starts_with('x') {
        return Err(NO_PLACE);
    }
    let index = aarch64_register(second)?;
    let shift = match modifier {
        None => 0,
        Some(text) => {
            let amount = text.strip_prefix("lsl").and_then(|amount| literal(amount.trim()));
            let amount = amount.and_then(|n| u8::try_from(n).ok()).filter(|&n| n <= 3);
            amount.ok_or(NO_PLACE)?
        }
    };
    Ok(ArgPlace::Indexed { base, index, shift, offset: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(size: u8, signed: bool, place: ArgPlace) -> Arg {
        Arg { size, signed, place }
    }

    fn good(arch: Arch, text: &str) -> Vec<Arg> {
        parse_args(arch, text).into_iter().map(|arg| arg.unwrap()).collect()
    }

    #[test]
    fn operands_of_x86_64() {
        use ArgPlace::{Const, Indexed, Memory, Register};
        for (text, want) in [
            ("-4@$-9", at(4, true, Const(-9))),
            ("8@$18446744073709551615", at(8, false, Const(-1))),
            ("8@$0x10", at(8, false, Const(16))),
            ("8@%rdi", at(8, false, Register(112))),
            ("-4@%eax", at(4, true, Register(80))),
            ("-2@%cx", at(2, true, Register(88))),
            ("-1@%sil", at(1, true, Register(104))),
            ("1@%ah", at(1, false, Register(81))),
            ("8@%r15", at(8, false, Register(0))),
            ("4@%r8d", at(4, false, Register(72))),
            ("-4@-1204(%rbp)", at(4, true, Memory { base: 32, offset: -1204 })),
            ("8@(%rsp)", at(8, false, Memory { base: 152, offset: 0 })),
            ("8@16(%rip)", at(8, false, Memory { base: 128, offset: 16 })),
            (
                "-1@-96(%rbp,%rax,8)",
                at(1, true, Indexed { base: 32, index: 80, shift: 3, offset: -96 }),
            ),
            ("2@(%rdi,%rsi)", at(2, false, Indexed { base: 112, index: 104, shift: 0, offset: 0 })),
        ] {
            assert_eq!(good(Arch::X86_64, text), [want], "{text}");
        }
    }

    #[test]
    fn operands_of_aarch64() {
        use ArgPlace::{Const, Indexed, Memory, Register};
        for (text, want) in [
            ("4@5", at(4, false, Const(5))),
            ("-4@-5", at(4, true, Const(-5))),
            ("-8@x4", at(8, true, Register(32))),
            ("4@w30", at(4, false, Register(240))),
            ("8@sp", at(8, false, Register(248))),
            ("8@xzr", at(8, false, Const(0))),
            ("-4@[sp, 96]", at(4, true, Memory { base: 248, offset: 96 })),
            ("-4@[x29,-8]", at(4, true, Memory { base: 232, offset: -8 })),
            ("4@[x0, #16]", at(4, false, Memory { base: 0, offset: 16 })),
            ("8@[x1]", at(8, false, Memory { base: 8, offset: 0 })),
            ("8@[x1, x2]", at(8, false, Indexed { base: 8, index: 16, shift: 0, offset: 0 })),
            (
                "8@[x1, x2, lsl 3]",
                at(8, false, Indexed { base: 8, index: 16, shift: 3, offset: 0 }),
            ),
        ] {
            assert_eq!(good(Arch::Aarch64, text), [want], "{text}");
        }
    }

    #[test]
    fn arguments_stand_between_spaces_outside_brackets() {
        assert_eq!(good(Arch::Aarch64, " 4@[sp, 96]  8@x1 ").len(), 2);
        assert_eq!(good(Arch::X86_64, "-4@$1 8@%rdi -4@-8(%rbp)").len(), 3);
        assert!(good(Arch::X86_64, "").is_empty());
        let mixed = parse_args(Arch::X86_64, "4@%eax 8f@%xmm0 4@%ecx");
        assert!(mixed[0].is_ok() && mixed[2].is_ok());
        let error = mixed[1].clone().unwrap_err();
        assert_eq!((error.index, error.text.as_str()), (1, "8f@%xmm0"));
    }

    #[test]
    fn what_is_no_operand_is_refused() {
        for text in [
            "8",
            "@",
            "8@",
            "3@%rax",
            "-8",
            "8@rax",
            "8@%xmm0",
            "8@$x",
            "8@$",
            "8@(",
            "8@()",
            "8@(%rax",
            "8@x(%rip)",
            "8@(%rax,%rbx,3)",
            "8@(%rax,%rbx,4,5)",
            "8@(,%rbx,4)",
            "8@$-+5",
            "8@%",
            "16@%rax",
            "8@(%rax))",
        ] {
            assert!(parse_args(Arch::X86_64, text)[0].is_err(), "{text}");
        }
        for text in [
            "8@x31",
            "8@[x0",
            "8@[]",
            "8@[x0, x1, lsl 4]",
            "8@[x0, w1, sxtw 3]",
            "8@[x0, 1, 2]",
            "8@x-1",
            "8@x+1",
            "8@x001",
            "8@q0",
            "8@%rax",
        ] {
            assert!(parse_args(Arch::Aarch64, text)[0].is_err(), "{text}");
        }
    }
}
