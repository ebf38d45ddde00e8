//! Netlink messages as bytes: written with [`Message`], read with [`replies`] and [`Attrs`].
//!
//! Layout: `include/uapi/linux/netlink.h`. Everything is in the machine's byte order and padded to
//! four bytes.

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTR: usize = 4;
/// Message flags: a request that is acknowledged.
const REQUEST: u16 = 0x1 | 0x4;
/// Message flags: the change is sent back.
pub(super) const ECHO: u16 = 0x8;
/// Message flags: takes the place of what is there.
pub(super) const REPLACE: u16 = 0x100;
/// Message flags: all objects.
pub(super) const DUMP: u16 = 0x300;
/// Message flags: must not exist.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Message flags: is created.
pub(super) const CREATE: u16 = 0x400;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Flags of an answer: the request is not repeated in it.
const NLM_F_CAPPED: u16 = 0x100;
/// Flags of an answer: attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
/// What remains of an attribute's type without its flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A message being written.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.splice(4..6, kind.to_ne_bytes());
        bytes.splice(6..8, (REQUEST | flags).to_ne_bytes());
        Self(bytes)
    }

    /// Bytes as they are: the fixed part behind the header.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(super) fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len() + ATTR).expect("attributes here are short");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A text attribute, NUL at its end.
    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.retain(|&byte| byte != 0);
        value.truncate(255);
        value.push(0);
        self.attr(kind, &value)
    }

    pub(super) fn nested(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let at = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NLA_F_NESTED).to_ne_bytes());
        let mut out = inside(self);
        let len = u16::try_from(out.0.len() - at).expect("attributes here are short");
        out.0.splice(at..at + 2, len.to_ne_bytes());
        out
    }

    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("messages here are short");
        self.0.splice(0..4, len.to_ne_bytes());
        self.0.splice(8..12, sequence.to_ne_bytes());
        self.0
    }
}

/// A message received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The request is done, or failed with this errno; what the kernel said to it in words.
    Finished(i32, Option<Box<str>>),
    /// Something that was asked for.
    Object(Object),
}

/// A message that describes something: a filter, an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// `RTM_NEW…`.
    pub(super) kind: u16,
    /// What follows the header.
    pub(super) body: Vec<u8>,
}

/// Splits what arrived in one datagram, for one request.
pub(super) fn replies(mut bytes: &[u8], sequence: u32) -> Vec<Reply> {
    let mut out = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = bytes.get(HEADER..len) else { break };
        if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence {
            let (kind, flags) = (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1]));
            out.push(reply(kind, flags, body));
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

fn reply(kind: u16, flags: u16, body: &[u8]) -> Reply {
    let errno = || word(body, 0).map(|n| n.cast_signed().saturating_neg());
    match kind {
        // All objects of a dump were sent; some kernels say no more than that.
        NLMSG_DONE => Reply::Finished(errno().unwrap_or(0), None),
        NLMSG_ERROR => Reply::Finished(errno().unwrap_or(libc::EPROTO), said(flags, body)),
        _ => Reply::Object(Object { kind, body: body.to_vec() }),
    }
}

/// The kernel's words, behind errno and the request that failed.
fn said(flags: u16, body: &[u8]) -> Option<Box<str>> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = match flags & NLM_F_CAPPED {
        0 => (word(body, 4)? as usize).next_multiple_of(4),
        _ => HEADER,
    };
    let text = Attrs(body.get(4..)?.get(request..)?).find(NLMSGERR_ATTR_MSG)?;
    Some(self::text(text).into())
}

/// The number at a place.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|&chunk| u32::from_ne_bytes(chunk))
}

/// A text attribute up to its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Walks over attributes: type without flags, and value. A length that cannot be ends the walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attrs<'a>(pub(super) &'a [u8]);

