//! Files whose parts multiply each other: many sections times many symbols, many names times many
//! types, one function under many names. Time and memory stay in proportion to the file.

use std::time::{Duration, Instant};

use skep_btf::ext::{BtfExt, CoreRelo, ExtSection};
use skep_btf::{
    Array, Builder, Encoding, Func, Linkage, Member, SecVar, TypeId, Var as Variable, dump,
};
use skep_object::write::ObjectWriter;
use skep_object::{ObjectError, ObjectSpec};

/// In proportion, each takes a fraction of a second; multiplied, minutes.
const SLOW: Duration = Duration::from_secs(20);

const PROGBITS: u32 = 1;
const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;
const NOBITS: u32 = 8;
const EXEC: u64 = 4;

const LOCAL: u8 = 0;
const GLOBAL: u8 = 1;
const OBJECT: u8 = 1;
const FUNC: u8 = 2;
const HIDDEN: u8 = 2;

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// A file in the making. Contents that several sections have stand in it once.
struct File {
    names: Vec<u8>,
    bytes: Vec<u8>,
    headers: Vec<[u8; 64]>,
    symbols: Vec<u8>,
}

impl File {
    fn new() -> Self {
        let mut file =
            Self { names: vec![0], bytes: vec![0; 64], headers: Vec::new(), symbols: vec![0; 24] };
        file.headers.push([0; 64]);
        file
    }

    fn name(&mut self, name: &str) -> u32 {
        let at = self.names.len();
        self.names.extend(name.bytes());
        self.names.push(0);
        u32::try_from(at).expect("small")
    }

    /// Adds contents: where they are.
    fn data(&mut self, data: &[u8]) -> (usize, usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len();
        self.bytes.extend(data);
        (at, data.len())
    }

    /// Adds a section; its index.
    fn section(&mut self, name: u32, kind: u32, flags: u64, (at, len): (usize, usize)) -> u16 {
        let words = [flags, 0, at as u64, len as u64];
        let mut header = [name.to_le_bytes(), kind.to_le_bytes()].concat();
        header.extend(words.iter().flat_map(|w| w.to_le_bytes()));
        header.resize(64, 0);
        self.headers.push(header.try_into().expect("64 bytes"));
        u16::try_from(self.headers.len() - 1).expect("few")
    }

    /// Adds contents in a section of their own.
    fn with(&mut self, name: &str, kind: u32, flags: u64, data: &[u8]) -> u16 {
        let (name, place) = (self.name(name), self.data(data));
        self.section(name, kind, flags, place)
    }

    fn symbol(&mut self, name: u32, bind: u8, kind: u8, hidden: u8, section: u16, size: u64) {
        self.symbols.extend(name.to_le_bytes());
        self.symbols.extend([bind << 4 | kind, hidden]);
        self.symbols.extend(section.to_le_bytes());
        self.symbols.extend(0_u64.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
    }

    fn types(&mut self, types: &Builder) {
        self.with(".BTF", PROGBITS, 0, &types.to_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        let (symtab, strtab) = (self.name(".symtab"), self.name(".strtab"));
        let strings = self.headers.len() + 1;
        let symbols = std::mem::take(&mut self.symbols);
        let place = self.data(&symbols);
        self.section(symtab, SYMTAB, 0, place);
        let names = self.names.clone();
        let place = self.data(&names);
        self.section(strtab, STRTAB, 0, place);
        let link = u32::try_from(strings).expect("few").to_le_bytes();
        let header = self.headers.get_mut(strings - 1).expect("just added");
        header.iter_mut().skip(40).zip(link).for_each(|(to, from)| *to = from);
        *header.get_mut(56).expect("64 bytes") = 24;
        let headers = self.headers.concat();
        let (at, _) = self.data(&headers);
        let half = |n: usize| u16::try_from(n).expect("few").to_le_bytes();
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        head.extend([1, 0, 247, 0, 1, 0, 0, 0]);
        head.extend([0; 16]);
        head.extend((at as u64).to_le_bytes());
        head.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0]);
        head.extend(half(self.headers.len()));
        head.extend(half(strings));
        self.bytes.iter_mut().zip(head).for_each(|(to, from)| *to = from);
        self.bytes
    }
}

fn parse(file: File) -> Result<ObjectSpec, ObjectError> {
    let bytes = file.finish();
    let start = Instant::now();
    let spec = ObjectSpec::parse(&bytes);
    let took = start.elapsed();
    assert!(took < SLOW, "{} bytes took {took:?}", bytes.len());
    spec
}

