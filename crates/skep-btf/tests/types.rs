//! Types written with the builder and read back: all kinds, split BTF, both byte orders, lookups.
use skep_btf::{
    Array, Btf, BtfError, Builder, DeclTag, Encoding, Enumerator, Func, Kind, KindTag, Linkage,
    Member, Param, SecVar, SizeError, TypeId, TypeTag, Var, dump,
    ext::{BtfExt, CoreRelo, ExtSection, FuncInfo, LineInfo},
};

fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size: 0 }
}

fn bits(name: &str, ty: TypeId, bit_offset: u32, bitfield_size: u8) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size }
}

fn value(name: &str, value: i64, signed: bool) -> Enumerator<'_> {
    Enumerator { name, value: value.cast_unsigned(), signed }
}

/// One type of every kind; [`ALL_KINDS`] is what it looks like.
fn all_kinds() -> Builder {
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let long = b.int("long unsigned int", 8, Encoding::UNSIGNED);
    let _flag = b.int("_Bool", 1, Encoding::BOOL);
    let ptr = b.ptr(int);
    let array = b.array(Array { element: ptr, index: int, len: 3 });
    let inner = b.union("", 8, &[member("a", int, 0), member("b", long, 0)]);
    let outer = b.structure(
        "outer",
        48,
        &[member("list", array, 0), member("", inner, 192), bits("low", int, 256, 3)],
    );
    b.enumeration("sign", 4, &[value("MINUS", -1, true), value("PLUS", 1, true)]);
    b.enumeration("top", 4, &[value("TOP", 0xffff_ffff, false)]);
    b.enumeration("wide", 8, &[value("FAR", 1 << 40, false)]);
    b.forward("hidden", true);
    let alias = b.typedef("alias", outer);
    b.volatile(alias);
    b.constant(alias);
    b.restrict(ptr);
    let params = [Param { name: "x", ty: int }, Param { name: "", ty: TypeId::VOID }];
    let proto = b.func_proto(long, &params);
    let func = b.func("work", Func { proto, linkage: Linkage::GLOBAL });
    let var = b.var("count", Var { ty: long, linkage: Linkage::STATIC });
    b.data_sec(".bss", 16, &[SecVar { var, offset: 8, size: 8 }]);
    b.float("double", 8);
    b.decl_tag("arg", DeclTag { target: func, component: Some(0), attribute: false });
    b.decl_tag("whole", DeclTag { target: func, component: None, attribute: false });
    b.type_tag("user", TypeTag { ty: int, attribute: true });
    b
}

const ALL_KINDS: &str = "\
[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED
[2] INT 'long unsigned int' size=8 bits_offset=0 nr_bits=64 encoding=(none)
[3] INT '_Bool' size=1 bits_offset=0 nr_bits=8 encoding=BOOL
[4] PTR '(anon)' type_id=1
[5] ARRAY '(anon)' type_id=4 index_type_id=1 nr_elems=3
[6] UNION '(anon)' size=8 vlen=2
\t'a' type_id=1 bits_offset=0
\t'b' type_id=2 bits_offset=0
[7] STRUCT 'outer' size=48 vlen=3
\t'list' type_id=5 bits_offset=0
\t'(anon)' type_id=6 bits_offset=192
\t'low' type_id=1 bits_offset=256 bitfield_size=3
[8] ENUM 'sign' encoding=SIGNED size=4 vlen=2
\t'MINUS' val=-1
\t'PLUS' val=1
[9] ENUM 'top' encoding=UNSIGNED size=4 vlen=1
\t'TOP' val=4294967295
[10] ENUM64 'wide' encoding=UNSIGNED size=8 vlen=1
\t'FAR' val=1099511627776ULL
[11] FWD 'hidden' fwd_kind=union
[12] TYPEDEF 'alias' type_id=7
[13] VOLATILE '(anon)' type_id=12
[14] CONST '(anon)' type_id=12
[15] RESTRICT '(anon)' type_id=4
[16] FUNC_PROTO '(anon)' ret_type_id=2 vlen=2
\t'x' type_id=1
\t'(anon)' type_id=0
[17] FUNC 'work' type_id=16 linkage=global
[18] VAR 'count' type_id=2, linkage=static
[19] DATASEC '.bss' size=16 vlen=1
\ttype_id=18 offset=8 size=8 (VAR 'count')
[20] FLOAT 'double' size=8
[21] DECL_TAG 'arg' type_id=17 component_idx=0
[22] DECL_TAG 'whole' type_id=17 component_idx=-1
[23] TYPE_TAG 'user' type_id=1
";

