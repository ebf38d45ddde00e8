// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// How an object is composed: variables in .data, .rodata and .bss, calls to static and global
// functions, a callback, tail calls through a program array filled by the loader, and maps in
// maps whose inner maps the loader makes. The result depends on the packets and nothing else.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum stage {
	stage_length,
	stage_sum,
	stage_missing,
	stage_count,
};

#define SUM_BYTES 16
#define SIZE_CLASSES 4

int measure_length(struct xdp_md *ctx);
int sum_bytes(struct xdp_md *ctx);

// Slot `stage_missing` stays empty: a tail call to it falls through.
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, stage_count);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} stages SEC(".maps") = {
	.values = {
		[stage_length] = (void *)&measure_length,
		[stage_sum] = (void *)&sum_bytes,
	},
};

struct size_classes {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIZE_CLASSES);
	__type(key, __u32);
	__type(value, __u64);
} sizes_ip SEC(".maps"), sizes_other SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct size_classes);
} sizes SEC(".maps") = {
	.values = { &sizes_ip, &sizes_other },
};

struct by_protocol {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u8);
	__type(value, __u64);
} by_protocol_ip SEC(".maps");

// Keyed by EtherType in host order.
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct by_protocol);
} by_ethertype SEC(".maps") = {
	.values = { [0] = &by_protocol_ip },
};

// .rodata
const volatile __u32 size_limits[SIZE_CLASSES] = { 64, 256, 1024, 1514 };
const volatile bool drop_odd_sums = false;

// .data
__u64 smallest = 0xffff;
__u32 weights[3] = { 1, 10, 100 };

// .bss
__u64 packets;
__u64 largest;
__u64 sum;
__u64 weighted;
__u64 fell_through;
static __u64 classified;

struct sum_state {
	__u8 bytes[SUM_BYTES];
	__u32 total;
};

// A callback: its address is an operand of an instruction.
static long add_byte(__u32 index, struct sum_state *state)
{
	if (index >= SUM_BYTES)
		return 1;
	state->total += state->bytes[index];
	return 0;
}

// A static function: verified where it is called.
static __noinline __u32 size_class(__u32 length)
{
	__u32 class = 0;

	for (__u32 i = 0; i < SIZE_CLASSES; i++) {
		if (length <= size_limits[i])
			break;
		class = i + 1;
	}
	return class < SIZE_CLASSES ? class : SIZE_CLASSES - 1;
}

// A global function: verified on its own, for every argument.
__noinline __u64 weigh(__u32 class, __u32 length)
{
	return class < 3 ? (__u64)weights[class] * length : length;
}

// A global function that takes the context.
__noinline int count_protocol(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	struct iphdr *ip = (void *)(ethernet + 1);
	__u32 ethertype;
	__u64 one = 1, *count;
	__u8 protocol;
	void *inner;

	if ((void *)(ip + 1) > end)
		return -1;
	ethertype = bpf_ntohs(ethernet->h_proto);
	protocol = ip->protocol;
	// The loader fills slots in order of their index, which for a hash is the key.
	if (ethertype == ETH_P_IP)
		ethertype = 0;
	inner = bpf_map_lookup_elem(&by_ethertype, &ethertype);
	if (!inner)
		return 0;
	count = bpf_map_lookup_elem(inner, &protocol);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(inner, &protocol, &one, BPF_NOEXIST);
	return 1;
}

static __noinline void count_size(__u32 which, __u32 class)
{
	void *inner = bpf_map_lookup_elem(&sizes, &which);
	__u64 *count;

	if (!inner)
		return;
	count = bpf_map_lookup_elem(inner, &class);
	if (count)
		__sync_fetch_and_add(count, 1);
}

SEC("xdp")
int composition(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&packets, 1);
	if (count_protocol(ctx) > 0)
		__sync_fetch_and_add(&classified, 1);
	bpf_tail_call(ctx, &stages, stage_length);
	return XDP_ABORTED;
}

SEC("xdp")
int measure_length(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	__u32 length = end - data;
	__u32 class = size_class(length);

	if (length < smallest)
		smallest = length;
	if (length > largest)
		largest = length;
	__sync_fetch_and_add(&weighted, weigh(class, length));
	if ((void *)(ethernet + 1) <= end)
		count_size(ethernet->h_proto != bpf_htons(ETH_P_IP), class);
	bpf_tail_call(ctx, &stages, stage_sum);
	return XDP_ABORTED;
}

SEC("xdp")
int sum_bytes(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct sum_state state = {};

	if (data + SUM_BYTES <= end) {
		__builtin_memcpy(state.bytes, data, SUM_BYTES);
		bpf_loop(SUM_BYTES + 1, add_byte, &state, 0);
		__sync_fetch_and_add(&sum, state.total);
	}
	if (drop_odd_sums && state.total % 2)
		return XDP_DROP;
	bpf_tail_call(ctx, &stages, stage_missing);
	__sync_fetch_and_add(&fell_through, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
