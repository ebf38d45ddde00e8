// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A scheduler: who wants to run stands in line, and gets his slice.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define SCX_DSQ_GLOBAL 0x8000000000000001ULL
#define SCX_SLICE_DFL 20000000ULL

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct sched_ext_ops {
	void (*enqueue)(struct task_struct *p, __u64 enq_flags);
	void (*enable)(struct task_struct *p);
	__u64 flags;
	char name[128];
};

/* Linux 6.13 and later; it was scx_bpf_dispatch before. */
extern void scx_bpf_dsq_insert(struct task_struct *p, __u64 dsq_id, __u64 slice, __u64 enq_flags) __ksym;

__u64 enqueued, enabled;

SEC("struct_ops")
void enqueue(unsigned long long *ctx)
{
	__sync_fetch_and_add(&enqueued, 1);
	scx_bpf_dsq_insert((struct task_struct *)ctx[0], SCX_DSQ_GLOBAL, SCX_SLICE_DFL, ctx[1]);
}

SEC("struct_ops")
void enable(unsigned long long *ctx)
{
	__sync_fetch_and_add(&enabled, 1);
}

SEC(".struct_ops.link")
struct sched_ext_ops queue = {
	.enqueue = (void *)enqueue,
	.enable = (void *)enable,
	.name = "skep_queue",
};
