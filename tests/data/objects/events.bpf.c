// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// What a program tells user space: records of a ring and of a perf buffer, lines of bpf_printk.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Dual BSD/GPL";

struct event {
	__u32 length;
	__u16 ethertype;
	__u8 source[ETH_ALEN];
	char note[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

// Keeps the type in BTF: nothing else names it.
const struct event *unused __attribute__((unused));

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	struct event event = { .note = "in" };

	if ((void *)(ethernet + 1) > end)
		return XDP_ABORTED;
	event.length = end - (void *)ethernet;
	event.ethertype = bpf_ntohs(ethernet->h_proto);
	__builtin_memcpy(event.source, ethernet->h_source, ETH_ALEN);
	bpf_printk("%d bytes of %x", event.length, event.ethertype);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	if (bpf_ringbuf_output(&ring, &event, sizeof(event), 0))
		return XDP_DROP;
	return XDP_PASS;
}
