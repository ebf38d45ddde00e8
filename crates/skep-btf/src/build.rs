//! Writing BTF: a [`Builder`] adds types one by one and makes the bytes of a `.BTF` section.

use std::collections::HashMap;

use crate::{
    Array, Btf, BtfError, DeclTag, Encoding, Enumerator, Func, KindTag, Linkage, Member, Param,
    SecVar, TypeId, TypeTag, Var,
    kind::Word,
    raw::{self, Order, TYPE_WORDS},
};

/// Most elements that one type can have.
const MAX_ELEMENTS: usize = 0x00ff_ffff;

/// Adds types and strings, each string once, and makes BTF of them.
///
/// Numbers are given in order, so a type may refer to one that is added later:
/// [`Builder::next_id`] tells the number that comes next.
///
/// # Panics
///
/// Methods that take elements panic above 2^24 of them, all methods when offsets outgrow 32 bits.
#[derive(Clone, Debug)]
pub struct Builder {
    base: Option<Btf>,
    order: Order,
    first_id: u32,
    first_string: u32,
    words: Vec<u32>,
    /// Where each type starts in `words`.
    starts: Vec<usize>,
    strings: Vec<u8>,
    offsets: HashMap<Box<[u8]>, u32>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// No types but `void`, no strings but the empty one.
    pub fn new() -> Self {
        Self {
            base: None,
            order: Order::Little,
            first_id: 1,
            first_string: 0,
            words: Vec::new(),
            starts: Vec::new(),
            strings: vec![0],
            offsets: HashMap::from([(Box::default(), 0)]),
        }
    }

    /// Types that continue `base`.
    pub fn split(base: &Btf) -> Self {
        Self {
            first_id: u32::try_from(base.len()).expect("parsing counts types in 32 bits"),
            first_string: base.string_end(),
            base: Some(base.clone()),
            order: base.order(),
            strings: Vec::new(),
            ..Self::new()
        }
    }

    /// Everything that `btf` itself has, to be changed or continued. Offsets of its strings stay.
    pub fn from_btf(btf: &Btf) -> Self {
        let inner = &btf.inner;
        let strings = btf.own_strings().to_vec();
        let mut offsets = HashMap::new();
        let mut at = inner.first_string;
        for string in strings.split_inclusive(|&b| b == 0) {
            let text = string.strip_suffix(&[0]).unwrap_or(string);
            offsets.entry(text.into()).or_insert(at);
            at += u32::try_from(string.len()).expect("offsets are 32 bits wide");
        }
        offsets.insert(Box::default(), 0);
        let (_end, starts) = inner.starts.split_last().unwrap_or((&0, &[]));
        Self {
            base: inner.base.clone(),
            order: btf.order(),
            first_id: inner.first_id,
            first_string: inner.first_string,
            words: inner.file.words().iter().map(|&word| raw::value(word)).collect(),
            starts: starts.iter().map(|&start| start as usize).collect(),
            strings,
            offsets,
        }
    }

    /// The number that the next added type gets.
    pub fn next_id(&self) -> TypeId {
        TypeId(self.first_id + u32::try_from(self.starts.len()).expect("types fit in 32 bits"))
    }

    /// Offset of this string, added when it is new. A NUL byte ends it.
    pub fn string(&mut self, text: &str) -> u32 {
        self.string_bytes(text.split_once('\0').map_or(text, |(head, _)| head).as_bytes())
    }

    fn string_bytes(&mut self, text: &[u8]) -> u32 {
        if let Some(&known) = self.offsets.get(text) {
            return known;
        }
        let own = u32::try_from(self.strings.len()).ok();
        let offset = own.and_then(|own| own.checked_add(self.first_string));
        let offset = offset.expect("offsets are 32 bits wide");
        self.strings.extend(text);
        self.strings.push(0);
        self.offsets.insert(text.into(), offset);
        offset
    }

    /// Adds a type from its words; the one way in.
    fn push(
        &mut self,
        tag: KindTag,
        name: &str,
        (flag, vlen): (bool, usize),
        size_or_type: u32,
        payload: &[u32],
    ) -> TypeId {
        assert!(vlen <= MAX_ELEMENTS, "{tag} with {vlen} elements");
        let id = self.next_id();
        let vlen = u32::try_from(vlen).expect("just compared");
        let info = u32::from(flag) << 31 | tag.number() << 24 | vlen;
        let name = self.string(name);
        self.starts.push(self.words.len());
        self.words.extend([name, info, size_or_type]);
        self.words.extend(payload);
        id
    }

    /// An integer that uses all bits of its size in bytes.
    pub fn int(&mut self, name: &str, size: u32, encoding: Encoding) -> TypeId {
        let word = u32::from(encoding.0) << 24 | ((size * 8) & 0xff);
        self.push(KindTag::Int, name, (false, 0), size, &[word])
    }

    /// A pointer.
    pub fn ptr(&mut self, to: TypeId) -> TypeId {
        self.push(KindTag::Ptr, "", (false, 0), to.0, &[])
    }

