//! BTF: the little that other probes need, and which kinds of types the kernel takes.

use std::os::fd::OwnedFd;

use skep_btf::{
    Builder, DeclTag, Encoding, Enumerator, Func, Linkage, Member, Param, TypeId, TypeTag,
};

use super::{Answer, Support, of};
use crate::sys::{self, SysError};

/// Loaded BTF, and a type in it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) fd: OwnedFd,
    pub(super) id: TypeId,
}

fn load(builder: &Builder, id: TypeId) -> Result<Loaded, SysError> {
    Ok(Loaded { fd: sys::btf_load(&builder.to_bytes(), None, &mut [])?, id })
}

fn int(builder: &mut Builder) -> TypeId {
    builder.int("int", 4, Encoding::SIGNED)
}

/// `int`: what storage maps want for key and value.
pub(super) fn number() -> Result<Loaded, SysError> {
    let mut builder = Builder::new();
    let id = int(&mut builder);
    load(&builder, id)
}

/// `int probe(struct __sk_buff *)`, global: what an extension replaces, and is itself.
pub(super) fn packet_function() -> Result<Loaded, SysError> {
    let mut builder = Builder::new();
    let int = int(&mut builder);
    let member = Member { name: "len", ty: int, bit_offset: 0, bitfield_size: 0 };
    let context = builder.structure("__sk_buff", 4, &[member]);
    let context = builder.ptr(context);
    let proto = builder.func_proto(int, &[Param { name: "ctx", ty: context }]);
    let id = builder.func("probe", Func { proto, linkage: Linkage::GLOBAL });
    load(&builder, id)
}

/// Which kinds of types does the kernel take that not all kernels know? Names as in its headers;
/// the first is what all have.
#[doc(alias = "BPF_BTF_LOAD")]
pub fn btf_kinds() -> Vec<(&'static str, Support)> {
    type Add = fn(&mut Builder, TypeId);
    const KINDS: &[(&str, Add)] = &[
        ("BPF_BTF_LOAD", |_, _| {}),
        ("BTF_KIND_FUNC (global)", |b, int| {
            let proto = b.func_proto(int, &[]);
            b.func("f", Func { proto, linkage: Linkage::GLOBAL });
        }),
        ("BTF_KIND_FLOAT", |b, _| {
            b.float("float", 4);
        }),
        ("BTF_KIND_DECL_TAG", |b, int| {
            let of = b.typedef("t", int);
            b.decl_tag("tag", DeclTag { target: of, component: None, attribute: false });
        }),
        ("BTF_KIND_TYPE_TAG", |b, int| {
            let of = b.type_tag("tag", TypeTag { ty: int, attribute: false });
            b.ptr(of);
        }),
        ("BTF_KIND_ENUM64", |b, _| {
            b.enumeration("e", 8, &[Enumerator { name: "E", value: 1, signed: false }]);
        }),
    ];
    let answer = |add: &Add| -> Answer {
        let mut builder = Builder::new();
        let int = int(&mut builder);
        add(&mut builder, int);
        load(&builder, int)?;
        Ok(())
    };
    KINDS.iter().map(|(name, add)| (*name, of(answer(add)))).collect()
}
