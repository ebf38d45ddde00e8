// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// An arena: variables in it, pages that a program allocates, a list that user space follows.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BPF_MAP_TYPE_ARENA 33
#define PAGE 4096
#define NUMA_NO_NODE (-1)
#define arena_ptr __attribute__((address_space(1)))

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
} arena SEC(".maps");

struct node {
	struct node arena_ptr *next;
	__u64 value;
};

__u64 arena_ptr total = 7;
struct node arena_ptr *arena_ptr head;
__u32 pages;

void arena_ptr *bpf_arena_alloc_pages(void *map, void arena_ptr *address, __u32 count, int node,
				      __u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void arena_ptr *address, __u32 count) __ksym __weak;

// Puts as many nodes into a page of their own as fit and were asked for.
SEC("syscall")
int fill(const __u32 *wanted)
{
	struct node arena_ptr *page;

	page = bpf_arena_alloc_pages(&arena, 0, 1, NUMA_NO_NODE, 0);
	if (!page)
		return 1;
	pages++;
	for (__u32 n = 0; n < PAGE / sizeof(struct node) && n < *wanted; n++) {
		struct node arena_ptr *node = &page[n];

		node->value = n;
		node->next = head;
		head = node;
		total += n;
	}
	return 0;
}

SEC("syscall")
int empty(void *unused)
{
	if (head)
		bpf_arena_free_pages(&arena, head, 1);
	head = 0;
	return 0;
}
