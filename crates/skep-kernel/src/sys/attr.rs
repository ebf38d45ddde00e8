//! Attribute blocks of `bpf(2)`, one per command, in the order of the kernel's `union bpf_attr`.
//!
//! A block may be longer than an older kernel knows: what it does not know must then be zero, and
//! a field that is not asked for is. A block shorter than the kernel's is read as ending in zeros.

use std::fmt;

/// A `bpf(2)` attribute block.
///
/// # Safety
///
/// The type must be `#[repr(C)]`, consist of integers without padding, and lay out exactly the
/// fields that the kernel reads and writes for [`Attr::CMD`].
pub(super) unsafe trait Attr: fmt::Debug {
    /// The command these attributes belong to.
    const CMD: libc::c_int;
    /// Command name for errors, as in the kernel headers.
    const NAME: &'static str;
}

/// Defines blocks; asserts each one's size, and that it is the sum of its fields (no padding).
macro_rules! blocks {
    ($(
        $(#[$doc:meta])*
        $block:ident, $size:literal { $( $field:ident: $ty:ty, )+ }
    )+) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default)]
            pub(super) struct $block { $( pub(super) $field: $ty, )+ }
            const _: () = assert!(size_of::<$block>() == $size);
            const _: () = assert!(0 $( + size_of::<$ty>() )+ == $size);
        )+
    };
}

/// Ties blocks to the commands that take them.
macro_rules! commands {
    ($( $command:ident($block:ty) = $cmd:literal, $name:literal; )+) => {
        $(
            #[doc = concat!("Attributes of `", $name, "`.")]
            #[repr(transparent)]
            #[derive(Clone, Copy, Debug, Default)]
            pub(super) struct $command(pub(super) $block);

            // SAFETY: a transparent wrapper of a `repr(C)` block whose size is the sum of its
            // fields (asserted where it is defined), declared in the order of this command's
            // struct in `union bpf_attr` (include/uapi/linux/bpf.h).
            unsafe impl Attr for $command {
                const CMD: libc::c_int = $cmd;
                const NAME: &'static str = $name;
            }
        )+
    };
}

