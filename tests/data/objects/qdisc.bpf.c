// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A queueing discipline that keeps nothing: every packet is dropped, and counted.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define NET_XMIT_DROP 1

struct sk_buff {
	unsigned int len;
} __attribute__((preserve_access_index));

struct bpf_sk_buff_ptr {
	struct sk_buff *skb;
} __attribute__((preserve_access_index));

struct Qdisc {
	int limit;
} __attribute__((preserve_access_index));

struct Qdisc_ops {
	int (*enqueue)(struct sk_buff *skb, struct Qdisc *sch, struct sk_buff **to_free);
	struct sk_buff *(*dequeue)(struct Qdisc *sch);
	int (*init)(struct Qdisc *sch, void *arg, void *extack);
	void (*reset)(struct Qdisc *sch);
	void (*destroy)(struct Qdisc *sch);
	char id[16];
};

extern void bpf_qdisc_skb_drop(struct sk_buff *skb, struct bpf_sk_buff_ptr *to_free) __ksym;

__u64 dropped;

SEC("struct_ops")
int enqueue(unsigned long long *ctx)
{
	bpf_qdisc_skb_drop((struct sk_buff *)ctx[0], (struct bpf_sk_buff_ptr *)ctx[2]);
	__sync_fetch_and_add(&dropped, 1);
	return NET_XMIT_DROP;
}

SEC("struct_ops")
unsigned long long dequeue(unsigned long long *ctx)
{
	return 0;
}

SEC("struct_ops")
int init(unsigned long long *ctx)
{
	return 0;
}

SEC("struct_ops")
void reset(unsigned long long *ctx)
{
}

SEC("struct_ops")
void destroy(unsigned long long *ctx)
{
}

SEC(".struct_ops")
struct Qdisc_ops drop = {
	.enqueue = (void *)enqueue,
	.dequeue = (void *)dequeue,
	.init = (void *)init,
	.reset = (void *)reset,
	.destroy = (void *)destroy,
	.id = "skep_drop",
};
