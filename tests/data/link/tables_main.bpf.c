// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Tables of one file with programs and maps of another: tail calls, maps of maps, operations.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};

extern int second(struct xdp_md *ctx);
extern struct inner here SEC(".maps");
struct inner there SEC(".maps");

SEC("xdp")
int third(struct xdp_md *ctx)
{
	return 33;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int(void *));
} calls SEC(".maps") = {
	.values = {
		[1] = (void *)&second,
		[3] = (void *)&third,
	},
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct inner);
} maps SEC(".maps") = {
	.values = { &there, &here },
};

SEC("xdp")
int first(struct xdp_md *ctx)
{
	__u32 which = (ctx->data_end - ctx->data) & 1, zero = 0;
	void *map = bpf_map_lookup_elem(&maps, &which);
	__u64 *count;

	if (!map)
		return XDP_ABORTED;
	count = bpf_map_lookup_elem(map, &zero);
	if (count)
		*count += 1 + which;
	bpf_tail_call(ctx, &calls, which ? 1 : 3);
	return XDP_DROP;
}
