// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Congestion control that the kernel can really use: it counts and leaves the window alone.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct sock;

/* Not in the kernel's order, without most of its members, and with some that it does not have. */
struct tcp_congestion_ops___skep {
	char name[16];
	void (*no_such_function)(struct sock *sk);
	__u64 no_such_number;
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*ssthresh)(struct sock *sk);
};

__u64 inits, first_acks, second_acks;

SEC("struct_ops")
void count_init(unsigned long long *ctx)
{
	__sync_fetch_and_add(&inits, 1);
}

SEC("struct_ops")
void count_first(unsigned long long *ctx)
{
	__sync_fetch_and_add(&first_acks, 1);
}

SEC("struct_ops")
void count_second(unsigned long long *ctx)
{
	__sync_fetch_and_add(&second_acks, 1);
}

SEC("struct_ops")
__u32 ssthresh(unsigned long long *ctx)
{
	return 2;
}

SEC("struct_ops")
__u32 undo_cwnd(unsigned long long *ctx)
{
	return 10;
}

/* The kernel calls a function of this place with other arguments. */
SEC("?struct_ops")
void nowhere(unsigned long long *ctx)
{
}

SEC(".struct_ops.link")
struct tcp_congestion_ops___skep first = {
	.init = (void *)count_init,
	.cong_avoid = (void *)count_first,
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "skep_linked",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops___skep second = {
	.init = (void *)count_init,
	.cong_avoid = (void *)count_second,
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "skep_linked",
};

SEC(".struct_ops")
struct tcp_congestion_ops___skep plain = {
	.cong_avoid = (void *)count_first,
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo_cwnd,
	.name = "skep_plain",
};

SEC("?.struct_ops.link")
struct tcp_congestion_ops___skep wrong_number = {
	.ssthresh = (void *)ssthresh,
	.no_such_number = 7,
	.name = "skep_wrong",
};

SEC("?.struct_ops.link")
struct tcp_congestion_ops___skep wrong_function = {
	.ssthresh = (void *)ssthresh,
	.no_such_function = (void *)nowhere,
	.name = "skep_wrong",
};
