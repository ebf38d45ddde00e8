//! Entries of the maps to which XDP redirects: an interface or a CPU, and a program that runs there.

use std::os::fd::{AsFd as _, AsRawFd as _};

use skep_abi::UpdateMode;

use super::Map;
use crate::{error::MapError, program::Program, sys::SysError};

impl Map {
    /// Stores an interface in a device map; packets that are redirected to it go through `program`
    /// before they leave (`SEC("xdp/devmap")`, Linux 5.8), while the entry is there.
    ///
    /// # Errors
    ///
    /// `ENODEV` when there is no such interface; `EINVAL` when the map's values have no place for
    /// a program, or the program is not one for device maps.
    #[doc(alias = "bpf_devmap_val")]
    pub fn set_device(
        &self,
        key: &[u8],
        ifindex: u32,
        program: Option<&Program>,
    ) -> Result<(), MapError> {
        self.set_redirect(key, ifindex, program)
    }

    /// Stores a CPU in a CPU map, with a queue of so many packets; those that are redirected to it
    /// go through `program` there (`SEC("xdp/cpumap")`, Linux 5.9), while the entry is there. The
    /// key is the CPU's number.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` when the queue is longer than the kernel takes; else as for
    /// [`Map::set_device`].
    #[doc(alias = "bpf_cpumap_val")]
    pub fn set_cpu(
        &self,
        key: &[u8],
        queue: u32,
        program: Option<&Program>,
    ) -> Result<(), MapError> {
        self.set_redirect(key, queue, program)
    }

    /// `struct bpf_devmap_val` and `struct bpf_cpumap_val`: a number and a program's descriptor.
    fn set_redirect(
        &self,
        key: &[u8],
        number: u32,
        program: Option<&Program>,
    ) -> Result<(), MapError> {
        let mut value = number.to_ne_bytes().to_vec();
        match (self.value_bytes(), program) {
            (4, None) => {}
            (4, Some(_)) => {
                let hint = "values of 4 bytes have no place for a program: make them 8 bytes long";
                return Err(self.fail(SysError::errno_of(
                    "BPF_MAP_UPDATE_ELEM",
                    libc::EINVAL,
                    hint,
                )));
            }
            _ => {
                let fd = program.map_or(-1, |program| program.as_fd().as_raw_fd());
                value.extend(fd.to_ne_bytes());
            }
        }
        self.update(key, &value, UpdateMode::Any)
    }
}
