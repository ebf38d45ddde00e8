// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//
// A classifier as it was written for iproute2 before BTF: map definitions as structures in the
// section "maps" with an id and a pinning, tail calls into sections named "id/slot", packet
// loads by the old absolute instructions.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The layout that iproute2 reads.
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

#define PIN_NONE 0
#define PIN_GLOBAL 2

#define JUMPS 1
#define JUMP_IP 0
#define JUMP_IP6 1

#define STRING(x) #x
#define TAIL(id, slot) SEC(STRING(id) "/" STRING(slot))

struct bpf_elf_map SEC("maps") jumps = {
	.type = BPF_MAP_TYPE_PROG_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u32),
	.max_elem = 2,
	.id = JUMPS,
	.pinning = PIN_NONE,
};

// Bytes by IP protocol, kept where other programs find them.
struct bpf_elf_map SEC("maps") protocol_bytes = {
	.type = BPF_MAP_TYPE_ARRAY,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 256,
	.id = 2,
	.pinning = PIN_GLOBAL,
};

// Packets by IPv4 source address.
struct bpf_elf_map SEC("maps") sources = {
	.type = BPF_MAP_TYPE_HASH,
	.size_key = sizeof(__u32),
	.size_value = sizeof(__u64),
	.max_elem = 1024,
	.flags = BPF_F_NO_PREALLOC,
	.pinning = PIN_NONE,
};

unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");
unsigned long long load_word(void *skb, unsigned long long offset) asm("llvm.bpf.load.word");

static __always_inline void add(void *map, __u32 key, __u64 amount)
{
	__u64 *value = bpf_map_lookup_elem(map, &key);

	if (value)
		__sync_fetch_and_add(value, amount);
	else
		bpf_map_update_elem(map, &key, &amount, BPF_ANY);
}

SEC("classifier")
int count_packet(struct __sk_buff *skb)
{
	__u32 ethertype = load_half(skb, 12);

	if (ethertype == ETH_P_IP)
		bpf_tail_call(skb, &jumps, JUMP_IP);
	else if (ethertype == ETH_P_IPV6)
		bpf_tail_call(skb, &jumps, JUMP_IP6);
	return TC_ACT_OK;
}

TAIL(JUMPS, JUMP_IP)
int count_ip(struct __sk_buff *skb)
{
	add(&protocol_bytes, load_byte(skb, ETH_HLEN + 9), skb->len);
	add(&sources, load_word(skb, ETH_HLEN + 12), 1);
	return TC_ACT_OK;
}

TAIL(JUMPS, JUMP_IP6)
int count_ip6(struct __sk_buff *skb)
{
	add(&protocol_bytes, load_byte(skb, ETH_HLEN + 6), skb->len);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
