// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A map whose inner maps have a lock in their values: the kernel finds it by the inner map's types.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct account {
	struct bpf_spin_lock lock;
	__u32 events;
	__u64 bytes;
};

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct account);
} first SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &first },
};

SEC("xdp")
int account(struct xdp_md *ctx)
{
	__u32 one = 1, zero = 0;
	void *inner = bpf_map_lookup_elem(&outer, &one);
	struct account *mine;

	if (!inner)
		return XDP_ABORTED;
	mine = bpf_map_lookup_elem(inner, &zero);
	if (!mine)
		return XDP_ABORTED;
	bpf_spin_lock(&mine->lock);
	mine->events++;
	mine->bytes += ctx->data_end - ctx->data;
	bpf_spin_unlock(&mine->lock);
	return XDP_PASS;
}
