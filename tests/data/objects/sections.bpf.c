// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Section names: exact, with target, optional, with flags, free; several programs in one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";
__u32 _version SEC("version") = 0x60102;

SEC("xdp")
int first(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	return XDP_DROP + (ctx->ingress_ifindex == 7);
}

SEC("?xdp.frags/devmap")
int optional(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("kprobe/do_nanosleep+0x4")
int probe(void *ctx)
{
	return 0;
}

SEC("fentry.s/bpf_fentry_test1")
int sleepable(void *ctx)
{
	return 0;
}

SEC("tracepoint/sched/sched_switch")
int tp(void *ctx)
{
	return 0;
}

SEC("cgroup/connect4")
int connect4(void *ctx)
{
	return 1;
}

SEC("lsm_cgroup/socket_bind")
int lsm(void *ctx)
{
	return 1;
}

SEC("somewhere_else")
int unknown(void *ctx)
{
	return 0;
}
