//! XDP: programs that see packets before the stack does.
//!
//! An interface has room for one program per mode. What is there already stays: attaching never
//! replaces, [`Link::update`] does, and only what the caller expects to be there.

use std::{
    fmt,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, owned, refused, tc::interface, trace::no_such_link};
use crate::{
    inspect,
    leftover::mark,
    netlink::{Socket, XdpOn, XdpSet},
    program::Program,
    sys::{self, LinkTarget, SysError},
};

/// Only where nothing is.
const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1 << 0;
/// Only where the expected program is.
const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// Where in the receive path an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver, before the kernel makes an `sk_buff`.
    #[doc(alias = "XDP_FLAGS_DRV_MODE")]
    Native,
    /// In the stack: slower, on every device.
    #[doc(alias = "XDP_FLAGS_SKB_MODE")]
    Generic,
    /// In the network card itself. The program must have been loaded for this interface.
    #[doc(alias = "XDP_FLAGS_HW_MODE")]
    Offload,
}

impl XdpMode {
    pub(crate) const fn flags(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
            Self::Offload => 1 << 3,
        }
    }

    /// What a refusal means in this mode, where the errno does not tell.
    const fn hint(self) -> Option<&'static str> {
        match self {
            Self::Native => Some("the driver may have no XDP, or not for this MTU or its offloads"),
            Self::Offload => Some(
                "needs a card that runs programs, and a program loaded for this interface without \
                 BPF_F_XDP_DEV_BOUND_ONLY",
            ),
            Self::Auto | Self::Generic => None,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
        })
    }
}

