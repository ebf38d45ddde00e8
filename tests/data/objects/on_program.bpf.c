// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Programs that attach to functions of another program.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

__u64 replaced, entered, left;

SEC("?freplace/verdict")
int new_verdict(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&replaced, 1);
	return XDP_TX;
}

SEC("?fentry/verdict")
int on_entry(unsigned long long *ctx)
{
	__sync_fetch_and_add(&entered, 1);
	return 0;
}

SEC("?fexit/entry")
int on_exit(unsigned long long *ctx)
{
	/* The context and the value it returned. */
	__sync_fetch_and_add(&left, ctx[1]);
	return 0;
}