    /// An array.
    pub fn array(&mut self, array: Array) -> TypeId {
        let payload = [array.element.0, array.index.0, array.len];
        self.push(KindTag::Array, "", (false, 0), 0, &payload)
    }

    /// A structure of this size in bytes.
    pub fn structure(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> TypeId {
        self.composite(KindTag::Struct, name, size, members)
    }

    /// A union of this size in bytes.
    pub fn union(&mut self, name: &str, size: u32, members: &[Member<'_>]) -> TypeId {
        self.composite(KindTag::Union, name, size, members)
    }

    fn composite(&mut self, tag: KindTag, name: &str, size: u32, members: &[Member<'_>]) -> TypeId {
        let bitfields = members.iter().any(|m| m.bitfield_size != 0);
        let mut payload = Vec::with_capacity(members.len() * 3);
        for m in members {
            let width = u32::from(m.bitfield_size) << 24;
            let place = if bitfields { width | m.bit_offset & 0x00ff_ffff } else { m.bit_offset };
            payload.extend([self.string(m.name), m.ty.0, place]);
        }
        self.push(tag, name, (bitfields, members.len()), size, &payload)
    }

    /// An enumeration of this size in bytes, as the 64-bit kind when it has 8 of them.
    pub fn enumeration(&mut self, name: &str, size: u32, values: &[Enumerator<'_>]) -> TypeId {
        let signed = values.iter().any(|v| v.signed);
        let mut payload = Vec::with_capacity(values.len() * 3);
        for v in values {
            let [.., h3, h2, h1, h0, l3, l2, l1, l0] = v.value.to_be_bytes();
            payload.extend([self.string(v.name), u32::from_be_bytes([l3, l2, l1, l0])]);
            if size == 8 {
                payload.push(u32::from_be_bytes([h3, h2, h1, h0]));
            }
        }
        let tag = if size == 8 { KindTag::Enum64 } else { KindTag::Enum };
        self.push(tag, name, (signed, values.len()), size, &payload)
    }

    /// A forward declaration.
    pub fn forward(&mut self, name: &str, union: bool) -> TypeId {
        self.push(KindTag::Fwd, name, (union, 0), 0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, of: TypeId) -> TypeId {
        self.push(KindTag::Typedef, name, (false, 0), of.0, &[])
    }

    /// `volatile`.
    pub fn volatile(&mut self, of: TypeId) -> TypeId {
        self.push(KindTag::Volatile, "", (false, 0), of.0, &[])
    }

    /// `const`.
    pub fn constant(&mut self, of: TypeId) -> TypeId {
        self.push(KindTag::Const, "", (false, 0), of.0, &[])
    }

    /// `restrict`.
    pub fn restrict(&mut self, of: TypeId) -> TypeId {
        self.push(KindTag::Restrict, "", (false, 0), of.0, &[])
    }

    /// A function.
    pub fn func(&mut self, name: &str, func: Func) -> TypeId {
        let linkage = func.linkage.0 as usize;
        self.push(KindTag::Func, name, (false, linkage), func.proto.0, &[])
    }

    /// A function prototype.
    pub fn func_proto(&mut self, ret: TypeId, params: &[Param<'_>]) -> TypeId {
        let payload: Vec<u32> = params.iter().flat_map(|p| [self.string(p.name), p.ty.0]).collect();
        self.push(KindTag::FuncProto, "", (false, params.len()), ret.0, &payload)
    }

    /// A variable.
    pub fn var(&mut self, name: &str, var: Var) -> TypeId {
        self.push(KindTag::Var, name, (false, 0), var.ty.0, &[var.linkage.0])
    }

    /// The variables of an ELF section of this size in bytes.
    pub fn data_sec(&mut self, name: &str, size: u32, vars: &[SecVar]) -> TypeId {
        let payload: Vec<u32> = vars.iter().flat_map(|v| [v.var.0, v.offset, v.size]).collect();
        self.push(KindTag::DataSec, name, (false, vars.len()), size, &payload)
    }

    /// A floating point number.
    pub fn float(&mut self, name: &str, size: u32) -> TypeId {
        self.push(KindTag::Float, name, (false, 0), size, &[])
    }

    /// A tag on a declaration.
    pub fn decl_tag(&mut self, text: &str, tag: DeclTag) -> TypeId {
        let component = tag.component.unwrap_or(u32::MAX);
        self.push(KindTag::DeclTag, text, (tag.attribute, 0), tag.target.0, &[component])
    }

    /// A tag on a type.
    pub fn type_tag(&mut self, text: &str, tag: TypeTag) -> TypeId {
        self.push(KindTag::TypeTag, text, (tag.attribute, 0), tag.ty.0, &[])
    }

    /// Adds all types that `other` itself has, and their strings; says what their numbers became.
    ///
    /// Where `other` continues a base, it has to be the one that this builder continues, too.
    pub fn append(&mut self, other: &Btf) -> Remap {
        let remap = Remap { from: other.first_id(), to: self.next_id() };
        for id in (other.first_id().0..).map(TypeId) {
            if self.copy_type(other, id, |old| remap.id(old)).is_none() {
                break;
            }
        }
        remap
    }

    /// Adds one type of `other` with its strings; the types that it refers to are those that
    /// `translate` says. `None` when there is no such type.
    pub fn copy_type(
        &mut self,
        other: &Btf,
        id: TypeId,
        translate: impl Fn(TypeId) -> TypeId,
    ) -> Option<TypeId> {
        let (owner, raw) = other.raw(id)?;
        let tag = KindTag::from_number(raw.kind()).filter(|tag| *tag != KindTag::Void)?;
        let new = self.next_id();
        let start = self.words.len();
        let mut string = |at| self.string_bytes(owner.string_bytes_at(at));
        let mut translate = |role, word| match role {
            Word::Name => string(word),
            Word::Ref => translate(TypeId(word)).0,
            Word::Plain => word,
        };
        let (own, each) = tag.payload();
        let roles = own.iter().chain(each.iter().cycle());
        let mut words = vec![
            translate(Word::Name, raw.name_off),
            raw.info,
            translate(tag.third(), raw.size_or_type),
        ];
        let rest = raw.rest.iter().map(|&word| raw::value(word));
        words.extend(rest.zip(roles).map(|(word, &role)| translate(role, word)));
        self.starts.push(start);
        self.words.extend(words);
        Some(new)
    }

    /// Changes the size of a type in bytes; for kinds that store one.
    pub fn set_size(&mut self, id: TypeId, size: u32) {
        if self.tag(id).is_some_and(|tag| tag.third() == Word::Plain) {
            self.set_word(id, 2, size);
        }
    }

    /// Changes the type that a type refers to; for kinds that refer to one.
    pub fn set_ref(&mut self, id: TypeId, target: TypeId) {
        if self.tag(id).is_some_and(|tag| tag.third() == Word::Ref) {
            self.set_word(id, 2, target.0);
        }
    }

    /// Changes the name of a type.
    pub fn set_name(&mut self, id: TypeId, name: &str) {
        let name = self.string(name);
        self.set_word(id, 0, name);
    }

    /// Changes the linkage of a function or variable.
    pub fn set_linkage(&mut self, id: TypeId, linkage: Linkage) {
        match self.tag(id) {
            Some(KindTag::Func) => {
                let info = KindTag::Func.number() << 24 | linkage.0 & 0xffff;
                self.set_word(id, 1, info);
            }
            Some(KindTag::Var) => self.set_word(id, TYPE_WORDS, linkage.0),
            _ => {}
        }
    }

    /// Changes the place of a variable in its section.
    pub fn set_sec_var(&mut self, sec: TypeId, index: usize, var: SecVar) {
        if self.tag(sec) == Some(KindTag::DataSec) && index < self.elements(sec) {
            let at = TYPE_WORDS + index * 3;
            self.set_word(sec, at, var.var.0);
            self.set_word(sec, at + 1, var.offset);
            self.set_word(sec, at + 2, var.size);
        }
    }

    fn start(&self, id: TypeId) -> Option<usize> {
        self.starts.get(id.0.checked_sub(self.first_id)? as usize).copied()
    }

    fn tag(&self, id: TypeId) -> Option<KindTag> {
        KindTag::from_number(raw::info_kind(*self.words.get(self.start(id)? + 1)?))
    }

    fn elements(&self, id: TypeId) -> usize {
        let info = self.start(id).and_then(|start| self.words.get(start + 1));
        info.map_or(0, |&info| raw::info_vlen(info) as usize)
    }

    fn set_word(&mut self, id: TypeId, at: usize, value: u32) {
        let start = self.start(id);
        if let Some(word) = start.and_then(|start| self.words.get_mut(start + at)) {
            *word = value;
        }
    }

    /// The bytes of a `.BTF` section, little-endian unless it continues big-endian BTF.
    pub fn to_bytes(&self) -> Vec<u8> {
        raw::section(self.words.iter().copied(), &self.strings, self.order)
    }

    /// The types, validated.
    ///
    /// # Errors
    ///
    /// [`BtfError`] when a type refers to one that was never added, or has impossible fields.
    pub fn finish(&self) -> Result<Btf, BtfError> {
        match &self.base {
            Some(base) => Btf::parse_split(&self.to_bytes(), base),
            None => Btf::parse_owned(self.to_bytes()),
        }
    }
}

/// Where the types of appended BTF went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remap {
    from: TypeId,
    to: TypeId,
}

impl Remap {
    /// The number that a type has now; `void` and types of a common base keep theirs.
    pub const fn id(self, old: TypeId) -> TypeId {
        if old.0 < self.from.0 { old } else { TypeId(old.0 - self.from.0 + self.to.0) }
    }
}
