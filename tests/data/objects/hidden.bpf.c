// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A function that other objects do not see. As a global one it would be verified for every
// pointer, null too, and be refused; as a local one it is verified where it is called.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct state {
	__u64 sum;
};

__hidden __noinline int add(struct state *state, int value)
{
	state->sum += value;
	return 0;
}

SEC("xdp")
int hidden(struct xdp_md *ctx)
{
	struct state state = {};

	add(&state, 2);
	add(&state, ctx->data_end - ctx->data);
	return state.sum > 2 ? XDP_PASS : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
