// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Values that belong to a task, a cgroup, a socket, an inode; one behind a lock, one with a timer.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_CGRP_STORAGE 32

char _license[] SEC("license") = "GPL";

struct count {
	__u64 events;
	__u32 last;
};

#define STORAGE(name, kind)                                                                        \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__type(key, int);                                                                  \
		__type(value, struct count);                                                       \
	} name SEC(".maps")

STORAGE(of_task, BPF_MAP_TYPE_TASK_STORAGE);
STORAGE(of_cgroup, BPF_MAP_TYPE_CGRP_STORAGE);
STORAGE(of_socket, BPF_MAP_TYPE_SK_STORAGE);
STORAGE(of_inode, BPF_MAP_TYPE_INODE_STORAGE);

struct guarded {
	struct bpf_spin_lock lock;
	__u32 low;
	__u32 high;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct guarded);
} locked SEC(".maps");

struct timed {
	struct bpf_timer timer;
	__u64 fired;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct timed);
} clocks SEC(".maps");

__u32 watched;

// Counts the system calls of one process beside its task.
SEC("tp_btf/sys_enter")
int count(__u64 *context)
{
	struct count *mine;

	if (bpf_get_current_pid_tgid() >> 32 != watched || !watched)
		return 0;
	mine = bpf_task_storage_get(&of_task, bpf_get_current_task_btf(), 0,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (mine) {
		mine->events++;
		mine->last = context[1];
	}
	return 0;
}

static int ring_bell(void *map, __u32 *key, struct timed *value)
{
	value->fired++;
	return 0;
}

SEC("syscall")
int start_clock(void *unused)
{
	__u32 zero = 0;
	struct timed *clock = bpf_map_lookup_elem(&clocks, &zero);

	if (!clock)
		return 1;
	// CLOCK_MONOTONIC; one that was started before is used again.
	bpf_timer_init(&clock->timer, &clocks, 1);
	bpf_timer_set_callback(&clock->timer, ring_bell);
	return bpf_timer_start(&clock->timer, 1000, 0);
}

SEC("syscall")
int write_both(const __u32 *number)
{
	__u32 zero = 0;
	struct guarded *pair = bpf_map_lookup_elem(&locked, &zero);

	if (!pair)
		return 1;
	bpf_spin_lock(&pair->lock);
	pair->low = *number;
	pair->high = *number;
	bpf_spin_unlock(&pair->lock);
	return 0;
}
