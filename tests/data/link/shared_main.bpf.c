// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// One of two files: its program calls functions, changes variables and counts in a map of the
// other.
#include "shared.h"

char _license[] SEC("license") = "GPL";

extern struct counts counts SEC(".maps");
extern __u32 limit;
extern const struct settings settings;
extern int sort(struct tally *into, __u32 length, __u32 factor);
extern __u32 LINUX_KERNEL_VERSION __kconfig;

const volatile __u32 offset = 3;
__u64 seen[2];
static __u32 own = 7;

static __noinline int scale(int number)
{
	own++;
	return number * 2 + (int)offset;
}

// The other file's is weak.
__noinline int bonus(int number)
{
	return number + 100;
}

SEC("xdp")
int main_prog(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data;
	__u32 key = length > limit;
	struct tally *tally;

	seen[key]++;
	tally = bpf_map_lookup_elem(&counts, &key);
	if (!tally)
		return XDP_ABORTED;
	return sort(tally, length, settings.factor) + scale(length) + bonus(own) + !LINUX_KERNEL_VERSION;
}