#[test]
fn many_sections_with_a_program_each() {
    const COUNT: usize = 40_000;
    let mut file = File::new();
    let code = file.data(&EXIT);
    let (section, name) = (file.name("xdp"), file.name("f"));
    for _ in 0..COUNT {
        let index = file.section(section, PROGBITS, EXEC, code);
        file.symbol(name, GLOBAL, FUNC, 0, index, 8);
    }
    assert_eq!(parse(file).expect("programs").programs.len(), COUNT);
}

#[test]
fn many_sections_of_legacy_maps() {
    const COUNT: usize = 40_000;
    let mut file = File::new();
    let mut definition = [0; 20];
    definition[0] = 1;
    let place = file.data(&definition);
    let (section, name) = (file.name("maps/m"), file.name("m"));
    for _ in 0..COUNT {
        let index = file.section(section, PROGBITS, 0, place);
        file.symbol(name, GLOBAL, OBJECT, 0, index, 20);
    }
    assert_eq!(parse(file).expect("maps").maps.len(), COUNT);
}

/// A structure of `count` integers with names that end in their number, and its type.
fn large_structure(types: &mut Builder, name: &str, count: usize) -> TypeId {
    let int = types.int("int", 4, Encoding::SIGNED);
    let member = |_| Member { name: "x", ty: int, bit_offset: 0, bitfield_size: 0 };
    types.structure(name, 4, &(0..count).map(member).collect::<Vec<_>>())
}

#[test]
fn many_legacy_maps_described_by_large_or_many_types() {
    const COUNT: usize = 10_000;
    let mut types = Builder::new();
    let large = large_structure(&mut types, "large", COUNT);
    for _ in 0..COUNT {
        types.var("m", Variable { ty: large, linkage: Linkage::GLOBAL });
        types.typedef("____btf_map_m", large);
        types.typedef("m", large);
    }
    let mut file = File::new();
    let mut definition = [0; 20];
    definition[0] = 1;
    let index = file.with("maps", PROGBITS, 0, &definition.repeat(COUNT));
    let name = file.name("m");
    for at in 0..COUNT {
        file.symbol(name, GLOBAL, OBJECT, 0, index, 20);
        let value = (at as u64 * 20).to_le_bytes();
        let start = file.symbols.len() - 16;
        file.symbols.iter_mut().skip(start).zip(value).for_each(|(to, from)| *to = from);
    }
    file.types(&types);
    assert_eq!(parse(file).expect("maps").maps.len(), COUNT);
}

#[test]
fn many_externs_whose_names_differ_in_their_flavor() {
    const COUNT: usize = 10_000;
    let mut types = Builder::new();
    let proto = types.func_proto(TypeId::VOID, &[]);
    let mut file = File::new();
    for n in 0..COUNT {
        let name = format!("call___{n}");
        types.func(&name, Func { proto, linkage: Linkage::EXTERN });
        let name = file.name(&name);
        file.symbol(name, GLOBAL, 0, 0, 0, 0);
    }
    file.types(&types);
    assert_eq!(parse(file).expect("externs").externs.len(), COUNT);
}

#[test]
fn many_hidden_functions_whose_names_differ_in_their_flavor() {
    const COUNT: usize = 10_000;
    let mut types = Builder::new();
    let proto = types.func_proto(TypeId::VOID, &[]);
    let mut file = File::new();
    let text = file.with(".text", PROGBITS, EXEC, &EXIT);
    for n in 0..COUNT {
        let name = format!("f___{n}");
        types.func(&name, Func { proto, linkage: Linkage::GLOBAL });
        let name = file.name(&name);
        file.symbol(name, GLOBAL, FUNC, HIDDEN, text, 8);
    }
    file.types(&types);
    let spec = parse(file).expect("functions");
    let text = dump::raw(spec.btf.as_ref().expect("types")).to_string();
    assert_eq!(text.matches("linkage=static").count(), COUNT);
}

#[test]
fn many_kconfig_values_of_a_large_structure() {
    const COUNT: usize = 10_000;
    let mut types = Builder::new();
    let large = large_structure(&mut types, "large", COUNT);
    let mut file = File::new();
    let mut vars = Vec::new();
    for n in 0..COUNT {
        let name = format!("CONFIG_{n}");
        let var = types.var(&name, Variable { ty: large, linkage: Linkage::EXTERN });
        vars.push(SecVar { var, offset: 0, size: 0 });
        let name = file.name(&name);
        file.symbol(name, GLOBAL, 0, 0, 0, 0);
    }
    types.data_sec(".kconfig", 0, &vars);
    file.types(&types);
    let error = parse(file).expect_err("a structure").to_string();
    assert!(error.starts_with("extern CONFIG_0: its type is STRUCT, expected"), "{error}");
}