#[test]
fn every_kind_is_read_as_it_was_written() {
    let btf = all_kinds().finish().expect("valid");
    assert_eq!(dump::raw(&btf).to_string(), ALL_KINDS);
    for &tag in KindTag::ALL {
        assert!(
            (0..24).any(|id| btf.kind_tag(TypeId(id)) == Some(tag)),
            "no {tag} in the table above"
        );
        assert_eq!(KindTag::from_number(tag.number()), Some(tag));
    }
    assert!(matches!(btf.get(TypeId(0)).expect("void").kind, Kind::Void));
    assert!(btf.get(TypeId(24)).is_none());
    assert_eq!(btf.len(), 24);
    assert_eq!(btf.to_bytes(), all_kinds().to_bytes());
    assert_eq!(Builder::from_btf(&btf).to_bytes(), btf.to_bytes());
}

#[test]
fn each_string_is_written_once() {
    let mut b = Builder::new();
    let (first, again) = (b.string("twice"), b.string("twice"));
    assert_eq!(first, again);
    assert_eq!(b.string(""), 0);
    assert_eq!(b.string("cut\0here"), b.string("cut"));
    assert_eq!(b.finish().expect("valid").string(first), Some("twice"));
}

/// The same file for a machine of the other byte order: type section and header are all words.
#[expect(clippy::indexing_slicing, reason = "bytes that the test made itself")]
fn swapped(bytes: &[u8]) -> Vec<u8> {
    let types = u32::from_le_bytes(bytes[12..16].try_into().expect("four"));
    let strings = 24 + types as usize;
    let mut out = vec![bytes[1], bytes[0], bytes[2], bytes[3]];
    for word in bytes[4..strings].chunks_exact(4) {
        out.extend(word.iter().rev());
    }
    out.extend(&bytes[strings..]);
    out
}

#[test]
fn big_endian_files_read_the_same_and_stay_big_endian() {
    let little = all_kinds().to_bytes();
    let big = swapped(&little);
    let btf = Btf::parse(&big).expect("valid");
    assert!(btf.is_big_endian());
    assert_eq!(dump::raw(&btf).to_string(), ALL_KINDS);
    assert_eq!(btf.to_bytes(), big);
    assert_eq!(Builder::from_btf(&btf).to_bytes(), big);
    let base = Btf::parse(&little).expect("valid");
    assert_eq!(Btf::parse_split(&big, &base).map(|_| ()), Err(BtfError::MixedByteOrder));
}

#[test]
fn a_longer_header_is_read_as_far_as_it_is_known() {
    let mut bytes = all_kinds().to_bytes();
    bytes.splice(24..24, [0; 8]);
    bytes[4] = 32;
    assert_eq!(dump::raw(&Btf::parse(&bytes).expect("valid")).to_string(), ALL_KINDS);
}

#[test]
fn strings_that_are_not_text_are_kept() {
    let mut bytes = all_kinds().to_bytes();
    let at = bytes.windows(5).position(|w| w == b"alias").expect("a name");
    bytes[at] = 0xff;
    let btf = Btf::parse(&bytes).expect("valid");
    assert_eq!(btf.name(TypeId(12)), Some("?lias"));
    assert_eq!(btf.to_bytes(), bytes);
    assert_eq!(Builder::from_btf(&btf).to_bytes(), bytes);
}

#[test]
fn split_types_continue_their_base() {
    let base = all_kinds().finish().expect("valid");
    let mut b = Builder::split(&base);
    let long = base.find(KindTag::Int, "long unsigned int").next().expect("in the base");
    assert_eq!(b.next_id(), TypeId(24));
    let own = b.structure("outer", 8, &[member("count", long, 0)]);
    let module = b.finish().expect("valid");
    assert_eq!(module.first_id(), TypeId(24));
    assert_eq!(module.base().map(Btf::len), Some(24));
    let found: Vec<_> = module.find(KindTag::Struct, "outer").collect();
    assert_eq!(found, [TypeId(7), own]);
    assert_eq!(module.name(long), Some("long unsigned int"));
    assert_eq!(module.size_of(TypeId(7)), Ok(48));
    // A string of the base, by its offset there.
    let mut b = Builder::split(&base);
    b.ptr(TypeId(7));
    let again = Btf::parse_split(&b.to_bytes(), &base).expect("no strings of its own");
    assert_eq!(again.len(), 25);
    assert_eq!(dump::raw(&again).to_string(), "[24] PTR '(anon)' type_id=7\n");
}

