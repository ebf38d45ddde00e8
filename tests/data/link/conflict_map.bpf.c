// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "shared.h"

extern struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct tally);
} counts SEC(".maps");

SEC("xdp")
int use(void *ctx)
{
	__u32 key = 0;

	return !bpf_map_lookup_elem(&counts, &key);
}