blocks! {
    /// A new map.
    MapCreateAttr, 80 {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; 16],
        map_ifindex: u32,
        btf_fd: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
        map_extra: u64,
        value_type_btf_obj_fd: i32,
        map_token_fd: i32,
    }
    /// One entry; `value` is the address of the next key in `BPF_MAP_GET_NEXT_KEY`.
    MapElem, 32 {
        map_fd: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    /// Many entries.
    MapBatch, 56 {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
    /// A program to verify and load.
    ProgLoadAttr, 152 {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_fd: u32,
        core_relo_cnt: u32,
        fd_array: u64,
        core_relos: u64,
        core_relo_rec_size: u32,
        log_true_size: u32,
        prog_token_fd: i32,
        fd_array_cnt: u32,
    }
    /// A path in bpffs.
    ObjPath, 24 {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
        path_fd: i32,
        pad: u32,
    }
    /// One run of a program.
    TestRunAttr, 80 {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        pad: u32,
    }
    /// An id, or the start of a walk over ids.
    GetId, 16 {
        id: u32,
        next_id: u32,
        open_flags: u32,
        fd_by_id_token_fd: i32,
    }
    /// A link to take off its hook.
    LinkFd, 4 {
        link_fd: u32,
    }
    /// Where to store what the kernel knows of a descriptor.
    InfoByFd, 16 {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    /// A raw tracepoint by name (0 for BTF tracepoints) and its program.
    RawTracepointAttr, 24 {
        name: u64,
        prog_fd: u32,
        pad: u32,
        cookie: u64,
    }
    /// BTF to load.
    BtfLoadAttr, 40 {
        btf: u64,
        log_buf: u64,
        btf_size: u32,
        log_size: u32,
        log_level: u32,
        log_true_size: u32,
        btf_flags: u32,
        token_fd: i32,
    }
    /// Head of a new link; `extra` belongs to the kind (cookie, relative link and revision).
    LinkCreateAttr, 64 {
        prog_fd: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
        extra: [u64; 6],
    }
    /// A program at a hook, the way before links.
    ProgAttachAttr, 32 {
        target: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
        relative: u32,
        expected_revision: u64,
    }
    /// The programs at a hook: room for ids and what goes with them, `count` of each.
    ProgQueryAttr, 64 {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    /// A link's new program, and the one it must have with `BPF_F_REPLACE`.
    LinkUpdateAttr, 16 {
        link_fd: u32,
        new_prog_fd: u32,
        flags: u32,
        old_prog_fd: u32,
    }
    /// Which statistics to turn on.
    EnableStatsAttr, 4 {
        kind: u32,
    }
    /// A program's stream, and where to copy its text to.
    StreamReadAttr, 24 {
        stream_buf: u64,
        stream_buf_len: u32,
        stream_id: u32,
        prog_fd: u32,
        pad: u32,
    }
    /// A descriptor of a process, and room for what hangs on it.
    TaskFdQueryAttr, 48 {
        pid: u32,
        fd: u32,
        flags: u32,
        buf_len: u32,
        buf: u64,
        prog_id: u32,
        fd_type: u32,
        probe_offset: u64,
        probe_addr: u64,
    }
    /// A map that a program holds without using it.
    BindMapAttr, 12 {
        prog_fd: u32,
        map_fd: u32,
        flags: u32,
    }
    /// A token from a mount of bpffs.
    TokenCreateAttr, 8 {
        flags: u32,
        bpffs_fd: u32,
    }
    /// A reader of an iterator's link.
    IterCreateAttr, 8 {
        link_fd: u32,
        flags: u32,
    }
}

commands! {
    MapCreate(MapCreateAttr) = 0, "BPF_MAP_CREATE";
    MapLookup(MapElem) = 1, "BPF_MAP_LOOKUP_ELEM";
    MapUpdate(MapElem) = 2, "BPF_MAP_UPDATE_ELEM";
    MapDelete(MapElem) = 3, "BPF_MAP_DELETE_ELEM";
    MapNextKey(MapElem) = 4, "BPF_MAP_GET_NEXT_KEY";
    ProgLoad(ProgLoadAttr) = 5, "BPF_PROG_LOAD";
    ObjPin(ObjPath) = 6, "BPF_OBJ_PIN";
    ObjGet(ObjPath) = 7, "BPF_OBJ_GET";
    ProgAttach(ProgAttachAttr) = 8, "BPF_PROG_ATTACH";
    ProgDetach(ProgAttachAttr) = 9, "BPF_PROG_DETACH";
    ProgTestRun(TestRunAttr) = 10, "BPF_PROG_TEST_RUN";
    ProgNextId(GetId) = 11, "BPF_PROG_GET_NEXT_ID";
    MapNextId(GetId) = 12, "BPF_MAP_GET_NEXT_ID";
    ProgFdById(GetId) = 13, "BPF_PROG_GET_FD_BY_ID";
    MapFdById(GetId) = 14, "BPF_MAP_GET_FD_BY_ID";
    ObjInfo(InfoByFd) = 15, "BPF_OBJ_GET_INFO_BY_FD";
    ProgQuery(ProgQueryAttr) = 16, "BPF_PROG_QUERY";
    RawTracepointOpen(RawTracepointAttr) = 17, "BPF_RAW_TRACEPOINT_OPEN";
    BtfLoad(BtfLoadAttr) = 18, "BPF_BTF_LOAD";
    BtfFdById(GetId) = 19, "BPF_BTF_GET_FD_BY_ID";
    TaskFdQuery(TaskFdQueryAttr) = 20, "BPF_TASK_FD_QUERY";
    MapLookupDelete(MapElem) = 21, "BPF_MAP_LOOKUP_AND_DELETE_ELEM";
    MapFreeze(MapElem) = 22, "BPF_MAP_FREEZE";
    BtfNextId(GetId) = 23, "BPF_BTF_GET_NEXT_ID";
    MapLookupBatch(MapBatch) = 24, "BPF_MAP_LOOKUP_BATCH";
    MapLookupDeleteBatch(MapBatch) = 25, "BPF_MAP_LOOKUP_AND_DELETE_BATCH";
    MapUpdateBatch(MapBatch) = 26, "BPF_MAP_UPDATE_BATCH";
    MapDeleteBatch(MapBatch) = 27, "BPF_MAP_DELETE_BATCH";
    LinkCreate(LinkCreateAttr) = 28, "BPF_LINK_CREATE";
    LinkUpdate(LinkUpdateAttr) = 29, "BPF_LINK_UPDATE";
    LinkFdById(GetId) = 30, "BPF_LINK_GET_FD_BY_ID";
    LinkNextId(GetId) = 31, "BPF_LINK_GET_NEXT_ID";
    EnableStats(EnableStatsAttr) = 32, "BPF_ENABLE_STATS";
    IterCreate(IterCreateAttr) = 33, "BPF_ITER_CREATE";
    LinkDetach(LinkFd) = 34, "BPF_LINK_DETACH";
    ProgBindMap(BindMapAttr) = 35, "BPF_PROG_BIND_MAP";
    StreamRead(StreamReadAttr) = 37, "BPF_PROG_STREAM_READ_BY_FD";
    TokenCreate(TokenCreateAttr) = 36, "BPF_TOKEN_CREATE";
}
