//! How a program built with libbpf's `usdt.bpf.h` wants to be told where arguments are.
//!
//! Its map `__bpf_usdt_specs` holds one `struct __bpf_usdt_spec` per set of places. Versions of
//! the header differ in that structure (indexed memory came with libbpf 1.7), so where a member
//! lies is read from the object's own BTF, by name.

use skep_btf::{Btf, Composite, Kind, Member, TypeId};

use super::arg::{Arg, ArgPlace};

/// Numbers of `enum __bpf_usdt_arg_type`.
const CONST: u64 = 0;
const REGISTER: u64 = 1;
const MEMORY: u64 = 2;
const INDEXED: u64 = 3;
/// None of them: `bpf_usdt_arg` answers `EINVAL`.
const UNREADABLE: u64 = 0xff;

/// Why the programs of an object cannot be told where arguments are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'struct {structure}' of the object's map __bpf_usdt_specs: {reason}")]
pub(crate) struct LayoutError {
    structure: String,
    reason: String,
}

/// Bits of a little-endian structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    offset: u32,
    len: u32,
}

/// Where the members of `struct __bpf_usdt_spec` lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    bytes: usize,
    cookie: Field,
    count: Field,
    /// Where the arguments begin, in bits.
    args: u32,
    /// From one argument to the next, in bits.
    stride: u32,
    most_args: u32,
    value: Field,
    kind: Field,
    register: Field,
    signed: Field,
    shift: Field,
    /// The index register and its shift, where the header knows them.
    indexed: Option<(Field, Field)>,
}

/// A structure of some BTF.
#[derive(Clone, Copy)]
struct Struct<'a> {
    btf: &'a Btf,
    name: &'a str,
    body: Composite<'a>,
}

impl<'a> Struct<'a> {
    fn new(btf: &'a Btf, id: TypeId) -> Option<Self> {
        let ty = btf.get(btf.skip_mods(id).ok()?)?;
        match ty.kind {
            Kind::Struct(body) => Some(Self { btf, name: ty.name, body }),
            _ => None,
        }
    }

    fn error(&self, reason: String) -> LayoutError {
        LayoutError { structure: self.name.to_owned(), reason }
    }

    fn find(&self, name: &str) -> Option<Member<'a>> {
        self.body.members.iter().find(|member| member.name == name)
    }

    fn member(&self, name: &str) -> Result<Member<'a>, LayoutError> {
        self.find(name).ok_or_else(|| self.error(format!("it has no member '{name}'")))
    }

    /// A number; it lies within the structure.
    fn number(&self, name: &str) -> Result<Field, LayoutError> {
        let member = self.member(name)?;
        let whole = || self.btf.size_of(member.ty).ok().and_then(|bytes| bytes.checked_mul(8));
        let len = match member.bitfield_size {
            0 => whole(),
            bits => Some(bits.into()),
        };
        let len = len.filter(|&len| (1..=64).contains(&len));
        let inside = |len: &u32| {
            u64::from(member.bit_offset) + u64::from(*len) <= u64::from(self.body.size) * 8
        };
        let len = len.filter(inside);
        let len = len.ok_or_else(|| self.error(format!("member '{name}' is no number in it")))?;
        Ok(Field { offset: member.bit_offset, len })
    }
}

impl Layout {
    /// Reads it from the value type of the map.
    pub(crate) fn read(btf: &Btf, value: TypeId) -> Result<Self, LayoutError> {
        let none = || LayoutError {
            structure: "__bpf_usdt_spec".into(),
            reason: "the map's value is no structure".into(),
        };
        let spec = Struct::new(btf, value).ok_or_else(none)?;
        let args = spec.member("args")?;
        let no_array = || spec.error("member 'args' is no array of structures".into());
        let array = btf.skip_mods(args.ty).ok().and_then(|id| btf.get(id)).map(|ty| ty.kind);
        let Some(Kind::Array(array)) = array else { return Err(no_array()) };
        let arg = Struct::new(btf, array.element).ok_or_else(no_array)?;
        let end = u64::from(args.bit_offset) / 8 + u64::from(arg.body.size) * u64::from(array.len);
        if end > u64::from(spec.body.size) || spec.body.size > 1 << 16 {
            return Err(no_array());
        }
        let indexed = match arg.find("idx_reg_off") {
            Some(_) => Some((arg.number("idx_reg_off")?, arg.number("scale_bitshift")?)),
            None => None,
        };
        Ok(Self {
            bytes: spec.body.size as usize,
            cookie: spec.number("usdt_cookie")?,
            count: spec.number("arg_cnt")?,
            args: args.bit_offset,
            stride: arg.body.size * 8,
            most_args: array.len,
            value: arg.number("val_off")?,
            kind: arg.number("arg_type")?,
            register: arg.number("reg_off")?,
            signed: arg.number("arg_signed")?,
            shift: arg.number("arg_bitshift")?,
            indexed,
        })
    }

    /// Size of the structure in bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many arguments a program can be told of.
    pub(crate) const fn most_args(&self) -> usize {
        self.most_args as usize
    }

    /// Can a program be told of this place?
    pub(crate) const fn can_say(&self, arg: &Arg) -> bool {
        !matches!(arg.place, ArgPlace::Indexed { .. }) || self.indexed.is_some()
    }

