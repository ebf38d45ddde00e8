//! Map types.

use std::{collections::HashMap, os::fd::AsFd as _, sync::Mutex};

use skep_abi::{MapDef, MapNeeds, MapRule, MapType};

use super::{Support, btf, cached, chain, if_loading, of_errno};
use crate::{
    error::MapError,
    map::{Map, MapBtf},
    sys,
};

/// Can maps of this type be made?
pub fn map_type(map_type: MapType) -> Support {
    static CACHE: Mutex<Option<HashMap<MapType, Support>>> = Mutex::new(None);
    cached(&CACHE, map_type, || match map_type {
        // Its value is a structure of the kernel's, as the members of its programs are.
        MapType::STRUCT_OPS => super::prog_type(skep_abi::ProgType::STRUCT_OPS),
        _ => make(map_type),
    })
}

fn make(map_type: MapType) -> Support {
    match make_smallest(map_type) {
        Ok(_) => Support::Yes,
        Err(Failed::Map(e)) => match e.errno() {
            libc::EINVAL => Support::No(format!("this kernel has no {map_type} maps")),
            libc::EOPNOTSUPP => Support::No(chain(&e.source)),
            errno => of_errno(errno, &chain(&e)),
        },
        Err(Failed::Types(support)) => support,
    }
}

/// A map of this type, as small as can be.
pub(super) fn make_smallest(map_type: MapType) -> Result<Map, Failed> {
    let Some(rule) = MapRule::of(map_type) else {
        return Err(Failed::Types(Support::No(format!("{map_type} is not known here"))));
    };
    let mut def = rule.smallest(sys::page_bytes());
    if map_type == MapType::ARENA {
        // Programs with an arena must know where user space would see it.
        def.extra = 1 << 44;
    }
    if rule.needs == MapNeeds::Types {
        // As large as the type that is given for it.
        def.value_size = 4;
    }
    let inner = map_type.is_map_in_map().then(|| {
        let inner = MapDef { map_type: MapType::HASH, ..def };
        Map::create("probe", inner, None, None)
    });
    let types = if rule.needs == MapNeeds::Types {
        Some(btf::number().map_err(|e| Failed::Types(if_loading(|| Err(e.into()))))?)
    } else {
        None
    };
    let btf = types.as_ref().map(|types| {
        let (btf, id) = (types.fd.as_fd(), types.id.0);
        MapBtf { btf, key: id, value: id }
    });
    Ok(Map::create("probe", def, inner.transpose()?.as_ref(), btf)?)
}

/// Why no map was made.
#[derive(Debug)]
pub(super) enum Failed {
    Map(MapError),
    /// The BTF it needs was refused.
    Types(Support),
}

impl From<MapError> for Failed {
    fn from(e: MapError) -> Self {
        Self::Map(e)
    }
}

impl From<Failed> for Support {
    fn from(e: Failed) -> Self {
        match e {
            Failed::Map(e) => Self::No(chain(&e.source)),
            Failed::Types(support) => support,
        }
    }
}
