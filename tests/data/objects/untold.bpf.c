// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// One program that says where it goes; of the others each section lacks what stands behind its name.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

__u64 runs;

#define PROGRAM(section, name) \
	SEC(section)           \
	int name(void *ctx)    \
	{                      \
		return 0;      \
	}

SEC("raw_tp/sys_enter")
int told(void *ctx)
{
	__sync_fetch_and_add(&runs, 1);
	return 0;
}

PROGRAM("uprobe", u)
PROGRAM("uprobe.multi", many)
PROGRAM("usdt", probe)
PROGRAM("tracepoint", tp)
PROGRAM("raw_tp", raw)
PROGRAM("kprobe", k)
PROGRAM("ksyscall", sys)
PROGRAM("iter", walk)
PROGRAM("tp_btf", typed)
PROGRAM("fentry", entry)
PROGRAM("?foo", odd)