    /// The structure for these arguments. Those that a program cannot be told of (`None` among
    /// them) are there and cannot be read.
    pub(crate) fn encode(&self, args: &[Option<Arg>], cookie: u64) -> Vec<u8> {
        let mut out = vec![0; self.bytes];
        let args = args.get(..self.most_args()).unwrap_or(args);
        put(&mut out, 0, self.cookie, cookie);
        put(&mut out, 0, self.count, args.len() as u64);
        let mut at = self.args;
        for arg in args {
            self.encode_arg(&mut out, at, arg.filter(|arg| self.can_say(arg)));
            at += self.stride;
        }
        out
    }

    fn encode_arg(&self, out: &mut [u8], at: u32, arg: Option<Arg>) {
        let Some(Arg { size, signed, place }) = arg else {
            put(out, at, self.kind, UNREADABLE);
            return;
        };
        let (kind, register, value) = match place {
            ArgPlace::Const(value) => (CONST, 0, value),
            ArgPlace::Register(register) => (REGISTER, register, 0),
            ArgPlace::Memory { base, offset } => (MEMORY, base, offset),
            ArgPlace::Indexed { base, index, shift, offset } => {
                if let Some((index_field, shift_field)) = self.indexed {
                    put(out, at, index_field, index.into());
                    put(out, at, shift_field, shift.into());
                }
                (INDEXED, base, offset)
            }
        };
        put(out, at, self.kind, kind);
        put(out, at, self.register, register.into());
        put(out, at, self.value, value.cast_unsigned());
        put(out, at, self.signed, signed.into());
        put(out, at, self.shift, 64 - u64::from(size) * 8);
    }
}

/// Writes the low bits of a number to a field of what begins at bit `base`. Fields were seen to
/// lie inside.
fn put(out: &mut [u8], base: u32, field: Field, value: u64) {
    for bit in 0..field.len {
        let at = (base + field.offset + bit) as usize;
        if let Some(byte) = out.get_mut(at / 8) {
            let mask = 1 << (at % 8);
            *byte = if value >> bit & 1 == 1 { *byte | mask } else { *byte & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_object::ObjectSpec;
    use skep_testing::repository;

    fn layout(object: &str) -> Layout {
        let bytes = std::fs::read(repository().join("tests/data/objects").join(object)).unwrap();
        let spec = ObjectSpec::parse(&bytes).unwrap();
        let map = spec.maps.iter().find(|map| map.name == "__bpf_usdt_specs").unwrap();
        Layout::read(spec.btf.as_ref().unwrap(), map.value_type.unwrap()).unwrap()
    }

    const INDEXED_ARG: Arg = Arg {
        size: 1,
        signed: true,
        place: ArgPlace::Indexed { base: 32, index: 80, shift: 3, offset: -96 },
    };

    /// The first argument, so many bytes of it.
    fn first<const N: usize>(layout: &Layout, arg: Arg) -> [u8; N] {
        layout.encode(&[Some(arg)], 7)[..N].try_into().unwrap()
    }

    #[test]
    fn the_header_before_libbpf_1_7_is_understood() {
        let layout = layout("usdt.bpf.o");
        assert_eq!((layout.bytes(), layout.most_args()), (208, 12));
        // Value (8), kind (4), register (2), signed, shift.
        let place = ArgPlace::Memory { base: 32, offset: -8 };
        let memory = first(&layout, Arg { size: 4, signed: true, place });
        let want = [0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 32, 0, 1, 32];
        assert_eq!(memory, want);
        let place = ArgPlace::Const(258);
        let number = first(&layout, Arg { size: 8, signed: false, place });
        assert_eq!(number, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let whole = layout.encode(&[None, Some(INDEXED_ARG)], 7);
        assert_eq!((whole[8], whole[24], whole[192], whole[200]), (0xff, 0xff, 7, 2));
        assert!(!layout.can_say(&INDEXED_ARG));
    }

    /// Bit fields make the newer structure longer: what lies where is never to be assumed.
    #[test]
    fn the_header_of_libbpf_1_7_is_understood() {
        let layout = layout("usdt_indexed.bpf.o");
        assert_eq!((layout.bytes(), layout.most_args()), (304, 12));
        assert!(layout.can_say(&INDEXED_ARG));
        // Value (8), kind (1), a gap, index (12 bits), its shift (4 bits), gaps, register (2),
        // signed, shift.
        let arg = first(&layout, INDEXED_ARG);
        let want =
            [0xa0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 3, 0, 80, 0x30, 0, 0, 32, 0, 1, 56];
        assert_eq!(arg, want);
        let whole = layout.encode(&[None, None], 7);
        assert_eq!((whole[8], whole[288], whole[296]), (0xff, 7, 2));
    }

    #[test]
    fn more_arguments_than_fit_are_left_out() {
        let layout = layout("usdt.bpf.o");
        let whole = layout.encode(&[None; 20], 0);
        assert_eq!((whole.len(), whole[200]), (208, 12));
    }

    #[test]
    fn another_structure_is_refused() {
        let bytes = std::fs::read(repository().join("tests/data/objects/events.bpf.o")).unwrap();
        let btf = ObjectSpec::parse(&bytes).unwrap().btf.unwrap();
        for id in btf.ids() {
            assert!(Layout::read(&btf, id).is_err(), "{id:?}");
        }
    }
}
