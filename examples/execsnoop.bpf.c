// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// Every execve and execveat of the system as one event in a ring buffer: who, with which
// arguments, and what came of it. Kernel structures are read through CO-RE, so the object is
// built without kernel headers and runs on other kernels than the one it was written on.
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define COMM_SIZE 16
#define FILENAME_SIZE 128
#define ARGS_SIZE 512
#define ARG_SIZE 128
#define ARGS_MAX 40

// Only the fields that are used; offsets come from the running kernel's BTF.
struct task_struct {
	int tgid;
	struct task_struct *real_parent;
} __attribute__((preserve_access_index));

struct trace_event_raw_sys_enter {
	unsigned long args[6];
} __attribute__((preserve_access_index));

struct trace_event_raw_sys_exit {
	long ret;
} __attribute__((preserve_access_index));

struct trace_event_raw_sched_process_exec {
	int pid;
	int old_pid;
} __attribute__((preserve_access_index));

struct event {
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__s32 retval;
	__u32 args_count;
	__u32 args_size;
	// Whether something of the arguments did not fit.
	bool args_cut;
	char comm[COMM_SIZE];
	char filename[FILENAME_SIZE];
	// Separated by single spaces. The tail keeps the last read inside the structure.
	char args[ARGS_SIZE + ARG_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct event);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

// Report only this user, and only calls that succeeded, if asked to.
const volatile bool filter_uid = false;
const volatile __u32 only_uid = 0;
const volatile bool only_success = false;

// Events that found the table or the ring buffer full.
__u64 lost_started;
__u64 lost_events;

static const struct event empty;

static __always_inline void read_args(struct event *event, const char *const *argv)
{
	for (int i = 0; i < ARGS_MAX; i++) {
		const char *arg = NULL;
		__u32 used = event->args_size;
		long size;

		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i]) || !arg)
			return;
		if (used >= ARGS_SIZE)
			break;
		size = bpf_probe_read_user_str(&event->args[used], ARG_SIZE, arg);
		if (size <= 0)
			break;
		if (size == ARG_SIZE)
			event->args_cut = true;
		event->args_count++;
		event->args_size = used + size;
		// The end of this string becomes the space before the next one.
		used = used + size - 1;
		if (used < sizeof(event->args))
			event->args[used] = ' ';
	}
	event->args_cut = true;
}

static __always_inline int enter(const char *filename, const char *const *argv)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 uid = (__u32)bpf_get_current_uid_gid();
	__u32 tid = (__u32)pid_tgid;
	struct task_struct *task;
	struct event *event;

	if (filter_uid && uid != only_uid)
		return 0;
	if (bpf_map_update_elem(&started, &tid, &empty, BPF_ANY)) {
		__sync_fetch_and_add(&lost_started, 1);
		return 0;
	}
	event = bpf_map_lookup_elem(&started, &tid);
	if (!event)
		return 0;

	task = (struct task_struct *)bpf_get_current_task();
	event->pid = pid_tgid >> 32;
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->uid = uid;
	bpf_probe_read_user_str(event->filename, sizeof(event->filename), filename);
	read_args(event, argv);
	return 0;
}

static __always_inline int leave(long retval)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct event *event = bpf_map_lookup_elem(&started, &tid);
	__u32 last;

	if (!event)
		return 0;
	if (!only_success || retval >= 0) {
		event->retval = retval;
		// The last argument is followed by nothing.
		last = event->args_size - 1;
		if (last < sizeof(event->args))
			event->args[last] = 0;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		if (bpf_ringbuf_output(&events, event, sizeof(*event), 0))
			__sync_fetch_and_add(&lost_events, 1);
	}
	bpf_map_delete_elem(&started, &tid);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	return enter((const char *)ctx->args[0], (const char *const *)ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int enter_execveat(struct trace_event_raw_sys_enter *ctx)
{
	return enter((const char *)ctx->args[1], (const char *const *)ctx->args[2]);
}

// A thread that is not the leader takes the leader's number when it succeeds; what was stored
// under the old number follows it.
SEC("tracepoint/sched/sched_process_exec")
int follow_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	__u32 old = ctx->old_pid, new = ctx->pid;
	struct event *event;

	if (old == new)
		return 0;
	event = bpf_map_lookup_elem(&started, &old);
	if (!event)
		return 0;
	if (bpf_map_update_elem(&started, &new, event, BPF_ANY))
		__sync_fetch_and_add(&lost_started, 1);
	bpf_map_delete_elem(&started, &old);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int exit_execveat(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx->ret);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
