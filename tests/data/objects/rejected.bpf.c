// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A program that every kernel's verifier rejects: it does not look whether the entry is there.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

SEC("xdp")
int rejected(struct xdp_md *ctx)
{
	__u32 key = ctx->ingress_ifindex;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);

	*count += 1;
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
