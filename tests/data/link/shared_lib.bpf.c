// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// The other of two files: a map, variables and functions that both use, and a program of its own.
#include "shared.h"

#ifndef WHOLE
char _license[] SEC("license") = "GPL";
#endif

struct step {
	__u32 size;
};

struct counts counts SEC(".maps");
__u32 limit = 100;
const struct settings settings = { 5 };
const volatile struct step step = { 11 };
extern __u32 LINUX_KERNEL_VERSION __kconfig;

const volatile __u8 before_offset = 9;
static __u32 own = 40;
static const __u32 steps[] = { 1, 2, 4, 8 };

static __noinline int scale(int number)
{
	own++;
	return number * 3 + own;
}

static long add(__u32 index, int *sum)
{
	*sum += steps[index & 3];
	return 0;
}

#ifndef WHOLE
__weak __noinline int bonus(int number)
{
	return number - 1;
}
#else
int bonus(int number);
#endif

__noinline int sort(struct tally *into, __u32 length, __u32 factor)
{
	int sum = before_offset;

	if (!into)
		return -1;
	into->packets++;
	into->bytes += length;
	bpf_loop(factor & 7, add, &sum, 0);
	return scale(sum) + step.size;
}

SEC("xdp")
int lib_prog(struct xdp_md *ctx)
{
	return bonus(own) + !LINUX_KERNEL_VERSION;
}
