//! One CPU's value of a per-CPU map, and values behind a lock.

use skep_abi::UpdateMode;

use super::{Map, flags};
use crate::{
    error::MapError,
    sys::{self, SysError},
};

/// The upper half of the flags is a CPU.
#[doc(alias = "BPF_F_CPU")]
const ONE_CPU: u64 = 8;
/// The value is for all CPUs.
#[doc(alias = "BPF_F_ALL_CPUS")]
const ALL_CPUS: u64 = 16;
/// Hold the lock in the value meanwhile.
#[doc(alias = "BPF_F_LOCK")]
const LOCK: u64 = 4;

impl Map {
    /// The value of one CPU in a per-CPU map; `None` when there is no such entry.
    ///
    /// Kernels that cannot give one (before 7.0) are asked for all.
    ///
    /// # Errors
    ///
    /// `ERANGE` when there is no such CPU; `EINVAL` when the map is not per CPU.
    pub fn lookup_cpu(&self, key: &[u8], cpu: u32) -> Result<Option<Vec<u8>>, MapError> {
        let place = self.place_of(cpu)?;
        // A kernel that knows the flag writes one value only.
        let mut value = vec![0; self.value_bytes()];
        let one = self.def.value_size as usize;
        match self.fd.lookup(key, &mut value, on_cpu(cpu)) {
            Err(e) if e.errno() == libc::EINVAL => {}
            other => {
                value.truncate(one);
                return self.found(other).map(|found| found.then_some(value));
            }
        }
        let Some(all) = self.lookup_vec(key)? else { return Ok(None) };
        Ok(all.get(place..).and_then(|rest| rest.get(..one)).map(<[u8]>::to_vec))
    }

    /// Stores the value of one CPU; what the others have stays.
    ///
    /// # Errors
    ///
    /// As for [`Map::lookup_cpu`] and [`Map::update`]. `EINVAL` also where the kernel has no such
    /// operation (before 7.0): reading all values and storing them again would undo what programs
    /// do meanwhile.
    pub fn update_cpu(
        &self,
        key: &[u8],
        cpu: u32,
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        self.place_of(cpu)?;
        let value = self.padded(value)?;
        self.fd.update(key, &value, flags(mode) | on_cpu(cpu)).map_err(|mut e| {
            if e.errno() == libc::EINVAL && e.hint.is_none() {
                e.hint = Some("before Linux 7.0 values are stored for all CPUs only");
            }
            self.fail(e)
        })
    }

    /// Stores the same value for every CPU.
    ///
    /// # Errors
    ///
    /// As for [`Map::update`]; `EINVAL` when the map is not per CPU.
    pub fn update_all_cpus(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        self.place_of(0)?;
        let padded = self.padded(value)?;
        match self.fd.update(key, &padded, flags(mode) | ALL_CPUS) {
            Err(e) if e.errno() == libc::EINVAL => {}
            other => return other.map_err(|e| self.fail(e)),
        }
        let mut one = value.to_vec();
        one.resize(value.len().next_multiple_of(8), 0);
        let cpus = self.value_bytes().checked_div(one.len()).unwrap_or(0);
        self.update(key, &one.repeat(cpus), mode)
    }

    /// One value in as many bytes as all CPUs' have: so many a kernel reads that does not know
    /// that there is only one.
    fn padded(&self, value: &[u8]) -> Result<Vec<u8>, MapError> {
        if value.len() != self.def.value_size as usize {
            let hint = "the value's length is wrong";
            let e = SysError::errno_of("BPF_MAP_UPDATE_ELEM", libc::EINVAL, hint);
            return Err(self.fail(e));
        }
        let mut all = value.to_vec();
        all.resize(self.value_bytes(), 0);
        Ok(all)
    }

    /// As [`Map::lookup_vec`], while no program holds the `bpf_spin_lock` in the value. The lock
    /// reads as zeros.
    ///
    /// # Errors
    ///
    /// As for [`Map::lookup`]; `EINVAL` when the values have no lock.
    #[doc(alias = "BPF_F_LOCK")]
    pub fn lookup_locked(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_bytes()];
        self.found(self.fd.lookup(key, &mut value, LOCK)).map(|found| found.then_some(value))
    }

    /// As [`Map::update`], while no program holds the `bpf_spin_lock` in the value.
    ///
    /// # Errors
    ///
    /// As for [`Map::update`]; `EINVAL` when the values have no lock.
    #[doc(alias = "BPF_F_LOCK")]
    pub fn update_locked(
        &self,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        self.fd.update(key, value, flags(mode) | LOCK).map_err(|e| self.fail(e))
    }

    /// Where the value of a CPU starts among all.
    fn place_of(&self, cpu: u32) -> Result<usize, MapError> {
        if !self.def.map_type.is_percpu() {
            let hint = "this map has one value for all CPUs";
            return Err(self.fail(SysError::errno_of("per-CPU value", libc::EINVAL, hint)));
        }
        let cpus = sys::possible_cpus();
        let cpus = cpus.map_err(|e| self.fail(SysError::new("counting possible CPUs", e)))?;
        if cpu as usize >= cpus {
            let hint = "there is no such CPU";
            return Err(self.fail(SysError::errno_of("per-CPU value", libc::ERANGE, hint)));
        }
        Ok(cpu as usize * (self.def.value_size as usize).next_multiple_of(8))
    }
}

fn on_cpu(cpu: u32) -> u64 {
    u64::from(cpu) << 32 | ONE_CPU
}
