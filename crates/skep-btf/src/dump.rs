//! One line per type and element, in the form of `bpftool btf dump format raw`.

use std::fmt;

use crate::{Btf, Kind, Linkage, List, Member, Type, TypeId};

/// The types of a BTF line by line; what it prints is stable enough to compare.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    btf: &'a Btf,
    only: Option<&'a [TypeId]>,
}

/// All types that `btf` itself has, one line each, elements on indented lines below.
pub const fn raw(btf: &Btf) -> Raw<'_> {
    Raw { btf, only: None }
}

/// As [`raw`], of these types only.
pub const fn raw_of<'a>(btf: &'a Btf, types: &'a [TypeId]) -> Raw<'a> {
    Raw { btf, only: Some(types) }
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.btf.first_id();
        let wanted = |id: &TypeId| self.only.map_or(*id >= first, |only| only.contains(id));
        for id in self.btf.ids().filter(wanted) {
            if let Some(ty) = self.btf.get(id) {
                self.one(id, ty, f)?;
            }
        }
        Ok(())
    }
}

impl Raw<'_> {
    fn one(&self, id: TypeId, ty: Type<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{id} {} '{}'", ty.kind.tag(), name(ty.name))?;
        match ty.kind {
            Kind::Void => {}
            Kind::Int(int) => write!(
                f,
                " size={} bits_offset={} nr_bits={} encoding={}",
                int.size,
                int.bit_offset,
                int.bits,
                int.encoding.name()
            )?,
            Kind::Ptr(of)
            | Kind::Typedef(of)
            | Kind::Volatile(of)
            | Kind::Const(of)
            | Kind::Restrict(of) => write!(f, " type_id={}", of.0)?,
            Kind::TypeTag(tag) => write!(f, " type_id={}", tag.ty.0)?,
            Kind::Array(array) => write!(
                f,
                " type_id={} index_type_id={} nr_elems={}",
                array.element.0, array.index.0, array.len
            )?,
            Kind::Struct(c) | Kind::Union(c) => {
                write!(f, " size={} vlen={}", c.size, c.members.len())?;
                members(c.members, f)?;
            }
            Kind::Enum(e) | Kind::Enum64(e) => {
                let sign = if e.signed { "SIGNED" } else { "UNSIGNED" };
                write!(f, " encoding={sign} size={} vlen={}", e.size, e.values.len())?;
                let suffix = match (ty.kind, e.signed) {
                    (Kind::Enum(_), _) => "",
                    (_, true) => "LL",
                    (_, false) => "ULL",
                };
                for value in e.values.iter() {
                    write!(f, "\n\t'{}' val={}{suffix}", name(value.name), value.number())?;
                }
            }
            Kind::Fwd { union } => {
                write!(f, " fwd_kind={}", if union { "union" } else { "struct" })?;
            }
            Kind::Func(func) => {
                write!(f, " type_id={} linkage={}", func.proto.0, linkage(func.linkage))?;
            }
            Kind::FuncProto(proto) => {
                write!(f, " ret_type_id={} vlen={}", proto.ret.0, proto.params.len())?;
                for param in proto.params.iter() {
                    write!(f, "\n\t'{}' type_id={}", name(param.name), param.ty.0)?;
                }
            }
            Kind::Var(var) => {
                write!(f, " type_id={}, linkage={}", var.ty.0, linkage(var.linkage))?;
            }
            Kind::DataSec(sec) => {
                write!(f, " size={} vlen={}", sec.size, sec.vars.len())?;
                for var in sec.vars.iter() {
                    write!(f, "\n\ttype_id={} offset={} size={}", var.var.0, var.offset, var.size)?;
                    if let Some(of) = self.btf.get(var.var) {
                        write!(f, " ({} '{}')", of.kind.tag(), name(of.name))?;
                    }
                }
            }
            Kind::Float { size } => write!(f, " size={size}")?,
            Kind::DeclTag(tag) => {
                let component = tag.component.map_or(-1, i64::from);
                write!(f, " type_id={} component_idx={component}", tag.target.0)?;
            }
        }
        writeln!(f)
    }
}

fn members(members: List<'_, Member<'_>>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for m in members.iter() {
        write!(f, "\n\t'{}' type_id={} bits_offset={}", name(m.name), m.ty.0, m.bit_offset)?;
        if m.bitfield_size > 0 {
            write!(f, " bitfield_size={}", m.bitfield_size)?;
        }
    }
    Ok(())
}

const fn name(name: &str) -> &str {
    if name.is_empty() { "(anon)" } else { name }
}

fn linkage(linkage: Linkage) -> &'static str {
    linkage.name().unwrap_or("(unknown)")
}
