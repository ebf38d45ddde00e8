//! Hooks of cgroups, on one of the probe's own that no process is in.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
};

use skep_abi::{
    AttachType, ProgType,
    section::{SECTIONS, SectionDef},
};
use skep_btf::KindTag;

use super::{Answer, Hooks, RETURN_1, Support};
use crate::{
    inspect::cgroup_root,
    link::attach_cgroup,
    probe::{if_loading, program::named},
    program::{Program, ProgramLoad},
    sys,
};

/// Program types that hang on cgroups; of LSM programs those of a cgroup.
const TYPES: &[ProgType] = &[
    ProgType::CGROUP_SKB,
    ProgType::CGROUP_SOCK,
    ProgType::CGROUP_SOCK_ADDR,
    ProgType::CGROUP_SOCKOPT,
    ProgType::CGROUP_DEVICE,
    ProgType::CGROUP_SYSCTL,
    ProgType::SOCK_OPS,
    ProgType::LSM,
];
/// The hook that an LSM program of a cgroup is tried on.
const LSM_HOOK: &str = "bpf_lsm_socket_bind";

/// Every section name of a program on a cgroup, tried.
pub fn cgroup_hooks() -> Hooks {
    let rows = SECTIONS.iter().filter(|def| {
        let of_cgroup =
            def.prog_type != ProgType::LSM || def.attach_type == Some(AttachType::LSM_CGROUP);
        TYPES.contains(&def.prog_type) && def.attach_type.is_some() && of_cgroup
    });
    let cgroup = Cgroup::new();
    let one = |def: &SectionDef| match &cgroup {
        Ok(cgroup) => if_loading(|| attaches(def, cgroup.directory.as_fd())),
        Err(why) => Support::Unknown(format!("no cgroup of its own to try it on: {why}")),
    };
    rows.map(|def| (def.name.to_owned(), one(def))).collect()
}

fn attaches(def: &SectionDef, cgroup: BorrowedFd<'_>) -> Answer {
    let mut load = ProgramLoad::new("probe", def.prog_type, &RETURN_1);
    load.attach_type = def.attach_type;
    if def.flags.needs_attach_btf() {
        load.attach_btf_id = named(KindTag::Func, &[LSM_HOOK])?.0;
    }
    attach_cgroup(&Program::load(&load)?, cgroup)?.detach()?;
    Ok(())
}

/// A cgroup (version 2) that is removed at the end.
#[derive(Debug)]
struct Cgroup {
    path: PathBuf,
    directory: fs::File,
}

impl Cgroup {
    /// Below this process's own, else at the top.
    fn new() -> io::Result<Self> {
        let absent = || io::Error::new(io::ErrorKind::NotFound, "cgroup2 is not mounted");
        let mount = cgroup_root().ok_or_else(absent)?;
        let own = sys::read_text("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let name = format!("skep-probe-{}", std::process::id());
        let path = mount.join(own).join(&name);
        let path = match fs::create_dir(&path) {
            Ok(()) => path,
            Err(_) => {
                let path = mount.join(name);
                fs::create_dir(&path)?;
                path
            }
        };
        match fs::File::open(&path) {
            Ok(directory) => Ok(Self { path, directory }),
            Err(e) => {
                fs::remove_dir(&path)?;
                Err(e)
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nobody can be told, and nothing is in it.
        fs::remove_dir(&self.path).ok();
    }
}
