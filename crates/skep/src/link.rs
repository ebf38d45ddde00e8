//! Attaching programs to hooks of the system.

pub use skep_kernel::{
    Target,
    link::{Direction, XdpMode},
};

use crate::{Program, program::Live};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Attach<'a> {
    /// Where its section name says: `tracepoint/sched/sched_process_exec`, `raw_tp/sys_enter`.
    #[default]
    Section,
    /// An XDP program on an interface.
    Xdp {
        /// Index of the interface, see [`ifindex`].
        ifindex: u32,
        /// Where in the receive path.
        mode: XdpMode,
    },
    /// A TC program on an interface.
    Tc {
        /// Index of the interface, see [`ifindex`].
        ifindex: u32,
        /// Which packets it sees.
        direction: Direction,
    },
    /// A socket filter on a packet socket of its own, which gets copies of an interface's packets.
    Packets {
        /// Index of the interface, see [`ifindex`].
        ifindex: u32,
    },
    /// Wherever else the kernel engine attaches: a cgroup, a network namespace, a place among other
    /// programs, netfilter, a perf event, a process, what an iterator walks over, a socket map
    /// ([`Map::kernel`](crate::Map::kernel)), a route.
    At(Target<'a>),
}

/// Why a program cannot be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The embedded engine has no hooks of the system.
    #[error(
        "program `{program}` cannot be attached: the embedded engine has no hooks, it runs programs \
         on packets (a capture, copies from an interface) and by test_run"
    )]
    NoHooks {
        /// The program.
        program: String,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] skep_kernel::AttachError),
}

/// An attached program. Dropping it detaches.
#[derive(Debug)]
pub struct Link {
    pub(crate) live: skep_kernel::Link,
}

impl Link {
    /// Where the program is attached, in words.
    pub fn hook(&self) -> &str {
        self.live.hook()
    }

    /// What is less than was asked for, one sentence each: arguments of a static probe that the
    /// program cannot read.
    pub fn notices(&self) -> &[String] {
        self.live.notices()
    }

    /// Pins the link at a path of a bpf file system, so that the program stays attached when this
    /// is dropped.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not held by a link of the kernel's.
    pub fn pin(&self, path: &std::path::Path) -> Result<(), skep_kernel::SysError> {
        self.live.pin(path)
    }

    /// Puts another program in the place of the one that is attached, in one step: no event is
    /// missed. With `expected` only if that is still the one.
    ///
    /// ```no_run
    /// use skep::{Attach, Engine, Object, XdpMode, ifindex};
    ///
    /// let engine = Engine::kernel()?;
    /// let (old, new) = (Object::open("old.bpf.o")?.load(&engine)?, Object::open("new.bpf.o")?);
    /// let at = Attach::Xdp { ifindex: ifindex("veth0")?, mode: XdpMode::Auto };
    /// let mut link = old.program("filter")?.attach(at)?;
    /// link.update(new.load(&engine)?.program("filter")?, Some(old.program("filter")?))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kernel's: `EPERM` when another program than `expected` is attached, `EINVAL` when the new
    /// one is of another kind, `EOPNOTSUPP` when this kind of attachment keeps its program for life.
    /// [`AttachError::NoHooks`] for programs of the embedded engine.
    pub fn update(&mut self, new: &Program, expected: Option<&Program>) -> Result<(), AttachError> {
        let expected = expected.map(kernel_program).transpose()?;
        Ok(self.live.update(kernel_program(new)?, expected)?)
    }

    /// Reads what an iterator gives: it walks once, from the beginning, while the file is read.
    ///
    /// # Errors
    ///
    /// `EINVAL` when this is not the link of an iterator.
    pub fn read_iter(&self) -> Result<skep_kernel::link::IterReader, skep_kernel::SysError> {
        self.live.read_iter()
    }

    /// Detaches, and says when that fails; dropping does the same silently.
    ///
    /// # Errors
    ///
    /// The kernel's, for hooks that are not held by a descriptor.
    pub fn detach(self) -> Result<(), skep_kernel::SysError> {
        self.live.detach()
    }
}

impl Program {
    /// Attaches the program.
    ///
    /// ```no_run
    /// use skep::{Attach, Engine, Object, XdpMode, ifindex};
    ///
    /// let loaded = Object::open("examples/classify.bpf.o")?.load(&Engine::kernel()?)?;
    /// let at = Attach::Xdp { ifindex: ifindex("veth0")?, mode: XdpMode::Auto };
    /// let link = loaded.program("classify")?.attach(at)?;
    /// // … the program sees every packet, until:
    /// link.detach()?; // as dropping it would, with the error if there is one
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Everything else the kernel has, by [`Attach::At`]:
    ///
    /// ```no_run
    /// use std::{fs::File, os::fd::AsFd as _};
    ///
    /// use skep::{Attach, Engine, Object, Target};
    ///
    /// let loaded = Object::open("connect.bpf.o")?.load(&Engine::kernel()?)?;
    /// let cgroup = File::open("/sys/fs/cgroup/example")?;
    /// let link = loaded.program("connect4")?.attach(Attach::At(Target::Cgroup(cgroup.as_fd())))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AttachError`] when the engine has no such hook, or the kernel refuses.
    pub fn attach(&self, at: Attach<'_>) -> Result<Link, AttachError> {
        let program = kernel_program(self)?;
        let (mode, direction) = (XdpMode::Auto, Direction::Ingress);
        let target = match at {
            Attach::Section => Target::Section,
            Attach::Xdp { ifindex, mode } => Target::Interface { ifindex, mode, direction },
            Attach::Tc { ifindex, direction } => Target::Interface { ifindex, mode, direction },
            Attach::Packets { ifindex } => Target::Interface { ifindex, mode, direction },
            Attach::At(target) => target,
        };
        Ok(Link { live: skep_kernel::attach(program, &target)? })
    }
}

fn kernel_program(program: &Program) -> Result<&skep_kernel::Program, AttachError> {
    match &program.live {
        Live::Embedded(p) => Err(AttachError::NoHooks { program: p.name().into() }),
        Live::Kernel(p) => Ok(p),
    }
}

/// Index of a network interface of the current namespace.
///
/// # Errors
///
/// `ENODEV` when there is none of this name.
pub fn ifindex(name: &str) -> Result<u32, skep_kernel::SysError> {
    skep_kernel::link::ifindex(name)
}
