// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Files that a process opens, counted in four ways: a plan takes the best that this kernel can.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define SYS_OPENAT 257 // x86-64

__u32 only_pid;
__u32 only_tid; // one thread of it; 0 for all
__u64 opens;

static int count(void)
{
	__u64 id = bpf_get_current_pid_tgid();

	if (id >> 32 == only_pid && (!only_tid || (__u32)id == only_tid))
		__sync_fetch_and_add(&opens, 1);
	return 0;
}

SEC("?fentry/vfs_open")
int by_fentry(void *ctx)
{
	return count();
}

SEC("?kprobe/vfs_open")
int by_kprobe(void *ctx)
{
	return count();
}

// Arguments: registers, number of the system call.
SEC("?tp_btf/sys_enter")
int by_tp_btf(__u64 *ctx)
{
	return ctx[1] == SYS_OPENAT ? count() : 0;
}

SEC("?tracepoint/syscalls/sys_enter_openat")
int by_tracepoint(void *ctx)
{
	return count();
}
