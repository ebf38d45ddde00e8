//! Maps by id.

use std::os::fd::AsFd as _;

use skep_abi::{MapFlags, MapType};
use skep_btf::TypeId;

use super::{Kind, open, own_field, some};
use crate::{
    map::Map,
    sys::{self, SysError},
};

/// What the kernel tells of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Id, unique among maps.
    pub id: u32,
    /// Kind.
    pub map_type: MapType,
    /// Name, cut to 15 bytes; may be empty.
    pub name: String,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU).
    pub value_size: u32,
    /// The most entries.
    pub max_entries: u32,
    /// Flags it was made with.
    pub flags: MapFlags,
    /// The device it was made for.
    pub ifindex: Option<u32>,
    /// Its type information.
    pub btf_id: Option<u32>,
    /// Type of the keys there.
    pub key_type: Option<TypeId>,
    /// Type of the values there.
    pub value_type: Option<TypeId>,
    /// Type of the values among the kernel's types: of `struct_ops` maps.
    pub kernel_value_type: Option<TypeId>,
    /// The BTF object that has it, since Linux 6.9; before it is that of `vmlinux`.
    pub kernel_btf_id: Option<u32>,
    /// Extra word of some types.
    pub extra: u64,
    /// Bytes of kernel memory, as `fdinfo` counts them.
    pub memory_bytes: Option<u64>,
    /// Read-only for system calls?
    pub frozen: bool,
}

/// A map by its id; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn map(id: u32) -> Result<Option<MapInfo>, SysError> {
    let Some(fd) = open(Kind::Map, id)? else { return Ok(None) };
    let raw: sys::MapInfo = sys::map_info(fd.as_fd())?;
    Ok(Some(MapInfo {
        id: raw.id,
        map_type: MapType(raw.map_type),
        name: raw.name(),
        key_size: raw.key_size,
        value_size: raw.value_size,
        max_entries: raw.max_entries,
        flags: MapFlags(raw.map_flags),
        ifindex: some(raw.ifindex),
        btf_id: some(raw.btf_id),
        key_type: some(raw.btf_key_type_id).map(TypeId),
        value_type: some(raw.btf_value_type_id).map(TypeId),
        kernel_value_type: some(raw.btf_vmlinux_value_type_id).map(TypeId),
        kernel_btf_id: some(raw.btf_vmlinux_id),
        extra: raw.map_extra,
        memory_bytes: own_field(fd.as_fd(), "memlock").and_then(|t| t.parse().ok()),
        frozen: own_field(fd.as_fd(), "frozen").is_some_and(|t| t == "1"),
    }))
}

/// Opens a map by its id to read and write it; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
#[doc(alias = "BPF_MAP_GET_FD_BY_ID")]
pub fn open_map(id: u32) -> Result<Option<Map>, SysError> {
    open(Kind::Map, id)?.map(Map::adopt).transpose()
}
