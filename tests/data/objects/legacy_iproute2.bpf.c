// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Legacy maps in iproute2's form: ids, pinning, a map of maps, tail calls by section name.
#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))

struct bpf_elf_map {
	__u32 type;
	__u32 size_key;
	__u32 size_value;
	__u32 max_elem;
	__u32 flags;
	__u32 id;
	__u32 pinning;
	__u32 inner_id;
	__u32 inner_idx;
};

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*tail_call)(void *ctx, void *map, __u32 index) = (void *)12;

char _license[] SEC("license") = "GPL";

struct bpf_elf_map SEC("maps") jumps = {
	.type = BPF_MAP_TYPE_PROG_ARRAY,
	.id = 0x11,
	.size_key = 4,
	.size_value = 4,
	.max_elem = 8,
	.inner_idx = -1,
};

struct bpf_elf_map SEC("maps") inner = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = 4,
	.size_value = 8,
	.max_elem = 2,
	.id = 5,
	.inner_idx = 3,
};

struct bpf_elf_map SEC("maps") outer = {
	.type = BPF_MAP_TYPE_ARRAY_OF_MAPS,
	.size_key = 4,
	.size_value = 4,
	.max_elem = 4,
	.inner_id = 5,
	.pinning = 2,
};

SEC("classifier")
int entry(struct __sk_buff *skb)
{
	__u32 index = 3;
	void *found = lookup(&outer, &index);

	if (found && lookup(found, &index))
		return 2;
	lookup(&inner, &index);
	tail_call(skb, &jumps, 6);
	return 0;
}

SEC("0x11/6")
int six(struct __sk_buff *skb)
{
	return 6;
}

SEC("17/07")
int seven(struct __sk_buff *skb)
{
	return 7;
}
