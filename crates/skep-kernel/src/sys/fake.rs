//! In the kernel's place: unit tests see each system call of their thread before it is made, and
//! may answer it themselves.
//!
//! ```ignore
//! let fake = Fake::failing("BPF_LINK_CREATE", libc::EINVAL);
//! let error = attach_xdp(&program, 1, XdpMode::Native).unwrap_err();
//! assert_eq!(fake.names(), ["BPF_LINK_CREATE"]);
//! ```

use std::{
    cell::RefCell,
    io,
    os::fd::{IntoRawFd as _, OwnedFd},
    rc::Rc,
};

use super::Call;

/// What a call returns.
pub(crate) enum Answer {
    /// What the kernel says.
    Kernel,
    /// What the kernel says, and then the test has changed it: the call with what the kernel wrote
    /// into it, and its result.
    Changed(Box<dyn FnOnce(&mut Call<'_>, libc::c_long) -> libc::c_long>),
    /// This errno; the kernel does not see the call.
    Errno(i32),
    /// This number; the kernel does not see the call. Not for calls that return a descriptor or
    /// an address, which the caller would take for its own.
    Number(libc::c_long),
    /// This descriptor, which the caller then owns.
    Fd(OwnedFd),
    /// A file with these bytes in it, for [`Call::ReadFile`].
    File(Vec<u8>),
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As [`Call::name`].
    pub(crate) name: &'static str,
    /// What was passed: the attribute block, message, value or name.
    pub(crate) bytes: Vec<u8>,
    /// All of it, in words.
    pub(crate) text: String,
    /// The errno it ended with; 0 when it succeeded.
    pub(crate) errno: i32,
}

type Decide = Box<dyn FnMut(&mut Call<'_>, usize) -> Answer>;

struct State {
    decide: Decide,
    seen: Vec<Seen>,
}

thread_local! {
    static STATE: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// Stands in the kernel's place on this thread until it is dropped.
pub(crate) struct Fake(Rc<RefCell<State>>);

impl Fake {
    /// `decide` gets each call and its number, from 0.
    pub(crate) fn new(decide: impl FnMut(&mut Call<'_>, usize) -> Answer + 'static) -> Self {
        let state = State { decide: Box::new(decide), seen: Vec::new() };
        let state = Rc::new(RefCell::new(state));
        STATE.with_borrow_mut(|now| {
            assert!(now.is_none(), "one fake at a time");
            *now = Some(Rc::clone(&state));
        });
        Self(state)
    }

    /// Only looks.
    pub(crate) fn watching() -> Self {
        Self::new(|_, _| Answer::Kernel)
    }

    /// Every call of this name fails.
    pub(crate) fn failing(name: &'static str, errno: i32) -> Self {
        Self::new(move |call, _| match call.name() == name {
            true => Answer::Errno(errno),
            false => Answer::Kernel,
        })
    }

    /// The calls so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.borrow().seen.clone()
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.borrow().seen.iter().map(|seen| seen.name).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        STATE.set(None);
    }
}

/// What `call` returns here.
pub(super) fn answer(
    call: &mut Call<'_>,
    kernel: impl Fn(&mut Call<'_>) -> io::Result<libc::c_long>,
) -> io::Result<libc::c_long> {
    let Some(state) = STATE.with_borrow(Clone::clone) else { return kernel(call) };
    let (bytes, text) = (call.bytes(), format!("{call:?}"));
    let answer = {
        let State { decide, seen } = &mut *state.borrow_mut();
        decide(call, seen.len())
    };
    let result = match answer {
        Answer::Kernel => kernel(call),
        Answer::Changed(change) => kernel(call).map(|ret| change(call, ret)),
        Answer::Errno(errno) => Err(io::Error::from_raw_os_error(errno)),
        Answer::Number(number) => Ok(number),
        Answer::Fd(fd) => Ok(fd.into_raw_fd().into()),
        Answer::File(bytes) => match call {
            Call::ReadFile { into, .. } => {
                **into = bytes;
                Ok(0)
            }
            _ => panic!("{} reads no file", call.name()),
        },
    };
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
    state.borrow_mut().seen.push(Seen { name: call.name(), bytes, text, errno });
    result
}

impl Call<'_> {
    /// What the kernel wrote in answer to `BPF_OBJ_GET_INFO_BY_FD`, for a test to change.
    pub(crate) fn information(&mut self, change: impl FnOnce(&mut [u8])) {
        let Self::Bpf { command: 15, attr, .. } = self else { panic!("no such answer here") };
        let word = |at: usize| u32::from_ne_bytes(attr[at..at + 4].try_into().expect("4 bytes"));
        let address = u64::from_ne_bytes(attr[8..16].try_into().expect("8 bytes"));
        let at = usize::try_from(address).expect("an address is as long as a pointer");
        let start: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: the caller of the command lent the kernel this many bytes here until it returns
        // (`obj::info_into`), every one of which may have any value, and waits.
        change(unsafe { std::slice::from_raw_parts_mut(start, word(4) as usize) });
    }

    /// The bytes of a request.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bpf { attr, .. } => attr.to_vec(),
            Self::PerfEventOpen { attr: bytes, .. }
            | Self::SetSockOpt { value: bytes, .. }
            | Self::Send { bytes, .. }
            | Self::AppendFile { bytes, .. } => bytes.to_vec(),
            Self::ReadFile { path, .. } | Self::ReadLink { path, .. } => {
                path.as_os_str().as_encoded_bytes().to_vec()
            }
            Self::InterfaceIndex { name } | Self::FsOpen { fs_type: name } => {
                name.to_bytes().to_vec()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::sys;

    #[test]
    fn a_test_sees_what_is_asked_of_the_kernel() {
        let fake = Fake::watching();
        sys::netlink_socket().unwrap();
        let names = ["socket", "SO_RCVTIMEO", "NETLINK_EXT_ACK"];
        assert_eq!(fake.names(), names);
        assert_eq!(fake.seen()[1].bytes[..8], 1_u64.to_ne_bytes());
    }

    #[test]
    fn files_may_say_anything() {
        let fake = Fake::new(|_, _| Answer::File(b"0-3,7\n".to_vec()));
        assert_eq!(sys::possible_cpus().unwrap(), 5);
        assert_eq!(fake.seen()[0].bytes, b"/sys/devices/system/cpu/possible");
        drop(fake);
        let fake = Fake::failing("reading a file", libc::EMFILE);
        assert_eq!(sys::possible_cpus().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        assert_eq!(fake.seen().len(), 1);
    }

    #[test]
    fn a_test_may_answer_in_the_kernels_place() {
        let fake = Fake::new(|call, n| match (call, n) {
            (Call::InterfaceIndex { .. }, 0) => Answer::Number(7),
            (Call::InterfaceIndex { .. }, 1) => Answer::Errno(libc::ENODEV),
            _ => Answer::Changed(Box::new(|_, index| index + 1)),
        });
        assert_eq!(sys::interface_index("eth7").unwrap(), 7);
        assert_eq!(sys::interface_index("eth7").unwrap_err().errno(), libc::ENODEV);
        assert_eq!(sys::interface_index("lo").unwrap(), 2);
        assert_eq!(fake.names(), ["if_nametoindex"; 3]);
        assert_eq!(fake.seen()[0].bytes, b"eth7");
        assert_eq!(fake.seen()[1].errno, libc::ENODEV);
        drop(fake);
        assert_eq!(sys::interface_index("lo").unwrap(), 1);
    }

    /// A signal that arrives all the time must not hang a process.
    #[test]
    fn interrupted_calls_are_made_again_but_not_for_ever() {
        for (errno, times, ok) in [(libc::EINTR, 3, true), (libc::EINTR, 1000, false)] {
            let fake = Fake::new(move |_, n| match n < times {
                true => Answer::Errno(errno),
                false => Answer::Fd(File::open("/dev/null").unwrap().into()),
            });
            let made = sys::detached_mount(c"tracefs");
            assert_eq!(made.is_ok(), ok, "{made:?}");
            assert!(fake.seen().len() <= 101);
        }
    }
}