/// Types of maps that share one definition with these members, and the file with them.
fn maps(count: usize, members: usize) -> File {
    let mut types = Builder::new();
    let int = types.int("int", 4, Encoding::SIGNED);
    let array = types.array(Array { element: int, index: int, len: 1 });
    let number = types.ptr(array);
    let member = |_| Member { name: "type", ty: number, bit_offset: 0, bitfield_size: 0 };
    let def = types.structure("", 8, &(0..members).map(member).collect::<Vec<_>>());
    let mut file = File::new();
    let section = file.with(".maps", PROGBITS, 0, &[0; 8]);
    let mut vars = Vec::new();
    for n in 0..count {
        let name = format!("m{n}");
        let var = types.var(&name, Variable { ty: def, linkage: Linkage::GLOBAL });
        vars.push(SecVar { var, offset: 0, size: 8 });
        let name = file.name(&name);
        file.symbol(name, GLOBAL, OBJECT, 0, section, 8);
    }
    types.data_sec(".maps", 8, &vars);
    file.types(&types);
    file
}

#[test]
fn a_field_that_a_map_has_many_times() {
    let error = parse(maps(4_000, 10_000)).expect_err("no C structure").to_string();
    assert_eq!(error, "map m0: field type is there twice");
    assert_eq!(parse(maps(4_000, 1)).expect("maps").maps.len(), 4_000);
}

#[test]
fn maps_need_the_bytes_of_their_section() {
    let mut file = maps(1, 1);
    let header = file.headers.get_mut(1).expect("the section of maps");
    header.iter_mut().skip(4).zip(NOBITS.to_le_bytes()).for_each(|(to, from)| *to = from);
    header.iter_mut().skip(32).zip(u32::MAX.to_le_bytes()).for_each(|(to, from)| *to = from);
    let error = parse(file).expect_err("4 GiB that are not there").to_string();
    assert_eq!(error, "section .maps: the file has 0 of its 4294967295 bytes");
}

/// A function of `slots` instructions under `names` names in `section`, with a relocation and a
/// long access at each instruction.
fn aliases(section: &str, bind: u8, slots: usize, names: usize) -> File {
    let mut types = Builder::new();
    let int = types.int("int", 4, Encoding::SIGNED);
    let access_off = types.string(&"0:".repeat(500));
    let relo = |at: usize| CoreRelo {
        insn_off: u32::try_from(at * 8).expect("small"),
        type_id: int,
        access_off,
        kind: 8,
    };
    let records = ExtSection {
        name: section.to_owned(),
        core_relos: (0..slots).map(relo).collect(),
        ..ExtSection::default()
    };
    let ext = BtfExt { sections: vec![records] }.to_bytes(&mut types);
    let mut file = File::new();
    let index = file.with(section, PROGBITS, EXEC, &EXIT.repeat(slots));
    let name = file.name(&"long".repeat(900));
    for _ in 0..names {
        file.symbol(name, bind, FUNC, 0, index, slots as u64 * 8);
    }
    file.types(&types);
    file.with(".BTF.ext", PROGBITS, 0, &ext);
    file
}

#[test]
fn one_function_under_many_names_does_not_fill_the_memory() {
    // 2,000 programs of 2,000 instructions, each with its name and its relocations.
    let error = parse(aliases("xdp", GLOBAL, 2_000, 2_000)).expect_err("gigabytes").to_string();
    assert!(error.starts_with("the object takes more than "), "{error}");
    // The names alone: 60,000 times one of 3,600 bytes.
    let error = parse(aliases("xdp", GLOBAL, 1, 60_000)).expect_err("names only").to_string();
    assert!(error.starts_with("the object takes more than "), "{error}");
    // Subprograms are placed only where they are called.
    let spec = parse(aliases(".text", LOCAL, 2_000, 2_000)).expect("nothing calls them");
    assert!(spec.programs.is_empty());
    let spec = parse(aliases("xdp", GLOBAL, 2_000, 20)).expect("twenty are fine");
    assert_eq!(spec.programs.len(), 20);
}

#[test]
fn many_programs_are_written_as_fast_as_they_are_read() {
    const COUNT: usize = 20_000;
    let mut file = File::new();
    let code = file.data(&EXIT);
    let name = file.name("f");
    for n in 0..COUNT {
        let section = file.name(&format!("kprobe/f{n}"));
        let index = file.section(section, PROGBITS, EXEC, code);
        file.symbol(name, GLOBAL, FUNC, 0, index, 8);
    }
    let spec = parse(file).expect("programs");
    let start = Instant::now();
    let bytes = ObjectWriter::new(&spec).to_bytes().expect("fits");
    assert!(start.elapsed() < SLOW, "{} bytes took {:?}", bytes.len(), start.elapsed());
    assert_eq!(ObjectSpec::parse(&bytes).expect("an object").programs.len(), COUNT);
}
