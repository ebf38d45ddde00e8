//! Traffic control: the clsact qdisc and `cls_bpf` filters.
//!
//! Layout: `include/uapi/linux/{rtnetlink,pkt_cls,pkt_sched}.h`.

use super::{
    Socket,
    message::{Attrs, CREATE, DUMP, ECHO, EXCLUSIVE, Message, Object, REPLACE, text, word},
};
use crate::sys::SysError;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_MATCHALL_ACT: u16 = 2;
/// The first of a list of actions.
const FIRST_ACTION: u16 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_BPF_PARMS: u16 = 2;
const TCA_ACT_BPF_FD: u16 = 5;
const TCA_ACT_BPF_NAME: u16 = 6;
const TCA_ACT_BPF_ID: u16 = 9;

const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Parent of filters on what arrives.
pub(crate) const CLSACT_INGRESS: u32 = 0xffff_fff2;
/// Parent of filters on what leaves.
pub(crate) const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// `ETH_P_ALL` in network byte order, in the low half of `tcm_info`.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

/// Where a filter is, among those of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) ifindex: u32,
    pub(crate) parent: u32,
    /// 0 lets the kernel choose.
    pub(crate) handle: u32,
    /// Upper half of `tcm_info`; 0 lets the kernel choose.
    pub(crate) priority: u16,
}

/// How a program is in a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterKind {
    /// It is the filter, and its return value the verdict.
    Classifier,
    /// It is what happens to every packet.
    Action,
}

impl FilterKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Classifier => "bpf",
            Self::Action => "matchall",
        }
    }
}

/// A filter to add, or to put in another's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFilter<'a> {
    pub(crate) at: Filter,
    pub(crate) kind: FilterKind,
    pub(crate) prog: i32,
    pub(crate) name: &'a str,
    /// Takes the place of the one with this handle and priority.
    pub(crate) replace: bool,
}

/// A filter that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FilterOn {
    pub(crate) at: Filter,
    /// `bpf` for programs.
    pub(crate) kind: String,
    /// The name it was given.
    pub(crate) name: Option<String>,
    /// Its program.
    pub(crate) prog_id: Option<u32>,
}

/// `struct tcmsg`: interface, handle, parent, and priority with protocol.
fn tcmsg(words: [u32; 4]) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    for (to, word) in bytes.chunks_mut(4).skip(1).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// `struct tcmsg` of a filter on all protocols, as all of skep's are.
fn of_filter(at: Filter) -> [u8; TCMSG] {
    let info = u32::from(at.priority) << 16 | ALL_PROTOCOLS;
    tcmsg([at.ifindex, at.handle, at.parent, info])
}

/// `struct tcmsg` of the clsact qdisc.
fn clsact(ifindex: u32) -> [u8; TCMSG] {
    tcmsg([ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0])
}

fn new_filter(new: &NewFilter<'_>) -> Message {
    let how = if new.replace { REPLACE | CREATE } else { EXCLUSIVE | CREATE };
    Message::new(RTM_NEWTFILTER, how | ECHO)
        .bytes(&of_filter(new.at))
        .text(TCA_KIND, new.kind.name())
        .nested(TCA_OPTIONS, |options| match new.kind {
            FilterKind::Classifier => options
                .attr(TCA_BPF_FD, &new.prog.to_ne_bytes())
                .text(TCA_BPF_NAME, new.name)
                .attr(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes()),
            FilterKind::Action => options.nested(TCA_MATCHALL_ACT, |actions| {
                actions.nested(FIRST_ACTION, |first| {
                    first.text(TCA_ACT_KIND, "bpf").nested(TCA_ACT_OPTIONS, |action| {
                        action
                            .attr(TCA_ACT_BPF_PARMS, &tc_act_bpf())
                            .attr(TCA_ACT_BPF_FD, &new.prog.to_ne_bytes())
                            .text(TCA_ACT_BPF_NAME, new.name)
                    })
                })
            }),
        })
}

