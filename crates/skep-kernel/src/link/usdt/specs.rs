//! The maps of an object built with libbpf's `usdt.bpf.h`, and who uses which entry of them.
//!
//! A set of places has a number, its index in `__bpf_usdt_specs`. A program learns the number
//! from the cookie of its link; on a kernel without cookies (before Linux 5.15) from the address
//! it stopped at, by `__bpf_usdt_ip_to_spec_id`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skep_abi::UpdateMode;
use skep_object::{
    ObjectSpec,
    spec::{MapOrigin, MapSpec},
};

use super::layout::Layout;
use crate::{map::Map, probe, sys::SysError};

const SPECS: &str = "__bpf_usdt_specs";
const ADDRESSES: &str = "__bpf_usdt_ip_to_spec_id";
const HAS_COOKIE: &str = "LINUX_HAS_BPF_COOKIE";

/// What an object's programs are told about static probes.
#[derive(Debug)]
pub(crate) struct Specs {
    pub(super) layout: Layout,
    specs: Arc<Map>,
    addresses: Option<Arc<Map>>,
    /// Do the programs look at cookies, or at addresses?
    pub(super) by_cookie: bool,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    /// By content: number, and how many use it.
    specs: HashMap<Vec<u8>, (u32, usize)>,
    /// By address: number, and how many use it.
    addresses: HashMap<u64, (u32, usize)>,
    /// Numbers that were given back.
    free: Vec<u32>,
    next: u32,
}

impl Specs {
    /// Those of an object with these maps; `None` when it was not built with the header, or with
    /// a version of it that cannot be understood (the reason becomes a notice).
    pub(crate) fn of(
        spec: &ObjectSpec,
        maps: &[Option<Arc<Map>>],
        notices: &mut Vec<String>,
    ) -> Option<Arc<Self>> {
        let place = |name: &str| spec.maps.iter().position(|map| map.name == name);
        let index = place(SPECS)?;
        let layout = match (&spec.btf, spec.maps.get(index)?.value_type) {
            (Some(btf), Some(value)) => Layout::read(btf, value),
            _ => return None,
        };
        let layout = match layout {
            Ok(layout) => layout,
            Err(e) => {
                notices.push(format!("static probes have no arguments: {e}"));
                return None;
            }
        };
        let specs = Arc::clone(maps.get(index)?.as_ref()?);
        if specs.def().value_size as usize != layout.bytes() {
            notices.push(format!("static probes have no arguments: {SPECS} has another value"));
            return None;
        }
        let addresses = place(ADDRESSES).and_then(|index| maps.get(index)?.clone());
        let by_cookie = told_of_cookies(spec).unwrap_or_else(|| probe::bpf_cookie().is_yes());
        let users = Mutex::default();
        Some(Arc::new(Self { layout, specs, addresses, by_cookie, users }))
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a set of places, written to the map when nobody has it yet.
    fn take(&self, content: &[u8]) -> Result<u32, SysError> {
        let mut users = self.users();
        if let Some((number, count)) = users.specs.get_mut(content) {
            *count += 1;
            return Ok(*number);
        }
        let number = users.free.last().copied().unwrap_or(users.next);
        // Beyond the end the kernel says E2BIG.
        self.specs.update(&number.to_ne_bytes(), content, UpdateMode::Any).map_err(|e| e.source)?;
        if users.free.pop().is_none() {
            users.next += 1;
        }
        users.specs.insert(content.to_vec(), (number, 1));
        Ok(number)
    }

    fn give_back(&self, content: &[u8]) {
        let mut users = self.users();
        let Some((number, count)) = users.specs.get_mut(content) else { return };
        *count -= 1;
        if *count == 0 {
            let number = *number;
            users.specs.remove(content);
            users.free.push(number);
        }
    }

    fn take_address(&self, address: u64, number: u32) -> Result<(), SysError> {
        let missing = "the object has no map of addresses, and the kernel no cookies";
        let addresses = self.addresses.as_ref();
        let addresses =
            addresses.ok_or_else(|| SysError::errno_of("attach", libc::ENOTSUP, missing))?;
        let mut users = self.users();
        if let Some((known, count)) = users.addresses.get_mut(&address) {
            if *known != number {
                let hint = "another program of the object is here with another cookie, and this \
                            kernel cannot tell them apart";
                return Err(SysError::errno_of("attach", libc::EEXIST, hint));
            }
            *count += 1;
            return Ok(());
        }
        addresses
            .update(&address.to_ne_bytes(), &number.to_ne_bytes(), UpdateMode::Any)
            .map_err(|e| e.source)?;
        users.addresses.insert(address, (number, 1));
        Ok(())
    }

    fn give_address_back(&self, address: u64) {
        let mut users = self.users();
        let Some((_, count)) = users.addresses.get_mut(&address) else { return };
        *count -= 1;
        if *count == 0 {
            users.addresses.remove(&address);
            if let Some(map) = &self.addresses {
                // An entry that nobody reads any more.
                map.delete(&address.to_ne_bytes()).ok();
            }
        }
    }
}

/// What the programs were told when the object was resolved.
fn told_of_cookies(spec: &ObjectSpec) -> Option<bool> {
    let of_kconfig = |map: &&MapSpec| map.origin == MapOrigin::Kconfig;
    let map = spec.maps.iter().find(of_kconfig)?;
    let variable = map.variables.iter().find(|variable| variable.name == HAS_COOKIE)?;
    map.data.as_ref()?.get(variable.offset as usize).map(|&value| value != 0)
}

/// Entries that one attachment uses; dropped when it is detached.
#[derive(Debug)]
pub(crate) struct Claim {
    specs: Arc<Specs>,
    contents: Vec<Vec<u8>>,
    addresses: Vec<u64>,
}

impl Claim {
    pub(super) const fn new(specs: Arc<Specs>) -> Self {
        Self { specs, contents: Vec::new(), addresses: Vec::new() }
    }

    pub(super) const fn specs(&self) -> &Arc<Specs> {
        &self.specs
    }

    /// The number of a set of places.
    pub(super) fn spec(&mut self, content: Vec<u8>) -> Result<u32, SysError> {
        let number = self.specs.take(&content)?;
        self.contents.push(content);
        Ok(number)
    }

    /// Whoever stops at this address finds this number.
    pub(super) fn address(&mut self, address: u64, number: u32) -> Result<(), SysError> {
        self.specs.take_address(address, number)?;
        self.addresses.push(address);
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.addresses.iter().for_each(|&address| self.specs.give_address_back(address));
        self.contents.iter().for_each(|content| self.specs.give_back(content));
    }
}
