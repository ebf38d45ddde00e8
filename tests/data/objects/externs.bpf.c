// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Externs: kernel configuration, kernel symbols, kernel functions, weak ones.
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern bool LINUX_HAS_SOMETHING_NEW __kconfig __weak;
extern unsigned long CONFIG_HZ __kconfig;
extern bool CONFIG_BPF __kconfig;
extern enum libbpf_tristate CONFIG_VETH __kconfig;
extern char CONFIG_LETTER __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[8] __kconfig;
extern int CONFIG_NOT_THERE __kconfig __weak;

extern const void schedule __ksym;
extern const void no_such_symbol __ksym __weak;
extern const int bpf_prog_active __ksym;

struct task_struct;
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;
extern int no_such_function(int x) __ksym __weak;

__u64 out[8];

SEC("syscall")
int config(void *ctx)
{
	out[0] = LINUX_KERNEL_VERSION;
	out[1] = CONFIG_HZ;
	out[2] = CONFIG_BPF + LINUX_HAS_BPF_COOKIE + LINUX_HAS_SOMETHING_NEW;
	out[3] = CONFIG_VETH == TRI_MODULE;
	out[4] = CONFIG_LETTER;
	out[5] = CONFIG_DEFAULT_HOSTNAME[2];
	out[6] = CONFIG_NOT_THERE;
	return 0;
}

SEC("?syscall")
int symbols(void *ctx)
{
	out[0] = (__u64)&schedule;
	out[1] = (__u64)&no_such_symbol;
	out[2] = (__u64)&bpf_prog_active;
	return 0;
}

SEC("?syscall")
int functions(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (task)
		bpf_task_release(task);
	if (no_such_function)
		return no_such_function(1);
	return 0;
}
