// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What both files want of the kernel: functions, variables, configuration, layouts; and operations
// whose functions are the other file's.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct sock;

struct tcp_congestion_ops {
	char name[16];
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
};

extern void bpf_rcu_read_lock(void) __ksym __weak;
extern const void bpf_link_fops __ksym;
extern int CONFIG_HZ __kconfig;
// As BPF_PROG makes them.
extern __u32 threshold(unsigned long long *ctx);
extern void avoid(unsigned long long *ctx);
extern __u32 undo(unsigned long long *ctx);

SEC(".struct_ops")
struct tcp_congestion_ops linked = {
	.name = "skep_linked",
	.ssthresh = (void *)threshold,
	.cong_avoid = (void *)avoid,
	.undo_cwnd = (void *)undo,
};

SEC("raw_tp/sys_enter")
int enter(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	if (bpf_rcu_read_lock)
		return BPF_CORE_READ(task, pid) + CONFIG_HZ;
	return (long)&bpf_link_fops;
}
