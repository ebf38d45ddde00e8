// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Static probes whose header knows indexed memory, as libbpf's does from 1.7 on: the structure
// has two more members, and the others at other places.
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct __bpf_usdt_arg_spec {
	__u64 val_off;
	__u32 arg_type : 8;
	__u16 idx_reg_off : 12;
	__u16 scale_bitshift : 4;
	__u8 __reserved : 8;
	short reg_off;
	_Bool arg_signed;
	char arg_bitshift;
};

struct __bpf_usdt_spec {
	struct __bpf_usdt_arg_spec args[12];
	__u64 usdt_cookie;
	short arg_cnt;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, int);
	__type(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps");

struct {
	__u64 hits;
	__u64 value;
} seen;

// The first argument: its address is base + (index << shift) + offset.
SEC("usdt//proc/self/exe:skep_test:indexed")
int indexed(struct pt_regs *ctx)
{
	int id = bpf_get_attach_cookie(ctx);
	struct __bpf_usdt_spec *spec = bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
	__u64 base = 0, index = 0, raw = 0;

	if (!spec || spec->args[0].arg_type != 3)
		return 0;
	bpf_probe_read_kernel(&base, 8, (void *)ctx + spec->args[0].reg_off);
	bpf_probe_read_kernel(&index, 8, (void *)ctx + spec->args[0].idx_reg_off);
	base += (index << spec->args[0].scale_bitshift) + spec->args[0].val_off;
	bpf_probe_read_user(&raw, 8, (void *)base);
	raw <<= spec->args[0].arg_bitshift;
	seen.value = raw >> spec->args[0].arg_bitshift;
	__sync_fetch_and_add(&seen.hits, 1);
	return 0;
}
