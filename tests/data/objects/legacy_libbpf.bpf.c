// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Legacy maps in libbpf's form, with members of the object's own behind the common ones.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))

struct bpf_map_def {
	unsigned int type;
	unsigned int key_size;
	unsigned int value_size;
	unsigned int max_entries;
	unsigned int map_flags;
	unsigned int inner_map_idx;
	unsigned int numa_node;
};

static void *(*lookup)(void *map, const void *key) = (void *)1;

char _license[] SEC("license") = "GPL";

struct bpf_map_def SEC("maps") counters = {
	.type = BPF_MAP_TYPE_PERCPU_ARRAY,
	.key_size = 4,
	.value_size = 8,
	.max_entries = 3,
};

struct bpf_map_def SEC("maps") flows = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = 8,
	.value_size = 16,
	.max_entries = 512,
	.map_flags = BPF_F_NO_PREALLOC,
};

struct ____btf_map_flows {
	__u64 key;
	struct {
		__u64 packets;
		__u64 bytes;
	} value;
};
struct ____btf_map_flows SEC(".maps.flows") ____btf_map_flows = {};

SEC("socket")
int count(struct __sk_buff *skb)
{
	__u64 key = skb->hash;
	__u32 index = 1;
	__u64 *counter = lookup(&counters, &index);

	if (counter)
		*counter += 1;
	return lookup(&flows, &key) != 0;
}
