// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Subprograms: static and global in .text, weak, recursive, beside their caller, by address.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __noinline __attribute__((noinline))

char _license[] SEC("license") = "GPL";

__u64 seen;

static __noinline int leaf(int x)
{
	seen += x;
	return x ^ 0x55;
}

static __noinline int middle(int x)
{
	return leaf(x + 1) + leaf(x + 2);
}

__noinline int shared(int x)
{
	return middle(x) * 3;
}

__noinline __hidden int concealed(int x)
{
	return leaf(x) - 1;
}

__noinline __weak int replaceable(int x)
{
	return x - 7;
}

static __noinline int countdown(int x)
{
	if (x <= 0)
		return 0;
	seen++;
	return countdown(x - 1) + 1;
}

static int on_each(__u32 index, void *ctx)
{
	*(__u64 *)ctx += index;
	return leaf(index) == 0;
}

__noinline int on_each_global(__u32 index, void *ctx)
{
	return index > 3;
}

static __noinline __attribute__((section("tc"))) int beside(int x)
{
	seen += 2;
	return x + 40;
}

SEC("tc")
int main_a(struct __sk_buff *skb)
{
	return shared(skb->len) + beside(skb->mark);
}

SEC("tc")
int main_b(struct __sk_buff *skb)
{
	return replaceable(skb->len) + shared(skb->mark) + concealed(skb->len);
}

SEC("syscall")
int callbacks(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(10, on_each, &sum, 0);
	bpf_loop(10, on_each_global, &sum, 0);
	return sum;
}

SEC("?syscall")
int recursive(int *ctx)
{
	return countdown(5);
}
