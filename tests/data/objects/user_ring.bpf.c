// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Records from user space, and their answers by two ring buffers.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_USER_RINGBUF 31

char _license[] SEC("license") = "GPL";

static long (*const drain_user_ring)(void *map, void *callback, void *context, __u64 flags) =
	(void *)209;
static void *(*const dynptr_data)(const void *dynptr, __u32 offset, __u32 length) = (void *)203;

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} even SEC(".maps"), odd SEC(".maps");

__u64 drained;

static long answer(void *request, __u64 *sum)
{
	__u64 *number = dynptr_data(request, 0, sizeof(*number));

	if (!number)
		return 1;
	*sum += *number;
	__sync_fetch_and_add(&drained, 1);
	if (*number & 1)
		bpf_ringbuf_output(&odd, number, sizeof(*number), 0);
	else
		bpf_ringbuf_output(&even, number, sizeof(*number), 0);
	return 0;
}

// Returns the sum of the numbers that were there.
SEC("syscall")
int serve(void *unused)
{
	__u64 sum = 0;
	long taken = drain_user_ring(&requests, answer, &sum, 0);

	return taken < 0 ? (int)taken : (int)sum;
}
