// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// BTF-defined maps: every attribute, inner maps, initial values.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

struct key {
	__u32 a;
	__u16 b;
	__u16 c;
};

struct value {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000);
	__type(key, struct key);
	__type(value, struct value);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} typed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 24);
	__uint(numa_node, 0);
	__uint(map_flags, BPF_F_NUMA_NODE | BPF_F_MMAPABLE);
} sized SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, __u32);
	__uint(map_extra, 3);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} inner_one SEC(".maps"), inner_two SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { [1] = &inner_one, [4] = &inner_two },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 8);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 16);
		__type(key, struct key);
		__type(value, __u32);
	});
} anonymous SEC(".maps");

int late(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, int (struct __sk_buff *));
} stages SEC(".maps") = {
	.values = { [0] = &late, [3] = &late },
};

SEC("tc")
int early(struct __sk_buff *skb)
{
	struct key key = { .a = skb->len };
	struct value *value = bpf_map_lookup_elem(&typed, &key);
	__u32 zero = 0;
	void *inner;

	if (value)
		value->packets++;
	inner = bpf_map_lookup_elem(&outer, &zero);
	if (inner)
		bpf_map_lookup_elem(inner, &zero);
	inner = bpf_map_lookup_elem(&anonymous, &zero);
	if (inner)
		bpf_map_lookup_elem(inner, &key);
	bpf_map_peek_elem(&bloom, &zero);
	bpf_ringbuf_output(&events, &key, sizeof(key), 0);
	bpf_map_update_elem(&inner_two, &zero, &key, BPF_ANY);
	bpf_tail_call(skb, &stages, 3);
	return 0;
}

SEC("tc")
int late(struct __sk_buff *skb)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sized, &zero) != 0;
}