impl<'a> Attrs<'a> {
    /// The first of a type.
    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        Iterator::find(&mut self, |attr| attr.0 == kind).map(|attr| attr.1)
    }

    /// A number of 32 bits.
    pub(super) fn word(self, kind: u16) -> Option<u32> {
        self.find(kind).and_then(|value| word(value, 0))
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[l0, l1, k0, k1] = self.0.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(ATTR..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_lengths_and_padding_where_netlink_wants_them() {
        let bytes = Message::new(19, 0)
            .bytes(&[0; 16])
            .nested(43, |m| m.attr(1, &[1, 2, 3]).attr(3, &[9; 4]))
            .finish(5);
        assert_eq!(bytes.len(), HEADER + 16 + 4 + 8 + 8);
        assert_eq!(bytes[..4], u32::try_from(bytes.len()).unwrap().to_ne_bytes());
        assert_eq!(bytes[8..12], 5_u32.to_ne_bytes());
        assert_eq!(bytes[32..34], 20_u16.to_ne_bytes());
        assert_eq!(bytes[36..38], 7_u16.to_ne_bytes());
        assert_eq!(bytes[43], 0);
        let mut attrs = Attrs(&bytes[32..]);
        let (kind, inside) = attrs.next().unwrap();
        assert_eq!((kind, attrs.next()), (43, None));
        assert_eq!(Attrs(inside).collect::<Vec<_>>(), [(1, &[1, 2, 3][..]), (3, &[9; 4][..])]);
        assert_eq!(Attrs(inside).word(3), Some(0x0909_0909));
    }

    /// Else the objects that were sent before look like all there are.
    #[test]
    fn a_dump_may_end_with_an_error() {
        let end = |errno: i32| {
            let done = Message::new(NLMSG_DONE, 0).bytes(&(-errno).to_ne_bytes());
            replies(&done.finish(3), 3)
        };
        assert_eq!(end(0), [Reply::Finished(0, None)]);
        assert_eq!(end(libc::EINTR), [Reply::Finished(libc::EINTR, None)]);
        assert_eq!(replies(&Message::new(NLMSG_DONE, 0).finish(3), 3), [Reply::Finished(0, None)]);
    }

    #[test]
    fn replies_are_split_and_hostile_lengths_end_the_walk() {
        let ack = Message::new(NLMSG_ERROR, 0).bytes(&(-libc::EEXIST).to_ne_bytes()).finish(3);
        let object = Message::new(44, 0).bytes(&[7; 5]).finish(3);
        let padded = [object.as_slice(), &[0; 3], &ack].concat();
        let want = Reply::Object(Object { kind: 44, body: vec![7; 5] });
        assert_eq!(replies(&padded, 3), [want, Reply::Finished(libc::EEXIST, None)]);
        assert_eq!(replies(&padded, 4), []);
        for cut in 0..ack.len() {
            assert_eq!(replies(&ack[..cut], 3), []);
        }
        let mut zero = ack;
        zero[0] = 0;
        assert_eq!(replies(&zero, 3), []);
    }

    #[test]
    fn the_kernels_words_are_found_behind_the_request() {
        let request = Message::new(19, 0).bytes(&[1; 16]).finish(3);
        for (flags, repeated) in [(NLM_F_ACK_TLVS, request.len()), (0x300, HEADER)] {
            let answer = Message::new(NLMSG_ERROR, flags)
                .bytes(&(-libc::EBUSY).to_ne_bytes())
                .bytes(&request[..repeated])
                .text(NLMSGERR_ATTR_MSG, "XDP program already attached")
                .finish(3);
            let words = Some("XDP program already attached".into());
            assert_eq!(replies(&answer, 3), [Reply::Finished(libc::EBUSY, words)]);
            for cut in HEADER..answer.len() {
                let mut short = answer[..cut].to_vec();
                short.splice(..4, u32::try_from(cut).unwrap().to_ne_bytes());
                assert_eq!(replies(&short, 3).len(), 1);
            }
        }
    }

    #[test]
    fn attributes_of_impossible_length_end_the_walk() {
        for bytes in [&[][..], &[4], &[3, 0, 1, 0], &[9, 0, 1, 0, 5], &[0, 0, 0, 0]] {
            assert_eq!(Attrs(bytes).next(), None, "{bytes:?}");
        }
    }
}
