// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// As kernel_main.bpf.c: the functions of its operations, and some of the same wants.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char _license[] SEC("license") = "GPL";

struct task_struct {
	int tgid;
	int pid;
} __attribute__((preserve_access_index));

struct sock;

extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;
extern int CONFIG_HZ __kconfig __weak;

SEC("struct_ops")
__u32 BPF_PROG(threshold, struct sock *sk)
{
	return 2;
}

SEC("struct_ops")
void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC("struct_ops")
__u32 BPF_PROG(undo, struct sock *sk)
{
	return 10;
}

SEC("raw_tp/sys_enter")
int leave(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return bpf_core_field_exists(task->tgid) + BPF_CORE_READ(task, tgid) + CONFIG_HZ;
}
