// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// A record each run, into a ring or a perf buffer, and a count of those that found no room: what
// consumers are measured with.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct record {
	__u64 number;
	__u32 cpu;
	__u8 rest[52];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct counts {
	__u64 tried;
	__u64 full;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

static struct counts *next(struct record *record)
{
	__u32 zero = 0;
	struct counts *mine = bpf_map_lookup_elem(&counts, &zero);

	if (mine) {
		record->number = mine->tried++;
		record->cpu = bpf_get_smp_processor_id();
	}
	return mine;
}

SEC("xdp")
int flood_ring(struct xdp_md *ctx)
{
	struct record record = {};
	struct counts *mine = next(&record);

	if (mine && bpf_ringbuf_output(&ring, &record, sizeof(record), 0))
		mine->full++;
	return XDP_PASS;
}

SEC("xdp")
int flood_perf(struct xdp_md *ctx)
{
	struct record record = {};
	struct counts *mine = next(&record);

	if (mine && bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &record, sizeof(record)))
		mine->full++;
	return XDP_PASS;
}