/// Attaches an XDP program to an interface.
///
/// With [`XdpMode::Auto`], a driver that has XDP but refuses this program (packet size, offloads)
/// is passed over for generic mode.
///
/// # Errors
///
/// [`AttachError::Occupied`] when there is one already; `EOPNOTSUPP` when the driver has no native
/// mode; `EINVAL` when the program was loaded for another interface.
pub fn attach_xdp(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, AttachError> {
    let first = match xdp(program, ifindex, mode) {
        Ok(link) => return Ok(link),
        Err(e) => e,
    };
    let driver_refused = |e: &SysError| {
        matches!(e.errno(), libc::EOPNOTSUPP | libc::ERANGE | libc::EINVAL | libc::ENOMEM)
    };
    if mode == XdpMode::Auto
        && driver_refused(&first)
        && let Ok(link) = xdp(program, ifindex, XdpMode::Generic)
    {
        return Ok(link);
    }
    Err(explained(program, ifindex, mode, first))
}

fn xdp_hook(ifindex: u32, mode: XdpMode) -> String {
    format!("XDP ({mode}) on interface {}", interface(ifindex))
}

fn xdp(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, SysError> {
    let hook = xdp_hook(ifindex, mode);
    let (target, flags) = (LinkTarget::Ifindex(ifindex), mode.flags());
    match sys::link_create(program.as_fd(), target, AttachType::XDP.0, flags) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if no_such_link(&e) => xdp_by_netlink(program, ifindex, mode).map_err(|_| e),
        Err(e) => Err(e),
    }
}

fn xdp_by_netlink(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, SysError> {
    let program = owned(program.as_fd())?;
    let mut held = XdpByNetlink { socket: Socket::open()?, program, ifindex, flags: mode.flags() };
    mark(held.program.as_fd())?;
    let flags = held.flags | XDP_FLAGS_UPDATE_IF_NOEXIST;
    let prog = held.program.as_raw_fd();
    if let Err(e) = held.socket.set_xdp(&XdpSet { ifindex, prog, flags, expected: None }) {
        // Set or not, nobody knows: it is not to stay.
        if held.socket.is_unanswered() {
            held.replace(-1).ok();
        }
        return Err(e);
    }
    Ok(Link::new(Held::Xdp(held), xdp_hook(ifindex, mode)))
}

/// Attaches an XDP program over netlink, also where the kernel has links for it. The program stays
/// attached when this process is killed.
///
/// # Errors
///
/// As for [`attach_xdp`].
pub fn attach_xdp_netlink(
    program: &Program,
    ifindex: u32,
    mode: XdpMode,
) -> Result<Link, AttachError> {
    xdp_by_netlink(program, ifindex, mode).map_err(|e| explained(program, ifindex, mode, e))
}

/// XDP set on an interface over netlink, with a socket of its network namespace.
#[derive(Debug)]
pub(super) struct XdpByNetlink {
    socket: Socket,
    program: OwnedFd,
    ifindex: u32,
    flags: u32,
}

impl XdpByNetlink {
    /// Removes the program; one that somebody else has put in its place stays, and is no error.
    pub(super) fn remove(mut self) -> Result<(), SysError> {
        match self.replace(-1) {
            Err(e) if self.is_gone(&e) => Ok(()),
            done => done,
        }
    }

    /// Puts a program in the place of ours, if ours is there.
    pub(super) fn update(&mut self, new: BorrowedFd<'_>) -> Result<(), SysError> {
        let new = owned(new)?;
        mark(new.as_fd())?;
        self.replace(new.as_raw_fd())?;
        self.program = new;
        Ok(())
    }

    fn replace(&mut self, prog: i32) -> Result<(), SysError> {
        let &mut Self { ifindex, flags, .. } = self;
        let expected = Some(self.program.as_raw_fd());
        let flags = flags | XDP_FLAGS_REPLACE;
        self.socket.set_xdp(&XdpSet { ifindex, prog, flags, expected })
    }

    /// Does the refusal mean that another program, or none, is there now?
    fn is_gone(&mut self, e: &SysError) -> bool {
        let ours = sys::prog_info(self.program.as_fd()).map(|info| Some(info.id));
        let on = self.socket.xdp(self.ifindex);
        matches!(e.errno(), libc::EEXIST | libc::EBUSY)
            && matches!((ours, on), (Ok(ours), Ok(on)) if on.all().all(|(_, id)| id != ours))
    }
}

impl XdpOn {
    /// Modes and the ids of the programs in them.
    pub(crate) fn each(self) -> impl Iterator<Item = (XdpMode, u32)> {
        self.all().filter_map(|(mode, id)| Some((mode, id?)))
    }

    fn all(self) -> impl Iterator<Item = (XdpMode, Option<u32>)> {
        [
            (XdpMode::Native, self.native),
            (XdpMode::Generic, self.generic),
            (XdpMode::Offload, self.offload),
        ]
        .into_iter()
    }
}

/// The refusal, with who is there already or what the mode needs.
fn explained(program: &Program, ifindex: u32, mode: XdpMode, mut source: SysError) -> AttachError {
    let hook = xdp_hook(ifindex, mode);
    if matches!(source.errno(), libc::EBUSY | libc::EEXIST)
        && let Some(by) = occupants(ifindex)
    {
        return AttachError::Occupied {
            program: program.name().to_owned(),
            hook,
            by: by.into(),
            source,
        };
    }
    if matches!(source.errno(), libc::EINVAL | libc::EOPNOTSUPP | libc::ERANGE) {
        source.hint = mode.hint().or(source.hint);
    }
    refused(program, &hook, source)
}

/// Who has the interface, in words.
fn occupants(ifindex: u32) -> Option<String> {
    let on = Socket::open().and_then(|mut socket| socket.xdp(ifindex)).ok()?;
    let each = on.all().filter_map(|(mode, id)| {
        let id = id?;
        let name = inspect::program(id).ok().flatten().map(|info| info.name);
        Some(occupant(&name.unwrap_or_default(), id, mode))
    });
    let all: Vec<String> = each.collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn occupant(name: &str, id: u32, mode: XdpMode) -> String {
    /// What libxdp's program is called that runs several others.
    const DISPATCHER: &str = "xdp_dispatcher";
    let advice = match name {
        DISPATCHER => {
            ": libxdp's dispatcher, which runs several programs; add this one with xdp-loader, or \
             remove them all with 'xdp-loader unload INTERFACE --all'"
        }
        _ => "",
    };
    format!("program '{name}' (id {id}, {mode}){advice}")
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use skep_abi::ProgType;

    use super::{super::Method, *};
    use crate::{
        program::ProgramLoad,
        sys::{
            Call,
            fake::{Answer, Fake},
        },
    };

    #[test]
    fn who_is_there_is_said_with_what_to_do() {
        assert_eq!(occupant("pass", 7, XdpMode::Native), "program 'pass' (id 7, native)");
        let text = occupant("xdp_dispatcher", 7, XdpMode::Generic);
        assert!(text.contains("libxdp") && text.contains("xdp-loader unload"), "{text}");
    }

    /// No interface here runs programs in its hardware: the request itself is the fact. By link it is
    /// in `sweep::requests`.
    #[test]
    fn offload_is_asked_for_over_netlink_where_there_are_no_links() {
        let mut sequence = [0; 4];
        let fake = Fake::new(move |call, _| match (call.name(), call) {
            ("BPF_LINK_CREATE", _) => Answer::Errno(libc::EINVAL),
            ("BPF_PROG_LOAD" | "BPF_MAP_CREATE" | "socket", _) => {
                Answer::Fd(File::open("/dev/null").unwrap().into())
            }
            (_, Call::Send { bytes, .. }) => {
                sequence.copy_from_slice(&bytes[8..12]);
                Answer::Number(bytes.len().try_into().unwrap())
            }
            (_, Call::Recv { buffer, .. }) => {
                // NLMSG_ERROR whose errno is 0: done.
                let mut done = [20_u32, 2, 0, 0, 0].map(u32::to_ne_bytes).concat();
                done[8..12].copy_from_slice(&sequence);
                buffer[..20].copy_from_slice(&done);
                Answer::Number(20)
            }
            (_, Call::Bpf { .. } | Call::SetSockOpt { .. }) => Answer::Number(0),
            _ => Answer::Kernel,
        });
        let program = Program::load(&ProgramLoad::new("offloaded", ProgType::XDP, &[])).unwrap();
        let link = attach_xdp(&program, 7, XdpMode::Offload).unwrap();
        assert_eq!(link.method(), Method::XdpNetlink);
        link.detach().unwrap();
        let seen = fake.seen();
        let requests: Vec<_> = seen.iter().filter(|call| call.name == "send").collect();
        let [set, remove] = requests.as_slice() else { panic!("{requests:?}") };
        // IFLA_XDP_FLAGS: in hardware, and only where nothing is.
        let flags = |number: u32| [[8, 0, 3, 0], number.to_ne_bytes()].concat();
        assert!(set.bytes.ends_with(&flags(0x9)), "{set:?}");
        // In hardware, and only where ours is; then IFLA_XDP_EXPECTED_FD.
        let end = remove.bytes.len() - 8;
        assert!(remove.bytes[..end].ends_with(&flags(0x18)), "{remove:?}");
        assert_eq!(remove.bytes[end..end + 4], [8, 0, 8, 0]);
        drop(fake);
    }
}