#[test]
fn appended_types_are_renumbered() {
    let mut b = Builder::new();
    b.int("char", 1, Encoding::SIGNED);
    b.string("shifts the strings");
    let remap = b.append(&all_kinds().finish().expect("valid"));
    assert_eq!(remap.id(TypeId::VOID), TypeId::VOID);
    let btf = b.finish().expect("valid");
    let text = dump::raw(&btf).to_string();
    let (first, rest) = text.split_once('\n').expect("lines");
    assert!(first.contains("'char'"));
    // The same text with every number one higher.
    let mut want = String::new();
    for line in ALL_KINDS.lines() {
        let mut rest = line;
        for key in ["[", "type_id=", "index_type_id=", "ret_type_id="] {
            if let Some((before, after)) = rest.split_once(key)
                && !before.ends_with('_')
            {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                let number: u32 = after[..end].parse().expect("a number");
                want += &format!("{before}{key}{}", remap.id(TypeId(number)).0);
                rest = &after[end..];
            }
        }
        want += rest;
        want.push('\n');
    }
    assert_eq!(rest, want);
}

#[test]
fn changes_keep_everything_else() {
    let mut b = Builder::from_btf(&all_kinds().finish().expect("valid"));
    b.set_size(TypeId(19), 64);
    b.set_sec_var(TypeId(19), 0, SecVar { var: TypeId(18), offset: 16, size: 8 });
    b.set_linkage(TypeId(17), Linkage::STATIC);
    b.set_linkage(TypeId(18), Linkage::EXTERN);
    b.set_name(TypeId(12), "other");
    b.set_ref(TypeId(12), TypeId(6));
    // Of another kind, or not there: nothing happens.
    b.set_size(TypeId(4), 9);
    b.set_ref(TypeId(7), TypeId(1));
    b.set_sec_var(TypeId(19), 1, SecVar { var: TypeId(1), offset: 0, size: 0 });
    b.set_name(TypeId(99), "none");
    let want = ALL_KINDS
        .replace("'.bss' size=16", "'.bss' size=64")
        .replace("offset=8 size=8", "offset=16 size=8")
        .replace("type_id=16 linkage=global", "type_id=16 linkage=static")
        .replace("linkage=static\n[19]", "linkage=extern\n[19]")
        .replace("'alias' type_id=7", "'other' type_id=6");
    assert_eq!(dump::raw(&b.finish().expect("valid")).to_string(), want);
}

#[test]
fn sizes_and_alignments() {
    let btf = all_kinds().finish().expect("valid");
    let no_size = |id, kind| Err(SizeError::NoSize { id: TypeId(id), kind });
    let cases: &[(u32, Result<u32, SizeError>, Result<u32, SizeError>)] = &[
        (0, no_size(0, KindTag::Void), no_size(0, KindTag::Void)),
        (1, Ok(4), Ok(4)),
        (4, Ok(8), Ok(8)),
        (5, Ok(24), Ok(8)),
        (6, Ok(8), Ok(8)),
        (7, Ok(48), Ok(8)),
        (10, Ok(8), Ok(8)),
        (11, no_size(11, KindTag::Fwd), no_size(11, KindTag::Fwd)),
        (13, Ok(48), Ok(8)),
        (15, Ok(8), Ok(8)),
        (17, no_size(17, KindTag::Func), no_size(17, KindTag::Func)),
        (18, Ok(8), Ok(8)),
        (19, Ok(16), no_size(19, KindTag::DataSec)),
        (20, Ok(8), Ok(8)),
        (99, Err(SizeError::NoSuchType(TypeId(99))), Err(SizeError::NoSuchType(TypeId(99)))),
    ];
    for (id, size, align) in cases {
        assert_eq!(btf.size_of(TypeId(*id)), *size, "size of [{id}]");
        assert_eq!(btf.align_of(TypeId(*id)), *align, "alignment of [{id}]");
    }
    assert_eq!(btf.skip_mods(TypeId(13)), Ok(TypeId(7)));
    assert_eq!(btf.pointer_size(), 8);
    let mut b = Builder::new();
    b.int("long", 4, Encoding::SIGNED);
    let ptr = b.ptr(TypeId::VOID);
    assert_eq!(b.finish().expect("valid").size_of(ptr), Ok(4));
}

