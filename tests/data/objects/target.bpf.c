// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A program with a function that others replace or look at.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

/* Not inlined, and what it returns is not known to its caller. */
__attribute__((noinline)) int verdict(struct xdp_md *ctx)
{
	volatile int ret = XDP_PASS;

	return ret;
}

SEC("xdp")
int entry(struct xdp_md *ctx)
{
	return verdict(ctx);
}
