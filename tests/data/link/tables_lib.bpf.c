// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Programs and maps that another file's tables name; more programs in the same sections.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef WHOLE
char _license[] SEC("license") = "GPL";

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
};
#endif

struct inner here SEC(".maps");

int fourth(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__array(values, int(void *));
} more SEC(".maps") = {
	.values = { [1] = (void *)&fourth },
};

SEC("xdp")
int fourth(struct xdp_md *ctx)
{
	return 44;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&here, &zero);

	if (count && *count > 3)
		bpf_tail_call(ctx, &more, 1);
	return count ? (int)*count + 20 : XDP_ABORTED;
}
