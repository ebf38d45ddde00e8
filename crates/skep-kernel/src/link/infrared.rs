//! Programs on infrared receivers: they decode what a remote control sends.

use std::os::fd::{AsFd as _, BorrowedFd};

use skep_abi::AttachType;

use super::{AttachError, Attachment, Link, Method, refused};
use crate::program::Program;

/// Attaches a decoder to an infrared receiver, an open `/dev/lirc0`. It stays when the process is
/// killed.
///
/// # Errors
///
/// `EINVAL` when the descriptor is no such receiver, or it gives no raw pulses; `E2BIG` when it has
/// 64 decoders.
#[doc(alias = "BPF_LIRC_MODE2")]
pub fn attach_infrared(program: &Program, receiver: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let hook = "an infrared receiver";
    let attach_type = AttachType::LIRC_MODE2.0;
    let held = Attachment::attach(receiver, program.as_fd(), attach_type, 0, Method::Infrared);
    Ok(Link::new(held.map_err(|e| refused(program, hook, e))?, hook))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd as _};

    use skep_abi::ProgType;

    use super::*;
    use crate::{
        program::ProgramLoad,
        sys::fake::{Answer, Fake},
    };

    /// No machine here has a receiver: the requests themselves are the fact.
    #[test]
    fn a_receiver_is_told_its_program() {
        let fake = Fake::new(|call, _| match call.name() {
            "BPF_PROG_LOAD" => Answer::Fd(File::open("/dev/null").unwrap().into()),
            _ => Answer::Number(0),
        });
        let program =
            Program::load(&ProgramLoad::new("decode", ProgType::LIRC_MODE2, &[])).unwrap();
        let receiver = File::open("/dev/null").unwrap();
        let link = attach_infrared(&program, receiver.as_fd()).unwrap();
        assert_eq!(link.method(), Method::Infrared);
        link.detach().unwrap();
        let seen = fake.seen();
        let [_, attach, detach] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((attach.name, detach.name), ("BPF_PROG_ATTACH", "BPF_PROG_DETACH"));
        // Attach type and flags, as the kernel's structure has them; the descriptors are copies.
        for call in [attach, detach] {
            assert_eq!(call.bytes[8..12], 16_u32.to_ne_bytes());
            assert_eq!(call.bytes[12..], [0; 20]);
            assert_ne!(call.bytes[..4], receiver.as_raw_fd().to_ne_bytes());
        }
        assert_eq!(attach.bytes[..4], detach.bytes[..4], "the same receiver");
        drop(fake);
        let fake = Fake::new(|call, _| match call.name() {
            "BPF_PROG_ATTACH" => Answer::Errno(libc::EINVAL),
            _ => Answer::Number(0),
        });
        let error = attach_infrared(&program, receiver.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "program 'decode' not attached to an infrared receiver");
        drop(fake);
    }
}