/// `struct tc_act_bpf` of a new action: the program's return value is the verdict, and where that
/// is `TC_ACT_UNSPEC` the next action goes on.
fn tc_act_bpf() -> [u8; 20] {
    const TC_ACT_PIPE: u32 = 3;
    let mut bytes = [0; 20];
    if let Some(action) = bytes.get_mut(8..12) {
        action.copy_from_slice(&TC_ACT_PIPE.to_ne_bytes());
    }
    bytes
}

/// A filter in an answer.
fn filter_on(object: &Object) -> Option<FilterOn> {
    let attrs = Attrs(object.body.get(TCMSG..)?);
    if object.kind != RTM_NEWTFILTER {
        return None;
    }
    let [ifindex, handle, parent, info] = [4, 8, 12, 16].map(|at| word(&object.body, at));
    let priority = u16::try_from(info? >> 16).expect("16 bits are left");
    let options = Attrs(attrs.find(TCA_OPTIONS).unwrap_or_default());
    let mut found = FilterOn {
        at: Filter { ifindex: ifindex?, parent: parent?, handle: handle?, priority },
        kind: attrs.find(TCA_KIND).map(text).unwrap_or_default(),
        name: options.find(TCA_BPF_NAME).map(text),
        prog_id: options.word(TCA_BPF_ID),
    };
    if found.kind == FilterKind::Action.name() {
        let action = first_action(options).unwrap_or(Attrs(&[]));
        found.name = action.find(TCA_ACT_BPF_NAME).map(text);
        found.prog_id = action.word(TCA_ACT_BPF_ID);
    }
    Some(found)
}