#[test]
fn an_enumeration_may_be_declared_only() {
    let mut b = Builder::new();
    let later = b.enumeration("later", 0, &[]);
    let user = b.structure("user", 0, &[member("what", later, 0)]);
    let btf = b.finish().expect("what clang makes of `enum later;`");
    assert_eq!((btf.size_of(later), btf.align_of(user)), (Ok(0), Ok(1)));
    assert!(skep_btf::value::encode(&btf, later, "1").is_err());
    assert!(skep_btf::value::decode(&btf, later, &[]).is_ok());
    assert!(skep_btf::c::header(&btf).to_string().contains("enum later;"));
}

#[test]
fn types_are_found_by_name_and_by_essential_name() {
    let mut b = Builder::new();
    let names = ["task", "task___v2", "task", "other", "task___v3", "a___b___c"];
    for name in names {
        b.structure(name, 0, &[]);
    }
    b.union("task", 0, &[]);
    let btf = b.finish().expect("valid");
    let ids = |found: Vec<TypeId>| found.into_iter().map(|id| id.0).collect::<Vec<_>>();
    let exact = |kind, name| ids(btf.find(kind, name).collect());
    assert_eq!(exact(KindTag::Struct, "task"), [1, 3]);
    assert_eq!(exact(KindTag::Struct, "task___v2"), [2]);
    assert_eq!(exact(KindTag::Union, "task"), [7]);
    assert_eq!(exact(KindTag::Struct, "a___b___c"), [6]);
    assert_eq!(exact(KindTag::Struct, ""), [0; 0]);
    assert_eq!(exact(KindTag::Struct, "tas"), [0; 0]);
    assert_eq!(ids(btf.find_essential(KindTag::Struct, "task").collect()), [1, 2, 3, 5, 7]);
    assert_eq!(ids(btf.find_essential(KindTag::Struct, "a___b").collect()), [6]);
}

#[test]
fn btf_ext_is_read_as_it_was_written() {
    let mut b = all_kinds();
    let (file, line, access) = (b.string("a.c"), b.string("x = 1;"), b.string("0:1"));
    let section = |name: &str, insn_off| ExtSection {
        name: name.to_owned(),
        func_info: vec![FuncInfo { insn_off, type_id: TypeId(17) }],
        line_info: vec![LineInfo {
            insn_off,
            file_name_off: file,
            line_off: line,
            line_col: 7 << 10 | 3,
        }],
        core_relos: vec![CoreRelo { insn_off, type_id: TypeId(7), access_off: access, kind: 0 }],
    };
    let ext = BtfExt { sections: vec![section("xdp", 0), section(".text", 8)] };
    let bytes = ext.to_bytes(&mut b);
    let btf = b.finish().expect("valid");
    let read = BtfExt::parse(&bytes, &btf).expect("valid");
    assert_eq!(read, ext);
    let xdp = read.section("xdp").expect("there").line_info[0];
    assert_eq!((xdp.line(), xdp.column()), (7, 3));
    assert!(read.section("tc").is_none());

    // Longer records, as a later version may have, and the header without CO-RE relocations.
    let old: Vec<u8> = [0x0001_eb9f, 24, 0, 24, 24, 0, 12, btf_name(&btf, "xdp"), 1, 0, 17, 99]
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect();
    let read = BtfExt::parse(&old, &btf).expect("valid");
    assert_eq!(read.sections[0].func_info, [FuncInfo { insn_off: 0, type_id: TypeId(17) }]);

    let cases: &[(usize, u32, &str)] = &[
        (4, 20, ".BTF.ext header says it is 20 bytes long, expected 24 to 48"),
        (12, 25, "function info is at bytes 0x18..0x31, outside of the 0x30 bytes there are"),
        (24, 4, "function info at offset 0x18 has records of 4 bytes, expected at least 8"),
        (24, 13, "function info at offset 0x18 has records of 13 bytes, expected at least 8"),
        (28, 9999, "function info at offset 0x1c names string 0x270f, which is not there"),
        (32, 0, "function info at offset 0x1c has a section with no records"),
        (32, u32::MAX, "function info at offset 0x30 needs 12 bytes, 0 are left"),
        (40, 24, "function info at offset 0x24 names type [24], there are 24 types"),
    ];
    for (at, word, want) in cases {
        let mut bytes = old.clone();
        bytes[*at..at + 4].copy_from_slice(&word.to_le_bytes());
        assert_eq!(BtfExt::parse(&bytes, &btf).expect_err("broken").to_string(), *want);
    }
}

/// Offset of a string that is there.
fn btf_name(btf: &Btf, text: &str) -> u32 {
    (0..10_000).find(|&at| btf.string(at) == Some(text)).expect("there")
}