/// What the first action of a filter says of itself.
fn first_action(options: Attrs<'_>) -> Option<Attrs<'_>> {
    let first = Attrs(options.find(TCA_MATCHALL_ACT)?).find(FIRST_ACTION)?;
    Attrs(first).find(TCA_ACT_OPTIONS).map(Attrs)
}

impl Socket {
    /// Adds the clsact qdisc; false when it is already there.
    pub(crate) fn add_clsact(&mut self, ifindex: u32) -> Result<bool, SysError> {
        let message = Message::new(RTM_NEWQDISC, EXCLUSIVE | CREATE)
            .bytes(&clsact(ifindex))
            .attr(TCA_KIND, b"clsact\0");
        match self.request("RTM_NEWQDISC", message) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == libc::EEXIST => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes the clsact qdisc with all that hangs on it.
    fn delete_clsact(&mut self, ifindex: u32) -> Result<(), SysError> {
        let message = Message::new(RTM_DELQDISC, 0).bytes(&clsact(ifindex));
        self.request("RTM_DELQDISC", message).map(drop)
    }

    /// Removes the clsact qdisc when nothing hangs on it; true when it did.
    pub(crate) fn delete_unused_clsact(&mut self, ifindex: u32) -> Result<bool, SysError> {
        for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
            if !self.filters(ifindex, parent)?.is_empty() {
                return Ok(false);
            }
        }
        self.delete_clsact(ifindex).map(|()| true)
    }

    /// Adds a program as a filter whose return value is the verdict, and says what came of it.
    pub(crate) fn add_filter(&mut self, new: &NewFilter<'_>) -> Result<FilterOn, SysError> {
        let objects = self.request("RTM_NEWTFILTER", new_filter(new))?;
        objects.iter().find_map(filter_on).ok_or_else(|| {
            let hint = "the kernel did not say which filter it made";
            SysError::errno_of("RTM_NEWTFILTER", libc::EPROTO, hint)
        })
    }

    /// Removes one filter.
    pub(crate) fn delete_filter(
        &mut self,
        filter: Filter,
        kind: FilterKind,
    ) -> Result<(), SysError> {
        let message =
            Message::new(RTM_DELTFILTER, 0).bytes(&of_filter(filter)).text(TCA_KIND, kind.name());
        self.request("RTM_DELTFILTER", message).map(drop)
    }

    /// Is a filter at this place that `ours` knows? Another's may have come there since.
    pub(crate) fn has_filter(
        &mut self,
        at: Filter,
        ours: impl Fn(&FilterOn) -> bool,
    ) -> Result<bool, SysError> {
        let there = self.filters(at.ifindex, at.parent)?;
        Ok(there.iter().any(|on| on.at == at && ours(on)))
    }

    /// Filters of one direction, whatever their protocol. Their handles may be 0: each priority is
    /// also listed by itself.
    pub(crate) fn filters(&mut self, ifindex: u32, parent: u32) -> Result<Vec<FilterOn>, SysError> {
        // With a protocol the kernel leaves out the filters of all others (`tcf_chain_dump`,
        // net/sched/cls_api.c).
        let message = Message::new(RTM_GETTFILTER, DUMP).bytes(&tcmsg([ifindex, 0, parent, 0]));
        let objects = self.request("RTM_GETTFILTER", message)?;
        Ok(objects.iter().filter_map(filter_on).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Filter = Filter { ifindex: 2, parent: CLSACT_INGRESS, handle: 1, priority: 49152 };

    #[test]
    fn a_filter_is_read_as_the_kernel_describes_it() {
        let described = Message::new(RTM_NEWTFILTER, 0)
            .bytes(&of_filter(AT))
            .attr(TCA_KIND, b"bpf\0")
            .nested(TCA_OPTIONS, |options| {
                options.text(TCA_BPF_NAME, "skep/count").attr(TCA_BPF_ID, &77_u32.to_ne_bytes())
            })
            .finish(3);
        let object = Object { kind: RTM_NEWTFILTER, body: described[16..].to_vec() };
        let want = FilterOn {
            at: AT,
            kind: "bpf".into(),
            name: Some("skep/count".into()),
            prog_id: Some(77),
        };
        assert_eq!(filter_on(&object), Some(want));
        for cut in 0..object.body.len() {
            filter_on(&Object { kind: RTM_NEWTFILTER, body: object.body[..cut].to_vec() });
        }
        assert_eq!(filter_on(&Object { kind: RTM_NEWQDISC, ..object }), None);
    }

    #[test]
    fn a_filter_is_asked_for_with_priority_protocol_and_handle() {
        let kind = FilterKind::Classifier;
        let new = NewFilter { at: AT, kind, prog: 9, name: "n", replace: true };
        let bytes = new_filter(&new).finish(1);
        assert_eq!(bytes[6..8], (0x1_u16 | 0x4 | REPLACE | CREATE | ECHO).to_ne_bytes());
        let info = 49152_u32 << 16 | ALL_PROTOCOLS;
        assert_eq!(bytes[32..36], info.to_ne_bytes());
        let attrs = Attrs(&bytes[36..]);
        assert_eq!(attrs.find(TCA_KIND), Some(&b"bpf\0"[..]));
        let options = Attrs(attrs.find(TCA_OPTIONS).unwrap());
        assert_eq!((options.word(TCA_BPF_FD), options.word(TCA_BPF_FLAGS)), (Some(9), Some(1)));
    }

    #[test]
    fn an_action_stands_in_a_filter_that_takes_everything() {
        let kind = FilterKind::Action;
        let bytes = new_filter(&NewFilter { at: AT, kind, prog: 9, name: "n", replace: false });
        let bytes = bytes.finish(1);
        let attrs = Attrs(&bytes[36..]);
        assert_eq!(attrs.find(TCA_KIND), Some(&b"matchall\0"[..]));
        let mut inside = attrs.find(TCA_OPTIONS).unwrap();
        for kind in [TCA_MATCHALL_ACT, FIRST_ACTION] {
            inside = Attrs(inside).find(kind).unwrap();
        }
        assert_eq!(Attrs(inside).find(TCA_ACT_KIND), Some(&b"bpf\0"[..]));
        let action = Attrs(Attrs(inside).find(TCA_ACT_OPTIONS).unwrap());
        assert_eq!(action.word(TCA_ACT_BPF_FD), Some(9));
        assert_eq!(action.find(TCA_ACT_BPF_NAME), Some(&b"n\0"[..]));
        let parms = action.find(TCA_ACT_BPF_PARMS).unwrap();
        assert_eq!((parms.len(), word(parms, 8)), (20, Some(3)));
    }
}
